"""The card of the small model that the demo makes: what it is, what it was measured at, what it will not do."""

from launch.evaluation import evaluate
from launch.runs import run_folder

FILE = "MODEL.md"


def text(run: run_folder.Run, result: evaluate.Evaluated) -> str:
    """The card in Markdown, with the figures of `result` on people that the model never saw."""
    network, card = run.config.network, run.card
    figures, constant = result.figures, result.mean_pose
    rows = "\n".join(
        f"| {name} | {figures[key]:.1f} | {constant[key]:.1f} |"
        for name, key in (
            ("PA-MPJPE (mm)", "pa_mpjpe"),
            ("MPJPE, canonical frame (mm)", "mpjpe_canonical"),
            ("N-MPJPE, camera frame (mm)", "n_mpjpe"),
            ("MPJPE, camera frame (mm)", "mpjpe"),
        )
    )
    return f"""# The demo's small model

A ResNet-{network.depth} of width {network.width} ({network.stem} stem, {card["image_size"]} px) that embeds one crop of
a person and gives a 3D pose of 17 joints, made by `bash launch/demo.sh` in minutes on a CPU (seed
{run.config.run.seed}, {run.step} updates). `python -m launch.predict --source=PICTURES --output=DIR` uses it where no
`--workdir` is given.

**Trained on** rendered people of `{card["dataset"]}` (fingerprint {card["fingerprint"]}): poses of
{card["labelled_instants"]} instants of {", ".join(card["labelled_subjects"])}, and
{card["unlabelled_instants"]} instants without poses, seen by {card["views"]} cameras. No real picture was among them.

**Measured on** {len(result.views)} views of rendered people it never saw ({", ".join(result.card["subjects"])}):

| | model | constant mean pose |
|---|---|---|
{rows}

**What it will not do.** On real pictures its poses mean little: it knows one room, one kind of light and people made of
capsules. It is here so that every program can be tried. At this size it often takes the back of a person for the front,
so the camera-frame pose is the weakest of its answers. It expects one person, cropped as the training set was (boxes:
{card["boxes"]}).
"""
