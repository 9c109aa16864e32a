"""The same per-sequence work on Apache Beam, for clusters whose workers share a file system."""

from collections.abc import Callable
from typing import Any

from datasets.distributions.takes import by_archive
from launch.preparation.stage_takes import Work


def run(work: Work, runner: str, advance: Callable[[int], object]) -> None:
    """Finishes all takes of `work` on a Beam runner; archives are unpacked here first.

    Raises ValueError when apache-beam is not installed or has no such runner, and what Beam raises for a take
    that fails (its message holds ours).
    """
    try:
        import apache_beam as beam
    except ImportError as error:
        raise ValueError(
            "--beam_runner needs apache-beam, which is not installed: .venv/bin/pip install apache-beam"
        ) from error
    work.clean()
    left = work.left()
    for files in by_archive(left).values():
        work.unpack(files, lambda n: None)

    def cut(index: int) -> int:
        work.cut(left[index], lambda n: None)
        return left[index].source_frames

    options: Any = beam.options.pipeline_options.PipelineOptions([], runner=runner)
    try:
        with beam.Pipeline(options=options) as pipeline:
            pipeline | beam.Create(range(len(left))) | beam.Reshuffle() | beam.Map(cut)
    finally:
        work.clean()
    advance(sum(take.source_frames for take in left))
