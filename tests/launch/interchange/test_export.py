"""Exports: each file says what the network says, is refused where it does not, and its card is true."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

import mcss_jax
from launch import export as export_program
from launch.cli import options
from launch.interchange import export, export_card, export_check, exported, onnx_graph
from launch.interchange.export import Export
from launch.prediction import model as predict_model
from launch.runs import run_folder
from launch.runs.settings import Train
from mcss_jax import geometry
from mcss_jax.errors import UserError
from mcss_jax.networks import pixels, resnet
from mcss_jax.storage import checkpoint
from mcss_jax.training import train_step
from mcss_jax.training.state import TrainState
from tests.mcss_jax.steps import SIZE, TINY, make_state, two_blocks
from tests.refusals import refused

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    """ResNet-18 and ResNet-50 of two blocks."""
    with pytest.MonkeyPatch.context() as patch, two_blocks():
        patch.setitem(resnet.STAGES, 50, (1, 1))
        yield


def state_of(**network: Any) -> TrainState:
    """A state with statistics, scales and biases that are neither zero nor one."""
    method = dataclasses.replace(TINY, network=dataclasses.replace(TINY.network, **network))
    rng = np.random.default_rng(4)

    def moved(path: Any, leaf: np.ndarray) -> np.ndarray:
        if "kernel" in jax.tree_util.keystr(path):
            return leaf
        return (leaf + rng.uniform(0.1, 0.5, leaf.shape)).astype(np.float32)

    state = make_state(method)
    return dataclasses.replace(
        state,
        variables=jax.tree_util.tree_map_with_path(moved, state.variables),
    )


def written(state: TrainState, form: exported.Format, folder: Path) -> exported.Runner:
    file = folder / f"model.{form}"
    file.write_bytes(exported.to_bytes(state, SIZE, form))
    return exported.load(file, form)


def assert_equal(one: train_step.Prediction, other: train_step.Prediction, atol: float = 1e-5) -> None:
    for name, a, b in zip(one._fields, one, other, strict=True):
        scale = 100 if name == "canonical" else 1  # millimetres
        np.testing.assert_allclose(np.asarray(a) / scale, np.asarray(b) / scale, atol=atol, err_msg=name)


@pytest.mark.parametrize(
    "network",
    [{"stem": "patch8"}, {"stem": "conv", "layers": 2}, {"stem": "patch4", "depth": 50}],
    ids=lambda network: "-".join(str(value) for value in network.values()),
)
def test_onnx_says_what_the_network_says(network: dict, tmp_path: Path) -> None:
    state = state_of(**network)
    run = written(state, "onnx", tmp_path)
    images = export_check.random_crops(3, SIZE)
    actual = run(images)
    assert_equal(actual, jax.device_get(jax.jit(train_step.embed_step)(state, images)))
    # Any batch, and each picture by itself.
    assert_equal(run(images[1:2]), train_step.Prediction(*(x[1:2] for x in actual)))
    model = onnx.load(tmp_path / "model.onnx")
    assert [d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == [
        "batch", SIZE, SIZE, 3
    ]  # fmt: skip
    assert [out.name for out in model.graph.output] == list(train_step.Prediction._fields)


def test_stablehlo_says_what_the_network_says(tmp_path: Path) -> None:
    """In float32, whatever the run computed in; and it carries nobody's folders."""
    state = state_of()
    rounded = exported.in_float32(state_of(precision="bfloat16"))
    run = written(rounded, "stablehlo", tmp_path)
    images = export_check.random_crops(3, SIZE)
    ours = exported.jax_runner(state)
    assert_equal(run(images), ours(images))
    assert_equal(run(images[:1]), ours(images[:1]))
    assert rounded.network == state.network
    loaded = jax.export.deserialize(bytearray((tmp_path / "model.stablehlo").read_bytes()))
    assert set(loaded.platforms) == {"cpu", "cuda", "tpu"}
    assert str(loaded.in_avals) == f"(ShapedArray(uint8[batch,{SIZE},{SIZE},3]),)"
    assert str(ROOT) not in loaded.mlir_module() and "resnet.py" in loaded.mlir_module()
    assert jax.config.jax_hlo_source_file_canonicalization_regex is None


