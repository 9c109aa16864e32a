"""How fast the metrics and the retrieval are here: `python -m launch.benchmark_metrics`.

Ratios are between programs that ran in turn within this run. FAISS (faiss-cpu) takes part where installed.
"""

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import app, flags
from jaxtyping import Float

from mcss_jax import metrics, retrieval

_REPEATS = flags.DEFINE_integer(
    "repeats", 5, "Timed repetitions of each program; the median is reported.", lower_bound=1
)


def _in_turn(programs: dict[str, Callable[[], Any]], repeats: int) -> dict[str, dict[str, float]]:
    """One untimed run each (compilation), then all in turn; median, lowest and highest seconds of each."""
    for program in programs.values():
        jax.block_until_ready(program())
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(repeats):
        for name, program in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(program())
            seconds[name].append(time.perf_counter() - start)
    return {
        name: {"median_s": statistics.median(values), "min_s": min(values), "max_s": max(values)}
        for name, values in seconds.items()
    }


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


def bench_metrics(n: int = 100_000, repeats: int = 5) -> dict[str, Any]:
    """PA-MPJPE of n pose pairs against a per-pose NumPy SVD loop; the largest difference from float64."""
    pred, target = _poses(1, n), _poses(2, n)
    results: dict[str, Any] = {"poses": n}
    results |= _in_turn(
        {
            "pa_mpjpe": lambda: metrics.pa_mpjpe(pred, target),
            "mpjpe": lambda: metrics.mpjpe(pred, target),
            "numpy_svd_loop": lambda: _svd_loop(pred, target),
        },
        repeats,
    )
    results["svd_loop_over_pa_mpjpe"] = (
        results["numpy_svd_loop"]["median_s"] / results["pa_mpjpe"]["median_s"]
    )
    exact = _svd_loop(pred[:2000].astype(np.float64), target[:2000].astype(np.float64))
    results["largest_difference_mm"] = float(
        np.abs(np.asarray(metrics.pa_mpjpe(pred, target))[:2000] - exact).max()
    )
    return results


def bench_retrieval(n: int = 20_000, dim: int = 128, k: int = 20, repeats: int = 5) -> dict[str, Any]:
    """n x n nearest neighbours against FAISS's flat index (if there); pose pairs per second of the oracle."""
    rng = np.random.default_rng(3)
    queries, gallery = rng.normal(size=(2, n, dim)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
    programs: dict[str, Callable[[], Any]] = {"nearest": lambda: retrieval.nearest(queries, gallery, k)}
    try:
        import faiss  # an extra: only this comparison uses it
    except ImportError:
        faiss = None  # type: ignore[assignment]

    def flat() -> Any:
        index = faiss.IndexFlatL2(dim)
        index.add(gallery)
        return index.search(queries, k)

    if faiss is not None:
        programs["faiss_flat"] = flat
    results: dict[str, Any] = {"queries": n, "gallery": n, "dim": dim, "k": k}
    results |= _in_turn(programs, repeats)
    if faiss is not None:
        results["nearest_over_faiss"] = results["nearest"]["median_s"] / results["faiss_flat"]["median_s"]
        squares, expected = flat()
        gaps = np.abs(np.diff(squares, axis=1, prepend=-np.inf, append=np.inf))
        clear = (
            np.minimum(gaps[:, :-1], gaps[:, 1:])[:, :-1] > 1e-5
        )  # the last one's next neighbour is not known
        agree = (retrieval.nearest(queries, gallery, k)[0] == expected)[:, :-1]
        results["clear_indices_that_differ"] = int((clear & ~agree).sum())

    query_poses, gallery_poses = _poses(4, 1024), _poses(5, n)
    oracle = _in_turn({"oracle": lambda: retrieval.oracle(query_poses, gallery_poses, k)}, repeats)
    results |= oracle
    results["oracle_pairs_per_s"] = len(query_poses) * n / oracle["oracle"]["median_s"]
    return results


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected argument {argv[1]!r}; all settings are flags (--helpshort).")
    results = {
        "device": str(jax.devices()[0]),
        "metrics": bench_metrics(repeats=_REPEATS.value),
        "retrieval": bench_retrieval(repeats=_REPEATS.value),
    }
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    app.run(main)
