"""The flag files of the data sets with protocols: they parse, name themselves, and their batches can be had."""

import re
from pathlib import Path

import pytest

from datasets.tuples import sampling
from datasets.tuples.records import SequenceRow
from launch.cli import flags
from launch.interchange import import_weights
from launch.preparation.jobs import BUILDERS
from launch.runs import settings

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = ROOT / "launch" / "experiments"
SHARED = ("common", "baseline", "mcss")
FOLDERS = ("human36m", "mpi_inf_3dhp")
FILES = [
    f for folder in FOLDERS for f in sorted((EXPERIMENTS / folder).glob("*.flags")) if f.stem not in SHARED
]
LABELS = {"s1": "S1", "s1_s5": "S1,S5", "s1_s5_s6": "S1,S5,S6", "all": "all"} | {
    f"s1_{percent}pct": f"S1:{percent / 100:g}" for percent in (1, 5, 10, 20, 50)
}

# Sequences by subject, appearance groups by subject, and their lengths: invented, but of the sets' make-up.
TABLES = {
    "human36m": (4, [(f"S{s}", s, 30, length) for s, length in ((1, 400), (5, 600), (6, 400), (7, 600), (8, 400))]),
    "mpi_inf_3dhp": (8, [(f"S{s}", 2 * s + seq, 1, 2500) for s in range(1, 7) for seq in (0, 1)]),
}  # fmt: skip


def parsed(file: Path, monkeypatch: pytest.MonkeyPatch) -> settings.Train:
    monkeypatch.chdir(ROOT)  # flag files name each other from here
    return flags.from_file(settings.Train, file, workdir="x")


def table_of(folder: str) -> tuple[int, tuple[SequenceRow, ...]]:
    views, people = TABLES[folder]
    rows: list[SequenceRow] = []
    for subject, group, sequences, length in people:
        for _ in range(sequences):
            first = rows[-1].first + rows[-1].length if rows else 0
            rows.append(SequenceRow(subject, "x", "", group, first, length, 0.1))
    return views, tuple(rows)


def test_every_experiment_is_there() -> None:
    expected = {f"{method}_{name}" for method in ("baseline", "mcss") for name in LABELS}
    for folder in FOLDERS:
        assert {f.stem for f in FILES if f.parent.name == folder} == expected


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_a_file_says_its_own_command_and_means_what_it_is_called(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = parsed(file, monkeypatch)
    settings.check(config)
    settings.check_devices(config, 8)
    method, _, name = file.stem.partition("_")
    assert (config.method, config.data.labelled, config.data.validation_split) == (method, LABELS[name], "")
    assert (config.network.depth, config.network.stem, config.data.image_size, config.network.precision) == (
        18,
        "conv",
        224,
        "bfloat16",
    )
    assert config.run.init_from == "runs/imagenet_resnet18"
    builder, _, wanted = config.data.dataset.partition("/")
    assert builder == file.parent.name and wanted in BUILDERS[builder].builder_configs
    run = f"runs/{builder}/{file.stem}"
    comments = [line[2:] for line in file.read_text().splitlines() if line.startswith("# ")]
    assert comments[:4] == [
        f"python -m launch.prepare --dataset={config.data.dataset} --source=DIR --data_dir=data",
        f"python -m launch.train --flagfile={file.relative_to(ROOT)} --data_dir=data --workdir={run}",
        f"python -m launch.evaluate --workdir={run} --split=test",
        "Time and result: not run yet.",
    ]


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_the_batches_can_be_had(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = parsed(file, monkeypatch)
    views, table = table_of(file.parent.name)
    labels = sampling.parse_labelled(config.data.labelled, table)
    for how in ("uniform", "chunk"):
        records = sampling.labelled_records(table, labels, how)
        sampling.check(table, views, settings.blocks_of(config), len(records), config.batch.labelled_batch)
    blocks = settings.blocks_of(config)
    assert (blocks is None) == (config.method == "baseline")
    if blocks is not None:
        drawn = sampling.unlabelled_records(table, blocks, 0, 0).reshape(blocks.blocks, -1)
        of_record = {r: row for row in table for r in range(row.first, row.first + row.length)}
        for block in drawn:
            assert len({of_record[int(r)].group for r in block}) == 1
            assert len({of_record[int(r)].first for r in block}) == blocks.sequences


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_command_for_the_weights_is_one_that_makes_them(folder: str) -> None:
    lines = (EXPERIMENTS / folder / "common.flags").read_text().splitlines()
    command = next(line for line in lines if "import_weights" in line)
    values = dict(word.removeprefix("--").split("=") for word in command.split() if word.startswith("--"))
    config = import_weights.ImportWeights(**values)
    import_weights.check(config)
    assert f"--init_from={config.workdir}" in lines


@pytest.mark.parametrize("folder", FOLDERS)
def test_methods_differ_in_the_method_alone(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What both methods share is said once, in common.flags."""
    baseline, mcss = (
        {
            line
            for line in (EXPERIMENTS / folder / f"{name}.flags").read_text().splitlines()
            if line[:2] == "--"
        }
        for name in ("baseline", "mcss")
    )
    names = {re.match(r"--(\w+)=", line)[1] for line in baseline ^ mcss}  # type: ignore[index]
    block = {"blocks", "sequences", "instants", "min_negative_gap"}
    assert names == {"method", "margin", "temperature_start", "temperature_end"} | block
