"""The plot of launch.benchmark: throughput against batch size, image size and number of devices."""

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from launch.benchmarks.batch import encoder_name
from launch.benchmarks.records import Record
from launch.pages.palette import GRID, METHODS, OTHERS
from launch.runs import run_folder
from mcss_jax.errors import UserError

COLOUR = METHODS["mcss"].light


def _draw(axes: Axes, records: Sequence[Record], key: str, colour: str, label: str | None = None) -> None:
    """Median rates over a logarithmic axis, with the quartiles of the repetitions as bars."""
    by_key = sorted(records, key=lambda record: record[key])
    x = [record[key] for record in by_key]
    rates = [record["images"] / record["median_s"] for record in by_key]
    below = [rate - r["images"] / r["quartile_3_s"] for rate, r in zip(rates, by_key, strict=True)]
    above = [r["images"] / r["quartile_1_s"] - rate for rate, r in zip(rates, by_key, strict=True)]
    axes.errorbar(x, rates, yerr=(below, above), marker="o", capsize=3, color=colour, label=label)
    axes.set_xscale("log", base=2)
    axes.set_xticks(x, [f"{tick:g}" for tick in x])
    axes.minorticks_off()


def _panels(records: Sequence[Record]) -> list[tuple[str, str, str, list[Record]]]:
    """Title, label of the axis, the figure along it, and the records of each panel that has any."""
    steps = [r for r in records if r["suite"] == "step" and "image_size" in r]
    scaling = [r for r in records if r["suite"] == "scaling"]
    if not steps and not scaling:
        raise UserError("--plot draws figures of the suites step and scaling; name one of them in --suite")
    panels = []
    if steps:
        # The flags' own batch and size come first; each sweep keeps one of them.
        images, size = steps[0]["images"], steps[0]["image_size"]
        of_size = [r for r in steps if r["image_size"] == size]
        of_batch = [r for r in steps if r["images"] == images]
        panels.append((f"{size:g} px", "images a batch", "images", of_size))
        panels.append((f"{images:g} images a batch", "side of the images, pixels", "image_size", of_batch))
    if scaling:
        each = scaling[0]["images"] / scaling[0]["devices_used"]
        panels.append((f"{each:g} images a device", "devices", "devices_used", scaling))
    return panels


def check_name(path: str) -> None:
    """Raises UserError for a file of a kind that cannot be drawn; better asked for before anything is measured."""
    kinds = Figure().canvas.get_supported_filetypes()
    if Path(path).suffix.lstrip(".").lower() not in ("", *kinds):
        raise UserError(f"--plot={path}; expected a name that ends in .png")


def draw(records: Sequence[Record], path: str) -> None:
    """Writes a PNG with a panel for each of batch size, image size (from `step`) and devices (from `scaling`).

    Raises UserError when no figure has a throughput to draw, OSError when the file cannot be written.
    """
    panels = _panels(records)
    figure, grid = plt.subplots(
        1, len(panels), figsize=(4.2 * len(panels), 3.8), squeeze=False, layout="constrained"
    )
    for axes, (title, label, key, panel_records) in zip(grid[0], panels, strict=True):
        if key == "devices_used":
            _by_processes(axes, panel_records)
        else:
            _draw(axes, panel_records, key, COLOUR)
        axes.set_ylim(bottom=0)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(label)
        axes.grid(color=GRID.light)
        axes.set_axisbelow(True)
    grid[0][0].set_ylabel("images per second, all devices")
    figure.suptitle(f"{_network(records[0])}\n{_device(records[0])}: median and quartiles", fontsize=10)
    content = io.BytesIO()  # the libraries below do not say why a file cannot be written
    figure.savefig(content, dpi=150, format=Path(path).suffix.lstrip(".").lower() or "png")
    plt.close(figure)
    run_folder.write_bytes(Path(path), content.getvalue())


def _by_processes(axes: Axes, records: Sequence[Record]) -> None:
    counts = sorted({record["processes"] for record in records})
    for index, count in enumerate(counts):
        group = [record for record in records if record["processes"] == count]
        colour = COLOUR if index == 0 else OTHERS[index - 1].light
        _draw(axes, group, "devices_used", colour, f"{count:g} process{'' if count == 1 else 'es'}")
    ticks = sorted({record["devices_used"] for record in records})
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    if len(counts) > 1:
        axes.legend()


def _network(record: Record) -> str:
    settings = record["settings"]
    return f"{encoder_name(settings)}, {settings['precision']}"


def _device(record: Record) -> str:
    return f"CPU of {record['cores']} cores" if record["platform"] == "cpu" else record["device"]
