"""The card beside an exported file: what goes in, what comes out, what was trained, what was measured."""

import dataclasses
import hashlib
import importlib.metadata
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launch.benchmarks.timing import Row
from launch.interchange import export_check, exported
from launch.retrieval import gallery
from launch.runs import provenance, run_folder
from mcss_jax import skeleton
from mcss_jax.networks import pixels

# What the run's card says of its data, in the order in which the card tells it.
TRAINING = (
    "dataset",
    "fingerprint",
    "boxes",
    "labelled",
    "labelled_subjects",
    "labelled_instants",
    "unlabelled_subjects",
    "unlabelled_instants",
    "init_from",
)
RUN = {
    "onnx": (
        "import onnxruntime",
        'session = onnxruntime.InferenceSession("model.onnx")',
        'embedding, canonical, rotation = session.run(None, {"images": images})',
    ),
    "stablehlo": (
        "import jax.export",
        'model = jax.export.deserialize(bytearray(open("model.stablehlo", "rb").read()))',
        "embedding, canonical, rotation = model.call(images)",
    ),
}
AGE = (
    "The archive of this network is its run: parameters and settings (checkpoints/ and config.json). This file is made "
    "from it, ages, and can be made again."
)
TRUST = {
    "onnx": "ONNX files hold data and operators, no code; use a runtime that is kept up to date all the same.",
    "stablehlo": "A jax.export file is trusted input: it may call anything that is registered in jaxlib. Load it only "
    "from a source you trust and compare its SHA-256. JAX promises to read it for 6 months after it was made, and to "
    "let versions up to 3 weeks older read it.",
}


def _outputs(embedding_dim: int) -> dict[str, Any]:
    return {
        "embedding": {
            "shape": ["batch", embedding_dim],
            "unit": "length one; nearer means more alike in pose, whatever the view",
        },
        "canonical": {
            "shape": ["batch", skeleton.NUM_JOINTS, 3],
            "unit": "millimetres, root-relative, in the body's own frame: x from right to left hip, y up the spine, z "
            "out of the chest",
        },
        "rotation": {
            "shape": ["batch", 3, 3],
            "unit": "turns the body's frame to that of a camera that looks through the middle of the crop (x right, y "
            "down, z forward): pose in that camera = rotation times canonical, joint by joint",
        },
    }


def card(
    run: run_folder.Run,
    content: Path,
    name: str,
    form: exported.Format,
    checks: Sequence[export_check.Check],
    rows: Sequence[Row],
) -> dict[str, Any]:
    """As plain JSON; `content` is the exported file under whatever name, `name` the one it will have."""
    size, network = run.card["image_size"], run.state.network
    data = content.read_bytes()
    return {
        "file": name,
        "format": form,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "input": {
            "images": {
                "shape": ["batch", size, size, 3],
                "dtype": "uint8",
                "meaning": "RGB, square crops about one person each, with a margin as in preparation",
                "normalisation": "inside the model: (pixel / 255 - mean) / deviation with ImageNet's mean "
                f"({_listed(pixels.IMAGENET_MEAN)}) and deviation ({_listed(pixels.IMAGENET_STD)})",
            }
        },
        "outputs": _outputs(network.embedding_dim),
        "joints": list(skeleton.JOINTS),
        "precision": f"float32; the run computed in {network.precision}",
        "network": dataclasses.asdict(network),
        "weights": gallery.identity(run.state),
        "training": {
            "workdir": run.config.run.workdir,
            "step": run.step,
            "method": run.config.method,
            **{key: run.card[key] for key in TRAINING if key in run.card},
        },
        "tolerances": export_check.TOLERANCES,
        "checks": [dataclasses.asdict(one) for one in checks],
        "speed": [row.figures_of() for row in rows],
        "made_with": {
            **provenance.hardware(),
            "revision": provenance.revision(),
            **{package: importlib.metadata.version(package) for package in ("onnx", "onnxruntime")},
        },
        "run_it": list(RUN[form]),
        "keep": AGE,
        "trust": TRUST[form],
    }


def _markdown(card: dict[str, Any]) -> str:
    images = card["input"]["images"]
    lines = [
        f"# {card['file']}",
        "",
        f"ResNet-{card['network']['depth']} of the run {card['training']['workdir']}, step {card['training']['step']}; "
        f"{card['bytes'] / 1e6:.1f} MB, SHA-256 {card['sha256']}.",
        "",
        "## Run it",
        "",
        *(f"    {line}" for line in card["run_it"]),
        "",
        f"`images`: {images['dtype']}, {_by(images['shape'])}; {images['meaning']}.",
        f"Normalisation is {images['normalisation']}.",
        "",
        "| output | shape | unit |",
        "|---|---|---|",
        *(f"| `{name}` | {_by(out['shape'])} | {out['unit']} |" for name, out in card["outputs"].items()),
        "",
        f"Joints, in order: {', '.join(card['joints'])}. Precision: {card['precision']}.",
        "",
        "## Trained on",
        "",
        *(f"- {name.replace('_', ' ')}: {_listed(value)}" for name, value in card["training"].items()),
        "",
        "## Measured before it was kept",
        "",
        "Largest difference of any entry from the JAX forward pass, on a CPU:",
        "",
        "| crops | embedding | canonical (mm) | rotation |",
        "|---|---|---|---|",
        *(
            f"| {one['pictures']}, {one['crops']} | "
            + " | ".join(f"{one['differences'][name]:.2g}" for name in card["tolerances"])
            + " |"
            for one in card["checks"]
        ),
        "| allowed | " + " | ".join(f"{limit:g}" for limit in card["tolerances"].values()) + " |",
        "",
        *(
            f"- {row['name']}: {row['per_second']:.4g} images/s, median of {row['repeats']} rounds in turn"
            for row in card["speed"]
        ),
        "" if card["speed"] else "No speed was measured.",
        "## Keep",
        "",
        card["keep"],
        "",
        card["trust"],
    ]
    return "\n".join(lines) + "\n"


def _by(shape: Sequence[int | str]) -> str:
    """Sides as people write them."""
    return " × ".join(map(str, shape))


def _listed(value: Any) -> str:
    """Several values with commas, nothing as a word."""
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value in ("", None) else str(value)


def path_of(file: Path) -> Path:
    """The card of an exported file, as JSON; the same in words lies beside it as .md."""
    return file.with_name(file.name + ".json")


def write(file: Path, card: dict[str, Any]) -> None:
    """Writes both cards of an exported file."""
    run_folder.write_text(path_of(file), json.dumps(card, indent=2) + "\n")
    run_folder.write_text(file.with_name(file.name + ".md"), _markdown(card))
