"""Preparing an original distribution: inventory, takes cut by many processes, then the shards."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from datasets import originals
from datasets.distribution_builder import DistributionBuilder
from datasets.takes import Inventory
from launch import inventory, progress, stage_takes, staging
from launch.prepare_settings import Prepare, differing

STAGED = ".staged"


class Distribution:
    """A data set that is cut out of what its owners distribute."""

    def __init__(self, config: Prepare, builder: type[DistributionBuilder], name: str, wanted: str) -> None:
        configs = builder.builder_configs
        wanted = wanted or next(iter(configs))
        if wanted not in configs:
            raise ValueError(
                f"--dataset={config.dataset}: {name} has no configuration {wanted!r}; there are: "
                + ", ".join(f"{name}/{known}" for known in configs)
            )
        if config.workers < 0:
            raise ValueError(f"--workers={config.workers}; expected at least 0 (0: one per core)")
        self._config, self._class, self._wanted = config, builder, wanted
        self._found: Inventory | None = None
        self.dataset, self.version = f"{name}/{wanted}", str(configs[wanted].version)
        self._options: dict[str, Any] = {}
        if name == "mpi_inf_3dhp":
            subjects = tuple(s.strip() for s in config.retrieval_subjects.split(",") if s.strip())
            self._options = {"annotation": config.annotation, "retrieval_subjects": subjects}
        self.workers = config.workers or stage_takes.workers_here()

    def _builder(self, data_dir: Path, **options: Any) -> DistributionBuilder:
        config = self._config
        return self._class(
            source=config.source,
            config=self._wanted,
            boxes=config.boxes,
            size=config.crop_size,
            margin=config.margin,
            data_dir=str(data_dir),
            **self._options,
            **options,
        )

    def differences(self, prepared: Path, stored: dict[str, Any]) -> list[str]:
        return differing(stored, self._builder(prepared.parents[2]).specification)

    def inventory(self, data_dir: Path) -> tuple[DistributionBuilder, Inventory, list[str]]:
        """Takes and prints the inventory: the builder, what was found, names of what is missing and may not be."""
        if not self._config.source:
            raise ValueError(
                "--source is missing; name the folder of the original files. "
                f"{self._class.MANUAL_DOWNLOAD_INSTRUCTIONS}"
            )
        with progress.bar(0, f"look through {self._config.source}", "B", scaled=True) as bar:
            files = originals.scan(self._config.source, listings(), bar.update)
            warnings = originals.checksum_warnings(self._config.source, bar.update)
        builder = self._builder(data_dir)
        found = builder.take_inventory(files)
        missing = inventory.unexcused(found.missing, self._config.allow_missing)
        progress.say(f"{self.dataset} from {self._config.source}:")
        inventory.say(found, missing)
        for warning in warnings:
            progress.say(f"  warning: {warning}")
        needed = self._needed(builder, found)
        inventory.say_costs(found, needed, data_dir, builder.megapixels, self.workers)
        return builder, found, [item.name for item in missing]

    def _needed(self, builder: DistributionBuilder, found: Inventory) -> dict[str, int]:
        return inventory.disk_needed(
            found, builder.views, self._config.crop_size, builder.megapixels, self.workers
        )

    @contextlib.contextmanager
    def beforehand(self, data_dir: Path) -> Iterator[None]:
        """All takes cut; what was cut stays for the next try unless the set is installed.

        Raises ValueError for files that are missing or damaged, OSError for a disk that is full or too small.
        """
        builder, self._found, missing = self.inventory(data_dir)
        if missing:
            raise ValueError(
                f"{len(missing)} files of {self.dataset} are missing, the first {missing[0]!r}; get them, or name "
                "those that may be missing with --allow_missing (names as listed above, folders or patterns)"
            )
        if not self._found.takes:
            raise ValueError(
                f"--source={self._config.source} holds no sequence of {self.dataset}. "
                f"{builder.MANUAL_DOWNLOAD_INSTRUCTIONS}"
            )
        stage = self._stage(data_dir)
        with staging.kept(stage, data_dir):
            work = stage_takes.Work(self._found.takes, builder.cutting, stage)
            self._check_space(work, builder, data_dir)
            try:
                self._cut(work)
                yield
            except BaseException:
                done = sum(map(work.done, work.takes))
                if not done:
                    shutil.rmtree(stage, ignore_errors=True)
                else:
                    progress.say(
                        f"{done} of {len(work.takes)} sequences are finished and kept in {stage}; the same command "
                        "goes on from there"
                    )
                raise
            shutil.rmtree(stage)

    def _check_space(self, work: stage_takes.Work, builder: DistributionBuilder, data_dir: Path) -> None:
        needed = sum(self._needed(builder, self._found or Inventory((), {})).values())
        there = sum(file.stat().st_size for file in work.folder.rglob("*") if file.is_file())
        free = shutil.disk_usage(data_dir).free
        if free < needed - there:
            raise OSError(
                f"--data_dir={data_dir} has {inventory.size_text(free)} free, but this set takes about "
                f"{inventory.size_text(needed - there)}; make room or choose another folder"
            )

    def _cut(self, work: stage_takes.Work) -> None:
        left = [take for take in work.takes if not work.done(take)]
        total = sum(take.source_frames for take in work.takes)
        ready = total - sum(take.source_frames for take in left)
        if len(left) < len(work.takes):
            progress.say(f"{len(work.takes) - len(left)} of {len(work.takes)} sequences are finished already")
        with progress.bar(total, f"cut {self.dataset}", "frame", initial=ready) as bar:
            if self._config.beam_runner:
                from launch import beam_staging

                beam_staging.run(work, self._config.beam_runner, bar.update)
            else:
                stage_takes.run(work, self.workers, bar.update)
            bar.update(max(0, total - bar.n))
        for note in dict.fromkeys(note for take in work.takes for note in work.notes(take)):
            progress.say(f"  note: {note}")

    def _stage(self, data_dir: Path) -> Path:
        return data_dir / STAGED / self.dataset

    def builder(self, data_dir: Path) -> DistributionBuilder:
        return self._builder(
            data_dir, stage=self._stage(Path(self._config.data_dir).expanduser()), inventory=self._found
        )

    def records(self, builder: DistributionBuilder) -> int:
        return builder.expected_records()

    def sheets(self, builder: DistributionBuilder) -> Iterator[tuple[str, Image.Image]]:
        del builder
        return iter(())


def listings() -> Path:
    """Where listings of archives are kept: going through gigabytes once is enough."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "mcss_jax" / "listings"
