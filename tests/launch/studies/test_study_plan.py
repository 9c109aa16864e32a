"""Which runs a study is made of."""

import dataclasses
import itertools
from pathlib import Path

import pytest

from launch.cli import flags, options
from launch.runs import settings
from launch.runs.settings import Train
from launch.studies import plan as study_plan
from launch.studies import study
from launch.studies.plan import Grid, parse_grid, plan
from launch.training import streamed
from mcss_jax.errors import UserError
from tests.refusals import refused

ROOT = Path(__file__).resolve().parents[3]
BASE = options.build(Train, labelled_batch=8, blocks=2, sequences=4, instants=6)


def test_a_grid_is_a_product_seed_after_seed() -> None:
    runs = plan(BASE, "study", [parse_grid("baseline,mcss", "S1:0.05 S1,S5", "0, 3")])
    assert [run.key for run in runs] == [
        (method, labelled, seed)
        for seed in (0, 3)
        for labelled in ("S1:0.05", "S1,S5")
        for method in ("baseline", "mcss")
    ]
    assert len({run.folder for run in runs}) == 8
    assert runs[2].folder == Path("study/runs/baseline_S1+S5_seed0")
    assert str(runs[4]) == "baseline, labels S1:0.05, seed 3"
    for run in runs:
        assert (run.config.method, run.config.data.labelled, run.config.run.seed) == run.key
        expected = options.replace(
            BASE, method=run.method, labelled=run.labelled, seed=run.seed, workdir=str(run.folder)
        )
        assert run.config == expected


def test_ablations_are_added_once() -> None:
    core = Grid(("baseline", "mcss"), ("S1",), (0, 1))
    runs = plan(BASE, "study", [core, Grid(("mcss", "batchnorm"), ("S1",), (0,))])
    assert [run.key for run in runs[4:]] == [("batchnorm", "S1", 0)]


def test_every_method_changes_what_it_is_called_after() -> None:
    methods = tuple(name for name in study_plan.METHODS if name != "no_global_negatives")
    runs = plan(BASE, "study", [Grid(methods, ("S1",), (0,))])
    mcss = next(run.config for run in runs if run.method == "mcss")
    changed = {
        run.method: {
            name
            for name, value in options.values(run.config).items()
            if value != options.values(mcss)[name] and name != "workdir"
        }
        for run in runs
    }
    assert changed == {
        "baseline": {"method"},
        "mcss": set(),
        "batchnorm": {"method"},
        "no_temporal_rule": {"min_negative_gap"},
        "near_instants": {"instant_gap"},
        "random_batches": {"mix_groups"},
        "soft_mining": {"temperature_start", "temperature_end"},
        "hardest_mining": {"temperature_start", "temperature_end"},
        "scheduled_mining": {"temperature_start", "temperature_end"},
        "all_groups": {"across_groups"},
        "infonce": {"metric_loss"},
        "augmented_views": {"positives"},
    }


def test_the_temporal_rule_alone_tells_two_methods_apart() -> None:
    """Their batches are the same, on a set and on a stream, and in them the rule has something to exclude."""
    runs = plan(BASE, "study", [Grid(("mcss", "no_temporal_rule", "near_instants"), ("S1",), (0,))])
    mcss, without, near = (run.config for run in runs)
    blocks = [settings.blocks_of(config) for config in (mcss, without, near)]
    assert blocks[1] == blocks[2] != blocks[0] and blocks[1] is not None and blocks[1].min_gap == 0
    assert streamed.stream_of(blocks[1], 64, (1,)).gap < near.objective.min_negative_gap
    gaps = [settings.method_of(config).objective.min_negative_gap for config in (mcss, without, near)]
    assert gaps == [0.5, 0.0, 0.5]
    with refused("--instant_gap=-2.0", "0", "-1"):
        settings.check(options.replace(mcss, instant_gap=-2.0))


@pytest.mark.parametrize(
    "keys",
    [
        [],
        [("mcss", "S1", 3)],
        [(m, a, s) for s in (0, 1) for a in ("S1", "all") for m in ("baseline", "mcss")]
        + [("batchnorm", "S1", 0)],
        [
            ("mcss", "S1", 0),
            ("mcss", "all", 0),
            ("mcss", "all", 1),
            ("baseline", "S1", 0),
            ("baseline", "S1", 1),
        ],
    ],
)
def test_runs_as_grids(keys: list[study_plan.Key]) -> None:
    grids = study_plan.grids_of(keys)
    again = [key for grid in grids for key in itertools.product(grid.methods, grid.amounts, grid.seeds)]
    assert sorted(again) == sorted(keys)
    if len(keys) == 9:
        assert grids == [
            Grid(("baseline", "mcss"), ("S1", "all"), (0, 1)),
            Grid(("batchnorm",), ("S1",), (0,)),
        ]


