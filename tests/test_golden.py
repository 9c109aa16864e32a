"""Sets, runs, galleries and results that earlier commits wrote are opened, resumed and evaluated by today's programs.

Only programs, their flags, `mcss_jax.load` and files are used here, so that modules may move. `golden/README.md` says
what the folders are. `python tests/test_golden.py` writes `expected.json` anew, for when figures are meant to change.
"""

import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import pytest

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "golden"
EXPECTED = GOLDEN / "expected.json"
MOST_BYTES = 1_000_000
FIRST, STUDY, HEAD = "2026_11_22_first", "2026_11_24_study", "2026_11_25_head"

# Runs programs one after another: a process of its own for each would take seconds to begin. Each line of the input is
# a step: the folder, what is done there (a program, or one of the functions), and its arguments.
STEPS = """
import json, os, runpy, sys, traceback

import jax
import numpy as np
from absl import app, flags  # app defines flags of its own, once

import mcss_jax

across, down = np.meshgrid(np.arange(32), np.arange(32))
PICTURE = np.stack([across * 7, down * 7, (across + down) * 4], axis=-1).astype(np.uint8)


def load(workdir):
    model = mcss_jax.load(workdir)
    out = model(PICTURE)
    weights = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(model.state.params)]
    return {
        "image_size": model.image_size,
        "parameters": sum(leaf.size for leaf in weights),
        "sum of their sizes": sum(float(np.abs(leaf).sum()) for leaf in weights),
        "embedding": out.embedding[0].tolist(),
        "left ankle, in camera": out.in_camera[0, 6].tolist(),
        "mean distance from the hip": float(np.linalg.norm(out.canonical[0], axis=-1).mean()),
    }


def arrays(file):
    with np.load(file, allow_pickle=False) as archive:
        return {name: [str(archive[name].dtype), list(archive[name].shape)] for name in sorted(archive.files)}


def values(file, *names):
    with np.load(file, allow_pickle=False) as archive:
        return {name: archive[name].ravel()[:8].tolist() for name in names}


def onnx(file):
    import onnxruntime

    session = onnxruntime.InferenceSession(file)
    found = session.run(None, {session.get_inputs()[0].name: PICTURE[None]})
    names = [output.name for output in session.get_outputs()]
    return {name: array.ravel()[:8].tolist() for name, array in zip(names, found, strict=True)}


def ours(flag):
    module = sys.modules.get(flags.FLAGS.find_module_defining_flag(flag))
    file = str(getattr(module, "__file__", None))
    return file.startswith(os.environ["PYTHONPATH"]) and "site-packages" not in file


def program(name, arguments):
    sys.argv = [name, *arguments]
    try:
        runpy.run_module(f"launch.{name}", run_name="__main__", alter_sys=True)
        return 0
    except SystemExit as end:
        return end.code or 0
    except BaseException:
        return traceback.format_exc()
    finally:
        for flag in filter(ours, list(flags.FLAGS)):  # programs may share names
            delattr(flags.FLAGS, flag)


answers = []
for folder, name, arguments in json.load(sys.stdin):
    os.chdir(folder)
    print(f"== {folder}: {name} {' '.join(arguments)}", flush=True)
    function = {"load": load, "arrays": arrays, "values": values, "onnx": onnx}.get(name)
    answers.append(function(*arguments) if function else program(name, arguments))
with open(os.environ["MCSS_ANSWERS"], "w") as file:
    json.dump(answers, file)
"""

Step = tuple[str, str, list[str]]


def steps_of_run(origin: str, workdir: str, *retrieve: str) -> list[Step]:
    """A run is opened, evaluated and searched with, as it is."""
    return [
        (origin, "load", [workdir]),
        (origin, "evaluate", [f"--workdir={workdir}", "--split=train"]),
        (origin, "retrieve", [f"--workdir={workdir}", "--split=train", "--ks=1,2", *retrieve]),
    ]


def steps_of_resuming(origin: str, workdir: str) -> list[Step]:
    """An interrupted run is trained to its end and judged again."""
    return [
        (origin, "train", ["--flagfile=train.flags", f"--workdir={workdir}", "--validate_every=0"]),
        (origin, "load", [workdir]),
        (origin, "evaluate", [f"--workdir={workdir}", "--split=train", "--step=40"]),
    ]


