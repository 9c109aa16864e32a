"""The suite `prepare` of launch.benchmark: from videos to shards, on videos made for it."""

import contextlib
import dataclasses
import io
import multiprocessing
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Float, UInt8

from datasets.distributions import originals, takes
from datasets.distributions.builder import DistributionBuilder
from datasets.footage import video
from launch.benchmarks.timing import Row, in_turn
from launch.cli import cpu
from launch.preparation import stage_takes

SIDE, RATE, BITS_PER_SECOND, VIEWS, EVERY = 1000, 50, 5_000_000, 4, 5


def person_boxes(frames: int, side: int = SIDE) -> Float[np.ndarray, "f 4"]:
    """Where the walking figure of `write_video` is, pixels."""
    x = 0.5 + 0.3 * np.sin(np.arange(frames) / 60)
    return side * np.stack([x - 0.08, np.full(frames, 0.3), x + 0.08, np.full(frames, 0.8)], axis=1)


def _pictures(frames: int, side: int) -> Iterator[UInt8[np.ndarray, "s s 3"]]:
    """A textured figure before a textured wall, and some noise."""
    rng = np.random.default_rng(0)
    wall = rng.integers(60, 200, (side // 8 + 1, side // 8 + 1, 3)).repeat(8, 0).repeat(8, 1)[:side, :side]
    noise = rng.normal(0, 2, (8, side, side, 1)).astype(np.int16)
    cloth = rng.integers(0, 255, (125, 40, 3)).repeat(4, 0).repeat(4, 1)
    for n, box in enumerate(person_boxes(frames, side)):
        x0, y0, x1, y1 = box.round().astype(int)
        picture = wall.astype(np.int16)
        picture[y0:y1, x0:x1] = cloth[: y1 - y0, : x1 - x0]
        yield np.clip(picture + noise[n % 8], 0, 255).astype(np.uint8)


def write_video(path: Path, frames: int, side: int = SIDE) -> float:
    """Writes an H.264 video of about `BITS_PER_SECOND`; the rate that came of it, bit/s."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=RATE, options={"preset": "fast"})
        stream.width = stream.height = side
        stream.pix_fmt, stream.bit_rate = "yuv420p", BITS_PER_SECOND
        for picture in _pictures(frames, side):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path.stat().st_size * 8 * RATE / frames


@dataclasses.dataclass(frozen=True)
class _Take(takes.Take):
    """Four cameras that filmed the same; every fifth frame is kept."""

    frames: int = 0
    side: int = SIDE
    has_boxes: bool = False

    def read(self, locate: takes.Locate) -> takes.Footage:
        frame = np.arange(0, self.frames, EVERY)
        view = takes.View(
            camera="camera",
            pictures=tuple(map(locate, self.files["video"])),
            intrinsics=np.eye(3),
            extrinsics=np.eye(3, 4),
            distortion=np.zeros(5),
            pose=np.zeros((len(frame), 17, 3), np.float32),
            box=person_boxes(self.frames, self.side)[frame] if self.has_boxes else None,
            box_source="mask" if self.has_boxes else "static",
            frames=self.frames,
        )
        return takes.Footage((view,) * VIEWS, frame, frame / RATE, EVERY / RATE, float(RATE))


class _Builder(DistributionBuilder):
    name = "benchmark"
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": ""}
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="video", version=VERSION)]
    description = "For the benchmark."

    views = property(lambda self: VIEWS)
    split_names = property(lambda self: ("train",))


def _inventory(path: Path, frames: int, side: int, count: int, has_boxes: bool) -> takes.Inventory:
    file = originals.File(path.name, path.stat().st_size, "", (), str(path.parent), path.stat().st_mtime_ns)
    made = tuple(
        _Take(
            split="train",
            subject="S1",
            action="walking",
            subaction=str(n),
            group=0,
            name=f"take {n}",
            files={"video": (file,)},
            source_frames=VIEWS * frames,
            kept_frames=-(-frames // EVERY),
            frames=frames,
            side=side,
            has_boxes=has_boxes,
        )
        for n in range(count)
    )
    return takes.Inventory(made, {})


@contextlib.contextmanager
def _watching(peaks: list[float]) -> Iterator[None]:
    """Adds the largest memory (MB) that each process of a pool had; nothing where the system does not tell.

    Not `getrusage`: it counts what a process had of its parent before it began.
    """
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.1):
            for process in multiprocessing.active_children():
                with contextlib.suppress(OSError):
                    status = Path(f"/proc/{process.pid}/status").read_text()
                    peaks.extend(
                        int(kilobytes) / 1e3 for kilobytes in re.findall(r"VmHWM:\s+(\d+) kB", status)
                    )

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def prepare_rows(
    repeats: int, frames: int = 1500, workers: int = 0, size: int = 256, side: int = SIDE
) -> list[Row]:
    """Videos of 1000 x 1000 pixels to shards, end to end, every fifth frame kept; decoding alone beside it.

    Boxes from the static-camera finder (the default of `launch.prepare`) and given ones. `workers` processes
    (0: one per core) cut two takes each. Figures: source frames per second and process, and the peak memory
    of the largest process.
    """
    workers = workers or cpu.cores()
    peaks: list[float] = []
    count = 2 * workers
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        folder = Path(name)
        path = folder / "video.mp4"
        rate = write_video(path, frames, side)

        def decode() -> int:
            return sum(1 for _ in video.decoded(path, threads=1))

        def program(has_boxes: bool) -> Callable[[], None]:
            inventory = _inventory(path, frames, side, count, has_boxes)

            def run() -> None:
                stage = folder / "stage"
                builder = _Builder(inventory=inventory, stage=stage, size=size, data_dir=str(folder / "data"))
                with _watching(peaks):
                    stage_takes.run(
                        stage_takes.Work(inventory.takes, builder.cutting, stage), workers, lambda n: None
                    )
                with contextlib.redirect_stdout(io.StringIO()):  # TFDS talks
                    builder.download_and_prepare()
                shutil.rmtree(stage)
                shutil.rmtree(folder / "data")

            return run

        timings = in_turn(
            {"found boxes": program(False), "given boxes": program(True), "decoding alone": decode}, repeats
        )
    total = count * VIEWS * frames
    rows = []
    for kind in ("found boxes", "given boxes"):
        per_core = total / timings[kind].median_s / workers
        figures = {
            "frames_per_second_per_process": per_core,
            "share_of_decoding_alone": per_core * timings["decoding alone"].median_s / frames,
            "peak_memory_of_a_process_MB": max(peaks, default=float("nan")),
            "video_Mbit_per_second": rate / 1e6,
            "processes": float(workers),
        }
        rows.append(Row(f"prepare, {kind}", timings[kind], total, "source frames", figures))
    return [*rows, Row("decoding alone, one thread", timings["decoding alone"], frames, "source frames")]