@pytest.mark.parametrize(
    ("methods", "amounts", "seeds", "told"),
    [
        ("mcss,mine", "S1", "0", "--methods names 'mine'; expected some of baseline, mcss, batchnorm"),
        ("mcss,mcss", "S1", "0", "--methods names mcss twice"),
        ("mcss,", "S1", "0", "--methods has an empty entry"),
        ("mcss", "S1 S1", "0", "--amounts names S1 twice"),
        ("mcss", "S1", "0,one", "--seeds has 'one'; expected whole numbers of at least 0"),
        ("mcss", "S1", "-1", "--seeds has '-1'; expected whole numbers of at least 0"),
        ("mcss", "S1", "", "--seeds has an empty entry"),
        ("mcss", "S1", "0,0", "--seeds names 0 twice"),
    ],
)
def test_bad_lists(methods: str, amounts: str, seeds: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        parse_grid(methods, amounts, seeds)


def test_messages_name_the_ablations_flags() -> None:
    assert parse_grid("", "S1", "0", prefix="ablations") == Grid((), (), ())
    with refused("--ablations", "'mine'"):
        parse_grid("mine", "S1", "0", prefix="ablations")
    with refused("--ablations_seeds", "'x'"):
        parse_grid("mcss", "S1", "x", prefix="ablations")
    with refused("--ablations_amounts", "S1"):
        parse_grid("mcss", "S1 S1", "0", prefix="ablations")


def test_grids_that_cannot_be() -> None:
    with refused("--methods", "--amounts", "--seeds"):
        plan(BASE, "study", [Grid(("mcss",), (), (0,))])
    with refused("--method=baseline", "--labelled=none"):
        plan(BASE, "study", [Grid(("baseline",), ("none",), (0,))])
    twins = Grid(("mcss", "no_global_negatives"), ("S1",), (0,))
    assert len(plan(options.replace(BASE, across_groups=True), "study", [twins])) == 2
    with pytest.raises(UserError, match="the methods mcss and no_global_negatives are the same"):
        plan(BASE, "study", [twins])


@pytest.mark.parametrize("name", ["demo", "studio", "human36m"])
def test_the_flag_files(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # flag files name each other from here
    file = Path(f"launch/experiments/supervision_{name}.flags")
    config = flags.from_file(study.Study, file)
    command = f"# python -m launch.study --flagfile={file}"
    lines = file.read_text().splitlines()
    assert command in lines and f"{command} --judge=test" in lines
    runs = study.planned(config)
    assert len(runs) == 2 * 5 * 3 + 9
    groups = "no_global_negatives" if name == "demo" else "all_groups"
    others = {"infonce", "all_groups", "no_global_negatives"} - {groups}
    assert {run.method for run in runs} == set(study_plan.METHODS) - others
    if name == "studio":
        of_run = runs[0].config
        assert (
            of_run.data.stream,
            of_run.data.stream_size,
            of_run.network.precision,
            of_run.network.depth,
        ) == (
            True,
            224,
            "bfloat16",
            18,
        )
    if name == "human36m":
        assert config.judge == "none" and not runs[0].config.data.validation_split
        assert any("MPJPE 120.9, PA-MPJPE 90.8" in line for line in lines if line.startswith("#"))


def test_what_a_study_needs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--base is missing"):
        study.planned(study.Study(workdir="x"))
    with pytest.raises(UserError, match="--workdir is missing"):
        study.planned(study.Study(base="x"))
    with pytest.raises(UserError, match="there is no flag file"):
        study.planned(study.Study(base=str(tmp_path / "no"), workdir="x"))
    (tmp_path / "base.flags").write_text("--stop_after=3\n")
    with pytest.raises(UserError, match="sets --stop_after=3; a run of a study is finished"):
        study.planned(study.Study(base=str(tmp_path / "base.flags"), workdir="x"))


# -------- settings of a method's own


def files(folder: Path, **contents: str) -> list[str]:
    """Flag files by method, as entries of `--settings`."""
    for name, text in contents.items():
        (folder / f"{name}.flags").write_text(text)
    return [f"{name}:{folder / name}.flags" for name in contents]


def test_a_method_has_the_settings_of_its_file_at_every_amount(tmp_path: Path) -> None:
    entries = files(
        tmp_path,
        baseline="--augment_colour=0.9\n--labelled=S3\n--seed=8",
        mcss="--margin=0.7\n--method=mcss",
        mine="--blocks=3",
    )
    own = study_plan.own_settings(BASE, entries)
    grid = Grid(("baseline", "mcss", "soft_mining", "batchnorm", "mine"), ("S1", "all"), (0, 4))
    runs = plan(BASE, "study", [grid], own)
    for run in runs:
        changed = {
            "baseline": {"augment_colour": 0.9},
            "mcss": {"margin": 0.7},
            # All but the baseline begin with what mcss has, and differ from it in what they are called after.
            "soft_mining": {"margin": 0.7, "temperature_start": 1.0, "temperature_end": 1.0},
            "batchnorm": {"margin": 0.7},
            "mine": {"margin": 0.7, "blocks": 3},
        }[run.method]
        method = {"baseline": "baseline", "batchnorm": "batchnorm"}.get(run.method, "mcss")
        expected = options.replace(
            BASE, **changed, method=method, labelled=run.labelled, seed=run.seed, workdir=str(run.folder)
        )
        assert run.config == expected
    by_file = {run.method: run.own for run in runs}
    assert by_file["baseline"] == ("augment_colour",) and by_file["soft_mining"] == ("margin",)
    assert by_file["mine"] == ("blocks", "margin")


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        (["mcss"], ("--settings=mcss", "METHOD:FILE")),
        (["mcss:"], ("--settings=mcss:", "METHOD:FILE")),
        (["a b:{mcss}"], ("METHOD:FILE",)),
        (["mcss:{mcss}", "mcss:{mine}"], ("mcss", "twice")),
        (["mcss:nowhere.flags"], ("nowhere.flags",)),
        (["mcss:{wrong}"], ("wrong.flags", "no_such_flag")),
        (["mcss:{data}"], ("--dataset=other/set", "data.flags", "synthetic_multiview/demo")),
        (["soft_mining:{hard}"], ("--temperature_start=0.0", "soft_mining", "1.0")),
        (["baseline:{mcss}"], ("--method=mcss", "baseline")),
    ],
)
def test_settings_that_cannot_be(entries: list[str], told: tuple[str, ...], tmp_path: Path) -> None:
    made = files(
        tmp_path, mcss="--method=mcss", mine="--blocks=3", wrong="--no_such_flag=1",
        data="--dataset=other/set", hard="--temperature_start=0",
    )  # fmt: skip
    paths = dict(entry.split(":", 1) for entry in made)
    with refused(*told):
        study_plan.own_settings(BASE, [entry.format(**paths) for entry in entries])


