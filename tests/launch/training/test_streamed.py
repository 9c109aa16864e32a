"""What a run learns from when people are streamed: finite labels, endless motion, judges apart from both."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from datasets.synthetic_multiview import stream
from datasets.synthetic_multiview.streamed_takes import Takes
from datasets.tuples import pipeline, sampling
from launch.cli import options
from launch.runs.settings import Train
from launch.training import sources, streamed
from mcss_jax.errors import UserError

TINY = options.build(Train, 
    stream=True, stream_size=16, labelled="S1, S3", labelled_batch=48, blocks=2, sequences=2, instants=2, workdir="x",
    validate_every=5, validation_stride=800,
)  # fmt: skip
PER_SUBJECT = 2 * 8 * 400


class Recorder:
    """Stands in for the renderer: remembers which sequences it was asked for, draws nothing."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, stream.Moments]] = []

    def pictures_at(self, seed: int, moments: stream.Moments, config: stream.StreamConfig) -> Any:
        self.asked.append((seed, moments))
        n, v, s = *moments.views.shape, config.size
        blank = jnp.zeros((n, v, 3, 3))
        return stream.StreamBatch(
            images=jnp.zeros((n, v, s, s, 3), jnp.uint8), pose=jnp.ones((n, v, 17, 3)), intrinsics=blank,
            crop_intrinsics=blank, rotation=blank, translation=jnp.zeros((n, v, 3)), box=jnp.ones((n, v, 4)),
            camera=moments.views, subject=moments.subject, action=moments.action, group=moments.group,
            sequence=moments.sequence, time=moments.time,
        )  # fmt: skip


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(stream, "pictures_at", recorder.pictures_at)
    # Compiled, the stream would render without asking again.
    monkeypatch.setattr(stream, "stream_batch", stream.stream_batch.__wrapped__)
    return recorder


@pytest.fixture
def no_poses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Takes, "poses", lambda self, records: np.ones((len(records), 4, 17, 3), np.float32))


