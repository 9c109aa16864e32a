"""Weights in: which tensors are asked for, where they go, and every way in which a file can be wrong."""

import dataclasses
import hashlib
import json
import pickle
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from launch import import_weights as import_weights_program
from launch.interchange import import_weights, weights_file, weights_names
from launch.interchange.import_weights import ImportWeights
from mcss_jax.errors import UserError
from mcss_jax.networks import pixels, resnet
from tests.launch.resnets import features, random_weights, save
from tests.mcss_jax.steps import two_blocks
from tests.refusals import refused

WIDTH = 8


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """ResNet-18 and ResNet-50 of two blocks."""
    monkeypatch.setitem(resnet.STAGES, 50, (1, 1))
    with two_blocks():
        yield


@pytest.mark.parametrize(("depth", "parameters"), [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032)])
def test_the_tensors_are_torchvisions(depth: int, parameters: int) -> None:
    """Its documented number of parameters, of which the classifier of 1000 classes is left out."""
    wanted = weights_names.expected(depth)
    ours = sum(int(np.prod(shape)) for name, shape in wanted.items() if "running" not in name)
    features_out = 2048 if depth == 50 else 512
    assert ours == parameters - 1000 * (features_out + 1)
    assert weights_names.depth_of(wanted) == depth
    # timm's files may lack the counters, and a headless one has no classifier.
    weights_names.check(wanted, depth, 64, "x")
    # One missing layer does not make it another network.
    assert weights_names.depth_of([name for name in wanted if not name.startswith("layer2.1.")]) == depth


@pytest.mark.parametrize("depth", [18, 50])
def test_features_are_those_of_torchs_layout(small: None, depth: int, tmp_path: Path) -> None:
    weights = random_weights(depth, WIDTH)
    file = save(weights, tmp_path / "w.safetensors")
    variables, actual = import_weights.read_variables(file, depth, WIDTH)
    assert actual == depth
    # At 46 pixels every stride meets an odd and an even side, where `SAME` padding samples other pixels.
    images = np.random.default_rng(1).integers(0, 256, (2, 46, 46, 3)).astype(np.uint8)
    mean, deviation = np.asarray((0.485, 0.456, 0.406)), np.asarray((0.229, 0.224, 0.225))
    standardised = ((images / 255 - mean) / deviation).astype(np.float32)
    expected = features(weights, depth, standardised.transpose(0, 3, 1, 2))
    variables["params"]["embedding"] = {
        "kernel": np.zeros((expected.shape[1], 4), np.float32), "bias": np.zeros(4, np.float32),
    }  # fmt: skip
    ours, _ = jax.jit(resnet.ResNet(depth, WIDTH, 4).apply)(
        variables, pixels.standardise(jnp.asarray(images))
    )
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(ours, expected, atol=1e-5, rtol=1e-4)


def test_half_precision_is_widened(small: None, tmp_path: Path) -> None:
    weights = random_weights(18, WIDTH)
    weights["conv1.weight"] = weights["conv1.weight"].astype(np.float16)
    weights["bn1.weight"] = weights["bn1.weight"].astype(ml_dtypes.bfloat16)
    variables, _ = import_weights.read_variables(save(weights, tmp_path / "w.safetensors"), None, WIDTH)
    kernel, scale = variables["params"]["conv1"]["kernel"], variables["params"]["bn1"]["bn"]["scale"]
    assert kernel.dtype == scale.dtype == np.float32
    np.testing.assert_array_equal(kernel, weights["conv1.weight"].transpose(2, 3, 1, 0).astype(np.float32))
    np.testing.assert_array_equal(scale, weights["bn1.weight"].astype(np.float32))


def changed(name: str, value: np.ndarray | None) -> dict[str, np.ndarray]:
    """Good weights but for one tensor, which is replaced or left out."""
    weights = random_weights(18, WIDTH)
    if value is None:
        del weights[name]
    else:
        weights[name] = value
    return weights


