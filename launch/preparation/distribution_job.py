"""Preparing an original distribution: inventory, takes cut by many processes, then the shards."""

import contextlib
import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from datasets.distributions import originals
from datasets.distributions.builder import DistributionBuilder
from datasets.distributions.takes import Inventory, Missing
from launch.cli import compilation_cache, cpu, progress
from launch.preparation import inventory, stage_takes
from launch.preparation.settings import Prepare, differing
from launch.runs import staging
from mcss_jax.errors import UserError

STAGED = ".staged"
# Options that only some data sets have; flags of the same name.
OPTIONS = {"mpi_inf_3dhp": ("annotation", "retrieval_subjects")}


class Distribution:
    """A data set that is cut out of what its owners distribute."""

    def __init__(
        self, config: Prepare, builder: type[DistributionBuilder], name: str, config_name: str
    ) -> None:
        configs = builder.builder_configs
        config_name = config_name or next(iter(configs))
        if config_name not in configs:
            raise UserError(
                f"--dataset={config.dataset}: {name} has no configuration {config_name!r}; there are: "
                + ", ".join(f"{name}/{available}" for available in configs)
            )
        if config.workers < 0:
            raise UserError(f"--workers={config.workers}; expected at least 0 (0: one per core)")
        self._config, self._class, self._config_name = config, builder, config_name
        self._inventory: Inventory | None = None
        self.dataset, self.version = f"{name}/{config_name}", str(configs[config_name].version)
        self._options = {flag: _value(config, flag) for flag in OPTIONS.get(name, ())}
        self.workers = config.workers or cpu.cores()

    def _builder(self, data_dir: Path, **options: Any) -> DistributionBuilder:
        config = self._config
        return self._class(
            source=str(Path(config.source).expanduser()) if config.source else "",
            config=self._config_name,
            boxes=config.boxes,
            size=config.crop_size,
            margin=config.margin,
            data_dir=str(data_dir),
            **self._options,
            **options,
        )

    def differences(self, prepared: Path, stored: dict[str, Any]) -> list[str]:
        return differing(stored, self._builder(prepared.parents[2]).specification)

    def inventory(self, data_dir: Path) -> tuple[DistributionBuilder, Inventory, list[Missing]]:
        """Takes and prints the inventory: the builder, what was found, and what is missing and may not be."""
        if not self._config.source:
            raise UserError(
                "--source is missing; name the folder of the original files. "
                f"{self._class.MANUAL_DOWNLOAD_INSTRUCTIONS}"
            )
        source, builder = Path(self._config.source).expanduser(), self._builder(data_dir)
        unreadable: list[tuple[str, str]] = []
        with progress.bar(0, f"look through {source}", "B", scaled=True) as bar:
            files = originals.scan(source, listings(), bar.update, unreadable)
            warnings = originals.checksum_warnings(source, bar.update)
        source_inventory = builder.take_inventory(files)
        # An archive that cannot be read may hold what is needed, or may not: that is for the user to say.
        damaged = tuple(Missing(path, sentence, unreadable=True) for path, sentence in unreadable)
        source_inventory = dataclasses.replace(
            source_inventory,
            missing=(*damaged, *source_inventory.missing),
            warnings=(*source_inventory.warnings, *warnings),
        )
        missing = inventory.unexcused(source_inventory.missing, self._config.allow_missing)
        progress.say(f"{self.dataset} from {source}:")
        inventory.say(source_inventory, missing)
        needed = self._needed(builder, source_inventory)
        inventory.say_costs(source_inventory, needed, data_dir, builder.megapixels, self.workers)
        return builder, source_inventory, missing

    def _needed(self, builder: DistributionBuilder, source_inventory: Inventory) -> dict[str, int]:
        given_boxes = self._config.boxes in ("joints", "mask")
        return inventory.disk_needed(
            source_inventory,
            builder.views,
            self._config.crop_size,
            builder.megapixels,
            self.workers,
            given_boxes,
        )

    @contextlib.contextmanager
    def beforehand(self, data_dir: Path) -> Iterator[bool]:
        """All takes cut; what was cut stays for the next try unless the set is installed.

        Gives False when another process has installed the set meanwhile. Raises UserError for files that are
        missing or damaged, and for a disk that is full or too small.
        """
        installed = data_dir / self.dataset / self.version / "dataset_info.json"
        before = installed.exists()
        builder, source_inventory, missing = self.inventory(data_dir)
        self._refuse(source_inventory, missing)
        stage = self._stage(data_dir)
        with staging.kept(stage, data_dir):
            if installed.exists() and not before:
                yield False
                return
            work = stage_takes.Work(source_inventory.takes, builder.cutting, stage)
            self._check_space(work, self._needed(builder, source_inventory), data_dir)
            try:
                self._cut(work)
                self._inventory = self._visible(work, source_inventory)
                yield True
            except BaseException:
                done = len(work.takes) - len(work.unfinished())
                if done:
                    progress.say(
                        f"{done} of {len(work.takes)} sequences are finished and kept in {stage}; the same command "
                        "goes on from there"
                    )
                raise
            with staging.uninterrupted():
                shutil.rmtree(stage)

    def tidy(self, data_dir: Path) -> None:
        """Removes finished sequences of a set that is installed: a process was stopped just before it did."""
        stage = self._stage(data_dir)
        if stage.exists():
            with contextlib.suppress(OSError), staging.kept(stage, data_dir):
                shutil.rmtree(stage)

    def _refuse(self, source_inventory: Inventory, missing: list[Missing]) -> None:
        """Raises UserError when something is missing that may not be."""
        if missing and missing[0].unreadable:
            raise UserError(
                f"{missing[0].hint} (if nothing in it is needed, move it away or name it with --allow_missing)"
            )
        if missing:
            raise UserError(
                f"{len(missing)} files of {self.dataset} are missing, the first {missing[0].name!r}; get them, or name "
                "those that may be missing with --allow_missing: names as --inventory lists them, folders or patterns"
            )
        if not source_inventory.takes:
            raise UserError(
                f"--source={self._config.source} holds no sequence of {self.dataset}. "
                f"{self._class.MANUAL_DOWNLOAD_INSTRUCTIONS}"
            )

    def _check_space(self, work: stage_takes.Work, needs: dict[str, int], data_dir: Path) -> None:
        work.clean()
        finished = [work.folder_of(take) for take in work.takes if work.done(take)]
        there = sum(file.stat().st_size for folder in finished for file in folder.iterdir())
        inventory.check_space(data_dir, sum(needs.values()) - there)

    def _cut(self, work: stage_takes.Work) -> None:
        unfinished = work.unfinished()
        total = sum(take.source_frames for take in work.takes)
        ready = total - sum(take.source_frames for take in unfinished)
        if len(unfinished) < len(work.takes):
            progress.say(
                f"{len(work.takes) - len(unfinished)} of {len(work.takes)} sequences are finished already"
            )
        with progress.bar(total, f"cut {self.dataset}", "frame", initial=ready) as bar:
            if self._config.beam_runner:
                from launch.preparation import beam_staging

                beam_staging.run(work, self._config.beam_runner, bar.update)
            else:
                stage_takes.run(work, self.workers, bar.update, lambda text: progress.say(f"  {text}"))
            bar.total = bar.n  # until then an estimate, from the names of files
        for take in work.takes:
            for note in work.opened(take).notes:
                progress.say(f"  note: {take.name}: {note}")

    def _visible(self, work: stage_takes.Work, source_inventory: Inventory) -> Inventory:
        """The takes that show anything, with as many instants as they have. Raises UserError for a split of none."""
        visible = []
        for take in source_inventory.takes:
            instants = work.opened(take).instants
            if instants:
                visible.append(dataclasses.replace(take, kept_frames=instants))
            else:
                progress.say(f"  note: {take.name}: no camera shows it; it is left out")
        for split in dict.fromkeys(take.split for take in source_inventory.takes):
            if not any(take.split == split for take in visible):
                names = ", ".join(take.name for take in source_inventory.takes if take.split == split)
                raise UserError(
                    f"no picture of the split {split} could be cut: no camera shows {names}; get its videos again, or "
                    "take its files out of --source"
                )
        return dataclasses.replace(source_inventory, takes=tuple(visible))

    def _stage(self, data_dir: Path) -> Path:
        return data_dir / STAGED / self.dataset

    def builder(self, data_dir: Path) -> DistributionBuilder:
        stage = self._stage(Path(self._config.data_dir).expanduser())  # beside the folder that is built in
        return self._builder(data_dir, stage=stage, inventory=self._inventory)

    def records(self, builder: DistributionBuilder) -> int:
        return builder.expected_records()

    def sheets(self, builder: DistributionBuilder) -> Iterator[tuple[str, Image.Image]]:
        del builder
        return iter(())


def _value(config: Prepare, flag: str) -> Any:
    value = getattr(config, flag)
    if flag == "retrieval_subjects":
        return tuple(name.strip() for name in value.split(",") if name.strip())
    return value


def listings() -> Path:
    """Where listings of archives are kept: going through gigabytes once is enough."""
    return compilation_cache.cache_home() / "mcss_jax" / "listings"
