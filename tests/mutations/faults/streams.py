"""Random streams by name, pixels, and what is logged of mined negatives."""

from tests.mutations.fault import Fault

STREAM = "return jax.random.fold_in(jax.random.key(seed), zlib.crc32(purpose.encode()))"
MINED = ("tests/mcss_jax/training/test_mined_pose_distance.py",)

FAULTS = (
    Fault(
        "streams: a purpose is not folded in",
        "mcss_jax/streams.py",
        STREAM,
        "return jax.random.key(seed)",
        ("tests/mcss_jax/test_streams.py",),
    ),
    Fault(
        "streams: augmentation is the next seed's initialisation",
        "mcss_jax/streams.py",
        STREAM,
        'return jax.random.key(seed + (purpose == "augment"))',
        ("tests/mcss_jax/test_streams.py",),
    ),
    Fault(
        "pixels: the colours' deviations are exchanged",
        "mcss_jax/networks/pixels.py",
        "IMAGENET_STD = (0.229, 0.224, 0.225)",
        "IMAGENET_STD = (0.225, 0.224, 0.229)",
        ("tests/mcss_jax/networks/test_pixels.py",),
    ),
    Fault(
        "mined: the distance is that of the anchor to itself",
        "mcss_jax/training/train_step.py",
        "other = skeleton.canonicalise(candidates)[0][term.mined // 2]",
        "other = own",
        MINED,
    ),
)