ONES = np.ones(WIDTH, np.float32)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("layer1.0.bn2.bias", None, r"ResNet-18 \(1 missing: layer1.0.bn2.bias\); expected the 30 tensors"),
        ("conv1.bias", ONES, r"ResNet-18 \(1 unexpected: conv1.bias\)"),
        ("conv1.weight", np.ones((WIDTH, 3, 3, 3), np.float32),
         r"conv1.weight is \[8, 3, 3, 3\], expected \[8, 3, 7, 7\]; .* first stage has 8 channels"),
        ("bn1.weight", ONES * np.nan, "not finite in bn1.weight; such weights are damaged"),
        ("bn1.bias", np.full(WIDTH, np.inf, np.float16), "not finite in bn1.bias"),
        ("bn1.running_var", -ONES,
         r"w\.safetensors: the running variance is negative in bn1.running_var; such weights are damaged, get"),
        ("bn1.weight", np.ones(WIDTH), "has bn1.weight as F64; expected float32, float16, bfloat16"),
    ],
)  # fmt: skip
def test_a_wrong_tensor_is_named(
    small: None, name: str, value: np.ndarray | None, message: str, tmp_path: Path
) -> None:
    file = save(changed(name, value), tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=message):
        import_weights.import_weights(
            ImportWeights(source=str(file), workdir=str(tmp_path / "run"), width=WIDTH)
        )
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


def test_the_card_says_what_the_file_could_not_tell(small: None, tmp_path: Path) -> None:
    file = save(random_weights(18, WIDTH), tmp_path / "w.safetensors")
    folder = import_weights.import_weights(
        ImportWeights(source=str(file), workdir=str(tmp_path / "run"), width=WIDTH)
    )
    card = json.loads((folder / "card.json").read_text())
    assert card["taken_for"].startswith(
        "torchvision's ResNet-18; the file does not tell whether it had anti-al"
    )
    assert "resnetblur50" in card["taken_for"] and card["taken_for"].endswith("convolution (Caffe's)")
    assert hashlib.sha256(file.read_bytes()).hexdigest() in card["imported"]


def test_another_networks_tensors_are_counted() -> None:
    """ResNet-101 is nearest to 50; a network of other names lacks everything."""
    deeper = weights_names.expected(50) | {
        f"layer3.{block}.conv1.weight": (256, 1024, 1, 1) for block in range(6, 23)
    }
    depth = weights_names.depth_of(deeper)
    with refused("ResNet-50", "17", "layer3.6.conv1.weight", "14") as raised:
        weights_names.check(deeper, depth, 64, "w")
    (listing,) = raised.value.__notes__
    assert listing.splitlines() == [
        f"unexpected: layer3.{block}.conv1.weight [256, 1024, 1, 1]" for block in range(6, 23)
    ]
    with refused("100", "conv1.weight", "97", "1", "wte.weight") as raised:
        weights_names.check({"wte.weight": (3, 3)}, 18, 64, "w")
    lines = raised.value.__notes__[0].splitlines()
    assert lines[:-1] == [f"missing: {name} {list(s)}" for name, s in weights_names.expected(18).items()]
    assert lines[-1] == "unexpected: wte.weight [3, 3]"