RUN, STUDIED = "runs/interrupted", "study/runs/mcss_S1_seed0"
GRID = ["--base=train.flags", "--workdir=study", "--amounts=S1", "--seeds=0"]
SEARCH = ["--load_gallery=gallery.npz", "--queries=pictures", "--neighbours=2"]
ALL_STEPS: list[Step] = [
    # The frame numbers that a gallery names were not kept yet: figures are given, and the gallery is refused.
    *steps_of_run(FIRST, RUN, "--save_gallery=new.npz"),
    *steps_of_resuming(FIRST, RUN),
    *steps_of_run(STUDY, STUDIED),
    (STUDY, "retrieve", [f"--workdir={STUDIED}", *SEARCH]),
    (STUDY, "study", [*GRID, "--methods=baseline,mcss"]),
    # Judged from what the study noted of its training.
    (STUDY, "study", [*GRID, "--methods=mcss", "--judge=none"]),
    *steps_of_run(HEAD, RUN),
    (HEAD, "arrays", ["gallery.npz"]),
    (HEAD, "arrays", ["predictions/predictions.npz"]),
    (HEAD, "predict", [f"--workdir={RUN}", "--source=pictures", "--output=predictions", "--overwrite"]),
    (HEAD, "values", ["predictions/predictions.npz", "embedding", "canonical"]),
    (HEAD, "arrays", ["predictions/predictions.npz"]),
    (HEAD, "onnx", ["exported/model.onnx"]),
    (HEAD, "study", [*GRID, "--methods=baseline,mcss"]),
    *steps_of_resuming(HEAD, RUN),
]


def observed(folder: Path) -> dict[str, Any]:
    """What today's programs make of copies of the golden folders, which are put into `folder`."""
    for origin in (FIRST, STUDY, HEAD):
        shutil.copytree(GOLDEN / origin, folder / origin)
        # Their negatives were of all groups, which was the default then: a resume asks for it by name.
        with (folder / origin / "train.flags").open("a") as flag_file:
            flag_file.write("\n--across_groups\n")
    # The set of both is the same, byte for byte, and 131 kB.
    shutil.copytree(GOLDEN / HEAD / "data", folder / STUDY / "data")
    answers = _answers(folder)
    actual: dict[str, Any] = {}
    for number, ((origin, name, arguments), answer) in enumerate(zip(ALL_STEPS, answers, strict=True)):
        actual[f"{number}: {origin}, {name} {' '.join(arguments)}"] = answer
    return {"steps": actual, "files": {origin: _written(folder / origin) for origin in (FIRST, STUDY, HEAD)}}