def test_hosts_share_a_streamed_batch(
    recorder: Recorder, no_poses: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their rows, one host after another, are those of the one host that has them all, and nobody draws more."""
    (_, whole), *_ = streamed.Streamed(TINY).batches(3, 4, pipeline.Waiting())
    recorder.asked.clear()
    monkeypatch.setattr(streamed.jax, "process_count", lambda: 2)
    shares = []
    for host in (0, 1):
        monkeypatch.setattr(streamed.jax, "process_index", lambda host=host: host)
        shares += [batch for _, batch in streamed.Streamed(TINY).batches(3, 4, pipeline.Waiting())]
    joined = jax.tree.map(lambda *rows: np.concatenate(rows), *shares)
    jax.tree.map(np.testing.assert_array_equal, joined, jax.tree.map(np.asarray, whole))
    assert [len(moments.time) for _, moments in recorder.asked] == [24, 4, 24, 4]


def test_the_parts_of_a_stream_share_their_people_and_no_motion(recorder: Recorder, no_poses: None) -> None:
    """One seed, so that S1 with labels is S1 without; numbers apart, so that no motion is seen twice."""
    source = streamed.Streamed(TINY)
    batches = list(source.batches(0, 1, pipeline.Waiting()))
    batches += source.batches(10**6, 10**6 + 1, pipeline.Waiting())
    actual = source.validation()
    assert actual is not None
    views, size = actual
    assert [len(v.images) for v in views] == [PER_SUBJECT // 800 * 4] and size == 64
    takes = streamed.judged_takes(TINY, "test")
    assert sum(len(v.images) for v in streamed.views_of(takes, np.arange(100))) == 400
    assert {seed for seed, _ in recorder.asked} == {TINY.run.seed}
    people: dict[frozenset[int], list[np.ndarray]] = {}
    training, labelled = frozenset((1, 2, 3, 4, 5)), frozenset((1, 3))
    for _, moments in recorder.asked:
        who = frozenset(np.asarray(moments.subject).tolist())
        kind = who if not who <= training else labelled if moments.views.shape[1] == 1 else training
        assert who <= kind
        people.setdefault(kind, []).append(np.asarray(moments.sequence))
    assert set(people) == {labelled, training, frozenset((6,)), frozenset((7,))}
    spans = sorted((min(map(np.min, part)), max(map(np.max, part))) for part in people.values())
    assert all(before[1] < after[0] for before, after in zip(spans, spans[1:], strict=False))
    assert (spans[-1][1] + 16) * 2 + 1 < 2**31, "numbers stay within int32"
    step, batch = batches[-1]
    assert step == 10**6 and batch.labelled.images.shape == (48, 16, 16, 3)
    pose, subject = (np.asarray(x) for x in (batch.unlabelled.pose, batch.unlabelled.group))
    np.testing.assert_array_equal(np.isnan(pose).all(axis=(1, 2)), ~np.isin(subject, (1, 3)))
    assert source.card["labelled_subjects"] == ["S1", "S3"] and source.skipped().records == 0
    assert source.card["labelled_instants"] == 2 * PER_SUBJECT


def test_fewer_labels_are_some_of_more(recorder: Recorder, no_poses: None) -> None:
    """Labels are finite, and drawn like those of a prepared set: every instant of the takes, in any camera."""
    few = options.replace(TINY, labelled="S3:0.01", method="baseline", validate_every=0)
    source = streamed.Streamed(few)
    assert source.card["labelled_instants"] == PER_SUBJECT // 100 == 64 and source.validation() is None
    assert source.card["unlabelled_subjects"] == [] and source.card["unlabelled_instants"] == 0
    for _, batch in source.batches(0, 8, pipeline.Waiting()):
        assert set(batch.parts) == {"labelled"}
    asked = [moments for _, moments in recorder.asked]
    seen = {(int(s), round(float(t), 3)) for m in asked for s, t in zip(m.sequence, m.time, strict=True)}
    assert len(seen) == 64, "8 batches of 48 walk through all labels and no others"
    assert {int(x) for m in asked for x in m.subject} == {3}
    assert {int(x) for m in asked for x in m.action} == set(range(8))
    assert {int(x) for m in asked for x in np.asarray(m.views).ravel()} == {0, 1, 2, 3}
    nobody = streamed.Streamed(options.replace(TINY, labelled="none"))
    assert set(next(nobody.batches(0, 1, pipeline.Waiting()))[1].parts) == {"unlabelled"}
    assert nobody.labelled_poses.shape == (0, 17, 3)
    chunk = options.replace(few, label_sampling="chunk")
    assert streamed.Streamed(chunk).card["label_sampling"] == "chunk"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"labelled": "S6"}, "--labelled names subject 'S6'; the training split has S1, S2, S3, S4, S5"),
        ({"labelled": "S1:0.001"}, "--labelled_batch=48 is larger than the 6 labelled instants x 4 views"),
    ],
)
def test_labels_that_a_stream_has_not(changes: dict[str, Any], told: str, no_poses: None) -> None:
    with pytest.raises(UserError, match=told):
        sources.open_source(options.replace(TINY, **changes))


def test_ablations_of_the_stream() -> None:
    blocks = sampling.Blocks(2, 3, 4, 0.5)
    plain = streamed.stream_of(blocks, 16, (1, 2))
    assert (plain.groups, plain.sequences, plain.instants, plain.views, plain.gap) == (2, 3, 4, 2, 0.5)
    mixed = streamed.stream_of(dataclasses.replace(blocks, mix_groups=True), 16, (1, 2))
    assert (mixed.groups, mixed.sequences, mixed.instants) == (24, 1, 1)
    # Without the temporal rule instants are as near as the records of a set, not the same instant again.
    assert streamed.stream_of(dataclasses.replace(blocks, min_gap=0.0), 16, (1, 2)).gap == streamed.LEAST_GAP


def test_an_augmented_positive_is_the_same_picture_twice(recorder: Recorder, no_poses: None) -> None:
    config = options.replace(TINY, labelled="none", positives="augmented")
    _, batch = next(streamed.Streamed(config).batches(0, 1, pipeline.Waiting()))
    assert batch.unlabelled.images.shape == (8, 2, 16, 16, 3)
    assert recorder.asked[0][1].views.shape == (8, 1), "rendered once"


def test_takes_are_what_is_asked_for() -> None:
    takes = Takes(subjects=(2, 7), first=1000, seed=3, size=16, takes=1, instants=5, gap=0.5)
    table = takes.table
    assert len(takes) == sum(row.length for row in table) == 2 * 8 * 5
    assert [row.first for row in table] == list(range(0, 80, 5))
    assert {row.subject for row in table[8:]} == {"S7"} and table[9].action == "sitting"
    records, views = np.asarray([0, 48, 48]), np.asarray([[0, 3], [2, 1], [1, 2]])
    actual = jax.tree.map(np.asarray, takes.pictures(records, views))
    np.testing.assert_array_equal(actual.subject, [2, 7, 7])
    np.testing.assert_array_equal(actual.action, [0, 1, 1])
    np.testing.assert_array_equal(actual.sequence, [1000, 1009, 1009])
    np.testing.assert_allclose(actual.time, [0, 1.5, 1.5])
    np.testing.assert_array_equal(actual.camera, views)
    # The same instant, whichever place its views are asked for in.
    np.testing.assert_array_equal(actual.images[1], actual.images[2][::-1])
    assert (actual.images[0] != actual.images[1]).any() and actual.images.shape == (3, 2, 16, 16, 3)
    poses = takes.poses(np.asarray([0, 48]))
    np.testing.assert_allclose(poses[0, [0, 3]], actual.pose[0], atol=1e-2)
    np.testing.assert_allclose(poses[1, [2, 1]], actual.pose[1], atol=1e-2)
    assert takes.poses(np.zeros(0, np.int64)).shape == (0, 4, 17, 3)
    other = Takes(subjects=(2, 7), first=1000, seed=4, size=16, takes=1, instants=5, gap=0.5)
    assert np.abs(other.poses(np.asarray([0])) - poses[:1]).max() > 50
