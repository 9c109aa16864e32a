"""What users can mend is one sentence and exit code 1, by every program; everything else is called a defect."""

import dataclasses
import json
import pickle
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from launch import (
    benchmark,
    demo,
    evaluate,
    export,
    import_weights,
    predict,
    prepare,
    report,
    retrieve,
    study,
    train,
)
from launch.benchmarks.settings import Benchmark
from launch.cli import compilation_cache, flags, options
from launch.demo import Demo
from launch.evaluation.evaluate import Evaluate
from launch.interchange.export import Export
from launch.interchange.import_weights import ImportWeights
from launch.prediction.predict import Predict
from launch.preparation.settings import Prepare
from launch.reports.report import Report
from launch.retrieval.settings import Retrieve
from launch.runs import run_folder
from launch.runs.settings import Train
from launch.studies.study import Study
from mcss_jax.errors import UserError, is_mendable
from tests.conftest import ROOT
from tests.launch import command_line
from tests.mcss_jax.steps import two_blocks
from tests.refusals import refused


@dataclasses.dataclass(frozen=True)
class Nothing:
    name: str = options.option("", "A name.", "First")


def ended(monkeypatch: pytest.MonkeyPatch, config: type, main: Callable[[Any], None], *given: str) -> Any:
    """The exit code of a program that does not come to its end."""
    with pytest.raises(SystemExit) as actual:
        command_line.run(monkeypatch, config, main, *given)
    return actual.value.code


def raising(error: BaseException) -> Callable[[Any], None]:
    def main(config: Any) -> None:
        raise error

    return main


def test_a_user_error_is_a_value_error_that_travels() -> None:
    error = UserError("one sentence")
    error.add_note("a list")
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, ValueError) and type(again) is UserError
    assert (str(again), again.__notes__) == ("one sentence", ["a list"])


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (UserError("a"), True),
        (PermissionError(13, "Permission denied", "/x"), True),
        (OSError(28, "No space left on device"), True),
        (OSError("a library's own"), False),
        (FileNotFoundError("a library's own"), False),
        (ValueError("a"), False),
        (KeyError("a"), False),
    ],
)
def test_what_can_be_mended(error: Exception, expected: bool) -> None:
    assert is_mendable(error) is expected


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (UserError("a\nb"), "thing: error: a b"),
        (PermissionError(13, "Permission denied", "/x"), "thing: error: Permission denied: /x"),
        (OSError(36, "File name too long"), "thing: error: File name too long"),
    ],
)
def test_what_users_can_mend_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, sentence: str
) -> None:
    # A string as the exit code: Python prints it to stderr and exits with 1.
    assert ended(monkeypatch, Nothing, raising(error)) == sentence
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "error",
    [ValueError("a"), KeyError("a"), TypeError("a"), OSError("a"), RuntimeError("a"), AssertionError()],
)
def test_everything_else_is_a_defect(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    assert ended(monkeypatch, Nothing, raising(error)) == flags.DEFECT == 2
    *shown, last = capsys.readouterr().err.splitlines()
    assert shown[0] == "Traceback (most recent call last):" and "raise error" in "\n".join(shown)
    kind = type(error).__name__
    assert last == (
        f"thing: defect: this is a fault of the program, not of your input ({kind}); please report it with the lines "
        "above"
    )


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(75), SystemExit()])
def test_who_stops_a_program_is_left_alone(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    with pytest.raises(type(error)) as actual:
        command_line.run(monkeypatch, Nothing, raising(error))
    assert actual.value is error


def test_devices_that_are_not_there_are_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_device() -> None:
        raise RuntimeError("Unable to initialize backend 'abacus'")

    monkeypatch.setenv("JAX_PLATFORMS", "abacus")
    monkeypatch.setattr(flags.jax, "devices", no_device)
    said = ended(monkeypatch, Nothing, raising(AssertionError()))
    assert said == (
        "thing: error: JAX_PLATFORMS=abacus: JAX finds no such device here (Unable to initialize backend 'abacus'); "
        "name another, or leave it out"
    )


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("a\0b", "is not text in UTF-8"),
        ("caf\udce9", "is not text in UTF-8"),
        ("~nobody-at-all/x", "there is no home folder ~nobody-at-all; write the path in full"),
        ("here,~nobody-at-all/x", "there is no home folder ~nobody-at-all; write the path in full"),
    ],
)
def test_text_that_can_name_nothing(monkeypatch: pytest.MonkeyPatch, value: str, said: str) -> None:
    actual = ended(monkeypatch, Nothing, lambda config: None, f"--name={value}")
    assert actual.startswith("thing: error: --name=") and said in actual