def test_all_wrong_shapes_are_listed_before_the_sentence(
    small: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = save(random_weights(18, 16), tmp_path / "w.safetensors")
    config = ImportWeights(source=str(file), workdir=str(tmp_path / "run"), width=WIDTH)
    with refused("conv1.weight", "27", "8"):
        import_weights_program.main(config)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 30 and said[2] == "bn1.bias is [16], expected [8]"
    # A few are in the sentence, and nowhere else.
    save(changed("conv1.bias", ONES), file)
    with refused("1", "conv1.bias"):
        import_weights_program.main(config)
    assert capsys.readouterr().err == ""


def test_variants_with_other_tensors_are_told_apart() -> None:
    """As timm 1.0.31 names them; with the same tensors nothing tells them, which the help and the card say."""
    plain = weights_names.expected(18)
    deep_stem = {name: shape for name, shape in plain.items() if name != "conv1.weight"} | {
        "conv1.0.weight": (32, 3, 3, 3)
    }
    pooled_shortcut = {name.replace("downsample.0", "downsample.1"): shape for name, shape in plain.items()}
    group_norm = {name: shape for name, shape in plain.items() if "running" not in name}
    attention = plain | {"layer1.0.se.fc1.weight": (8, 64, 1, 1)}
    for variant, said in (
        (deep_stem, "1 missing: conv1.weight; 1 unexpected: conv1.0.weight"),
        (pooled_shortcut, "missing: layer2.0.downsample.0.weight"),
        (group_norm, "missing: bn1.running_mean"),
        (attention, "1 unexpected: layer1.0.se.fc1.weight"),
    ):
        with pytest.raises(UserError, match=said):
            weights_names.check(variant, weights_names.depth_of(variant), 64, "w")
    help_text = " ".join((import_weights_program.__doc__ or "").split())
    for name in ("resnetaa50", "resnetblur18", "resnetblur50", "Caffe"):
        assert name in help_text and name in weights_names.UNTOLD


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps({"conv1.weight": [0.0] * 9}, protocol=2))


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))


def cut_zip(path: Path) -> None:
    zipped(path)
    path.write_bytes(path.read_bytes()[:-30])


@pytest.mark.parametrize(
    ("write", "what"),
    [
        (pickled, "a pickle"),
        (zipped, "a zip archive, as PyTorch makes them around a pickle"),
        (cut_zip, "a zip archive, as PyTorch makes them around a pickle"),
    ],
)
def test_what_may_hold_a_pickle_is_refused_by_its_content(write: object, what: str, tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"  # its name says nothing
    write(file)  # type: ignore[operator]
    with refused(f"{what}", "torch>=2.10") as raised:
        weights_file.shapes(file)
    assert str(raised.value).endswith('sys.argv[2])" weights.safetensors weights.converted.safetensors')


def convert(raised: pytest.ExceptionInfo[ValueError], folder: Path) -> None:
    """Runs the command at the end of the sentence."""
    program, *files = shlex.split(str(raised.value).partition("--source: ")[2])[2:]
    subprocess.run([sys.executable, "-c", program, *files], cwd=folder, check=True, timeout=120)


def test_numpys_files_are_told_what_works(tmp_path: Path) -> None:
    tensors = {
        "a": np.arange(6.0, dtype=np.float32).reshape(2, 3).T,
        "b": np.ones(2, np.float16),
        "c": np.ones(3),
    }
    np.savez(tmp_path / "w of mine.npz", **tensors)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="is a NumPy archive; expected .safetensors: convert it") as raised:
        weights_file.shapes(tmp_path / "w of mine.npz")
    assert "torch" not in str(raised.value)
    convert(raised, Path("/"))  # it names the whole path
    converted = tmp_path / "w of mine.converted.safetensors"
    actual = weights_file.read(converted, weights_file.shapes(converted))
    assert actual.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(actual[name], tensor)
    np.save(tmp_path / "w.npy", tensors["a"])
    with pytest.raises(UserError, match="is a single NumPy array; expected named tensors, as .safetensors"):
        weights_file.shapes(tmp_path / "w.npy")


