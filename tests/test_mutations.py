"""The list of faults that `python -m tests.mutations` puts in: each can be put in, and is looked for by real tests."""

import ast
import re
from pathlib import Path

import pytest

from tests.mutations.__main__ import main
from tests.mutations.catalogue import every_fault
from tests.mutations.fault import ROOT, Fault

FAULTS = every_fault()


def test_names_are_unique_and_say_the_place() -> None:
    names = [fault.name for fault in FAULTS]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[\w ]+: [^:]+", name) for name in names)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_it_can_be_put_in(fault: Fault) -> None:
    text = (ROOT / fault.file).read_text()
    before, after = ast.parse(text), ast.parse(fault.mutated(text))
    assert ast.dump(before) != ast.dump(after), "it changes more than comments"


@pytest.mark.parametrize("test", sorted({test for fault in FAULTS for test in fault.tests}))
def test_its_tests_exist(test: str) -> None:
    file, _, name = test.partition("::")
    tree = ast.parse(Path(ROOT, file).read_text())
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert not name or name.split("::")[-1].split("[")[0] in functions


def test_a_pattern_that_no_name_has_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--only=no such fault"])
    assert "--only=no such fault" in capsys.readouterr().err


def test_text_that_has_changed_is_refused() -> None:
    with pytest.raises(ValueError, match="2 times, expected once"):
        Fault("a: b", "x.py", "x", "y", ()).mutated("x = x")
