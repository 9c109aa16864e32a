"""Which instants may be negatives (temporal rule), and which of them count (hardness rule).

The temporal rule is the method's idea: within one group (same person, clothes and room) only the pose can
tell two instants apart, and only instants far enough in time have another pose. The paper's gap and hardness
are not public (docs/method.md#what-the-paper-leaves-open); hardness is scheduled from soft to hard, because
hardest-in-batch from random weights collapses (docs/method.md#soft-minimum).
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

# Seconds. A gap met up to rounding is met, and nearer times are of one instant: an hour into a recording float32
# seconds are 2e-4 apart, and frames never less than 4e-3.
TIME_TOLERANCE = 1e-3


def negative_mask(
    group: Int[Array, " m"],
    sequence: Int[Array, " m"],
    time: Float[Array, " m"],
    min_gap: float,
    across_groups: bool,
    *,
    columns: tuple[Int[Array, " n"], Int[Array, " n"], Float[Array, " n"]] | None = None,
) -> Bool[Array, "m n"]:
    """`mask[i, j]`: may instant j be a negative of instant i?

    Yes for instants of the same group that are at least `min_gap` seconds away or belong to another sequence,
    and, with `across_groups`, for every instant of another group. Sequence numbers are unique over all
    groups. Times are seconds since the start of the sequence. `columns` are (group, sequence, time) of the
    candidates when they are not the rows themselves (all replicas' instants against this replica's).
    """
    other_group, other_sequence, other_time = (group, sequence, time) if columns is None else columns
    same_group = group[:, None] == other_group[None, :]
    same_sequence = sequence[:, None] == other_sequence[None, :]
    far = jnp.abs(time[:, None] - other_time[None, :]) >= min_gap - TIME_TOLERANCE
    # An instant is never its own negative, not even at a gap of zero.
    apart = ~same_sequence | (far & (time[:, None] != other_time[None, :]))
    return jnp.where(same_group, apart, across_groups)


def hardest(
    distances: Float[Array, "m n"], mask: Bool[Array, "m n"], temperature: Float[Array, ""] | float
) -> tuple[Float[Array, " m"], Int[Array, " m"], Bool[Array, " m"]]:
    """The (soft) minimum over each row's allowed negatives: `(distance, index, has_negative)`.

    At temperature 0 it is the hardest negative; above, -T log mean exp(-d / T), which goes to the mean as T
    grows. The log-*mean*-exp keeps the scale of the margin whatever the number of negatives (a plain sum
    shifts it by T log n). `index` is always that of the hardest (lowest index at ties); rows without a
    negative give 0, 0, False and no gradient.
    """
    has_negative = jnp.any(mask, axis=1)
    blocked = jnp.where(mask, distances, jnp.inf)
    index = jnp.argmin(blocked, axis=1).astype(jnp.int32)
    minimum = jnp.where(has_negative, jnp.take_along_axis(distances, index[:, None], axis=1)[:, 0], 0.0)
    # The schedule's temperature is traced, so both cases are computed and neither may divide by zero.
    temperature = jnp.asarray(temperature, distances.dtype)
    soft = temperature > 0
    scale = jnp.where(soft, temperature, 1.0)
    # Shifted by the minimum, so that the largest exponent is zero; the shift cancels and carries no gradient.
    anchor = jnp.where(has_negative, jnp.min(blocked, axis=1), 0.0)
    exponent = jnp.where(mask, -(distances - anchor[:, None]) / scale, -jnp.inf)
    weight = jnp.where(mask, jnp.exp(jnp.where(mask, exponent, 0.0)), 0.0)
    count = jnp.maximum(jnp.sum(mask, axis=1), 1).astype(distances.dtype)
    mean = jnp.where(has_negative, jnp.sum(weight, axis=1) / count, 1.0)
    softened = jnp.where(has_negative, anchor - scale * jnp.log(mean), 0.0)
    return jnp.where(soft, softened, minimum), index, has_negative


def temperature_at(step: Int[Array, ""] | int, start: float, end: float, steps: int) -> Float[Array, ""]:
    """Temperature of `hardest` at a step: geometric from `start` to `end` over `steps`, then constant.

    `end` 0 stays soft on the way (down to a hundredth of `start`) and is the hardest negative from `steps`
    on.
    """
    progress = jnp.clip(jnp.asarray(step, jnp.float32) / float(max(steps, 1)), 0.0, 1.0)
    low = end if end > 0 else 0.01 * start
    value = start * jnp.exp(progress * jnp.log(low / start)) if start > 0 else jnp.zeros(())
    return jnp.where((progress >= 1.0) & (end <= 0), 0.0, value)