def test_a_file_that_was_cut_off_or_changed_is_refused(tmp_path: Path) -> None:
    whole = save({"a": np.ones((4, 4), np.float32)}, tmp_path / "whole.safetensors").read_bytes()
    assert weights_file.shapes(tmp_path / "whole.safetensors") == {"a": (4, 4)}
    file = tmp_path / "w.safetensors"
    header = int.from_bytes(whole[:8], "little")
    for content in (whole[:-1], whole + b"x", whole[: 8 + header], whole.replace(b"F32", b"F99")):
        file.write_bytes(content)
        with pytest.raises(UserError, match="is damaged or was cut off: .*; download it again"):
            weights_file.shapes(file)
    for content in (b"", whole[:5], whole[:20], b"\xff" * 7 + b"\x00{" + whole, b"<html>not found</html>"):
        file.write_bytes(content)
        with pytest.raises(UserError, match="is not a safetensors file .* or was cut off; download it again"):
            weights_file.shapes(file)
    with pytest.raises(UserError, match="there is no file .*none.safetensors; expected weights"):
        weights_file.shapes(tmp_path / "none.safetensors")


def test_a_header_as_long_as_a_pickles_first_bytes_is_no_pickle(tmp_path: Path) -> None:
    """A header of 0x0280 bytes makes the file begin as a pickle of protocol 2 does; headers are padded to 8 bytes."""
    for padding in range(0, 640, 8):
        file = tmp_path / "w.safetensors"
        save({"a" * (1 + padding): np.ones(1, np.float32)}, file)
        if file.read_bytes()[:2] == b"\x80\x02":
            assert len(weights_file.shapes(file)) == 1
            return
    raise AssertionError("no name gave such a header")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": ""}, "--source is missing; for example --source=resnet18.safetensors"),
        ({"workdir": ""}, "--workdir is missing; for example --workdir=runs/imagenet_resnet18"),
        ({"width": 0}, "--width=0; expected at least 1"),
    ],
)
def test_check_names_the_flag(changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        import_weights.check(dataclasses.replace(ImportWeights(source="a", workdir="b"), **changes))


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_features_are_pytorchs(depth: int, tmp_path: Path) -> None:
    """The whole network at full width, saved by PyTorch under torchvision's names."""
    torch = pytest.importorskip("torch", reason="needs PyTorch, which is not among the requirements")
    from safetensors.torch import save_file

    from launch.benchmarks import torch_step
    from mcss_jax.method import Network

    weights = random_weights(depth, 64)
    network = torch_step.Encoder(Network(depth=depth)).eval()  # type: ignore[arg-type]

    def theirs(name: str) -> str:
        stage, *rest = name.split(".")
        stage = stage.replace("_", ".") if stage.startswith("layer") else stage
        joined = ".".join([stage, *rest])
        return joined.replace("downsample_conv", "downsample.0").replace("downsample_bn", "downsample.1")

    names = {name: theirs(name) for name in network.state_dict() if not name.startswith("embedding")}
    network.load_state_dict(
        {name: torch.tensor(weights[other]) for name, other in names.items()}, strict=False
    )
    file = tmp_path / "w.safetensors"
    save_file({other: network.state_dict()[name].clone() for name, other in names.items()}, str(file))
    variables, actual = import_weights.read_variables(file, None, 64)
    assert actual == depth
    images = np.random.default_rng(2).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    standardised = np.asarray(pixels.standardise(jnp.asarray(images)))
    with torch.no_grad():
        expected, _ = network(torch.tensor(standardised.transpose(0, 3, 1, 2)))
    variables["params"]["embedding"] = {
        "kernel": np.zeros((expected.shape[1], 4), np.float32), "bias": np.zeros(4, np.float32),
    }  # fmt: skip
    ours, _ = jax.jit(resnet.ResNet(depth, 64, 4).apply)(variables, standardised)
    assert expected.abs().max() > 0.1
    np.testing.assert_allclose(ours, expected.numpy(), atol=1e-4, rtol=1e-4)


def test_the_command_that_is_given_converts(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs PyTorch, which is not among the requirements")
    torch.save({"a": torch.arange(4.0)}, tmp_path / "w.pth")
    with pytest.raises(UserError, match="is a zip archive, as PyTorch makes them around a pickle") as raised:
        weights_file.shapes(tmp_path / "w.pth")
    convert(raised, tmp_path)
    assert weights_file.shapes(tmp_path / "w.converted.safetensors") == {"a": (4,)}
