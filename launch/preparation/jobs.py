"""What can be prepared, and what differs between synthetic people, recordings and distributions."""

import contextlib
import dataclasses
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from datasets.distributions.builder import DistributionBuilder
from datasets.human36m import human36m_dataset_builder
from datasets.mpi_inf_3dhp import mpi_inf_3dhp_dataset_builder
from datasets.multiview_video import inspection, manifest, multiview_video_dataset_builder
from datasets.synthetic_multiview import joint_names, motion_files, synthetic_multiview_dataset_builder
from datasets.tuples import tuple_builder
from launch.cli import progress
from launch.preparation.distribution_job import OPTIONS, Distribution
from launch.preparation.settings import Prepare, differing
from mcss_jax.errors import UserError

# Every data set by name. A builder with BUILDER_CONFIGS offers those; the other cuts what --source holds.
BUILDERS: dict[str, type[tuple_builder.TupleBuilder]] = {
    "synthetic_multiview": synthetic_multiview_dataset_builder.Builder,
    "multiview_video": multiview_video_dataset_builder.Builder,
    "human36m": human36m_dataset_builder.Builder,
    "mpi_inf_3dhp": mpi_inf_3dhp_dataset_builder.Builder,
}


# Which flags mean anything, by kind of data set.
ALWAYS = ("dataset", "data_dir", "inspect", "inventory", "overwrite")
RECORDINGS = ("source", "crop_size", "margin", "name", "fps", "max_offset")
DISTRIBUTION = ("source", "crop_size", "margin", "boxes", "allow_missing", "workers", "beam_runner")
MOTION = ("motion", "joint_map", "up_axis", "name")


class Job(Protocol):
    """What differs between the kinds of data sets. Nothing is decoded before `beforehand` and `builder`."""

    dataset: str
    version: str

    def beforehand(self, data_dir: Path) -> contextlib.AbstractContextManager[bool]:
        """What comes before the builder; gives whether there still is something to build."""

    def tidy(self, data_dir: Path) -> None:
        """Removes what was needed to make a set that is installed now."""

    def differences(self, prepared: Path, stored: dict[str, Any]) -> list[str]:
        """How a prepared set with the `stored` specification differs from what is asked for."""

    def builder(self, data_dir: Path) -> tuple_builder.TupleBuilder:
        """The builder that makes the set in `data_dir`."""

    def records(self, builder: Any) -> int:
        """How many instants it will store."""

    def sheets(self, builder: Any) -> Iterator[tuple[str, Image.Image]]:
        """Pictures to put beside the shards, by file name."""


class _AtOnce:
    """Nothing comes before the builder."""

    def beforehand(self, data_dir: Path) -> contextlib.AbstractContextManager[bool]:
        del data_dir
        return contextlib.nullcontext(True)

    def tidy(self, data_dir: Path) -> None:
        del data_dir


class Configured(_AtOnce):
    """A builder with configurations of its own."""

    def __init__(self, config: Prepare, name: str, config_name: str) -> None:
        self._builder, self._config = BUILDERS[name], config_name
        configs = self._builder.builder_configs
        if config_name not in configs:
            problem = f"has no configuration {config_name!r}" if config_name else "needs a configuration"
            raise UserError(f"--dataset={config.dataset}: {name} {problem}; there are: {_available()}")
        self.dataset, self.version = f"{name}/{config_name}", str(configs[config_name].version)

    def differences(self, prepared: Path, stored: dict[str, Any]) -> list[str]:
        return differing(stored, self.builder(prepared.parents[2]).specification)

    def builder(self, data_dir: Path) -> tuple_builder.TupleBuilder:
        return self._builder(config=self._config, data_dir=str(data_dir))

    def records(self, builder: tuple_builder.TupleBuilder) -> int:
        return builder.expected_records() or 0

    def sheets(self, builder: tuple_builder.TupleBuilder) -> Iterator[tuple[str, Image.Image]]:
        del builder
        return iter(())


class Captured(Configured):
    """A configuration whose people move by the user's own motion files; the set has a name of its own."""

    def __init__(self, config: Prepare, name: str, config_name: str) -> None:
        super().__init__(config, name, config_name)
        self._settings = config
        self._name = _plain(config.name or multiview_video_dataset_builder.config_name(config.motion))
        if self._name in self._builder.builder_configs:
            raise UserError(f"--name={self._name} is a configuration of {name}; choose another name")
        self.dataset = f"{name}/{self._name}"
        self._archive: motion_files.Archive | None = None

    def builder(self, data_dir: Path) -> tuple_builder.TupleBuilder:
        config = synthetic_multiview_dataset_builder.driven_by(self._read(), self._config, self._name)
        return self._builder(config=config, data_dir=str(data_dir))

    def _read(self) -> motion_files.Archive:
        """The archive; every file of it is read once, to be sure of it before anything is rendered."""
        if self._archive is None:
            settings = self._settings
            own = joint_names.read_map(settings.joint_map) if settings.joint_map else {}
            spacing = self._builder.builder_configs[self._config].seconds_per_record
            with progress.bar(0, f"look through {settings.motion}", "file") as bar:
                self._archive = motion_files.scan(settings.motion, spacing, settings.up_axis, own, bar.update)
        return self._archive


