"""A trained network as a file, checked and measured before the file gets its name."""

import dataclasses
from pathlib import Path

from launch.benchmarks.timing import table
from launch.cli.options import option
from launch.interchange import export_card, export_check, exported
from launch.runs import run_folder
from mcss_jax.errors import UserError
from mcss_jax.setting import Role

EXPORT, MEASURE = "Export", "Measurement"


@dataclasses.dataclass(frozen=True)
class Export:
    """See `python -m launch.export --help`."""

    workdir: str = option("", "Folder of the trained run. Required.", EXPORT)
    step: int = option(0, "Checkpoint to export; 0 for the newest.", EXPORT)
    format: exported.Format = option("onnx", "Kind of file.", EXPORT)
    output: str = option("", "Folder for model.onnx or model.stablehlo and its card. Required.", EXPORT)
    overwrite: bool = option(False, "Replace an export that is there.", EXPORT)
    speed_batch: int = option(
        16, "Pictures in the batch whose time is taken, on the CPU beside JAX.", MEASURE, roles={Role.MEMORY}
    )
    repeats: int = option(5, "Rounds of that timing; 0 for none.", MEASURE)


def check(config: Export) -> Path:
    """The file to write. Raises UserError for bad settings, and when there is an export already."""
    for name, example in (("workdir", "runs/first"), ("output", "exports/first")):
        if not getattr(config, name):
            raise UserError(f"--{name} is missing; for example --{name}={example}")
    for name, least in (("step", 0), ("repeats", 0), ("speed_batch", 1)):
        if getattr(config, name) < least:
            raise UserError(f"--{name}={getattr(config, name)}; expected at least {least}")
    folder = Path(config.output).expanduser()
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output={config.output} is a file; expected a folder")
    file = folder / f"model.{config.format}"
    if file.exists() and not config.overwrite:
        raise UserError(
            f"{file} is there already; choose another --output, or give --overwrite to replace it"
        )
    return file


def export(config: Export) -> Path:
    """Exports, checks, measures, and only then gives the file its name; returns it.

    Raises UserError and OSError with one clear sentence, and leaves no file then.
    """
    file = check(config)
    run = run_folder.open_run(config.workdir, config.step or None)
    size = run.card["image_size"]
    state = exported.in_float32(run.state)
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(file.name + ".new")
    try:
        temporary.write_bytes(exported.to_bytes(state, size, config.format))
        ours, theirs = exported.jax_runner(state), exported.load(temporary, config.format)
        checks = export_check.check(run, ours, theirs)
        rows = []
        if config.repeats:
            rows = export_check.speed(ours, theirs, config.format, size, config.speed_batch, config.repeats)
            print(table(rows))
        card = export_card.card(run, temporary, file.name, config.format, checks, rows)
        export_card.write(file, card)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
    return file
