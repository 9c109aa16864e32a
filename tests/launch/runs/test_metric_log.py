import io
import json
import math

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure
from tensorboardX.proto.event_pb2 import Event

from launch.runs.metric_log import JSONL, MetricLog, drop_after, format_line, read
from mcss_jax.errors import UserError


def events(folder):
    """TensorBoard's files, read by their own framing: length, checksum, record, checksum."""
    actual = []
    for file in sorted(folder.glob("events*")):
        data, at = file.read_bytes(), 0
        while at < len(data):
            size = int.from_bytes(data[at : at + 8], "little")
            actual.append(Event.FromString(data[at + 12 : at + 12 + size]))
            at += size + 16
    return actual


def scalars(folder):
    return {
        (v.tag, e.step): v.simple_value for e in events(folder) for v in e.summary.value if not v.image.width
    }


def test_one_record_in_three_places(tmp_path):
    out = io.StringIO()
    with MetricLog(tmp_path / "new" / "run", stream=out) as log:
        log.write(10, {"loss": jnp.asarray(0.51234), "images/s": 1234.56})
        log.write(20, {"loss": np.asarray([0.25], np.float32), "mpjpe_mm": 81})
        # flushed: visible while the run goes on
        assert [record["step"] for record in read(tmp_path / "new" / "run")] == [10, 20]
    assert out.getvalue() == "step 10  loss 0.5123  images/s 1235\nstep 20  loss 0.25  mpjpe_mm 81\n"
    assert read(tmp_path / "new" / "run")[1] == {"step": 20, "loss": 0.25, "mpjpe_mm": 81.0}
    actual = scalars(tmp_path / "new" / "run")
    assert actual.keys() == {("loss", 10), ("images/s", 10), ("loss", 20), ("mpjpe_mm", 20)}
    assert actual["loss", 20] == 0.25


def test_lines_go_to_stdout(tmp_path, capsys):
    with MetricLog(tmp_path) as log:
        log.write(1, {"a": 2})
    assert capsys.readouterr().out == "step 1  a 2\n"


def test_not_finite_is_shown_and_is_null_in_json(tmp_path):
    out = io.StringIO()
    with MetricLog(tmp_path, stream=out) as log:
        log.write(1, {"a": math.nan, "b": -math.inf})
    assert out.getvalue() == "step 1  a nan  b -inf\n"
    assert read(tmp_path) == [{"step": 1, "a": None, "b": None}]
    json.loads((tmp_path / JSONL).read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_resuming_drops_what_was_lost(tmp_path):
    with MetricLog(tmp_path, stream=io.StringIO()) as log:
        for step in (10, 20, 30):
            log.write(step, {"a": step})
    with (tmp_path / JSONL).open("a") as file:
        file.write('{"step": 40, "a"')  # killed while writing
    with MetricLog(tmp_path, resumed_from=20, stream=io.StringIO()) as log:
        log.write(30, {"a": 31})
    assert read(tmp_path) == [{"step": 10, "a": 10}, {"step": 20, "a": 20}, {"step": 30, "a": 31}]
    # TensorBoard is told to forget the same steps
    assert [e.step for e in events(tmp_path) if e.session_log.status == 1] == [21]
    assert scalars(tmp_path)["a", 30] == 31


def test_figures_go_to_tensorboard(tmp_path):
    figure = Figure(figsize=(1, 1))
    figure.subplots().plot([1, 2])
    with MetricLog(tmp_path, stream=io.StringIO()) as log:
        log.figure(5, "poses", figure)
    assert [v.tag for e in events(tmp_path) for v in e.summary.value if v.image.width] == ["poses"]
    assert read(tmp_path) == []


@pytest.mark.parametrize("value", [np.zeros(2), "high", None, [1.0]])
def test_only_scalars(tmp_path, value):
    with (
        MetricLog(tmp_path) as log,
        pytest.raises(ValueError, match="metric loss is .*; expected a single number"),
    ):
        log.write(1, {"loss": value})
    assert read(tmp_path) == []


@pytest.mark.parametrize("line", ["{", "[]", "7", '{"a": 1}', "", '{"step": 2, "loss": "low"}', "\udcff"])
def test_a_broken_file_is_named(tmp_path, line):
    (tmp_path / JSONL).write_text('{"step": 1}\n' + line + '\n{"step": 2}\n', errors="surrogateescape")
    with pytest.raises(UserError, match=rf"{JSONL}:2 is .*; expected a record such as"):
        read(tmp_path)


def test_nothing_to_read(tmp_path):
    drop_after(tmp_path / JSONL, 3)
    with pytest.raises(FileNotFoundError, match=JSONL):
        read(tmp_path)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        MetricLog(tmp_path / "file" / "run")


def test_format():
    assert format_line(7, {"a": 0.000123456, "b": 12345.6, "c": 0}) == "step 7  a 0.0001235  b 12346  c 0"
