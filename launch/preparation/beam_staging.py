"""The same per-sequence work on Apache Beam, for clusters whose workers share a file system."""

import re
from collections.abc import Callable
from typing import Any

from datasets.distributions.takes import by_archive
from launch.preparation.stage_takes import Work
from mcss_jax.errors import UserError


def run(work: Work, runner: str, advance: Callable[[int], object]) -> None:
    """Finishes all takes of `work` on a Beam runner; archives are unpacked here first.

    Raises UserError when apache-beam is not installed or has no such runner, and for a take that fails; what Beam
    raises otherwise.
    """
    try:
        import apache_beam as beam
    except ImportError as error:
        raise UserError(
            "--beam_runner needs apache-beam, which is not installed: .venv/bin/pip install apache-beam"
        ) from error
    work.clean()
    unfinished = work.unfinished()
    for files in by_archive(unfinished).values():
        work.unpack(files, lambda n: None)

    def cut(index: int) -> int:
        work.cut(unfinished[index], lambda n: None)
        return unfinished[index].source_frames

    options: Any = beam.options.pipeline_options.PipelineOptions([], runner=runner)
    try:
        pipeline = beam.Pipeline(options=options)
    except (ValueError, ImportError) as error:
        raise UserError(f"--beam_runner={runner} cannot be used: {error}") from error
    try:
        with pipeline:
            pipeline | beam.Create(range(len(unfinished))) | beam.Reshuffle() | beam.Map(cut)
    except Exception as error:
        if message := user_error_text(error):
            raise UserError(message) from error
        raise
    finally:
        work.clean()
    advance(sum(take.source_frames for take in unfinished))


def user_error_text(error: Exception) -> str:
    """The sentence of a worker's `UserError`, of which a runner may give the traceback alone, as text; or nothing."""
    if isinstance(error, UserError):
        return str(error).partition(" [while running")[0]
    matches = re.findall(
        rf"^(?:[\w.]*\.)?{UserError.__name__}: (.+?)(?: \[while running.*)?$", str(error), re.MULTILINE
    )
    return matches[-1] if matches else ""
