"""What a run reads of its splits, and what its journal says of validation people, against loops over records."""

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from datasets.tuples import pipeline
from launch.cli import options
from launch.evaluation import inference
from launch.runs.settings import Train
from launch.training import journal, sources
from mcss_jax.errors import UserError
from mcss_jax.training.train_step import Prediction
from tests.datasets.in_memory import VIEWS, changed, split_of
from tests.mcss_jax.test_metrics import slow_mpjpe

CONFIG = options.build(
    Train, workdir="x", dataset="set", data_dir="folder", labelled="S1", labelled_batch=4, blocks=2, sequences=1,
    instants=2, validation_stride=3, validate_every=5, image_size=8, seed=2,
)  # fmt: skip
HIDDEN = np.asarray([True, False, True, True])
LOST = np.full((VIEWS, 17, 3), np.nan, np.float32)
SPLITS = {
    "train": changed(split_of("train"), {2: {"view_valid": HIDDEN}, 7: {"pose": LOST}}),
    "validation": split_of("validation", (("S8", 1, 7), ("S9", 2, 6))),
}


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What was opened, as it was asked for."""
    calls: list[tuple[Any, ...]] = []

    def open_split(*given: Any) -> pipeline.Split:
        calls.append(given)
        return dataclasses.replace(SPLITS[given[2]], cache={})

    monkeypatch.setattr(pipeline, "open_split", open_split)
    return calls


def test_the_splits_of_the_settings_are_opened(opened: list[tuple[Any, ...]]) -> None:
    sources.open_source(CONFIG)
    assert opened == [
        ("folder", "set", "train", 8, pipeline.FOR_TRAINING),
        ("folder", "set", "validation", 8),
    ]
    opened.clear()
    others = {"train_split": "validation", "validation_split": "train", "labelled": "S8", "image_size": 0}
    sources.open_source(options.replace(CONFIG, **others, dataset="other/set", data_dir="elsewhere"))
    assert opened == [
        ("elsewhere", "other/set", "validation", 0, pipeline.FOR_TRAINING),
        ("elsewhere", "other/set", "train", 0),
    ]
    opened.clear()
    for changes in ({"validation_split": ""}, {"validate_every": 0}):
        assert sources.open_source(options.replace(CONFIG, **changes)).validation() is None
    assert [given[2] for given in opened] == ["train", "train"]


@pytest.mark.parametrize("stride", [1, 3, 5])
def test_validation_is_of_every_nth_instant_of_validation_people(stride: int, opened: Any) -> None:
    found = sources.open_source(options.replace(CONFIG, validation_stride=stride)).validation()
    assert found is not None
    views, size = found
    assert size == 12, "as many as an update has: four labelled, twice four unlabelled"
    split, seen = SPLITS["validation"], list(views)
    places = [(r, v) for r in range(0, 13, stride) for v in range(VIEWS)]
    joined = {
        name: np.concatenate([getattr(part, name) for part in seen])
        for name in ("record", "camera", "images")
    }
    assert list(zip(joined["record"].tolist(), joined["camera"].tolist(), strict=True)) == places
    for image, (index, view) in zip(joined["images"], places, strict=True):
        np.testing.assert_array_equal(image, split.picture(split.source[index], view))
    assert max(len(part.images) for part in seen) <= size


def test_labelled_poses_are_root_relative_and_of_the_labelled_alone(opened: Any) -> None:
    source = sources.open_source(CONFIG)
    expected = [
        SPLITS["train"].source[index]["pose"][view] - SPLITS["train"].source[index]["pose"][view, 0]
        for index in range(11)
        for view in range(VIEWS)
        if index != 7 and not (index == 2 and view == 1)
    ]
    np.testing.assert_array_equal(source.labelled_poses, expected)
    np.testing.assert_allclose(
        sources.means(source.labelled_poses).in_camera, np.mean(expected, axis=0), atol=1e-3
    )
    assert {name: source.card[name] for name in source.card if "labelled" in name} == {
        "labelled": "S1",
        "labelled_subjects": ["S1"],
        "labelled_instants": 11,
        "unlabelled_instants": 24,
        "unlabelled_subjects": ["S1", "S2", "S3"],
        "unlabelled_seconds": 12.0,  # 24 of 0.5 s
    }


@pytest.mark.parametrize(
    ("error", "is_raised"), [(UserError("damaged"), False), (TypeError("a defect"), True)]
)
def test_damage_of_a_labelled_record_is_left_out_and_a_defect_is_not(
    error: Exception, is_raised: bool, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: Callable[..., Any] = pipeline.Split.__getitem__

    def broken(split: pipeline.Split, index: int) -> dict[str, Any]:
        if index == 4:
            raise error
        return read(split, index)

    monkeypatch.setattr(pipeline.Split, "__getitem__", broken)
    if is_raised:
        with pytest.raises(TypeError, match="a defect"):
            sources.open_source(CONFIG)
    else:
        assert len(sources.open_source(CONFIG).labelled_poses) == 11 * 4 - 4 - 4 - 1


def test_a_cached_split_gives_the_same_batches(opened: Any) -> None:
    both = [sources.open_source(options.replace(CONFIG, cache=cache)) for cache in ("none", "device")]
    batches = [list(source.batches(3, 6, pipeline.Waiting())) for source in both]
    for (step, one), (same, other) in zip(*batches, strict=True):
        assert step == same
        assert [isinstance(batch.labelled.images, jax.Array) for batch in (one, other)] == [False, True]
        for part in ("labelled", "unlabelled"):
            columns = [dataclasses.asdict(getattr(batch, part)) for batch in (one, other)]
            for name, column in columns[0].items():
                np.testing.assert_array_equal(column, columns[1][name])


# -------- the journal


def embed(_: Any, images: np.ndarray) -> Prediction:
    """The same canonical pose for every picture, as the virtual camera sees it."""
    pose = np.random.default_rng(1).normal(0, 200, (17, 3))
    n = len(images)
    return Prediction(
        jnp.zeros((n, 2)), jnp.asarray(np.tile(pose, (n, 1, 1)), jnp.float32), jnp.tile(jnp.eye(3), (n, 1, 1))
    )


@dataclasses.dataclass
class Lines:
    """A log that keeps what is written."""

    written: list[tuple[int, dict[str, float]]] = dataclasses.field(default_factory=list)

    def write(self, step: int, values: dict[str, float]) -> None:
        self.written.append((step, values))


def journal_of(config: Train = CONFIG, source: Any = None) -> tuple[journal.Journal, Lines]:
    lines: Any = Lines()
    return journal.Journal(config, source, pipeline.Waiting(), embed, lines, 0), lines


REPORT: Any = {"loss": 2.0, "gradient_norm": 3.0, "embedding_variance": 0.5, "rotation": np.nan}


def test_a_look_writes_the_report_and_the_figures_of_validation_people(opened: Any) -> None:
    source = sources.open_source(CONFIG)
    notes, lines = journal_of(source=source)
    batch = next(source.batches(0, 1, pipeline.Waiting()))[1]
    for step, validate in ((4, False), (5, True)):
        notes.count(batch)
        notes.look(step, REPORT, None, validate=validate)  # type: ignore[arg-type]
    (first, plain), (second, judged) = lines.written
    assert (first, second) == (4, 5)
    names = {
        "train/loss",
        "train/gradient_norm",
        "train/embedding_variance",
        "images_per_second",
        "input_wait_ms",
    }
    assert set(plain) == names and plain["train/loss"] == 2.0 and plain["train/gradient_norm"] == 3.0
    found = source.validation()
    assert found is not None
    errors = inference.pose_errors(inference.predict(None, found[0], size=12, embed=embed))  # type: ignore[arg-type]
    figures = {name: judged[name] for name in set(judged) - names}
    assert figures == pytest.approx({
        f"validation/{name}": errors[name].mean() for name in ("mpjpe", "n_mpjpe", "pa_mpjpe", "mpjpe_canonical")
    })  # fmt: skip
    views = inference.predict(None, source.validation()[0], size=12, embed=embed)  # type: ignore[arg-type,index]
    by_hand = [slow_mpjpe(p, t) for p, t in zip(views.in_camera, views.true_in_camera, strict=True)]
    assert figures["validation/mpjpe"] == pytest.approx(np.mean(by_hand), rel=1e-5)


def test_speed_is_of_what_came_since_the_last_look(monkeypatch: pytest.MonkeyPatch, opened: Any) -> None:
    now = [100.0]
    monkeypatch.setattr(journal.time, "perf_counter", lambda: now[0])
    source = sources.open_source(CONFIG)
    batch = next(source.batches(0, 1, pipeline.Waiting()))[1]
    notes, lines = journal_of(source=source)
    notes._interval.start = 100.0
    for updates, seconds, waited in ((2, 4.0, 0.5), (3, 1.0, 0.25)):
        for _ in range(updates):
            notes.count(batch)
        now[0] += seconds
        notes.waiting.seconds += waited
        notes.look(1, REPORT, None, validate=False)  # type: ignore[arg-type]
        notes._interval.start = now[0]
        _, line = lines.written[-1]
        assert line["images_per_second"] == pytest.approx(updates * (4 + 2 * 4) / seconds)
        assert line["input_wait_ms"] == pytest.approx(1e3 * waited / updates)


@pytest.mark.parametrize("broken", ["loss", "gradient_norm"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_or_a_gradient_that_is_not_finite_ends_the_run(broken: str, value: float) -> None:
    notes, lines = journal_of()
    with pytest.raises(UserError, match="non-finite"):
        notes.look(3, REPORT | {broken: value}, None, validate=False)  # type: ignore[arg-type]
    assert not lines.written


@pytest.mark.parametrize(("method", "said"), [("mcss", 1), ("baseline", 0), ("batchnorm", 0)])
def test_a_collapse_is_said_once_and_only_where_it_is_one(method: str, said: int) -> None:
    notes, _ = journal_of(options.replace(CONFIG, method=method))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for variance, count in ((2e-3, 0), (0.9e-3, said), (1e-6, said)):
            notes.count(Empty())  # type: ignore[arg-type]
            notes.look(1, REPORT | {"embedding_variance": variance}, None, validate=False)  # type: ignore[arg-type]
            assert ["have collapsed to one point" in str(one.message) for one in caught] == [True] * count


class Empty:
    """A batch without a picture."""

    pictures = 0


def test_the_share_of_false_negatives_is_of_all_updates_since_the_last_look() -> None:
    """One batch in five holds labels that tell."""
    notes, lines = journal_of()
    for shares, expected in (([np.nan, 0.5, np.nan, 0.25], 0.375), ([np.nan, np.nan], None), ([1.0], 1.0)):
        for share in shares:
            notes.count(Empty())  # type: ignore[arg-type]
            notes.keep(REPORT | {"false_negatives": np.float32(share)})
        notes.look(1, REPORT | {"false_negatives": np.float32(shares[-1])}, None, validate=False)  # type: ignore[arg-type]
        assert lines.written[-1][1].get("train/false_negatives") == expected
    notes.keep(REPORT)  # of labels alone


@pytest.mark.parametrize(("method", "said"), [("mcss", 1), ("batchnorm", 0)])
def test_a_batch_without_negatives_is_said_once(method: str, said: int) -> None:
    notes, _ = journal_of(options.replace(CONFIG, method=method))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for share, count in ((0.01, 0), (0.0, said), (0.0, said)):
            notes.count(Empty())  # type: ignore[arg-type]
            notes.look(1, REPORT | {"anchors_with_negative": share}, None, validate=False)  # type: ignore[arg-type]
            assert ["has a negative" in str(one.message) for one in caught] == [True] * count
