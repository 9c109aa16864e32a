"""The method in plain NumPy, as its formulas: loss, figures, optimiser and augmentation, slow and without JAX.

Nothing of `mcss_jax` is called here, so that what a setting does is written down twice. Only the random numbers of an
augmentation are JAX's, drawn by the keys that `augment` documents.
"""

import dataclasses
import math
from typing import Any

import jax
import numpy as np

from mcss_jax.augment import Augmentation
from mcss_jax.method import Objective, Optimiser
from mcss_jax.training.batch import Batch, Labelled, Unlabelled

LEFT, RIGHT = [4, 5, 6, 11, 12, 13], [1, 2, 3, 14, 15, 16]


# -------- poses


def unit(v: np.ndarray) -> np.ndarray:
    return v / np.linalg.norm(v)


def canonical(pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Root-relative coordinates along the body's axes, and these axes as columns."""
    x = unit(pose[4] - pose[1])
    spine = pose[8] - pose[0]
    y = unit(spine - (spine @ x) * x)
    axes = np.stack([x, y, np.cross(x, y)], axis=1)
    return (pose - pose[0]) @ axes, axes


def in_virtual_camera(pose: np.ndarray, intrinsics: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The pose in the camera that looks at the box's centre, turned there by the shortest way."""
    u, v = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    ray = unit(
        np.asarray(
            [(u - intrinsics[0, 2]) / intrinsics[0, 0], (v - intrinsics[1, 2]) / intrinsics[1, 1], 1.0]
        )
    )
    a, b, c = np.cross([0.0, 0.0, 1.0], ray)
    cross = np.asarray([[0, -c, b], [c, 0, -a], [-b, a, 0]])
    turn = np.eye(3) + cross + cross @ cross / (1 + ray[2])
    return pose @ turn


def mirrored(pose: np.ndarray) -> np.ndarray:
    other = pose.copy()
    other[LEFT], other[RIGHT] = pose[RIGHT], pose[LEFT]
    return other * [-1, 1, 1]


def rotation_of(six: np.ndarray) -> np.ndarray:
    """Gram-Schmidt on two columns."""
    first = unit(six[:3])
    second = unit(six[3:] - (six[3:] @ first) * first)
    return np.stack([first, second, np.cross(first, second)], axis=1)


# -------- loss


@dataclasses.dataclass
class Answers:
    """What a network says of a batch, in float64: of the labelled pictures, and of both views of the unlabelled."""

    pose: np.ndarray
    rotation: np.ndarray
    embedding: np.ndarray
    views: np.ndarray


def temperature_at(objective: Objective, step: int, run: int) -> float:
    start, end = objective.temperature_start, objective.temperature_end
    steps = objective.temperature_steps or run
    if start == 0 or (end == 0 and step >= steps):
        return 0.0
    share = min(step / steps, 1.0)
    return start * ((end or start / 100) / start) ** share


def is_negative(objective: Objective, of: Unlabelled, i: int, j: int) -> bool:
    if not (of.valid[i] and of.valid[j]):
        return False
    if of.group[i] != of.group[j]:
        return objective.across_groups
    if of.sequence[i] != of.sequence[j]:
        return True
    return i != j and abs(float(of.time[i]) - float(of.time[j])) >= objective.min_negative_gap


def labelled_figures(
    answers: Answers, data: Labelled, box: np.ndarray, flipped: np.ndarray, mean: np.ndarray, scale: float
) -> dict[str, float]:
    rows = [i for i in range(len(data.valid)) if data.valid[i]]
    errors, turns, lengths = [], [], []
    for i in rows:
        pose = in_virtual_camera(
            data.pose[i].astype(np.float64), data.intrinsics[i].astype(np.float64), box[i].astype(np.float64)
        )
        target, axes = canonical(mirrored(pose) if flipped[i] else pose)
        errors.append(np.abs(answers.pose[i] - (target - mean) / scale).mean())
        turns.append(((rotation_of(answers.rotation[i]) - axes) ** 2).sum() / 8)
        predicted = answers.pose[i] * scale + mean
        difference = (predicted - predicted[0]) - (target - target[0])
        lengths.append(np.linalg.norm(difference, axis=1).mean())
    return {
        "loss_pose": float(np.mean(errors)),
        "loss_rotation": float(np.mean(turns)),
        "train_mpjpe_canonical": float(np.mean(lengths)),
    }


def unlabelled_figures(
    answers: Answers, of: Unlabelled, objective: Objective, heat: float
) -> dict[str, float]:
    losses, positives, negatives, truths = [], [], [], []
    instants = range(len(of.valid))
    allowed = [sum(is_negative(objective, of, i, j) for j in instants) for i in instants if bool(of.valid[i])]
    for i in instants:
        for view in range(2):
            distance = {
                (j, other): float(np.linalg.norm(answers.views[i, view] - answers.views[j, other]))
                for j in instants
                for other in range(2)
                if is_negative(objective, of, i, j)
            }
            if not distance:
                continue
            positive = float(np.linalg.norm(answers.views[i, 0] - answers.views[i, 1]))
            nearest = min(distance, key=distance.__getitem__)
            far = list(distance.values())
            least = distance[nearest]
            if objective.metric_loss == "triplet":
                if heat > 0:
                    least = -heat * math.log(sum(math.exp(-d / heat) for d in far) / len(far))
                losses.append(max(0.0, objective.margin + positive - least))
            else:
                own, *others = (
                    math.exp((1 - d * d / 2) / objective.infonce_temperature) for d in (positive, *far)
                )
                losses.append(-math.log(own / (own + sum(others))))
            positives.append(positive)
            negatives.append(least)
            if np.isfinite(of.pose[i]).all() and np.isfinite(of.pose[nearest[0]]).all():
                a, b = (canonical(of.pose[k].astype(np.float64))[0] for k in (i, nearest[0]))
                truths.append(np.linalg.norm(a - b, axis=1).mean())
    return {
        "loss_metric": float(np.mean(losses)),
        "positive_distance": float(np.mean(positives)),
        "negative_distance": float(np.mean(negatives)),
        "mined_pose_distance": float(np.mean(truths)),
        "false_negatives": float(np.mean([truth < 50 for truth in truths])),
        "anchors_with_negative": float(np.mean([number > 0 for number in allowed])),
        "negatives": float(np.mean(allowed)),
    }


def figures(
    answers: Answers,
    batch: Batch,
    box: np.ndarray,
    flipped: np.ndarray,
    statistics: Any,
    objective: Objective,
    heat: float,
) -> dict[str, float]:
    """Every figure of the report that depends on a batch's outputs, and `loss`."""
    assert batch.labelled is not None and batch.unlabelled is not None
    mean, scale = (np.asarray(x, np.float64) for x in statistics)
    values = labelled_figures(answers, batch.labelled, box, flipped, mean, float(scale))
    values |= unlabelled_figures(answers, batch.unlabelled, objective, heat)
    everything = np.concatenate([answers.embedding, answers.views.reshape(-1, answers.views.shape[-1])])
    values["embedding_variance"] = float(((everything - everything.mean(0)) ** 2).mean(0).sum())
    values["loss"] = (
        values["loss_pose"]
        + objective.rotation_weight * values["loss_rotation"]
        + objective.metric_weight * values["loss_metric"]
    )
    return values


# -------- optimiser


def learning_rate(optimiser: Optimiser, step: int) -> float:
    """Linear from zero to the peak over the warm-up, at most half of the run; then half a cosine to zero."""
    warmup = min(optimiser.warmup_steps, optimiser.steps // 2)
    if step < warmup:
        return optimiser.learning_rate * step / warmup
    share = min((step - warmup) / (optimiser.steps - warmup), 1.0)
    return optimiser.learning_rate * 0.5 * (1 + math.cos(math.pi * share))


def adamw(
    optimiser: Optimiser, params: dict[str, np.ndarray], gradients: list[dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Parameters after one update with each of the gradients (Loshchilov and Hutter 2019; decay of matrices alone)."""
    now = {name: value.astype(np.float64) for name, value in params.items()}
    first = {name: np.zeros_like(value) for name, value in now.items()}
    second = {name: np.zeros_like(value) for name, value in now.items()}
    for step, gradient in enumerate(gradients):
        norm = math.sqrt(sum(float((g.astype(np.float64) ** 2).sum()) for g in gradient.values()))
        shrink = min(1.0, optimiser.clip_norm / norm)
        for name in now:
            g = gradient[name].astype(np.float64) * shrink
            first[name] = 0.9 * first[name] + 0.1 * g
            second[name] = 0.999 * second[name] + 0.001 * g * g
            mean = first[name] / (1 - 0.9 ** (step + 1))
            square = second[name] / (1 - 0.999 ** (step + 1))
            decay = optimiser.weight_decay * now[name] if name == "kernel" else 0.0
            now[name] = now[name] - learning_rate(optimiser, step) * (mean / (np.sqrt(square) + 1e-8) + decay)
    return now


# -------- augmentation


def uniform(key: Any, count: int, low: float = 0.0) -> np.ndarray:
    return np.asarray(jax.random.uniform(key, (count,), minval=low, maxval=1.0), np.float64)


def sampled(picture: np.ndarray, row: float, column: float) -> np.ndarray:
    """Bilinear, at coordinates of pixel centres; beyond the picture its edge."""
    size = len(picture)
    row, column = min(max(row, 0.0), size - 1.0), min(max(column, 0.0), size - 1.0)
    top, left = int(row), int(column)
    below, right = min(top + 1, size - 1), min(left + 1, size - 1)
    a, b = row - top, column - left
    upper = (1 - b) * picture[top, left] + b * picture[top, right]
    lower = (1 - b) * picture[below, left] + b * picture[below, right]
    return (1 - a) * upper + a * lower


def recoloured(picture: np.ndarray, key: Any, strength: float) -> np.ndarray:
    turn, saturation, contrast, brightness = strength * uniform(key, 4, -1.0)
    angle = math.pi * turn
    grey = np.full((3, 3), 1 / 3)
    axis = np.asarray([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    hue = math.cos(angle) * (np.eye(3) - grey) + math.sin(angle) * axis
    factor = 1 + 0.5 * contrast
    matrix = factor * (grey + (1 + saturation) * hue)
    return np.clip(picture @ matrix.T + 128 * (1 - factor) + 80 * brightness, 0, 255)


def covered(picture: np.ndarray, key: Any, probability: float) -> np.ndarray:
    draws, size = uniform(key, 8), len(picture)
    if draws[4] >= probability:
        return picture
    extent = size * (0.1 + 0.3 * draws[0:2])
    low = draws[2:4] * (size - extent)
    out = picture.copy()
    for row in range(size):
        for column in range(size):
            if low[0] <= row < low[0] + extent[0] and low[1] <= column < low[1] + extent[1]:
                out[row, column] = 255 * draws[5:8]
    return out


def augmented_view(
    key: Any, picture: np.ndarray, box: np.ndarray, flipped: bool, config: Augmentation
) -> tuple[np.ndarray, np.ndarray]:
    """Colours, occluder, crop, mirror, in this order; and the crop's box."""
    crop, colour, occlusion = jax.random.split(key, 3)
    size = len(picture)
    draws = uniform(crop, 3, -1.0)
    side = size * (1 + config.scale * draws[0])
    left, top = (size - side) / 2 + size * config.shift * draws[1:]
    changed = covered(
        recoloured(picture.astype(np.float64), colour, config.colour), occlusion, config.occlusion
    )
    out = np.zeros_like(changed)
    for row in range(size):
        for column in range(size):
            at = [start + (k + 0.5) * side / size - 0.5 for start, k in ((top, row), (left, column))]
            out[row, size - 1 - column if flipped else column] = sampled(changed, *at)
    pixel = (box[2:] - box[:2]) / size
    corner = box[:2] + np.asarray([left, top]) * pixel
    return out, np.concatenate([corner, corner + side * pixel])


def augmented(
    key: Any, views: np.ndarray, boxes: np.ndarray, config: Augmentation
) -> tuple[np.ndarray, np.ndarray, bool]:
    """One instant: a coin for all its views together, and a key of its own for every view."""
    coin, of_views = jax.random.split(key)
    flipped = bool(config.flip and float(jax.random.uniform(coin)) < 0.5)
    pairs = [
        augmented_view(k, view, box, flipped, config)
        for k, view, box in zip(jax.random.split(of_views, len(views)), views, boxes, strict=True)
    ]
    return np.stack([pixels for pixels, _ in pairs]), np.stack([box for _, box in pairs]), flipped
