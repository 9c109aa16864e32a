"""The suites `metrics` and `retrieval` of launch.benchmark.

FAISS (faiss-cpu) takes part in the second where it is installed.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from launch.benchmarks.timing import Row, in_turn
from mcss_jax import metrics
from mcss_jax.search import retrieval


def _poses(seed: int, n: int) -> Float[np.ndarray, "n 17 3"]:
    """Random poses of a standing person's extent, 4 m from the camera, millimetres."""
    rng = np.random.default_rng(seed)
    base = np.random.default_rng(0).normal(size=(1, 17, 3)) * [120, 120, 450]
    turns = np.linalg.qr(rng.normal(size=(n, 3, 3)))[0]
    turns *= np.sign(np.linalg.det(turns))[:, None, None]
    return ((base + rng.normal(size=(n, 17, 3)) * 120) @ turns + [0, 0, 4000]).astype(np.float32)


def _svd_loop(
    pred: Float[np.ndarray, "n 17 3"], target: Float[np.ndarray, "n 17 3"]
) -> Float[np.ndarray, " n"]:
    """PA-MPJPE pose by pose with NumPy's SVD, in the input's precision."""
    errors = np.empty(len(pred))
    for i, (p, g) in enumerate(zip(pred, target, strict=True)):
        p0, g0 = p - p.mean(0), g - g.mean(0)
        u, s, vt = np.linalg.svd(g0.T @ p0)
        if np.linalg.det(u @ vt) < 0:
            u[:, 2] *= -1
            s[2] *= -1
        aligned = (s.sum() / (p0 * p0).sum()) * p0 @ (u @ vt).T
        errors[i] = np.linalg.norm(aligned - g0, axis=1).mean()
    return errors


def metrics_rows(repeats: int, n: int = 100_000) -> list[Row]:
    """PA-MPJPE of n pose pairs against a per-pose NumPy SVD loop; the largest difference from float64."""
    pred, target = _poses(1, n), _poses(2, n)
    timings = in_turn(
        {
            "pa_mpjpe": lambda: metrics.pa_mpjpe(pred, target),
            "mpjpe": lambda: metrics.mpjpe(pred, target),
            "numpy_svd_loop": lambda: _svd_loop(pred, target),
        },
        repeats,
    )
    exact = _svd_loop(pred[:2000].astype(np.float64), target[:2000].astype(np.float64))
    figures = {
        "rate_over_numpy_svd_loop": timings["pa_mpjpe"].ratio_to(timings["numpy_svd_loop"]),
        "largest_difference_mm": float(
            np.abs(np.asarray(metrics.pa_mpjpe(pred[:2000], target[:2000])) - exact).max()
        ),
    }
    return [
        Row(name, timing, n, "poses", figures if name == "pa_mpjpe" else {})
        for name, timing in timings.items()
    ]


def retrieval_rows(repeats: int, n: int = 20_000, dim: int = 128, k: int = 20) -> list[Row]:
    """n x n nearest neighbours, against FAISS's flat index if there; the oracle's pose pairs."""
    rng = np.random.default_rng(3)
    queries, gallery = rng.normal(size=(2, n, dim)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
    programs: dict[str, Callable[[], Any]] = {"nearest": lambda: retrieval.nearest(queries, gallery, k)}

    def flat() -> Any:
        index = faiss.IndexFlatL2(dim)
        index.add(gallery)
        return index.search(queries, k)

    try:
        import faiss  # an extra: only this comparison uses it

        programs["faiss_flat"] = flat
    except ImportError:
        pass
    timings = in_turn(programs, repeats)
    figures: dict[str, float] = {}
    if "faiss_flat" in timings:
        squares, expected = flat()
        gaps = np.abs(np.diff(squares, axis=1, prepend=-np.inf, append=np.inf))
        # The last one's next neighbour is not known.
        clear = np.minimum(gaps[:, :-1], gaps[:, 1:])[:, :-1] > 1e-5
        agree = (retrieval.nearest(queries, gallery, k)[0] == expected)[:, :-1]
        figures = {
            "rate_over_faiss": timings["nearest"].ratio_to(timings["faiss_flat"]),
            "clear_indices_that_differ": int((clear & ~agree).sum()),
        }
    rows = [
        Row(name, timing, n, "queries", figures if name == "nearest" else {})
        for name, timing in timings.items()
    ]
    query_poses, gallery_poses = _poses(4, 1024), _poses(5, n)
    oracle = in_turn({"oracle": lambda: retrieval.oracle(query_poses, gallery_poses, k)}, repeats)["oracle"]
    return [*rows, Row("oracle", oracle, len(query_poses) * n, "pose pairs")]
