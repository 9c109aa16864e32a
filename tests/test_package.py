"""`pip install .`: what it declares, and that what it installs works by itself, away from the clone."""

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text())
MODULES = sorted(
    str(file.relative_to(ROOT).with_suffix("")).removesuffix("/__init__").replace("/", ".")
    for file in (ROOT / "mcss_jax").rglob("*.py")
)


def lines(name: str) -> list[str]:
    """The requirements in a file, as they stand there."""
    return [line.split("#")[0].strip() for line in (ROOT / name).read_text().splitlines()]


def project(requirement: str) -> str:
    """The name of a requirement's project, as indices compare it."""
    actual = re.match(r"[\w.-]+", requirement)
    assert actual
    return re.sub(r"[-_.]+", "-", actual[0]).lower()


def imported(folder: Path) -> set[str]:
    """The third-party modules that the sources below `folder` import, wherever in the file; first names only."""
    names = set()
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module)
    return {name.split(".")[0] for name in names} - sys.stdlib_module_names - {folder.name}


def test_dependencies_are_lines_of_the_requirements() -> None:
    dependencies = DECLARED["project"]["dependencies"]
    assert set(dependencies) <= set(lines("requirements.txt"))
    assert len(set(map(project, dependencies))) == len(dependencies) > 5
    assert set(DECLARED["build-system"]["requires"]) <= set(lines("tests/requirements.txt"))


def test_what_is_imported_is_what_is_declared() -> None:
    declared = set(map(project, DECLARED["project"]["dependencies"]))
    distributions = importlib.metadata.packages_distributions()
    needed = {name: set(map(project, distributions[name])) for name in imported(ROOT / "mcss_jax")}
    assert {"jax", "numpy", "PIL"} <= set(needed)
    assert not {name: actual for name, actual in needed.items() if not actual & declared}
    # jaxlib: imported by jax, whose own bound on it is loose.
    assert not declared - set().union(*needed.values()) - {"jaxlib"}


def test_the_reader_of_imports_reads_them(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("import os, a.b\nfrom c.d import e\ndef f():\n    import g\n")
    assert imported(tmp_path) == {"a", "c", "g"}


# Run where nothing of the clone is in reach; prints where the package lies and what must not have come along.
USE = """
import importlib, importlib.metadata, importlib.util, sys
import mcss_jax
print(mcss_jax.__file__)
print(importlib.metadata.version("mcss-jax"))
from mcss_jax import losses, metrics, mining, retrieval, skeleton
assert "absl" not in sys.modules  # later: flax, optax and orbax import it for themselves
from mcss_jax import parallel, train_step
assert callable(mcss_jax.load)
for name in sys.argv[1:]:
    importlib.import_module(name)
print(*(name for name in ("datasets", "launch", "tests") if importlib.util.find_spec(name)))
print(*sorted({"tensorflow_datasets", "tensorflow", "torch"} & set(sys.modules)))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the package alone, built from a copy: setuptools writes into what it builds from."""
    copy, target = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("installed")
    for folder in ("mcss_jax", "datasets", "launch", "tests"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "requirements.txt"):
        shutil.copy(ROOT / name, copy)
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-index", "--no-build-isolation", "--no-deps", "--target", str(target)]
    done = subprocess.run(
        [sys.executable, *install, *offline, "."], cwd=copy, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return target


def test_the_package_alone_is_installed(installed: Path) -> None:
    assert sorted(p.name for p in installed.iterdir() if p.suffix != ".dist-info") == ["mcss_jax"]
    files = {str(p.relative_to(installed)) for p in (installed / "mcss_jax").rglob("*.py")}
    assert files == {str(p.relative_to(ROOT)) for p in (ROOT / "mcss_jax").rglob("*.py")}
    (metadata,) = importlib.metadata.distributions(path=[str(installed)])
    assert metadata.name == "mcss-jax" and metadata.version == DECLARED["project"]["version"]
    written = {project(line) for line in metadata.requires or ()}  # setuptools sorts their bounds
    assert written == set(map(project, DECLARED["project"]["dependencies"]))


def test_it_works_away_from_the_clone(installed: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-c", USE, *MODULES],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    file, version, programs, pulled_in = done.stdout.splitlines()
    assert file == str(installed / "mcss_jax" / "__init__.py")
    assert version == DECLARED["project"]["version"]
    assert programs == pulled_in == ""
    assert len(MODULES) > 20