def small_model(build: Any, width: int, output: str) -> onnxruntime.InferenceSession:
    """A graph of one input [batch, width] and one output."""
    graph = onnx_graph.Graph()
    build(graph)
    value = helper.make_tensor_value_info
    model = helper.make_model(
        helper.make_graph(
            graph.nodes, "part", [value("x", onnx.TensorProto.FLOAT, ["batch", width])],
            [value(output, onnx.TensorProto.FLOAT, None)], graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", onnx_graph.OPSET)],
        ir_version=onnx_graph.IR_VERSION,
    )  # fmt: skip
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def test_degenerate_rotations_are_those_of_the_library() -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(size=3)
    columns = [rng.normal(size=6) for _ in range(20)]
    columns += [np.concatenate(pair) for pair in (
        (first, np.zeros(3)), (np.zeros(3), first), (first, -3 * first),
        (1e-8 * first, first), ((1, 0, 0), (0, 1, 0)), ((0, 0, 2), (0, 0, 1)), (1e4 * first, 1e-4 * rng.normal(size=3)),
    )] + [np.zeros(6)]  # fmt: skip
    x = np.asarray(columns, np.float32)
    session = small_model(lambda graph: onnx_graph._rotation(graph, "x"), 6, "rotation")
    np.testing.assert_allclose(session.run(None, {"x": x})[0], geometry.rotation_from_6d(x), atol=2e-5)
    # Nearly parallel: rounding decides the second direction, yet the answer is a rotation.
    near = np.concatenate([first, first + 1e-6])[None].astype(np.float32)
    actual = session.run(None, {"x": near})[0][0]
    np.testing.assert_allclose(actual.T @ actual, np.eye(3), atol=1e-5)
    assert np.linalg.det(actual) > 0.999


def test_a_zero_embedding_stays_zero() -> None:
    def build(graph: onnx_graph.Graph) -> None:
        graph.add("Identity", onnx_graph._direction(graph, "x", graph.constant(0.0), 0.0), name="unit")

    x = np.asarray([[0, 0], [3, 4], [1e-15, 0]], np.float32)
    actual = small_model(build, 2, "unit").run(None, {"x": x})[0]
    np.testing.assert_allclose(actual, pixels.unit(jnp.asarray(x)), atol=1e-7)
    np.testing.assert_array_equal(actual[0], 0)


# -------- the program


def test_a_run_becomes_a_file_with_a_card(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = Export(
        workdir=str(trained_run), format="onnx", output=str(tmp_path / "out"), repeats=2, speed_batch=2
    )
    export_program.main(config)
    file = tmp_path / "out" / "model.onnx"
    names = {path.name for path in file.parent.iterdir()}
    assert names == {"model.onnx", "model.onnx.json", "model.onnx.md"}
    card = json.loads((tmp_path / "out" / "model.onnx.json").read_text())
    run = run_folder.open_run(trained_run)
    assert (
        card["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
        and card["bytes"] == file.stat().st_size
    )
    assert card["network"] == dataclasses.asdict(run.state.network) and card["training"]["step"] == 3
    assert card["training"]["labelled_subjects"] == ["S1"] and len(card["joints"]) == 17
    size = run.card["image_size"]
    assert card["input"]["images"]["shape"] == ["batch", size, size, 3]
    assert [one["crops"] for one in card["checks"]] == ["random", run.card["dataset"]]
    for one in card["checks"]:
        assert one["pictures"] == 7
        assert all(0 <= value <= card["tolerances"][name] for name, value in one["differences"].items())
    assert max(one["differences"]["canonical"] for one in card["checks"]) > 0  # measured, not made up
    assert [row["repeats"] for row in card["speed"]] == [2, 2] and card["speed"][1]["rate_over_jax"] > 0
    words = (tmp_path / "out" / "model.onnx.md").read_text()
    assert f"`images`: uint8, batch × {size} × {size} × 3; RGB" in words
    assert "| `canonical` | batch × 17 × 3 | millimetres" in words and "- labelled subjects: S1\n" in words
    assert "mean (0.485, 0.456, 0.406) and" in words and "[" not in words
    for expected in (
        "millimetres",
        card["sha256"],
        "ImageNet",
        "Parameters and settings".lower(),
        "session.run(None",
    ):
        assert expected in words
    said = capsys.readouterr().out
    assert (
        "largest differences from JAX on 7 crops (random): embedding " in said and f"exported {file}" in said
    )

    # The card's own lines run the file, wherever it lies.
    images = export_check.random_crops(2, size)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(file.parent)
        scope: dict[str, Any] = {"images": images}
        exec("\n".join(card["run_it"]), scope)
    assert scope["embedding"].shape == (2, 8) and scope["canonical"].shape == (2, 17, 3)

    before = file.stat().st_mtime_ns
    with refused("model.onnx", "--overwrite"):
        export.export(config)
    assert file.stat().st_mtime_ns == before
    assert export.check(options.replace(config, overwrite=True)) == file
    export_card.write(file, card | {"speed": []})
    assert "No speed was measured." in (tmp_path / "out" / "model.onnx.md").read_text()


def test_a_file_that_says_something_else_is_not_kept(
    trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = exported.to_bytes

    def other(state: TrainState, size: int, form: exported.Format) -> bytes:
        far = state.statistics._replace(mean=np.asarray(state.statistics.mean) + 1)
        return honest(dataclasses.replace(state, statistics=far), size, form)

    monkeypatch.setattr(exported, "to_bytes", other)
    config = Export(workdir=str(trained_run), output=str(tmp_path / "out"), repeats=0)
    with pytest.raises(
        ValueError,
        match=r"on 7 crops \(random\) it differs in .* canonical by 1 \(at most 0.1\).* nothing was kept",
    ):
        export.export(config)
    assert list((tmp_path / "out").iterdir()) == []


def test_neither_nan_nor_another_shape_passes() -> None:
    images = np.zeros((7, 4, 4, 3), np.uint8)
    good = train_step.Prediction(np.zeros((7, 2)), np.zeros((7, 17, 3)), np.zeros((7, 3, 3)))

    def runner(**changes: np.ndarray) -> exported.Runner:
        return lambda x: train_step.Prediction(*(v[: len(x)] for v in good._replace(**changes)))

    nan = np.full((7, 2), np.nan)
    for ours, theirs in (
        ({}, {"embedding": nan}),
        ({"embedding": nan}, {}),
        ({}, {"embedding": np.zeros((7, 1))}),
    ):
        assert not export_check.compare(runner(**ours), runner(**theirs), "x", images).passed  # type: ignore[arg-type]
    assert export_check.compare(runner(), runner(), "x", images).passed
    moved = runner(rotation=np.full((7, 3, 3), 1.1e-3))
    assert not export_check.compare(runner(), moved, "x", images).passed


@pytest.mark.parametrize("stream", [False, True])
def test_without_its_data_people_are_rendered(
    stream: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = options.build(Train, dataset="synthetic_multiview/tiny", data_dir=str(tmp_path), stream=stream)
    run = run_folder.Run(config, {"image_size": 16}, state=None, step=3)  # type: ignore[arg-type]
    if stream:  # rendered as the other case is, once is enough; and no data set is looked for
        monkeypatch.setattr(export_check.pipeline, "open_split", None)
        blank = SimpleNamespace(images=np.full((4, 16, 16, 3), 7, np.uint8))
        monkeypatch.setattr(export_check.streamed, "views_of", lambda takes, records: iter([blank]))
    name, images = export_check.person_crops(run, 3)
    assert name == "rendered by datasets.synthetic_multiview"
    assert images.shape == (3, 16, 16, 3) and images.dtype == np.uint8
    assert (images == 7).all() if stream else images.std() > 10


def test_a_run_of_another_network_is_refused(trained_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for path in trained_run.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "config.json").unlink()
    config = json.loads((trained_run / "config.json").read_text()) | {"embedding_dim": 9}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        UserError, match=r"checkpoint .* has .*embedding.* as float32\[.*\]; expected float32\["
    ):
        export.export(Export(workdir=str(folder), output=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


def opened_in_every_way(folder: Path, tmp_path: Path) -> list[Callable[[], object]]:
    return [
        lambda: mcss_jax.load(folder),
        lambda: predict_model.open_model(str(folder)),
        lambda: export.export(Export(workdir=str(folder), output=str(tmp_path / "out"))),
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"precision": "float99"},
            "has precision 'float99'; expected one of float32, bfloat16",
        ),
        ({"depth": 19}, "has depth 19; expected one of 18, 34, 50"),
        ({"stem": "patch5"}, "has stem 'patch5'; expected one of conv, patch4, patch8"),
        ({"width": 0}, "has width 0; expected at least 1"),
        ({"hidden": "many"}, "has hidden 'many'; expected a value of type int"),
        ({"embedding_dim": True}, "has embedding_dim True; expected a value of type int"),
    ],
)
def test_settings_of_no_network_are_named(
    changes: dict, message: str, trained_run: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "card.json").write_text((trained_run / "card.json").read_text())
    config = json.loads((trained_run / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"network": config["network"] | changes}))
    for open_it in opened_in_every_way(folder, tmp_path):
        with pytest.raises(UserError, match=r"run/config\.json " + message):
            open_it()


def test_weights_of_a_run_that_diverged_are_named(trained_run: Path, tmp_path: Path) -> None:
    run = run_folder.open_run(trained_run)
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("card.json", "config.json"):
        (folder / name).write_text((trained_run / name).read_text())
    variables = jax.tree.map(np.array, run.state.variables)
    variables["batch_stats"]["encoder"]["bn1"]["bn"]["var"][3] = np.inf
    with checkpoint.Checkpoints(folder / "checkpoints") as checkpoints:
        checkpoints.save(4, dataclasses.replace(run.state, variables=variables), {})
    said = (
        r"run, step 4: 1 of \d+ arrays have values that are not finite, \['batch_stats'\].*\['var'\] the first; "
        "training diverged: take an earlier --step, or train anew"
    )
    for open_it in opened_in_every_way(folder, tmp_path):
        with pytest.raises(UserError, match=said):
            open_it()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"workdir": ""}, "--workdir is missing; for example --workdir=runs/first"),
        ({"output": ""}, "--output is missing; for example --output=exports/first"),
        ({"step": -1}, "--step=-1; expected at least 0"),
        ({"repeats": -1}, "--repeats=-1; expected at least 0"),
        ({"speed_batch": 0}, "--speed_batch=0; expected at least 1"),
    ],
)
def test_check_names_the_flag(changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        export.check(dataclasses.replace(Export(workdir="a", output="b"), **changes))


def test_the_output_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="--output=.*file is a file; expected a folder"):
        export.check(Export(workdir="a", output=str(tmp_path / "file")))