def test_a_flag_file_that_is_no_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "x.flags"
    file.write_bytes(b"--name=\xff\n")
    assert ended(monkeypatch, Nothing, lambda config: None, f"--flagfile={file}").startswith("thing: error: ")
    with pytest.raises(UserError, match="x.flags"):
        flags.from_file(Nothing, file)


SABOTAGED = """
    import sys
    from launch import evaluate
    from launch.cli import flags
    from launch.runs import run_folder
    def open_run(*given): return {}["a fault of ours"]
    run_folder.open_run = open_run
    sys.argv = ["evaluate", "--workdir=x"]
    flags.run(evaluate.Evaluate, "launch.evaluate", "", evaluate.main)
"""


@pytest.mark.parametrize(
    ("command", "code", "last"),
    [
        (
            ["-c", textwrap.dedent(SABOTAGED)],
            2,
            "evaluate: defect: this is a fault of the program, not of your ",
        ),
        (
            ["-m", "launch.evaluate", "--workdir=no/where"],
            1,
            "evaluate: error: no/where is not the folder of a ",
        ),
    ],
)
def test_in_a_process_of_its_own(command: list[str], code: int, last: str) -> None:
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=120)
    lines = done.stderr.splitlines()
    assert done.returncode == code and lines[-1].startswith(last), done.stderr
    assert ("Traceback (most recent call last):" in lines) == (code == 2)
    assert done.stdout == ""


# -------- every program, and each of its flags that name files and folders

SMALL = {"width": "8", "stem": "patch8", "hidden": "16", "embedding_dim": "8", "blocks": "2", "sequences": "1",
         "instants": "2", "labelled_batch": "4", "validate_every": "0", "steps": "3"}  # fmt: skip
DATA = {"data_dir": "{data}", "dataset": "synthetic_multiview/tiny"}
RUN = {"workdir": "{run}", "data_dir": "{data}", "split": "test"}

