"""launch.retrieve on one small trained run: what it prints and writes, and what it says to bad input."""

import dataclasses
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datasets.tuples.records import decode_jpeg
from launch import retrieve as retrieve_program
from launch.evaluation import evaluate, inference, protocols
from launch.retrieval import frame_keys, gallery, protocol, retrieve
from launch.retrieval.retrieve import Retrieve
from launch.runs import run_folder
from mcss_jax.errors import UserError
from mcss_jax.search import retrieval
from tests.mcss_jax.steps import two_blocks

METHODS = ["embedding", "regressed pose", "supervised only", "untrained", "oracle", "chance"]


@pytest.fixture(scope="module")
def run(trained_run: Path) -> Iterator[Path]:
    """The folder of a run, to be opened."""
    with two_blocks():
        yield trained_run


@pytest.fixture(scope="module")
def baseline(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, said to be one of labels alone."""
    folder = Path(shutil.copytree(run, tmp_path_factory.mktemp("baseline") / "baseline"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"method": "baseline"}))
    return folder


@pytest.fixture(scope="module")
def written(run: Path, baseline: Path) -> dict[str, Any]:
    """Everything the program writes about every sixth instant, beside a baseline."""
    retrieve_program.main(Retrieve(workdir=str(run), baseline=str(baseline), stride=6, ks="5,1"))
    beside = re.sub(r"[^\w-]+", "-", str(baseline).strip("/"))
    return json.loads((run / f"retrieval_test_beside-{beside}_k1-5_stride6.json").read_text())


def test_every_method_in_every_table(written: dict[str, Any]) -> None:
    names = ["pa_mpjpe@1", "pa_mpjpe@5", "hit@1", "hit@5"]
    for part in ("retrieval", "retrieval_averaged_over_camera_pairs"):
        rows = written[part]
        assert list(rows) == METHODS and all(list(row) == names for row in rows.values())
        assert rows["embedding"] == rows["supervised only"] != rows["untrained"]
        assert all(rows["oracle"][n] <= row[n] for n in names[:2] for row in rows.values())
        assert all(rows["oracle"][n] >= row[n] for n in names[2:] for row in rows.values())
    pairs = written["by_camera_pair"]
    assert pairs.pop("cameras") == [f"camera{v}" for v in range(4)] and list(pairs) == METHODS
    for name, figures in pairs.items():
        matrix = np.asarray(figures["hit@5"], float)
        assert np.isnan(matrix).tolist() == np.eye(4, dtype=bool).tolist()
        assert np.nanmean(matrix) == pytest.approx(
            written["retrieval_averaged_over_camera_pairs"][name]["hit@5"]
        )
        actions = written["by_action"][name]
        assert sum(row["queries"] for row in actions.values()) == 32
        mean = np.average([row["pa_mpjpe@5"] for row in actions.values()], weights=[4] * 8)
        assert mean == pytest.approx(written["retrieval"][name]["pa_mpjpe@5"], rel=1e-4)
    card = written["protocol"]
    assert card["query"] == "every view that may retrieve any: 32 of 32"
    assert "mean over 12 ordered pairs" in card["averaged over camera pairs"]
    assert "labels used S1" in card["supervised only"]
    assert card["shorter lists"] == "0 of 96 lists of a query in a camera hold fewer than 5 views"
    assert "published Hit@K (Pr-VIPE)" not in card


def test_the_search_set_is_the_splits(run: Path) -> None:
    opened = run_folder.open_run(run)
    split = evaluate.open_data(opened, "", "", "train")
    views = inference.predict_split(opened.state, split, protocols.choose(split, stride=24))
    searched = protocol.search_set(split, views)
    subjects = [split[int(r)]["subject"] for r in views.record]
    same = np.asarray(subjects)[:, None] == np.asarray(subjects)[None]
    assert len(set(subjects)) > 1
    np.testing.assert_array_equal(same, searched.keys.subject[:, None] == searched.keys.subject[None])
    actions = [split[int(r)]["action"].decode() for r in views.record]
    assert searched.groups["action"].tolist() == actions
    saved = gallery.of_views(split, views, "x")
    last = split[int(views.record[-1])]
    assert saved.frame[-1] == last["frame"] and saved.camera[-1] == last["camera"][views.camera[-1]].decode()
    assert saved.sequence[-1].startswith(last["subject"].decode())


def test_frame_keys_restrict_queries_and_gallery(
    run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The set's own names are not Pr-VIPE's, so the two lines are read as if they were."""
    opened = run_folder.open_run(run)
    split = evaluate.open_data(opened, "", "", "test")
    records = {(r["subject"], r["action"]): r for r in (split[row.first] for row in split.table)}
    keys = [
        frame_keys.FrameKey(f"{subject}:{action}:{c}", subject.decode(), action.decode(), f"camera{c}", frame, False)
        for (subject, action), record in records.items()
        for c in (0, 2)
        for frame in (int(record["frame"]), 10**6)
    ]  # fmt: skip
    monkeypatch.setattr(frame_keys, "read", lambda files: keys)
    monkeypatch.setattr(frame_keys, "_sequences", _without_subaction(frame_keys._sequences))
    retrieve_program.main(Retrieve(workdir=str(run), frame_keys="some.txt", ks="1"))
    card = json.loads((run / "retrieval_test_k1_frame_keys.json").read_text())["protocol"]
    assert "not comparable" in card["published Hit@K (Pr-VIPE)"]
    assert card["views"] == 2 * len(records) and card["cameras"] == ["camera0", "camera2"]
    assert card["frames"] == "those that the frame keys name"
    assert f"{len(keys) // 2:,} found; {len(keys) // 2} lacking, frame not stored" in card["frame keys"]
    assert card["frame keys"] in capsys.readouterr().out


def test_the_card_says_where_frame_keys_are_used_unlike_prvipe() -> None:
    none = np.zeros(2, np.int32)
    keys = retrieval.FrameKeys(none, np.zeros(2, np.float32), np.arange(2), none)
    searched = protocol.SearchSet(keys, np.zeros((2, 17, 3)), {0: "a", 1: "b"}, {})
    sizes = np.asarray([[0, 1], [1, 0]])
    theirs = Retrieve(frame_keys="some.txt", same_instant=True, min_gap=0.0)
    for config, comparable in (
        (theirs, True),
        (Retrieve(), True),  # no frame keys, nothing to say
        (dataclasses.replace(theirs, min_gap=0.1), False),
        (dataclasses.replace(theirs, same_instant=False), False),
        (dataclasses.replace(theirs, gallery="same_subject"), False),
    ):
        card = retrieve._protocol_card(config, searched, sizes)
        assert ("published Hit@K (Pr-VIPE)" not in card) == comparable
        assert card["query"] == "every view that may retrieve any: 2 of 2"


def test_without_poses_the_error_is_one_of_time(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predict = inference.predict_split

    def unlabelled(*args: Any, **rest: Any) -> inference.Views:
        views = predict(*args, **rest)
        return dataclasses.replace(views, true_canonical=np.full_like(views.true_canonical, np.nan))

    monkeypatch.setattr(inference, "predict_split", unlabelled)
    retrieve_program.main(Retrieve(workdir=str(run), stride=2, cameras="camera0,camera1"))
    written = json.loads((run / "retrieval_test_stride2_camera0-camera1.json").read_text())
    actual = written["temporal_alignment"]
    assert list(actual) == ["embedding", "regressed pose", "untrained", "chance"]
    assert actual["embedding"] != actual["regressed pose"]
    assert all(0 <= row["median_s"] and 0 <= row["mean_s"] < 10 for row in actual.values())
    assert actual["chance"]["mean_s"] > 0 and "its own instant kept" in written["protocol"]["query"]
    monkeypatch.setattr(retrieve, "untrained", lambda *_, **__: pytest.fail("embedded once more"))
    for flags, said in (
        (Retrieve(workdir=str(run), stride=6, ks="1"), "--ks would change nothing; leave it"),
        (
            Retrieve(workdir=str(run), stride=6, min_gap=0.0, same_instant=True),
            "--same_instant, --min_gap would",
        ),
    ):
        with pytest.raises(UserError, match=f"has no poses, .*{said}"):
            retrieve_program.main(flags)


def test_names_tell_results_apart(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = run_folder.open_run(run)
    split = evaluate.open_data(opened, "", "", "test")
    configs = [
        Retrieve(), Retrieve(step=2), Retrieve(baseline="runs/a/b"), Retrieve(baseline="runs/c/b"), Retrieve(ks="1,5"),
        Retrieve(min_gap=0.0), Retrieve(gallery="same_subject"), Retrieve(dataset="human36m"), Retrieve(every=5),
    ]  # fmt: skip
    names = [retrieve.file_name(config, opened, split) for config in configs]
    names.append(retrieve.file_name(Retrieve(), opened, dataclasses.replace(split, fingerprint="abcdef0123")))
    assert len(set(names)) == len(names) and names[0] == "retrieval_test.json"
    assert names[-1] == "retrieval_test_synthetic_multiview-tiny-abcdef.json"
    assert names[2] == "retrieval_test_beside-runs-a-b.json" and names[4] == "retrieval_test_k1-5.json"
    same = (Retrieve(dataset=opened.config.data.dataset), Retrieve(ks="20, 1,10,5"))
    assert {retrieve.file_name(config, opened, split) for config in same} == {names[0]}


def _without_subaction(sequences: Any) -> Any:
    return lambda split: {(s, a, ""): actual for (s, a, _), actual in sequences(split).items()}


def test_own_pictures_find_themselves(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    opened = run_folder.open_run(run)
    split = evaluate.open_data(opened, "", "", "test")
    pictures = tmp_path / "mine"
    pictures.mkdir()
    for record, view in ((0, 1), (12, 3)):
        Image.fromarray(decode_jpeg(split[record]["images"][view])).save(pictures / f"{record}.png")
    file = tmp_path / "gallery.npz"
    retrieve_program.main(
        Retrieve(workdir=str(run), stride=6, save_gallery=str(file), queries=str(pictures), neighbours=2)
    )
    first = json.loads((run / "queries_mine.json").read_text())
    for name, (record, view) in {"0.png": (0, 1), "12.png": (12, 3)}.items():
        actual = first["queries"][name][0]
        assert actual["record"] == record and f"camera{view}" in actual["view"]
        assert actual["distance"] == pytest.approx(0, abs=2e-3)
    assert actual["view"] in capsys.readouterr().out
    shown = np.asarray(Image.open(run / "queries_mine.png"))
    assert (shown[8:168, 8:168] == shown[8:168, 176:336]).mean() > 0.9  # the query, and itself found
    retrieve_program.main(
        Retrieve(workdir=str(run), load_gallery=str(file), queries=str(pictures), neighbours=2)
    )
    assert json.loads((run / "queries_mine.json").read_text()) == first
    elsewhere = Retrieve(
        workdir=str(run), load_gallery=str(file), queries=str(pictures), data_dir=str(tmp_path)
    )
    retrieve_program.main(elsewhere)
    assert "the gallery's views are named, not shown" in capsys.readouterr().out
    other = gallery.load(file, gallery.identity(opened.state))
    gallery.save(dataclasses.replace(other, fingerprint="other"), file)
    retrieve_program.main(Retrieve(workdir=str(run), load_gallery=str(file), queries=str(pictures)))
    assert "the gallery's had other: its views are named, not shown" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"workdir": ""}, "--workdir is missing"),
        ({"min_gap": -1.0}, "--min_gap at least 0"),
        ({"ks": "1,x"}, "--ks=1,x; expected whole numbers"),
        ({"ks": "0"}, "--ks=0; expected whole numbers"),
        ({"stride": 0}, "--stride=0; expected at least 0 and at least 1"),
        ({"frame_keys": "a.txt", "stride": 2}, "leave --every and --stride out"),
        ({"load_gallery": "a.npz"}, "name their folder with --queries"),
        ({"load_gallery": "a.npz", "queries": ".", "save_gallery": "b.npz"}, "exclude each other"),
        ({"save_gallery": "b.txt"}, "--save_gallery=b.txt; expected a name that ends in .npz"),
        ({"load_gallery": "a.npz", "queries": "."}, "there is no gallery a.npz"),
        ({"baseline": "RUN"}, "was trained with --method=mcss; expected a run of --method=baseline"),
        ({"gallery": "other_subjects", "stride": 6}, "the gallery is empty: none of the 32 queries"),
        ({"stride": 6}, "K=20 is larger than the gallery: camera camera0 has at most 7 views"),
    ],
)
def test_bad_input(flags: dict[str, Any], said: str, run: Path) -> None:
    config = Retrieve(
        **({"workdir": str(run)} | {k: str(run) if v == "RUN" else v for k, v in flags.items()})
    )
    with pytest.raises(UserError, match=re.escape(said)):
        retrieve_program.main(config)


def test_a_checkpoint_of_another_network(run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run, tmp_path / "other"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"width": 16}))
    with pytest.raises(UserError, match=r"The checkpoint .* as float32\[.*; expected float32\["):
        retrieve_program.main(Retrieve(workdir=str(folder)))
