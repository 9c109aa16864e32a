"""The layout's rules, held by reading the source: which way imports point, what is never used, lengths."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from launch.cli import compilation_cache
from mcss_jax.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("mcss_jax", "datasets", "launch")
SOURCES = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
NAMES = [str(file.relative_to(ROOT)) for file in SOURCES]

# Removed or deprecated since JAX 0.8 (docs/method.md#jax-interfaces-that-are-gone). A name bans all that is in it.
BANNED = (
    "jax.core",
    "jax.device_put_replicated",
    "jax.device_put_sharded",
    "jax.experimental.maps",
    "jax.experimental.pjit",
    "jax.experimental.shard_map",
    "jax.interpreters",
    "jax.lib",
    "jax.linear_util",
    "jax.sharding.PmapSharding",
    "jax.tree_map",
    "jax.xla_computation",
    "jax.random.KeyArray",
    "flax.jax_utils",
    "flax.training.checkpoints",
    "optax.losses.triplet_margin_loss",
    "clu",
)


def names_in(file: Path) -> Iterator[str]:
    """Every dotted name that a file imports, or spells out from an imported module's name or alias."""
    tree = ast.parse(file.read_text())
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                known[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno} imports relatively; expected the full name"
            for alias in node.names:
                known[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                yield f"{node.module}.{alias.name}"
    for node in ast.walk(tree):
        parts: list[str] = []
        at: ast.AST = node
        while isinstance(at, ast.Attribute):
            parts.append(at.attr)
            at = at.value
        if parts and isinstance(at, ast.Name) and at.id in known:
            yield ".".join([known[at.id], *reversed(parts)])


def is_in(name: str, parents: tuple[str, ...]) -> bool:
    return any(name == parent or name.startswith(parent + ".") for parent in parents)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_removed_is_used(name):
    used = set(names_in(ROOT / name))
    assert not {n for n in used if is_in(n, BANNED)}
    if "torch" not in name:  # the benchmark against it
        assert not {n for n in used if is_in(n, ("tensorflow", "torch", "torchvision"))}


def test_one_file_says_pmap():
    said = {name for name in NAMES if any(n.endswith((".pmap", ".shard_map")) for n in names_in(ROOT / name))}
    assert said <= {"mcss_jax/training/parallel.py"}


def test_the_reader_of_names_reads_them(tmp_path):
    """The tests above pass on an empty answer."""
    file = tmp_path / "a.py"
    file.write_text(
        "import jax\nimport jax.numpy as jnp\nfrom jax import tree as t\njnp.a.b(1)\nt.map\njax.pmap(f)\n"
    )
    assert {"jax.numpy.a.b", "jax.tree.map", "jax.pmap"} <= set(names_in(file))
    file.write_text("from . import b\n")
    with pytest.raises(AssertionError, match="imports relatively"):
        list(names_in(file))
    assert is_in("jax.core.Tracer", BANNED) and not is_in("jax.corex", BANNED) and len(NAMES) > 10


IMPORT_ALL = """
import importlib, sys
from absl import flags
for name in sys.argv[1:]:
    importlib.import_module(name)
    for flag in [f for f in flags.FLAGS if name.startswith("launch.")]:
        delattr(flags.FLAGS, flag)  # programs may share names
print(*sorted({"tensorflow", "torch", "keras"} & {n.split(".")[0] for n in sys.modules}))
"""


def test_neither_tensorflow_nor_torch_is_pulled_in():
    modules = [name[:-3].removesuffix("/__init__").replace("/", ".") for name in NAMES if "torch" not in name]
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, *modules], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("name", ["requirements.txt", "tests/requirements.txt"])
def test_requirements_are_bounded_both_ways(name):
    lines = [line.split("#")[0].strip() for line in (ROOT / name).read_text().splitlines()]
    lines = [line for line in lines if line]
    assert lines
    for line in lines:
        assert re.fullmatch(r"[A-Za-z0-9_.-]+>=[0-9.]+,<[0-9.]+", line), f"{name}: {line}"
        assert not re.match(r"(tensorflow(-cpu)?|torch(vision)?)[><=]", line)


def test_files_are_short():
    faults = ROOT / "tests" / "mutations" / "faults"  # lists, of which nobody reads a whole one
    tests = [file for file in (ROOT / "tests").rglob("*.py") if file.parent != faults]
    files = [*SOURCES, *tests, *(ROOT / "launch").rglob("*.sh")]
    long = {str(f.relative_to(ROOT)): n for f in files if (n := len(f.read_text().splitlines())) > 400}
    assert not long, f"files of more than 400 lines: {long}"


def test_no_machine_is_named():
    """Paths of one person's machine do not belong in a project."""
    files = [*SOURCES, *(ROOT / "tests").rglob("*.py"), *ROOT.glob("*.*"), *(ROOT / "launch").rglob("*.*")]
    actual = [
        str(f.relative_to(ROOT))
        for f in files
        if f.is_file()
        and f.suffix != ".pyc"
        and re.search(r"(?<![\w.$}])/(root|work|home/\w+)/", f.read_text())
    ]
    assert not actual


def test_the_cache_is_private(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = compilation_cache.private_folder("xla-tests")
    assert folder.is_relative_to(tmp_path) and folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o770)
    with pytest.raises(UserError, match="is open to other users; expected mode 0700"):
        compilation_cache.private_folder("xla-tests")


def test_the_cache_is_trimmed_from_its_oldest(tmp_path):
    for age, name in enumerate("abc"):
        (tmp_path / name).write_bytes(bytes(10))
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    compilation_cache.trim(tmp_path, 20)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["a", "b"]