# By program: its flags, what it does, arguments that are good, flags that name what is read, and what is written.
Program = tuple[type, Callable[[Any], None], Mapping[str, str], tuple[str, ...], tuple[str, ...]]
PROGRAMS: dict[str, Program] = {
    "train": (
        Train, train.main, SMALL | DATA | {"workdir": "{new}"}, ("data_dir", "dataset", "init_from"), ("workdir",),
    ),
    "evaluate": (Evaluate, evaluate.main, RUN, ("workdir", "data_dir", "dataset"), ()),
    "retrieve": (
        Retrieve, retrieve.main, RUN, ("workdir", "data_dir", "dataset", "baseline", "frame_keys"), (),
    ),
    "retrieve with pictures": (
        Retrieve, retrieve.main, RUN | {"load_gallery": "{file}", "queries": "{pictures}"},
        ("workdir", "load_gallery"), (),
    ),
    "retrieve and save": (Retrieve, retrieve.main, RUN, (), ("save_gallery",)),
    "report": (Report, report.main, {"runs": "{run}", "data_dir": "{data}"}, ("runs", "data_dir", "dataset"), ()),
    "report of a study": (Report, report.main, {"study": "{file}"}, ("study",), ()),
    "export": (Export, export.main, {"workdir": "{run}", "output": "{new}"}, ("workdir",), ("output",)),
    "import_weights": (
        ImportWeights, import_weights.main, {"source": "{file}", "workdir": "{new}"}, ("source",), ("workdir",),
    ),
    "predict": (
        Predict, predict.main, {"workdir": "{run}", "source": "{pictures}", "output": "{new}"},
        ("workdir", "source", "boxes"), ("output",),
    ),
    "prepare people": (Prepare, prepare.main, {"dataset": "synthetic_multiview/tiny"}, ("dataset",), ("data_dir",)),
    "prepare motion": (
        Prepare, prepare.main, DATA | {"motion": "{pictures}", "name": "own"}, ("motion", "joint_map"), (),
    ),
    "prepare recordings": (
        Prepare, prepare.main, {"dataset": "multiview_video", "source": "{pictures}", "data_dir": "{new}"},
        ("source",), ("data_dir",),
    ),
    "prepare human36m": (
        Prepare, prepare.main, {"dataset": "human36m", "source": "{pictures}", "data_dir": "{new}"},
        ("source",), ("data_dir",),
    ),
    "prepare mpi_inf_3dhp": (
        Prepare, prepare.main, {"dataset": "mpi_inf_3dhp", "source": "{pictures}", "data_dir": "{new}"},
        ("source",), ("data_dir",),
    ),
    "inspect": (
        Prepare, prepare.main, DATA | {"inspect": "true"}, ("dataset",), ("data_dir",),
    ),
    "study": (
        Study, study.main,
        {"base": "{base}", "workdir": "{new}", "data_dir": "{data}", "judge": "none", "amounts": "S1"},
        ("base", "data_dir"), ("workdir",),
    ),
    "benchmark": (
        Benchmark, benchmark.main, SMALL | DATA | {"suite": "input", "repeats": "1", "updates": "1"},
        ("data_dir", "dataset", "compare"), (),
    ),
    "demo": (Demo, demo.main, {"output": "{new}", "data_dir": "{file}/x"}, (), ("data_dir",)),
}  # fmt: skip

# What names nothing that any program reads: of {file} a text, of {pictures} a folder with a file that is none.
NOT_READ = {
    "missing": "{here}/no/where", "below a file": "{file}/x", "a text": "{file}", "a folder": "{pictures}",
    "no bytes": "{empty}", "other bytes": "{noise}", "long": "x" * 300,
}  # fmt: skip
NOT_WRITTEN = {"below a file": "{file}/x", "a file": "{file}", "long": "x" * 300}
# What is in a file matters to those who expect one.
OF_FILES, FOLDERS = (
    ("no bytes", "other bytes"),
    ("workdir", "data_dir", "dataset", "init_from", "runs", "baseline"),
)
CASES = [
    pytest.param(program, flag, value, id=f"{program}-{flag}-{kind}".replace(" ", "_"))
    for program, (_, _, _, read, written) in PROGRAMS.items()
    for flags_of, values in ((read, NOT_READ), (written, NOT_WRITTEN))
    for flag in flags_of
    for kind, value in values.items()
    if not (flag in FOLDERS and kind in OF_FILES)
    and (flag, kind) != ("compare", "no bytes")  # the --output of this very run
]


@pytest.fixture
def places(tmp_path: Path, trained_run: Path, prepared_tiny: Path) -> dict[str, str]:
    """What the arguments above name."""
    for name, content in (("file", b"some text\n"), ("empty", b""), ("noise", bytes(range(256)) * 40)):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "one.png").write_bytes(b"no picture")
    base = SMALL | {"dataset": "synthetic_multiview/tiny"}
    (tmp_path / "base").write_text("".join(f"--{name}={value}\n" for name, value in base.items()))
    named = ("file", "empty", "noise", "pictures", "base", "new")
    places = {name: str(tmp_path / name) for name in named}
    return places | {"here": str(tmp_path), "run": str(trained_run), "data": str(prepared_tiny)}


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """`launch.prepare` takes those that end it, for its whole process."""
    before = {name: signal.getsignal(name) for name in prepare.STOPPING}
    yield
    for name, handler in before.items():
        signal.signal(name, handler)


