"""Two processes of two devices each are one process of four; a coordinator that does not answer."""

import json
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from datasets.tuples import pipeline, sampling
from launch.cli import options
from launch.runs import metric_log, run_folder, settings
from launch.training import labelled, train
from mcss_jax.storage import checkpoint
from tests.mcss_jax.steps import leaves, two_blocks

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.processes
TINY = options.build(settings.Train, 
    dataset="synthetic_multiview/tiny", labelled="S1:0.5", labelled_batch=8, blocks=2, sequences=2, instants=2,
    width=8, embedding_dim=8, hidden=8, stem="patch8", steps=100_000, warmup_steps=2, log_every=1, save_every=2,
    validate_every=0,
)  # fmt: skip


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def environment(devices: int) -> dict[str, str]:
    # No compilation cache: only process 0 could use it, and gloo gives up on a process that is 30 s behind.
    flags = f"--xla_force_host_platform_device_count={devices}"
    return {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "JAX_ENABLE_COMPILATION_CACHE": "false"}


class Pair(NamedTuple):
    """The folder of the run of two processes, and what each of them saw."""

    folder: Path
    saw: list[dict[str, Any]]
    said: list[str]


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    with two_blocks():
        yield


@pytest.fixture(scope="module")
def pair(prepared_tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """What `worker.py` does: refusals, two updates, a restart, a signal to process 1 at the fourth."""
    folder = tmp_path_factory.mktemp("pair")
    address = f"127.0.0.1:{free_port()}"
    started, outputs = [], [folder / f"{process}.json" for process in (0, 1)]
    for process, output in enumerate(outputs):
        config = options.replace(
            TINY, data_dir=str(prepared_tiny), workdir=str(folder / "run"), coordinator_address=address,
            num_processes=2, process_id=process, keep=5,
        )  # fmt: skip
        arguments = ["-m", "tests.multiprocess.worker", json.dumps(options.values(config)), str(output)]
        started.append(
            subprocess.Popen(
                [sys.executable, *arguments], cwd=ROOT, env=environment(2), text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )
        )  # fmt: skip
    said = [process.communicate(timeout=600)[0] for process in started]
    for process, output in zip(started, said, strict=True):
        assert process.returncode == 0, output[-3000:]
    return Pair(folder / "run", [json.loads(output.read_text()) for output in outputs], said)


@pytest.fixture(scope="module")
def single(prepared_tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> train.Trained:
    """The same run on four devices of one process, four updates."""
    folder = tmp_path_factory.mktemp("single") / "run"
    return train.train(
        options.replace(TINY, data_dir=str(prepared_tiny), workdir=str(folder), stop_after=4, keep=5)
    )


def assert_close(actual: Any, wanted: Any) -> None:
    for name, value in leaves(wanted).items():
        np.testing.assert_allclose(leaves(actual)[name], value, rtol=5e-3, atol=1e-3, err_msg=name)


def test_two_processes_are_one_with_their_devices(pair: Pair, single: train.Trained) -> None:
    assert [saw["devices"] for saw in pair.saw] == [[2, 4]] * 2
    actual, wanted = (
        checkpoint.restore(folder / run_folder.CHECKPOINTS, single.state, 2).state
        for folder in (pair.folder, single.folder)
    )
    assert_close(actual, wanted)
    logs = [{row["step"]: row for row in metric_log.read(f)} for f in (pair.folder, single.folder)]
    for step in (1, 2, 3, 4):
        # The norm is taken before clipping: Adam would hide gradients that are all too large.
        for name in ("train/loss", "train/gradient_norm"):
            assert logs[0][step][name] == pytest.approx(logs[1][step][name], rel=1e-3), (step, name)


def test_each_process_decodes_its_own_records(pair: Pair, prepared_tiny: Path) -> None:
    """Two pictures of every unlabelled instant, one of every labelled one, and none twice."""
    config = options.replace(TINY, data_dir=str(prepared_tiny), workdir="x")
    split = pipeline.open_split(config.data.data_dir, config.data.dataset, "train")
    records = labelled.choose(config, split.table, split.views, config.data.dataset)[1]
    planned: list[Counter[int]] = [Counter(), Counter()]
    for step in (0, 1):
        whole = sampling.plan(
            split.table, split.views, seed=config.run.seed, step=step, blocks=settings.blocks_of(config),
            labelled=records, labelled_size=config.batch.labelled_batch,
        )  # fmt: skip
        for process, counter in enumerate(planned):
            rows = slice(4 * process, 4 * process + 4)
            counter.update([*np.repeat(whole.unlabelled[rows], 2).tolist(), *whole.labelled[rows].tolist()])
    assert [Counter(saw["decoded"]) for saw in pair.saw] == planned


@pytest.mark.parametrize("devices", [4, 1])
def test_a_checkpoint_goes_on_elsewhere(
    devices: int, pair: Pair, single: train.Trained, prepared_tiny: Path, tmp_path: Path
) -> None:
    """From two processes' step 2 to step 4, on one process."""
    stored = checkpoint.restore(pair.folder / run_folder.CHECKPOINTS, single.state, 2)
    with checkpoint.Checkpoints(tmp_path / "run" / run_folder.CHECKPOINTS) as checkpoints:
        checkpoints.save(2, stored.state, stored.position)
    config = options.replace(TINY, data_dir=str(prepared_tiny), workdir=str(tmp_path / "run"))
    resumed = train.train(options.replace(config, devices=devices, stop_after=4))
    assert resumed.step == 4 and len(jax.tree.leaves(resumed.state)[0].sharding.device_set) == devices
    assert_close(resumed.state, single.state)


def test_processes_that_differ_are_refused(pair: Pair) -> None:
    """On both, each with what it has itself."""
    start = "the processes of this run differ from process 0 in: "
    for process, saw in enumerate(pair.saw):
        said = saw["refusals"]
        assert said["training"] == (
            f"{start}--labelled_batch (here {8 - 2 * process}) on [1]; start all of them alike"
        )
        assert said["code"].startswith(f"{start}the code") and said["shared folder"] == "none"
        assert f"differ from process 0 in: --seed (here {process}) on [1]" in said["settings"]
        assert f"in: the data's fingerprint (here print {process}) on [1]" in said["fingerprint"]
        assert "differ from process 0 in: the parameters (here " in said["parameters"]
    first, second = (saw["refusals"] for saw in pair.saw)
    assert first["alone"] == "processes [1] could not count to two; their own output says why"
    assert second["alone"] == "[Errno 5] only to one"
    # A defect of one is one of the run; a sentence of one's own stays one.
    assert first["defective"] == "a defect: processes [1] could not count to three; their own output says why"
    assert second["defective"] == "a defect: a fault of process 1"
    assert (first["both"], second["both"]) == ("a file of process 0", "a defect: a fault of process 1")
    assert first["folder"] == "processes [1] could not see --workdir; their own output says why"
    assert "is not the folder that process 0 writes to" in second["folder"]
    assert "the code (here other) on [1]" in second["code"] and "(here other)" not in first["code"]
    assert first["log"] == "[Errno 28] no space left"
    assert second["log"] == "processes [0] could not write the log; their own output says why"
    assert not list(pair.folder.parent.glob("run_of_*/*")), "the mark is gone"


def test_shard_map_trains_as_pmap_does(pair: Pair, single: train.Trained) -> None:
    """The real step, its pictures gathered on the first device of each process."""
    assert [saw["sharded"] for saw in pair.saw] == [2, 2]
    folder = pair.folder.with_name("run_sharded")
    actual = checkpoint.restore(folder / run_folder.CHECKPOINTS, single.state, 2).state
    assert_close(actual, checkpoint.restore(pair.folder / run_folder.CHECKPOINTS, single.state, 2).state)
    assert [row["step"] for row in metric_log.read(folder)] == [1, 2]


def test_shard_map_takes_each_processs_rows(pair: Pair) -> None:
    """0 + 1, 2 + 3, 4 + 5, 6 + 7 on devices 0 to 3, weighted 1 to 4: 1 + 10 + 27 + 52 = 90, twice, plus one."""
    for saw in pair.saw:
        assert saw["shard_mapped"]["w"] == [181.0] * 3 and saw["shard_mapped"]["total"] == 90.0
    assert pair.saw[0]["shard_mapped"] == pair.saw[1]["shard_mapped"]


def test_each_process_embeds_alone(pair: Pair) -> None:
    """Pictures of sevens by a state of two updates, three on one process and five on the other."""
    assert [saw["embedded"] for saw in pair.saw] == [[[9.0] * 3] * 3, [[9.0] * 3] * 5]


def test_a_signal_to_one_stops_both_after_the_same_update(pair: Pair) -> None:
    steps = {saw["stopped"] for saw in pair.saw}
    assert len(steps) == 1 and all(saw["preempted"] for saw in pair.saw)
    (step,) = steps
    assert 4 <= step < TINY.optimiser.steps
    assert checkpoint.latest(pair.folder / run_folder.CHECKPOINTS) == step


def test_one_process_alone_speaks(pair: Pair) -> None:
    for text in (
        "on 2 devices of each of 2 processes",
        "keeping ",
        "stopped after step 2 of ",
        "resuming",
        "step 1 ",
    ):
        assert text in pair.said[0] and text not in pair.said[1], text
    assert "train run: " in pair.said[0] and "train run: " not in pair.said[1], "the bar"
    assert [r["step"] for r in metric_log.read(pair.folder)][:4] == [1, 2, 3, 4]


def test_a_coordinator_that_does_not_answer(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    command = [
        sys.executable, "-m", "launch.train", f"--workdir={tmp_path}/run", "--num_processes=2", "--process_id=1",
        f"--coordinator_address={address}", "--coordinator_timeout=1",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, env=environment(1), capture_output=True, text=True, timeout=300)
    assert done.returncode == 1 and done.stdout == ""
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(
        f"train: error: the coordinator at {address} did not bring all processes together within 1 s"
    )
    assert not (tmp_path / "run").exists()
