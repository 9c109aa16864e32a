"""Base of the builders that cut multi-view tuples out of an original distribution."""

import functools
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datasets.distributions import originals, staged
from datasets.distributions.takes import BoxSource, Inventory, Take, by_archive
from datasets.tuples.tuple_builder import Instant, Recording, TupleBuilder, view_bytes
from mcss_jax.errors import UserError

UNPACKED = "unpacked"


class DistributionBuilder(TupleBuilder):
    """A subclass plans takes from file names (`take_inventory`); this class cuts, stages and stores them.

    `Builder(source=..., data_dir=...).download_and_prepare()` does all of it in this process;
    `launch.prepare` shares the takes out over processes first, and then stores what lies in `stage`. Without a
    `stage` finished takes and what is unpacked lie in the system's folder for temporary files, a split at a
    time. A take that no view shows anything of is left out. A subclass also says in
    `MANUAL_DOWNLOAD_INSTRUCTIONS` what to download, and from where: the exact files.
    """

    megapixels: float = 1.0
    """Of a usual picture, for estimates."""

    def __init__(
        self,
        *,
        source: str | Path = "",
        boxes: BoxSource = "auto",
        size: int = 256,
        margin: float = 0.1,
        stage: str | Path = "",
        inventory: Inventory | None = None,
        **kwargs: Any,
    ) -> None:
        """Nothing is read before the inventory is asked for.

        Args:
            source: folder of the original files, or an archive; default: TFDS's `manual_dir`.
            boxes: where person boxes come from (`takes.BoxSource`).
            size: side of the crops, pixels.
            margin: what is added to the person's box at every side, as a share of its longer side.
            stage: folder of finished takes; those there are used, others are added. Default: a temporary one.
            inventory: of the source, when it has been taken already.
            **kwargs: TFDS's own (`config`, `data_dir`).

        Raises:
            UserError: a size or margin out of range.
        """
        if size < 16:
            raise UserError(f"size is {size}; crops of at least 16 pixels were expected")
        if not 0 <= margin <= 2:
            raise UserError(f"margin is {margin}; a share of the box's longer side, 0 to 2, was expected")
        self._source, self._boxes, self._size, self._margin = source, boxes, size, margin
        self._stage, self._inventory = stage, inventory
        super().__init__(**kwargs)

    @property
    def specification(self) -> dict[str, Any]:
        return {"boxes": self._boxes, "size": self._size, "margin": self._margin}

    def take_inventory(self, files: Sequence[originals.File]) -> Inventory:
        """What `files` hold of this distribution, takes in storing order. Raises UserError in one sentence."""
        raise NotImplementedError

    @functools.cached_property
    def inventory(self) -> Inventory:
        """What the source holds. Raises UserError in one sentence."""
        if self._inventory is not None:
            return self._inventory
        if not self._source:
            raise UserError(
                f"a source is needed: the folder of the original files. {self.MANUAL_DOWNLOAD_INSTRUCTIONS}"
            )
        return self.take_inventory(originals.scan(self._source))

    @property
    def cutting(self) -> staged.Cutting:
        """How takes are cut."""
        return staged.Cutting(self._size, self._margin, str(self.VERSION))

    def takes(self, split: str) -> list[Take]:
        """The takes of a split, in storing order."""
        return [take for take in self.inventory.takes if take.split == split]

    def sequences(self, split: str) -> int:
        return len(self.takes(split))

    def expected_bytes(self, split: str) -> int:
        kept = sum(take.kept_frames for take in self.takes(split))
        return kept * self.views * view_bytes(self._size)

    def expected_records(self) -> int:
        return sum(take.kept_frames for take in self.inventory.takes)

    def _shard_iterators_per_split(self, dl_manager: Any) -> Any:
        if not self._source and self._inventory is None:
            self._source = str(dl_manager.manual_dir)  # TFDS's own place for what users download
        return super()._shard_iterators_per_split(dl_manager)

    def recordings(self, split: str) -> Iterator[Recording]:
        if self._stage:
            yield from self._recordings(split, Path(self._stage))
        else:
            with tempfile.TemporaryDirectory(prefix="takes-") as folder:
                yield from self._recordings(split, Path(folder))

    def _recordings(self, split: str, stage: Path) -> Iterator[Recording]:
        unpacked, archived = stage / UNPACKED, by_archive(self.inventory.takes)
        for take in self.takes(split):
            if not staged.is_finished(staged.folder_of(take, self.cutting, stage)):
                for archive in sorted(take.archives):
                    originals.unpack(archived[archive], unpacked)
            folder = staged.stage(
                take, self.cutting, stage, functools.partial(originals.locate, folder=unpacked)
            )
            staged_take = staged.open_staged(folder)
            if not staged_take.instants:
                continue
            yield Recording(
                subject=take.subject,
                action=take.action,
                subaction=take.subaction,
                group=take.group,
                seconds_per_record=staged_take.seconds_per_record,
                instants=_instants(staged_take),
                defect=take.defect if staged_take.defect is None else staged_take.defect,
            )


def _instants(staged_take: staged.Staged) -> Iterator[Instant]:
    """The instants of a take; one in the middle that no view shows is kept, so that frames stay evenly spaced."""
    numbers, valid = staged_take.numbers, staged_take.valid
    for k, images in zip(range(staged_take.instants), staged_take.pictures(), strict=False):
        yield Instant(
            images=images,
            view_valid=valid[:, k],
            camera=staged_take.camera,
            pose=np.ascontiguousarray(numbers["pose"][:, k]),
            intrinsics=numbers["intrinsics"],
            extrinsics=numbers["extrinsics"],
            distortion=numbers["distortion"],
            box=np.ascontiguousarray(numbers["box"][:, k]),
            box_source=staged_take.box_source,
            frame=int(numbers["frame"][k]),
            time=float(numbers["time"][k]),
            extra={name: values[k] for name, values in staged_take.extra.items()},
        )
