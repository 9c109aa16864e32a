"""Writes a trained network as one file that runs without this project, checked against it before it is kept.

    python -m launch.export --workdir=runs/demo/mcss --format=onnx --output=exports/demo

Formats: `onnx`, for ONNX Runtime and whatever else reads it; `stablehlo`, a `jax.export` file for JAX on CPU, CUDA and
TPU. Both take uint8 crops in batches of any size and give embedding, canonical pose (mm) and rotation, in float32. A
card beside the file (.json and .md) says what goes in, what comes out, what was trained and what was measured.
"""

from launch.cli import flags, progress
from launch.interchange import export_card
from launch.interchange.export import Export, export
from launch.runs import run_folder


def main(config: Export) -> None:
    """Exports and says how far the file is from the network."""
    file = export(config)
    card = run_folder.read_json(export_card.path_of(file))
    for check in card["checks"]:
        figures = ", ".join(f"{name} {value:.2g}" for name, value in check["differences"].items())
        progress.say(
            f"largest differences from JAX on {check['pictures']} crops ({check['crops']}): {figures}"
        )
    progress.say(f"exported {file} ({card['bytes'] / 1e6:.1f} MB); what it is: {file}.md")


if __name__ == "__main__":
    flags.run(Export, "launch.export", __doc__ or "", main)
