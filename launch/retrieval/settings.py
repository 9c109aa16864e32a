"""The flags of `launch.retrieve`: one frozen dataclass, and what they may be."""

import dataclasses

from launch.cli.options import option
from launch.evaluation import protocols
from launch.retrieval import protocol
from mcss_jax.errors import UserError
from mcss_jax.setting import Role

RUN, DATA, PROTOCOL, PICTURES = "Run", "Data", "Protocol", "Saved gallery and own pictures"


@dataclasses.dataclass(frozen=True)
class Retrieve:
    """See `python -m launch.retrieve --help`."""

    workdir: str = option("", "Folder of the run. Required.", RUN)
    step: int = option(0, "Checkpoint; 0 for the newest.", RUN)
    baseline: str = option(
        "", "Folder of a run of --method=baseline: the supervised-only encoder, on the same views.", RUN
    )

    dataset: str = option("", "Prepared data set; by default the one the run was trained on.", DATA)
    data_dir: str = option("", "Folder of prepared data sets; by default the run's.", DATA)
    split: str = option("test", "Split that holds queries and gallery.", DATA)
    batch: int = option(256, "Pictures at a time.", DATA, roles={Role.MEMORY})
    every: int = option(
        0,
        "Frames whose number in the original video is a multiple of this; 0 for all that the split holds, or, where "
        "it holds two samplings, those of the denser one.",
        DATA,
    )
    stride: int = option(1, "Of these instants, every n-th.", DATA)
    damaged: protocols.Damaged = option("keep", "Takes with a known defect: keep them, or drop them.", DATA)
    cameras: str = option("", "Only these cameras, names separated by commas; empty for all.", DATA)
    exclude: str = option(
        "", "Sequences to leave out, names as in evaluate's tables, separated by commas.", DATA
    )
    frame_keys: str = option(
        "",
        "Pr-VIPE's files of frame keys, separated by commas: queries and gallery are the views that they name.",
        DATA,
    )
    metadata: str = option(
        "", "Human3.6M's metadata.xml, which says what the files are that its frame keys name.", DATA
    )

    gallery: protocol.GallerySubjects = option(
        "other_views",
        "Views of other cameras that a query may retrieve: of all subjects of the split, of its own subject, or of "
        "the others.",
        PROTOCOL,
    )
    same_instant: bool = option(
        False,
        "Keep the query's own instant in the gallery (the oracle is then zero by construction).",
        PROTOCOL,
    )
    min_gap: float = option(
        protocol.MIN_GAP,
        "Exclude other instants of the query's sequence that are nearer than this, seconds.",
        PROTOCOL,
    )
    ks: str = option(
        ",".join(map(str, protocol.KS)),
        "K of mean PA-MPJPE@K and Hit@K, separated by commas.",
        PROTOCOL,
    )

    save_gallery: str = option("", "Write the embedded views of the split to this file, FILE.npz.", PICTURES)
    load_gallery: str = option(
        "",
        "With --queries: search this file of --save_gallery instead of embedding the split again.",
        PICTURES,
    )
    queries: str = option(
        "", "Folder of pictures, each the crop of a person: find the nearest views of the gallery.", PICTURES
    )
    neighbours: int = option(5, "Gallery views to show for each of --queries.", PICTURES)


def check(config: Retrieve) -> None:
    """Raises UserError for flags that cannot be, alone or together."""
    if not config.workdir:
        raise UserError("--workdir is missing; name the folder of a run")
    if config.batch < 1 or config.min_gap < 0 or config.neighbours < 1:
        raise UserError("--batch and --neighbours must be at least 1, --min_gap at least 0")
    ks_of(config)
    if config.frame_keys and (config.every or config.stride != 1):
        raise UserError("--frame_keys says which frames are used; leave --every and --stride out")
    if config.load_gallery and not config.queries:
        raise UserError("--load_gallery is searched with pictures; name their folder with --queries")
    if config.load_gallery and config.save_gallery:
        raise UserError("--load_gallery and --save_gallery exclude each other; name one of them")
    if config.save_gallery and not config.save_gallery.endswith(".npz"):
        raise UserError(f"--save_gallery={config.save_gallery}; expected a name that ends in .npz")


def check_without_poses(config: Retrieve, split: str) -> None:
    """Raises UserError for flags of figures that need poses, on a split (by name) that has none."""
    given = [
        f"--{name}"
        for name in ("gallery", "same_instant", "min_gap", "ks")
        if getattr(config, name) != getattr(Retrieve, name)
    ]
    if given:
        raise UserError(
            f"{split} has no poses, so what is measured is the temporal alignment error, in which "
            f"{', '.join(given)} would change nothing; leave {'it' if len(given) == 1 else 'them'} out"
        )


def ks_of(config: Retrieve) -> tuple[int, ...]:
    """The numbers of `--ks`, ascending. Raises UserError for anything else."""
    parts = [part.strip() for part in config.ks.split(",")]
    if not all(part.isascii() and part.isdecimal() and int(part) for part in parts):
        raise UserError(f"--ks={config.ks}; expected whole numbers from 1 on, separated by commas")
    return tuple(sorted({int(part) for part in parts}))