@pytest.mark.processes  # hundreds of cases: most of a minute
@pytest.mark.parametrize(("program", "flag", "value"), CASES)
def test_every_flag_of_a_path_is_refused_in_a_sentence(
    program: str,
    flag: str,
    value: str,
    places: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    config, main, good, _, _ = PROGRAMS[program]
    given = {name: text.format(**places) for name, text in {**good, flag: value}.items()}
    with two_blocks():
        code = ended(monkeypatch, config, main, *(f"--{name}={text}" for name, text in given.items()))
    assert isinstance(code, str), f"a defect (exit code {code})"
    assert code.startswith("thing: error: ") and "\n" not in code and len(code) < 2000


CONTENTS = {
    "empty": "", "list": "[]", "number": "3", "object": "{}", "cut": '{"depth": 18, "wid', "nested": "[" * 100_000,
    "types": '{"depth": [1], "width": "8", "image_size": "x", "dataset": 3}',
    "little": '{"image_size": 64}', "cards": '{"image_size": 64, "labelled_subjects": 3}',
    "pose": '{"image_size": 64, "mean_in_camera": [[1]]}',
}  # fmt: skip


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS.keys())
@pytest.mark.parametrize("name", [run_folder.CONFIG, run_folder.CARD])
@pytest.mark.parametrize("program", ["evaluate", "export", "report", "predict", "train"])
def test_damaged_files_of_a_run(
    program: str, name: str, content: str, trained_run: Path, places: dict[str, str],
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    """Never a defect; little is asked of a card by those who only want the network."""
    run = tmp_path / "run"
    run.mkdir()
    for file in (run_folder.CONFIG, run_folder.CARD):
        (run / file).write_text((trained_run / file).read_text())
    (run / run_folder.CHECKPOINTS).symlink_to(trained_run / run_folder.CHECKPOINTS)
    (run / name).write_text(content)
    config, main, good, _, _ = PROGRAMS[program]
    chosen = {"train": {"init_from": str(run)}, "report": {"runs": str(run)}}.get(
        program, {"workdir": str(run)}
    )
    given = {name: text.format(**places) for name, text in good.items()} | chosen
    if (program, name, content) == ("export", run_folder.CARD, CONTENTS["little"]):
        pytest.skip("the network is all that is exported")
    with two_blocks():
        code = ended(monkeypatch, config, main, *(f"--{name}={text}" for name, text in given.items()))
    assert isinstance(code, str) and "\n" not in code, code


def test_json_of_a_run_says_what_it_lacks(tmp_path: Path) -> None:
    file = tmp_path / "card.json"
    file.write_text(json.dumps({"dataset": "x"}))
    actual = run_folder.read_json(file)
    assert actual == {"dataset": "x"} and "fingerprint" not in actual and actual.get("fingerprint") is None
    with refused("card.json", "'fingerprint'"):
        actual["fingerprint"]


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A program runs without a compilation cache then; who needs the folder is told."""

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(UserError, match="there is no home folder to keep files in; set XDG_CACHE_HOME"):
        compilation_cache.cache_home()
    monkeypatch.setattr(flags.compilation_cache, "enable", compilation_cache.cache_home)
    command_line.run(monkeypatch, Nothing, lambda config: None)
    assert capsys.readouterr().err.startswith("without a compilation cache: there is no home folder")


def test_out_of_memory_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    said = ended(monkeypatch, Export, raising(MemoryError("Unable to allocate 112. TiB")))
    assert said == (
        "thing: error: out of memory (Unable to allocate 112. TiB); lower --speed_batch, or use a machine with more"
    )


def test_a_number_that_nothing_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ended(monkeypatch, Export, lambda config: None, f"--step={10**30}") == (
        f"thing: error: --step={10**30}; expected a whole number of at most 64 bits"
    )
