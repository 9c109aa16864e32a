"""An exported file beside the JAX forward pass: the same pictures through both, and how far the answers differ."""

import dataclasses

import numpy as np
from jaxtyping import UInt8

from datasets.tuples import pipeline
from launch.benchmarks.timing import Row, in_turn
from launch.interchange import exported
from launch.runs import run_folder, settings
from launch.training import streamed

# Largest difference of any entry: unit vectors, millimetres, entries of a rotation. Float32 arithmetic in another order
# gives about a hundredth of them.
TOLERANCES = {"embedding": 1e-4, "canonical": 0.1, "rotation": 1e-3}
# One picture, and a batch that no shape was compiled for.
BATCHES = (1, 7)


@dataclasses.dataclass(frozen=True)
class Check:
    """Pictures of one kind, and the largest difference of every output over all of them."""

    crops: str
    pictures: int
    differences: dict[str, float]

    @property
    def passed(self) -> bool:
        """Whether all differences are within `TOLERANCES`; a NaN is not."""
        return all(self.differences[name] <= limit for name, limit in TOLERANCES.items())


def random_crops(count: int, size: int) -> UInt8[np.ndarray, "n s s 3"]:
    """Noise: every pixel is drawn."""
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)


def person_crops(run: run_folder.Run, count: int) -> tuple[str, UInt8[np.ndarray, "n s s 3"]]:
    """Crops of people, spread over the run's training data where it is at hand, otherwise rendered; and their name."""
    config, size = run.config, run.card["image_size"]
    split = None if config.data.stream else _training_split(config, size)
    if split is not None:
        records = np.linspace(0, split.records - 1, count).astype(int)
        views, name = pipeline.iterate_views(split, split.views * count, records), split.name
    else:
        takes = dataclasses.replace(streamed.judged_takes(config, "test"), first=0, size=size)
        records = np.linspace(0, len(takes) - 1, -(-count // takes.cameras)).astype(int)
        views, name = streamed.views_of(takes, records), "rendered by datasets.synthetic_multiview"
    images = np.concatenate([np.asarray(batch.images) for batch in views])
    return name, images[np.linspace(0, len(images) - 1, count).astype(int)]


def _training_split(config: settings.Train, size: int) -> pipeline.Split | None:
    """None where it is not prepared."""
    try:
        return pipeline.open_split(config.data.data_dir, config.data.dataset, config.data.train_split, size)
    except pipeline.NotPrepared:
        return None


def compare(
    ours: exported.Runner, theirs: exported.Runner, crops: str, images: UInt8[np.ndarray, "n s s 3"]
) -> Check:
    """Both on the same pictures, in batches of several sizes."""
    differences = dict.fromkeys(TOLERANCES, 0.0)
    for size in BATCHES:
        a, b = ours(images[:size]), theirs(images[:size])
        for name in differences:
            one, other = getattr(a, name), getattr(b, name)
            # Not `max`, which would drop a NaN; nor broadcasting, which would hide a wrong shape.
            far = float(np.abs(one - other).max()) if one.shape == other.shape else float("nan")
            differences[name] = float(np.maximum(differences[name], far))
    return Check(crops, max(BATCHES), differences)


def check(run: run_folder.Run, ours: exported.Runner, theirs: exported.Runner) -> list[Check]:
    """Random and person crops. Raises ValueError, a defect, when an output differs by more than `TOLERANCES`."""
    count, size = max(BATCHES), run.card["image_size"]
    pictures = {"random": random_crops(count, size)} | dict([person_crops(run, count)])
    checks = [compare(ours, theirs, name, images) for name, images in pictures.items()]
    for one in checks:
        if not one.passed:
            figures = ", ".join(
                f"{name} by {one.differences[name]:.3g} (at most {limit:g})"
                for name, limit in TOLERANCES.items()
            )
            raise ValueError(
                f"the export does not say what the network says: on {one.pictures} crops ({one.crops}) it differs in "
                f"{figures}; nothing was kept. Please report it with the versions of jax and onnxruntime"
            )
    return checks


def speed(
    ours: exported.Runner, theirs: exported.Runner, form: exported.Format, size: int, batch: int, repeats: int
) -> list[Row]:
    """Both in turn on one batch of noise, on the CPU with every core; pictures there and answers back in memory."""
    images = random_crops(batch, size)
    timings = in_turn({"JAX": lambda: ours(images), form: lambda: theirs(images)}, repeats)
    rows = [Row(f"{name} {batch} x {size} px", timing, batch, "images") for name, timing in timings.items()]
    rows[1] = dataclasses.replace(rows[1], figures={"rate_over_jax": timings[form].ratio_to(timings["JAX"])})
    return rows
