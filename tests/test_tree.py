"""The tree says what is what: which way imports point, what a program is, and that nothing absent is named."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

from tests.test_house import NAMES, PACKAGES, ROOT, is_in, names_in

# The packages from the bottom up: each may import itself and those before it.
ORDER = ("mcss_jax", "datasets", "launch")
PROGRAMS = sorted(file.stem for file in (ROOT / "launch").glob("*.py") if file.stem != "__init__")
MODULES = {name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in NAMES}


def imported_modules(name: str) -> set[str]:
    """The modules of ours that a file imports, by their full names."""
    actual = set()
    for full in names_in(ROOT / name):
        parts = full.split(".")
        longest = next((n for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in MODULES), 0)
        if longest and parts[0] in PACKAGES:
            actual.add(".".join(parts[:longest]))
    return actual


def folder_of(module: str) -> str:
    """The folder that a module lies in; a package is its own."""
    is_package = (ROOT / module.replace(".", "/")).is_dir()
    return module if is_package else module.rpartition(".")[0]


@pytest.mark.parametrize("name", NAMES)
def test_arrows_point_down(name: str) -> None:
    package = name.split("/")[0]
    allowed = ORDER[: ORDER.index(package) + 1]
    assert not {n for n in names_in(ROOT / name) if is_in(n, PACKAGES) and not is_in(n, allowed)}
    if package == "mcss_jax":
        assert not {n for n in names_in(ROOT / name) if is_in(n, ("absl", "tensorflow_datasets"))}
        assert "flag" not in re.findall(r"\w+", (ROOT / name).read_text().lower()), "the method has no flags"


@pytest.mark.parametrize("name", NAMES)
def test_nothing_imports_a_program(name: str) -> None:
    """A program is flags and a main; what it does can be imported from elsewhere."""
    programs = {f"launch.{program}" for program in PROGRAMS}
    assert not imported_modules(name) & programs


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_is_flags_and_a_main(program: str) -> None:
    tree = ast.parse((ROOT / "launch" / f"{program}.py").read_text())
    assert ast.get_docstring(tree), "its --help begins with it"
    assert any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body)
    last = tree.body[-1]
    assert (
        isinstance(last, ast.If)
        and "__main__" in ast.unparse(last.test)
        and "flags.run(" in ast.unparse(last)
    )


def test_few_files_lie_directly_in_launch() -> None:
    assert len(list((ROOT / "launch").glob("*.py"))) <= 20


def arrows() -> dict[str, set[str]]:
    """Folders and the folders that their files import from; the programs stand above all."""
    actual: dict[str, set[str]] = {}
    for name in NAMES:
        module = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        if folder_of(module) == "launch" or name == "mcss_jax/__init__.py":
            continue  # programs, and the front door of the method, which opens lazily
        here = folder_of(module)
        actual.setdefault(here, set()).update({folder_of(m) for m in imported_modules(name)} - {here})
    return actual


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Some circle of a graph, as a path that ends where it begins; empty where there is none."""
    done: set[str] = set()

    def walk(at: str, path: list[str]) -> list[str]:
        if at in path:
            return [*path[path.index(at) :], at]
        if at in done:
            return []
        for following in sorted(graph.get(at, ())):
            if actual := walk(following, [*path, at]):
                return actual
        done.add(at)
        return []

    return next((actual for start in sorted(graph) if (actual := walk(start, []))), [])


def test_no_circle_between_folders() -> None:
    graph = arrows()
    assert len(graph) > 20 and sum(map(len, graph.values())) > 40, "the reader of arrows reads some"
    assert circle(graph) == []


def test_a_circle_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}}) == []


# A path with a folder and an ending, as comments and documents name files; words in capitals stand for a name.
FOLDERS = r"(?:mcss_jax|datasets|launch|tests|docs|specs|shared)/"
PATH = re.compile(rf"(?<![\w/.~$}}>-])({FOLDERS}[\w./-]*\w\.(?:py|md|sh|js|flags|txt|toml))\b")
# Names that tests make up.
MADE_UP = {
    "/".join(("docs", "no.md")),
    "launch/nowhere.py",
    "launch/experiments/a.flags",
    "launch/experiments/b/a.flags",
}
PLACEHOLDER = re.compile(r"(?<![a-zA-Z])[A-Z_]{3,}(?![a-z])")


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this copy is no git checkout: which files belong to it is unknown")
    return [ROOT / line for line in listed.stdout.splitlines()]


def test_the_repository_names_no_file_that_it_does_not_hold() -> None:
    files = [f for f in tracked() if f.suffix in (".py", ".md", ".sh", ".flags", ".toml", ".txt", ".js")]
    absent = {
        f"{file.relative_to(ROOT)}: {path}"
        for file in files
        if file.exists() and "golden" not in file.parts
        for path in PATH.findall(file.read_text())
        if not (ROOT / path).exists() and path not in MADE_UP and not PLACEHOLDER.search(path)
    }
    assert not absent


def test_the_reader_of_paths_reads_them() -> None:
    here = ["/".join(parts) for parts in (("docs", "a.md"), ("launch", "b", "c.py"), ("specs", "x.md"))]
    text = "see {}, `{}` and {}; not /tmp/launch/d.py, ../shared/data or data/e.py".format(*here)
    assert PATH.findall(text) == here