def test_own_settings_come_from_flags_that_may_be_repeated(tmp_path: Path) -> None:
    """Two on the command line, or in a file: both count, and a method of one's own can be named."""
    (tmp_path / "base.flags").write_text("--labelled_batch=8\n--blocks=2\n--sequences=2\n--instants=2")
    entries = files(tmp_path, baseline="--augment_colour=0.9", mine="--margin=0.7")
    lines = [
        f"--base={tmp_path}/base.flags",
        "--workdir=study",
        "--methods=baseline,mine",
        "--amounts=S1",
        "--seeds=0",
    ]
    (tmp_path / "study.flags").write_text("\n".join([*lines, *(f"--settings={entry}" for entry in entries)]))
    config = flags.from_file(study.Study, tmp_path / "study.flags")
    assert config.settings == tuple(entries)
    assert [argument for argument in options.arguments(config) if argument.startswith("--settings")] == [
        f"--settings={entry}" for entry in entries
    ]
    baseline, mine = (run.config for run in study.planned(config))
    assert (baseline.augmentation.colour, mine.augmentation.colour) == (0.9, BASE.augmentation.colour)
    assert (baseline.objective.margin, mine.objective.margin) == (BASE.objective.margin, 0.7)
    with refused("--methods", "'other'", "mine"):
        study.planned(dataclasses.replace(config, methods="other"))


def test_results_may_be_kept_elsewhere() -> None:
    config = study.Study(workdir="w")
    assert study.results_file(config, "test") == Path("w/results_test.jsonl")
    config = dataclasses.replace(config, results="kept/sessions")
    assert study.results_file(config, "validation") == Path("kept/sessions_validation.jsonl")


def test_the_study_of_sessions_has_the_settings_that_were_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    file = Path("launch/experiments/supervision_sessions.flags")
    runs = study.planned(flags.from_file(study.Study, file))
    assert len(runs) == 2 * 6 * 3
    for run in runs:
        alone = flags.from_file(Train, Path(f"launch/experiments/sessions_{run.method}.flags"))
        assert run.config == options.replace(
            alone, labelled=run.labelled, seed=run.seed, workdir=run.config.run.workdir
        ), "the run of its flag file, with other labels"
        assert not run.config.objective.across_groups
