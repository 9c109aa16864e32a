"""How well embeddings align two cameras in time, for footage without poses.

Query a frame of camera A, take the nearest frame of camera B of the same sequence, and measure how far apart in time
they are: the error is zero when the nearest frame is the same instant.
"""

import numpy as np
from jaxtyping import Float

from launch.evaluation import inference
from mcss_jax.errors import UserError
from mcss_jax.search import retrieval

_DRAWS = 100  # random frames that chance draws for each query


def alignment(
    views: inference.Views, features: Float[np.ndarray, "n d"] | None, seed: int = 0
) -> dict[str, float]:
    """Temporal alignment error in seconds over all ordered camera pairs of every sequence: median and mean.

    `features=None` is chance: a uniformly random frame of the other camera instead of the nearest.
    Raises UserError when no sequence was seen by two cameras.
    """
    rng = np.random.default_rng(seed)
    queries, matches = [], []
    for sequence in np.unique(views.sequence):
        inside = views.sequence == sequence
        cameras = np.unique(views.camera[inside])
        for a, b in ((a, b) for a in cameras for b in cameras if a != b):
            q, g = (np.flatnonzero(inside & (views.camera == c)) for c in (a, b))
            if features is None:
                q = np.repeat(q, _DRAWS)
                nearest = rng.integers(0, len(g), len(q))
            else:
                nearest = retrieval.nearest(features[q], features[g], 1)[0][:, 0]
            queries.append(q)
            matches.append(g[nearest])
    if not queries:
        raise UserError("temporal alignment needs a sequence that at least two cameras saw")
    errors = retrieval.temporal_alignment_error(
        views.time[np.concatenate(queries)], views.time, np.concatenate(matches)[:, None]
    )
    return {f"{name}_s": error for name, error in errors.items()}
