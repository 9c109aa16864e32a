"""One of two processes that train as one; what it saw goes to a JSON file. Started by test_two_processes."""

import json
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from datasets.tuples import pipeline
from launch.cli import options
from launch.runs import hosts, metric_log, settings
from launch.training import sources, train
from mcss_jax.errors import UserError, is_mendable
from mcss_jax.training import parallel
from mcss_jax.training.train_step import Prediction
from tests.mcss_jax.steps import two_blocks


def refusal(of: Callable[[], Any]) -> str:
    try:
        of()
    except Exception as error:
        return str(error) if is_mendable(error) else f"a defect: {error}"
    return "none"


def refusals(config: settings.Train) -> dict[str, str]:
    """What is said to processes that differ; everything here ends at once on both."""
    process = jax.process_index()
    own_folder = Path(f"{config.run.workdir}_of_{process}")
    own_folder.mkdir()

    def alone() -> None:
        with hosts.together("count to two"):
            if process == 1:
                raise OSError(5, "only to one")

    def defective() -> None:
        with hosts.together("count to three"):
            if process == 1:
                raise TypeError("a fault of process 1")

    def both() -> None:
        with hosts.together("count to four"):
            raise (UserError("a file of process 0") if process == 0 else TypeError("a fault of process 1"))

    # Of labelled pictures that one process could not share out among the devices, it would say so alone.
    odd = options.replace(config, labelled_batch=8 - 2 * process)
    return {
        "settings": refusal(lambda: hosts.compare_settings(options.replace(config, seed=process))),
        "code": refusal(lambda: of_other_code(config)),
        "training": refusal(lambda: train.train(odd)),
        "fingerprint": refusal(lambda: hosts.compare({"the data's fingerprint": f"print {process}"})),
        "parameters": refusal(lambda: hosts.compare_state({"w": jax.numpy.full(3, process)})),
        "alone": refusal(alone),
        "defective": refusal(defective),
        "both": refusal(both),
        "folder": refusal(lambda: hosts.compare_folder(own_folder, "--workdir")),
        "shared folder": refusal(lambda: hosts.compare_folder(Path(config.run.workdir).parent, "--workdir")),
    }


def of_other_code(config: settings.Train) -> None:
    """Process 1 has another copy of the code, which knows of no revision."""
    with pytest.MonkeyPatch.context() as patch:
        if jax.process_index() == 1:
            patch.setattr(hosts.provenance, "code", lambda: "other")
            patch.setattr(hosts.provenance, "revision", lambda: None)
        hosts.compare_settings(config)


def of_a_full_disk(config: settings.Train) -> None:
    """Process 0 cannot write the first line of its log."""

    def full(*_: Any) -> None:
        raise OSError(28, "no space left")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metric_log.MetricLog, "write", full)
        train.train(options.replace(config, workdir=f"{config.run.workdir}_full", stop_after=2))


def shard_mapped() -> dict[str, Any]:
    """Two calls of a step that is small enough to be compiled twice: where rows, state and key end up."""

    def body(state: Any, batch: Any, rng: Any, axis_name: str) -> Any:
        total = jax.lax.psum(jnp.sum(batch["rows"] * (1 + jax.lax.axis_index(axis_name))), axis_name)
        return {"w": state["w"] + total}, {"total": total, "drawn": jax.random.uniform(rng)}

    step = parallel._shard_mapped(body, tuple(parallel.choose_devices()))
    rows = np.arange(8, dtype=np.float32).reshape(2, 4)[jax.process_index()]
    state: Any = {"w": np.ones(3, np.float32)}
    for _ in range(2):
        state, report = step(state, {"rows": rows}, jax.random.key(5))
    hosts.compare_state(state)
    return {"w": np.asarray(state["w"]).tolist(), **{k: float(v) for k, v in report.items()}}


def embedded(state: Any) -> list[list[float]]:
    """What a process embeds alone, while the other embeds less, of a network that is quick to compile."""

    def mean(state: Any, images: Any) -> Prediction:
        rows = jnp.mean(images, axis=(1, 2)) + state.step
        return Prediction(rows, rows, rows)

    parallel.embed_step = mean
    images = np.full((3 + 2 * jax.process_index(), 4, 4, 3), 7, np.uint8)
    return parallel.pmap_embed()(state, images).embedding.tolist()


def count_decoded() -> list[int]:
    """The records whose pictures this process decodes from now on, once for every picture."""
    decoded: list[int] = []
    index_of: dict[int, int] = {}
    original_get, original_draw = pipeline.Split.__getitem__, pipeline.Split.draw

    def get(self: Any, index: int) -> Any:
        record = original_get(self, index)
        index_of[id(record)] = index
        return record

    def draw(self: Any, record: Any, view: int, out: Any) -> None:
        decoded.append(index_of[id(record)])
        original_draw(self, record, view, out)

    pipeline.Split.__getitem__, pipeline.Split.draw = get, draw  # type: ignore[method-assign]
    return decoded


def signal_at(step: int) -> None:
    """Process 1 gets a scheduler's signal while the batch of `step` is handed out."""
    original = sources.Prepared.batches

    def batches(self: sources.Prepared, *given: Any) -> Iterator[tuple[int, Any]]:
        for number, batch in original(self, *given):
            if number == step and jax.process_index() == 1:
                signal.raise_signal(signal.SIGUSR1)
            yield number, batch

    sources.Prepared.batches = batches  # type: ignore[method-assign, assignment]


def main(config: settings.Train, output: Path) -> None:
    hosts.initialise(config)
    hosts.VISIBLE = 1.0
    actual: dict[str, Any] = {"devices": [jax.local_device_count(), jax.device_count()]}
    with two_blocks():
        actual["refusals"] = refusals(config)
        actual["shard_mapped"] = shard_mapped()
        actual["sharded"] = train.train(
            options.replace(
                config,
                parallel="shard_map",
                cache="device",
                workdir=f"{config.run.workdir}_sharded",
                stop_after=2,
            )
        ).step
        decoded = count_decoded()
        half = train.train(options.replace(config, stop_after=2))
        actual["half"], actual["decoded"] = half.step, sorted(decoded)
        actual["refusals"]["log"] = refusal(lambda: of_a_full_disk(config))
        actual["embedded"] = embedded(half.state)
        signal_at(3)
        stopped = train.train(options.replace(config, save_every=10_000))
        actual["stopped"], actual["preempted"] = stopped.step, stopped.preempted
    output.write_text(json.dumps(actual))


if __name__ == "__main__":
    main(options.build(settings.Train, **json.loads(sys.argv[1])), Path(sys.argv[2]))
