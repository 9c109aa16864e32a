"""Makes or inspects a prepared set, complete or not at all."""

import contextlib
import dataclasses
import errno
import io
import re
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import tensorflow_datasets as tfds

from datasets.footage import contact_sheet
from datasets.tuples import pipeline, tuple_builder
from datasets.tuples import prepared as sets
from launch.cli import progress
from launch.preparation import inspection
from launch.preparation.distribution_job import Distribution
from launch.preparation.inventory import check_space, free_text, size_text
from launch.preparation.jobs import Captured, Job, Recordings, job_of
from launch.preparation.settings import Prepare
from launch.runs.staging import install, staging
from mcss_jax.errors import UserError

RECORDS_SHEET = "contact_sheet.jpg"


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A prepared set: how `--dataset` names it, where it lies, and whether this call made it."""

    dataset: str
    path: Path
    fingerprint: str
    fresh: bool


def prepare(config: Prepare) -> Prepared:
    """Prepares the set that `config` names, unless it is there already, and prints what it holds.

    Raises:
        UserError: unknown names, settings other than a prepared set's, bad recordings, a full disk.
        OSError: a folder that cannot be written to. In every case nothing is left behind, but for the
            finished sequences of a distribution.
    """
    job, data_dir = job_of(config), Path(config.data_dir).expanduser()
    path = data_dir / job.dataset / job.version
    if (path / "dataset_info.json").is_file() and not config.overwrite:
        info = sets.open_builder(path).info
        differences = job.differences(path, info.metadata["specification"])
        if differences:
            raise UserError(
                f"{path} was prepared otherwise ({'; '.join(differences)}); add --overwrite to replace it"
                + (", or choose another --name" if isinstance(job, (Recordings, Captured)) else "")
            )
        prepared = Prepared(job.dataset, path, tuple_builder.fingerprint(info), fresh=False)
        job.tidy(data_dir)
        progress.say(f"{job.dataset} is prepared already; --overwrite would prepare it again")
    else:
        with _full_disk_in_words(data_dir), job.beforehand(data_dir) as is_needed:
            if is_needed:
                with staging(data_dir) as staged:
                    _build(job, staged, data_dir)
                    install(staged / job.dataset / job.version, path, staged)
        info = sets.open_builder(path).info
        prepared = Prepared(job.dataset, path, tuple_builder.fingerprint(info), fresh=is_needed)
    _describe(prepared, data_dir)
    return prepared


def _build(job: Job, staged: Path, data_dir: Path) -> None:
    """Builds the set and its pictures in `staged`."""
    builder = job.builder(staged)
    records, pictures = job.records(builder), 0
    check_space(
        data_dir, records * builder.views * tuple_builder.view_bytes(int(builder.specification["size"]))
    )
    start = time.perf_counter()
    with progress.bar(records, f"prepare {job.dataset}", "instant") as bar:

        def count(valid: int) -> None:
            nonlocal pictures
            pictures += valid
            bar.update()

        builder.on_record = count
        with _quiet():
            builder.download_and_prepare()
    seconds = time.perf_counter() - start
    folder = staged / job.dataset / job.version
    splits = [pipeline.open_split(staged, job.dataset, name) for name in builder.split_names]
    for name, sheet in job.sheets(builder):
        contact_sheet.save(sheet, folder / name)
    contact_sheet.save(contact_sheet.records_sheet(splits), folder / RECORDS_SHEET)
    progress.say(f"{pictures:,} pictures in {seconds:.1f} s, {pictures / seconds:.0f} images/s")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """TFDS prints and draws bars of its own."""
    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):
        yield


@contextlib.contextmanager
def _full_disk_in_words(data_dir: Path) -> Iterator[None]:
    """ArrayRecord tells of a failed write by a RuntimeError."""
    try:
        yield
    except BaseException as error:
        # Generators suspended in the frames would render on until the program ends.
        traceback.clear_frames(error.__traceback__)
        words = str(error) if isinstance(error, RuntimeError) else ""
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or re.search("No space left on device|Disk quota exceeded", words):
            raise UserError(
                f"a disk is full: the folder of --data_dir={data_dir} has {free_text(data_dir)} free, the folder for "
                f"temporary files {tempfile.gettempdir()} {free_text(Path(tempfile.gettempdir()))}; make room, or "
                "choose another --data_dir or TMPDIR"
            ) from error
        if "Failed to finalize writing" in words:
            raise UserError(f"writing to --data_dir={data_dir} failed: {error}") from error
        raise


def _describe(prepared: Prepared, data_dir: Path) -> None:
    """Prints the sequence tables in short, size, fingerprint, pictures, folder and how to name the set."""
    info = sets.open_builder(prepared.path).info
    views = info.features["view_valid"].shape[0]
    for name in info.metadata["tables"]:
        table = tuple_builder.sequence_table(info, name)
        instants = sum(row.length for row in table)
        subjects = list(dict.fromkeys(row.subject for row in table))
        actions = len({row.action for row in table})
        seconds = sum(row.length * row.seconds_per_record for row in table)
        posed = sum(row.has_pose for row in table)
        poses = {0: "without poses", len(table): "with poses"}.get(posed, f"{posed} with poses")
        progress.say(
            f"  {name}: {_names('subject', subjects)}, {_count(actions, 'action')}, "
            f"{_count(len(table), 'sequence')} {poses}, {_count(instants, 'instant')} x {views} views, "
            f"{seconds:,.1f} s"
        )
    files = [file for file in prepared.path.rglob("*") if file.is_file()]
    sheets = sorted(file for file in files if file.suffix == ".jpg")
    progress.say(f"  disk: {size_text(sum(file.stat().st_size for file in files))}")
    progress.say(f"  fingerprint: {prepared.fingerprint}")
    for sheet in sheets[:5]:
        progress.say(f"  look at: {sheet}")
    if len(sheets) > 5:
        progress.say(f"  and {len(sheets) - 5} more pictures there")
    progress.say(f"  folder: {prepared.path}")
    progress.say(f"use it with: --dataset={prepared.dataset} --data_dir={data_dir}")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _names(noun: str, names: list[str], limit: int = 8) -> str:
    shown = ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")
    return f"{_count(len(names), noun)} ({shown})"


def inspect(config: Prepare) -> list[Path]:
    """Shows a prepared set in numbers and pictures, or what recordings that `--source` names hold; the pictures' paths.

    They lie beside the prepared versions of the set, in a folder `inspection`. Raises as `prepare`.
    """
    job, data_dir = job_of(config), Path(config.data_dir).expanduser()
    with _full_disk_in_words(data_dir), staging(data_dir) as staged:
        drawn = staged / "inspection"
        if isinstance(job, Recordings) and config.source:
            for name, sheet in job.sheets(job.builder(staged)):
                contact_sheet.save(sheet, drawn / name)
        else:
            inspection.inspect(data_dir, job.dataset, drawn / RECORDS_SHEET)
        target = data_dir / job.dataset / "inspection"
        install(drawn, target, staged)
    paths = sorted(target.iterdir())
    for path in paths:
        progress.say(f"look at: {path}")
    return paths


def take_inventory(config: Prepare) -> None:
    """Says what a distribution's source holds and lacks, and what preparing it costs. Raises as `prepare`."""
    job = job_of(config)
    if not isinstance(job, Distribution):
        raise UserError(f"--inventory is for original distributions; {config.dataset} is none")
    _, _, missing = job.inventory(Path(config.data_dir).expanduser())
    progress.say(f"{len(missing)} files are missing" if missing else "nothing is missing")