class Recordings(_AtOnce):
    """The user's own recordings; a prepared set is named by its configuration."""

    def __init__(self, config: Prepare, name: str, config_name: str) -> None:
        if config.name and config_name and config.name != config_name:
            raise UserError(
                f"--name={config.name}, but --dataset={config.dataset} says {config_name}; give one"
            )
        if not (config.source or config.name or config_name):
            raise UserError("--source is missing; name the folder of your recordings")
        self._config = config
        self._name = _plain(
            config.name or config_name or multiview_video_dataset_builder.config_name(config.source)
        )
        self._fps = _fps(config.fps)
        self.dataset = f"{name}/{self._name}"
        self.version = str(multiview_video_dataset_builder.Builder.VERSION)

    def differences(self, prepared: Path, stored: dict[str, Any]) -> list[str]:
        if not self._config.source:
            return []
        sessions = manifest.load(self._config.source)
        requested = {
            "fps": self._fps,
            "size": self._config.crop_size,
            "margin": self._config.margin,
            "sessions": {session.name: _files(session) for session in sessions},
        }
        stored_sessions = {
            name: {
                "labels": session["labels"],
                "boxes": any(source == "csv" for *_, source in session["files"]),
                "files": [file[:3] for file in session["files"]],
            }
            for name, session in stored["sessions"].items()
        }
        changes = differing({**stored, "sessions": stored_sessions}, requested)
        # Their content is not in the specification, only that they are there.
        since = (prepared / "dataset_info.json").stat().st_mtime
        beside = [s.boxes for s in sessions] + [s.labels for s in sessions]
        beside += [camera.boxes for s in sessions for camera in s.cameras]
        return changes + [
            f"{path} was changed since" for path in beside if path and path.stat().st_mtime > since
        ]

    def look(self) -> tuple[inspection.SessionReport, ...]:
        """Looks through every file, prints what was found."""
        if not self._config.source:
            raise UserError(
                f"--source is missing: {self.dataset} is not prepared yet; name the folder of its recordings"
            )
        reports = inspection.inspect(
            self._config.source, self._fps, self._config.max_offset, sys.stderr.isatty()
        )
        for report in reports:
            progress.say(str(report))
        return reports

    def builder(self, data_dir: Path) -> multiview_video_dataset_builder.Builder:
        return multiview_video_dataset_builder.Builder(
            source=self._config.source,
            fps=self._fps,
            size=self._config.crop_size,
            margin=self._config.margin,
            max_offset=self._config.max_offset,
            name=self._name,
            progress=False,
            reports=self.look(),
            data_dir=str(data_dir),
        )

    def records(self, builder: multiview_video_dataset_builder.Builder) -> int:
        return sum(len(report.ticks) for report in builder.reports)

    def sheets(self, builder: multiview_video_dataset_builder.Builder) -> Iterator[tuple[str, Image.Image]]:
        for report in builder.reports:
            name = multiview_video_dataset_builder.config_name(report.session.name)
            yield f"boxes_{name}.jpg", builder.contact_sheet(report)


def _available() -> str:
    return ", ".join(
        f"{name}/{config}"
        for name, builder in BUILDERS.items()
        for config in builder.builder_configs or ("NAME (with --source)",)
    )


def job_of(config: Prepare) -> Job:
    """What the flags ask for.

    Raises UserError for a data set or configuration that does not exist, and for flags that do not agree.
    """
    name, _, config_name = config.dataset.partition("/")
    if name not in BUILDERS:
        raise UserError(f"--dataset={config.dataset} is unknown; there are: {_available()}")
    builder = BUILDERS[name]
    job: type[Captured] | type[Configured] | type[Recordings]
    flags: tuple[str, ...]
    if issubclass(builder, DistributionBuilder):
        _refuse_others(config, {*DISTRIBUTION, *OPTIONS.get(name, ())})
        return Distribution(config, builder, name, config_name)
    if not builder.builder_configs:
        job, flags = Recordings, RECORDINGS
    elif config.motion:
        job, flags = Captured, MOTION
    else:
        job, flags = Configured, ("motion",)
    _refuse_others(config, set(flags))
    return job(config, name, config_name)


def _refuse_others(config: Prepare, flags: set[str]) -> None:
    """Raises UserError for a flag that would be ignored: whoever gave it expects something of it."""
    for field in dataclasses.fields(Prepare):
        if field.name not in {*ALWAYS, *flags} and getattr(config, field.name) != field.default:
            accepted = ", ".join(f"--{name}" for name in sorted(flags))
            raise UserError(
                f"--{field.name} does nothing for --dataset={config.dataset}, which has {accepted}"
            )


def _plain(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise UserError(f"--name={name}; letters, digits, '_', '-' and '.' were expected")
    return name


def _fps(text: str) -> float | str:
    if text == "native":
        return text
    try:
        return float(text)
    except ValueError:
        raise UserError(f"--fps={text}; a number of instants per second, or native, was expected") from None


def _files(session: manifest.Session) -> dict[str, Any]:
    return {
        "labels": session.labels is not None,
        "boxes": bool(session.boxes or any(camera.boxes for camera in session.cameras)),
        "files": [[c.file.name, c.file.stat().st_size, c.offset] for c in session.cameras],
    }
