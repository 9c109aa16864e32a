"""3D poses and embeddings of your own pictures and videos, with a page to look at them.

    python -m launch.predict --workdir=runs/demo/mcss --source=jump.mp4 --output=jump

The source is a picture, a folder of pictures, a video, or a folder (or manifest.toml) with the videos of one scene. In
the output: predictions.npz, predictions.csv, viewer.html, README.txt (what the fields mean), for several cameras
instants.csv, and with --video overlay_CAMERA.mp4.

Poses are root-relative. The pose "in camera" is in the frame of a virtual camera that looks through the middle of the
crop; where the person is, and how far away, is not predicted. One person in each picture is assumed.
"""

import sys

from launch.cli import flags, progress
from launch.prediction import files
from launch.prediction.predict import Predict, predict


def main(config: Predict) -> None:
    """Predicts, and says where the results are."""
    try:
        output = predict(config)
    except KeyboardInterrupt:
        progress.say("stopped; nothing half-made was left behind", sys.stderr)
        sys.exit(130)
    progress.say(f"written to {output}; open {output / files.PAGE}")


if __name__ == "__main__":
    flags.run(Predict, "launch.predict", __doc__ or "", main)
