"""The joints of MPI-INF-3DHP and where the 17 joints of `mcss_jax.skeleton` are among them.

The mapping is nominal: hip width, neck against thorax, spine height and head differ from Human3.6M's. Source:
docs/data_formats.md#mpi-inf-3dhp-joints.
"""

ANNOTATED = (
    "spine3", "spine4", "spine2", "spine", "pelvis", "neck", "head", "head_top",
    "l_clavicle", "l_shoulder", "l_elbow", "l_wrist", "l_hand",
    "r_clavicle", "r_shoulder", "r_elbow", "r_wrist", "r_hand",
    "l_hip", "l_knee", "l_ankle", "l_foot", "l_toe", "r_hip", "r_knee", "r_ankle", "r_foot", "r_toe",
)  # fmt: skip
"""The 28 joints of the training set's `annot.mat`, in its order."""

TEST_SET = (
    "head_top", "neck", "r_shoulder", "r_elbow", "r_wrist", "l_shoulder", "l_elbow", "l_wrist",
    "r_hip", "r_knee", "r_ankle", "l_hip", "l_knee", "l_ankle", "pelvis", "spine", "head",
)  # fmt: skip
"""The 17 joints of the test set's `annot_data.mat`, in its order."""

SKELETON = (
    "pelvis", "r_hip", "r_knee", "r_ankle", "l_hip", "l_knee", "l_ankle", "spine", "neck", "head", "head_top",
    "l_shoulder", "l_elbow", "l_wrist", "r_shoulder", "r_elbow", "r_wrist",
)  # fmt: skip
"""What stands for each joint of `mcss_jax.skeleton.JOINTS`, in that order."""

FROM_ANNOTATED = [ANNOTATED.index(name) for name in SKELETON]
FROM_TEST_SET = [TEST_SET.index(name) for name in SKELETON]
