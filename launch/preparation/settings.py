"""The flags of launch.prepare."""

import dataclasses
import json
from typing import Any, Literal

from launch.cli.options import option

RECORDINGS = "Recordings (--dataset=multiview_video)"
ORIGINALS = "Original distributions (--dataset=human36m or mpi_inf_3dhp)"
MOTION = "Motion capture (--dataset=synthetic_multiview/...)"
FILES = "Original files (recordings and distributions)"


@dataclasses.dataclass(frozen=True)
class Prepare:
    """See `python -m launch.prepare --help`."""

    dataset: str = option(
        "synthetic_multiview/demo",
        "What to prepare: synthetic_multiview/tiny, demo, studio, wild, sessions or sessions_studio; multiview_video: "
        "your own recordings; "
        "human36m/fps10 or fps50; mpi_inf_3dhp/SET_fps10 or SET_native, SET being vnect, chest, relevant or all.",
        "Data",
    )
    data_dir: str = option("data", "Folder of prepared data sets.", "Data")

    source: str = option(
        "",
        "Recordings: folder of one session (a file per camera), folder of such folders, or a manifest.toml. "
        "Distributions: folder of the files their owners distribute, in archives or unpacked.",
        FILES,
    )
    crop_size: int = option(256, "Side of the person's pictures, pixels.", FILES)
    margin: float = option(
        0.1, "Added to the person's box at every side, as a share of its longer side.", FILES
    )

    boxes: Literal["auto", "mask", "static", "joints"] = option(
        "auto",
        "Where person boxes come from: the data set's masks, the static-camera finder, or projected joints (these "
        "use the labels of people who count as unlabelled; every protocol card says so); auto: masks where there "
        "are some, else the finder.",
        ORIGINALS,
    )
    annotation: Literal["univ_annot3", "annot3"] = option(
        "univ_annot3",
        "mpi_inf_3dhp: poses scaled to one height, as the official evaluation has them, or metric ones.",
        ORIGINALS,
    )
    retrieval_subjects: str = option(
        "S7,S8", "mpi_inf_3dhp: who is kept out of training, as the split for retrieval.", ORIGINALS
    )
    inventory: bool = option(
        False, "Only say what is found, missing, defect or unexpected, and what it will cost.", ORIGINALS
    )
    allow_missing: str = option(
        "",
        "What may be missing, separated by commas: names as the inventory lists them, folders (S5) or patterns "
        "(S11/*.mp4).",
        ORIGINALS,
    )
    workers: int = option(0, "Processes that decode; 0 for one per core.", ORIGINALS)
    beam_runner: str = option(
        "",
        "Apache Beam runner that does the work instead, for instance DirectRunner or DataflowRunner (needs "
        "apache-beam, and a --data_dir that all its workers share).",
        ORIGINALS,
    )

    name: str = option(
        "",
        "What the prepared recordings (or motion files) are called, so that --dataset=multiview_video/NAME finds "
        "them; the source folder's name unless given.",
        RECORDINGS,
    )
    fps: str = option(
        "10",
        "Instants per second, or native: those of the slowest camera.",
        RECORDINGS,
    )
    max_offset: float = option(
        5.0,
        "Offsets between cameras are looked for this far, seconds.",
        RECORDINGS,
    )

    motion: str = option(
        "",
        "Folder of BVH files: synthetic people move by them, one sequence a file; its folders are the subjects. The "
        "set is called by --name, or by the folder's name.",
        MOTION,
    )
    joint_map: str = option(
        "", "File of lines 'Role = JointName', for skeletons whose names are not known.", MOTION
    )
    up_axis: Literal["auto", "y", "z"] = option(
        "auto", "What is up in the BVH files; auto: the axis along which each file's person stands.", MOTION
    )

    inspect: bool = option(
        False,
        "Only look: counts and pictures of a prepared set; of recordings that --source names, files and boxes. "
        "Prepares nothing.",
        "Run",
    )
    overwrite: bool = option(False, "Prepare again what is prepared already.", "Run")


def differing(stored: dict[str, Any], requested: dict[str, Any]) -> list[str]:
    """How a prepared set's stored specification differs from the requested one, in words."""
    requested = json.loads(json.dumps(requested))
    return [
        f"{key} differs"
        if isinstance(value, dict) or key not in stored
        else f"{key} {stored[key]!r}, now {value!r}"
        for key, value in requested.items()
        if stored.get(key) != value
    ]
