"""A trained state on a prepared split: embeddings and poses of every view, and the figures they give."""

import dataclasses
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from datasets.tuples import pipeline
from launch.cli import progress
from launch.evaluation import protocols
from mcss_jax import geometry, metrics, skeleton
from mcss_jax.errors import UserError
from mcss_jax.padding import padded
from mcss_jax.training import parallel
from mcss_jax.training.state import PoseStatistics, TrainState
from mcss_jax.training.train_step import Prediction

Embed = Callable[[TrainState, np.ndarray], Prediction]


@dataclasses.dataclass(frozen=True)
class Views:
    """n single views of a split: where each comes from, its embedding, and true and predicted poses (mm).

    `canonical` poses are in the body's frame, `camera` poses root-relative in the real camera's frame. True poses are
    NaN where there are none.
    """

    record: Int[np.ndarray, " n"]
    camera: Int[np.ndarray, " n"]
    sequence: Int[np.ndarray, " n"]
    time: Float[np.ndarray, " n"]
    embedding: Float[np.ndarray, "n d"]
    canonical: Float[np.ndarray, "n 17 3"]
    in_camera: Float[np.ndarray, "n 17 3"]
    true_canonical: Float[np.ndarray, "n 17 3"]
    true_in_camera: Float[np.ndarray, "n 17 3"]

    def __len__(self) -> int:
        return len(self.record)

    def select(self, chosen: np.ndarray) -> "Views":
        """The views that a mask or index chooses."""
        return Views(*(getattr(self, field.name)[chosen] for field in dataclasses.fields(self)))

    @property
    def has_pose(self) -> bool:
        """Whether every view has a true pose."""
        return bool(np.isfinite(self.true_canonical).all())


@jax.jit
def _to_camera(canonical: jax.Array, rotation: jax.Array, intrinsics: jax.Array, box: jax.Array) -> jax.Array:
    turn = geometry.look_through(intrinsics, box)
    return skeleton.restore(canonical, jnp.matmul(turn, rotation, precision="highest"))


def predict(
    state: TrainState,
    batches: Iterable[pipeline.Views],
    *,
    size: int,
    name: str = "the data",
    embed: Embed | None = None,
) -> Views:
    """Runs the network over batches of at most `size` views. Raises UserError when there are none."""
    embed = embed or parallel.pmap_embed()
    columns: dict[str, list[np.ndarray]] = {field.name: [] for field in dataclasses.fields(Views)}
    for views in batches:
        count = len(views.images)

        out = embed(state, padded(views.images, size))
        camera = _to_camera(
            out.canonical,
            out.rotation,
            padded(views.intrinsics.astype(np.float32), size),
            padded(views.box.astype(np.float32), size),
        )
        true = views.pose - views.pose[:, :1]
        values_by_column = {
            "record": views.record,
            "camera": views.camera,
            "sequence": views.sequence,
            "time": views.time,
            "embedding": out.embedding[:count],
            "canonical": out.canonical[:count],
            "in_camera": np.asarray(camera)[:count],
            "true_in_camera": true,
            "true_canonical": np.asarray(canonical_of(padded(true, size)))[:count],
        }
        for column, values in values_by_column.items():
            columns[column].append(values)
    if not columns["record"]:
        raise UserError(f"{name} has no valid view among the chosen records and cameras")
    return Views(**{column: np.concatenate(values) for column, values in columns.items()})


def predict_split(
    state: TrainState, split: pipeline.Split, choice: protocols.Choice, *, batch: int = 256
) -> Views:
    """`predict` over the chosen views of a prepared split, with a progress bar that counts instants."""
    size = max(split.views, batch // split.views * split.views)
    with progress.bar(len(choice.records), f"predict {split.name}", "instant") as bar:
        views = pipeline.iterate_views(split, size, choice.records, choice.cameras, bar.update)
        return predict(state, views, size=size, name=split.name)


canonical_of = jax.jit(lambda pose: skeleton.canonicalise(pose)[0])


def pose_errors(views: Views) -> dict[str, Float[np.ndarray, " n"]]:
    """Errors of every view in millimetres, shares in percent, of predicted against true poses.

    `mpjpe` and `n_mpjpe` are in the camera's frame (root-relative), `*_canonical` in the body's; `pa_mpjpe` is the
    same in both, and taken from the body's, where a constant mean pose is at its best. `pck_150mm` and `auc` are
    MPI-INF-3DHP's, in the camera's frame (docs/data_formats.md#pose-metrics).
    Raises UserError when the split has no poses.
    """
    if not views.has_pose:
        raise UserError("the split has no true poses to compare with")
    real, body = (views.in_camera, views.true_in_camera), (views.canonical, views.true_canonical)
    errors = {
        "mpjpe": metrics.mpjpe(*real),
        "n_mpjpe": metrics.n_mpjpe(*real),
        "pa_mpjpe": metrics.pa_mpjpe(*body),
        "mpjpe_canonical": metrics.mpjpe(*body),
        "n_mpjpe_canonical": metrics.n_mpjpe(*body),
        "pck_150mm": 100 * metrics.pck(*real),
        "auc": 100 * metrics.auc(*real),
    }
    return {name: np.asarray(values, np.float64) for name, values in errors.items()}


def pose_figures(views: Views) -> dict[str, float]:
    """Means of `pose_errors` over all views."""
    return {name: float(values.mean()) for name, values in pose_errors(views).items()}


def means_by(errors: dict[str, Float[np.ndarray, " n"]], labels: np.ndarray) -> dict[str, dict[str, float]]:
    """Means of every error over the views of each label, and their number; labels in order of appearance."""
    out = {}
    for label in dict.fromkeys(labels.tolist()):
        chosen = labels == label
        means = {name: float(values[chosen].mean()) for name, values in errors.items()}
        out[label] = {"views": int(chosen.sum())} | means
    return out


def mean_pose(views: Views, statistics: PoseStatistics, camera_mean: Float[np.ndarray, "17 3"]) -> Views:
    """The same views as a constant predictor would see them: always the labelled mean pose of each frame."""
    shape = views.canonical.shape
    return dataclasses.replace(
        views,
        canonical=np.broadcast_to(np.asarray(statistics.mean), shape),
        in_camera=np.broadcast_to(np.asarray(camera_mean), shape),
    )