def _answers(folder: Path) -> list[Any]:
    """What every step gave: of a program its exit code, or what it was refused with."""
    # One device, as users have; what is compiled is shared with the other tests.
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    file = folder / "answers.json"
    environment |= {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "MCSS_ANSWERS": str(file)}
    if cache := jax.config.values["jax_compilation_cache_dir"]:
        # Much that is small is compiled here, which together takes ten seconds.
        environment |= {"JAX_COMPILATION_CACHE_DIR": cache, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    steps = [(str(folder / origin), name, arguments) for origin, name, arguments in ALL_STEPS]
    done = subprocess.run(
        [sys.executable, "-c", STEPS],
        input=json.dumps(steps),
        capture_output=True,
        text=True,
        env=environment,
        cwd=folder,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answers = json.loads(file.read_text())
    assert not any("Traceback" in str(answer) for answer in answers), done.stdout + "\n".join(
        map(str, answers)
    )
    return answers


def _written(folder: Path) -> dict[str, Any]:
    """The figures in what programs have written there."""
    actual: dict[str, Any] = {}
    for file in sorted(folder.rglob("*.json*")):
        name = file.relative_to(folder).as_posix()
        if file.name == "finished.json":
            actual[name] = json.loads(file.read_text())
        elif file.name == "metrics.jsonl":
            lines = [json.loads(line) for line in file.read_text().splitlines()]
            actual[name] = {"lines": len(lines), "step": lines[-1]["step"], **_losses(lines[-1])}
        elif re.match(r"results_\w+\.jsonl", file.name):
            actual[name] = [_of_study(json.loads(line)) for line in file.read_text().splitlines()]
        elif re.match(r"evaluation_.*\.json", file.name):
            content = json.loads(file.read_text())
            card = {key: content["protocol"][key] for key in ("fingerprint", "views", "step", "labels used")}
            by_action = {action: row["pa_mpjpe"] for action, row in content["by_action"].items()}
            actual[name] = {"figures": _errors(content["figures"]), "pa_mpjpe by action": by_action, **card}
        elif re.match(r"retrieval_.*\.json", file.name):
            content = json.loads(file.read_text())
            actual[name] = {key: content["retrieval"][key] for key in ("embedding", "oracle", "chance")}
        elif re.match(r"queries_.*\.json", file.name):
            actual[name] = json.loads(file.read_text())
    return actual


def _errors(figures: dict[str, float]) -> dict[str, float]:
    """Not the shares of joints below a threshold: a joint on the other side of it would be no other model."""
    return {name: value for name, value in figures.items() if name.endswith(("mpjpe", "mpjpe_canonical"))}


def _losses(line: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in line.items() if "/loss" in name} | _errors(line)


def _of_study(line: dict[str, Any]) -> dict[str, Any]:
    figures = ("mpjpe", "pa_mpjpe", "retrieval_pa_mpjpe_at_1", "wall_seconds")
    names = ("method", "labelled", "seed", "status", "fingerprint", "revision", "views", *figures)
    return {name: line[name] for name in names if name in line}


def differences(actual: Any, wanted: Any, relative: float, place: str = "") -> Iterator[str]:
    """Where two JSON values differ: numbers with a fraction by more than a share, anything else at all."""
    if isinstance(actual, dict) and isinstance(wanted, dict):
        for key in sorted(actual.keys() | wanted.keys()):
            yield from differences(actual.get(key), wanted.get(key), relative, f"{place}/{key}")
    elif isinstance(actual, list) and isinstance(wanted, list) and len(actual) == len(wanted):
        for number, pair in enumerate(zip(actual, wanted, strict=True)):
            yield from differences(*pair, relative, f"{place}[{number}]")
    elif isinstance(actual, float) and isinstance(wanted, float):
        if not math.isclose(actual, wanted, rel_tol=relative, abs_tol=relative):
            yield f"{place}: {actual}, expected {wanted}"
    elif actual != wanted:
        yield f"{place}: {actual!r}, expected {wanted!r}"


@pytest.mark.processes
def test_old_artefacts_are_opened_resumed_and_evaluated(tmp_path):
    expected = json.loads(EXPECTED.read_text())
    relative = expected.pop("relative tolerance")
    expected.pop("about")
    wrong = list(differences(observed(tmp_path), expected, relative))
    assert not wrong, "\n".join(wrong)


def test_differences_are_seen():
    """The test above passes on an empty answer."""
    assert list(differences({"a": [1.0, 2]}, {"a": [1.1, 2], "b": None}, 1e-3)) == [
        "/a[0]: 1.0, expected 1.1"
    ]
    assert list(differences({"a": 1}, {}, 1e-3)) and list(differences([1], [1, 2], 1e-3))
    assert not list(differences(1.0, 1.0001, 1e-3))


def _files() -> list[Path]:
    return [file for file in GOLDEN.rglob("*") if file.is_file()]


def test_golden_folders_are_small():
    assert 100_000 < sum(file.stat().st_size for file in _files()) < MOST_BYTES


@pytest.mark.parametrize("origin", [FIRST, STUDY, HEAD])
def test_golden_folders_name_no_machine(origin):
    paths = re.compile(rb"(?<![\w.$}])/(root|work|tmp|home|Users|mnt|var)/")
    files = [file for file in _files() if file.is_relative_to(GOLDEN / origin)]
    assert len(files) > 10
    assert not [str(file.relative_to(GOLDEN)) for file in files if paths.search(file.read_bytes())]


def test_golden_folders_are_not_ignored_by_git():
    """Names such as `data` and `runs` are, elsewhere."""
    done = subprocess.run(
        ["git", "check-ignore", "--stdin"],
        input="\n".join(map(str, _files())), cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout == ""


def write_expected() -> None:
    """Keeps what today's programs make of the golden folders as what is expected of them."""
    with tempfile.TemporaryDirectory() as folder:
        actual = observed(Path(folder))
    about = "Written by `python tests/test_golden.py`; bits, and so fractions, differ between processors."
    content = {"about": about, "relative tolerance": 1e-3, **actual}
    EXPECTED.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    write_expected()
