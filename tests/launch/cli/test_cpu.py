"""What programs set on a machine without an accelerator: where it applies, and that it takes effect."""

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from launch.cli import cpu

ROOT = Path(__file__).resolve().parents[3]
# A freed block of 200 MB is taken again: how many pages does the system hand out the second time? In a thread, as XLA
# does it, with a first one that could have got an arena of its own.
AGAIN = """
import ctypes, resource, threading
from launch.cli import cpu
kept = {before}
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

def touch():
    block = libc.malloc(ctypes.c_size_t(200_000_000))
    ctypes.memset(block, 1, 200_000_000)
    libc.free(block)

def in_a_thread():
    thread = threading.Thread(target=touch)
    thread.start()
    thread.join()

in_a_thread()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
in_a_thread()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def said(code: str) -> list[str]:
    actual = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return actual.stdout.split()


def test_freed_memory_is_kept() -> None:
    kept, pages = said(AGAIN.format(before="cpu.keep_memory()"))
    if kept == "False":
        pytest.skip("this C library cannot be told to keep what is freed")
    assert int(pages) < 40
    assert int(said(AGAIN.format(before="None"))[1]) > 80  # 48,828, or 95 where pages are of 2 MB


@pytest.mark.parametrize(
    ("platforms", "plugins", "expected"),
    [("cpu", ["cuda"], True), ("cuda,cpu", [], False), (None, [], True), (None, ["cuda"], False)],
)
def test_alone(
    platforms: str | None, plugins: list[str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu.importlib.metadata, "entry_points", lambda group: plugins)
    monkeypatch.setattr(cpu.importlib.util, "find_spec", lambda name: None)
    assert cpu.alone({} if platforms is None else {"JAX_PLATFORMS": platforms}) == expected


@pytest.mark.parametrize("package", ["libtpu", "jax_plugins"])
def test_another_device_has_a_package(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu.importlib.metadata, "entry_points", lambda group: [])
    monkeypatch.setattr(cpu.importlib.util, "find_spec", lambda name: name == package or None)
    assert not cpu.alone({})


def test_a_library_that_refuses_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    told = []

    class Library:
        def __init__(self, name: None) -> None: ...

        def mallopt(self, name: int, value: int) -> int:
            told.append(name)
            return 0

    monkeypatch.setattr(cpu.ctypes, "CDLL", Library)
    assert not cpu.keep_memory() and told == [cpu.MMAP_THRESHOLD]
    monkeypatch.delattr(Library, "mallopt")
    assert not cpu.keep_memory()


def test_convolutions_use_threads_with_versions_that_were_measured() -> None:
    environment = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    cpu.use_threads_in_convolutions(environment, (0, 10, 2))
    flag = "--xla_cpu_experimental_ynn_fusion_type=dot,reduce"
    wanted = f"--xla_force_host_platform_device_count=2 {flag}"
    assert environment == {"XLA_FLAGS": wanted}
    cpu.use_threads_in_convolutions(environment, (0, 10, 2))
    assert environment == {"XLA_FLAGS": wanted}  # once, and a user's own choice stays
    assert cpu.convolution_flag((0, 11, 0)) == cpu.convolution_flag((0, 12, 9, 1)) == flag
    for unknown in ((0, 9, 2), (0, 99, 0)):
        other: dict[str, str] = {}
        cpu.use_threads_in_convolutions(other, unknown)
        assert other == {}


def test_every_version_that_may_be_installed_was_measured() -> None:
    """Another bound of jax in requirements.txt asks for another line in the table: the rule stands there."""
    (bounds,) = re.findall(r"^jax>=([\d.]+),<([\d.]+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    lowest, end = (tuple(map(int, bound.split("."))) for bound in bounds)
    ranges = [(first, last) for first, last, _ in cpu.CONVOLUTIONS]
    assert ranges[0][0] <= lowest and ranges[-1][1] == end
    assert all(before[1] == after[0] for before, after in zip(ranges, ranges[1:], strict=False))
    assert cpu.convolution_flag(jax.__version_info__)


def test_a_newer_version_is_spoken_of_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cpu, "alone", lambda environment: True)
    monkeypatch.setattr(cpu, "cores", lambda: 2)
    cpu.say_if_unmeasured.cache_clear()
    for version in ((0, 10, 2), (0, 12, 9), (0, 99, 1), (0, 99, 1)):
        cpu.say_if_unmeasured(version)
    assert capsys.readouterr().out.startswith("JAX 0.99.1 is newer than launch/cli/cpu.py knows: XLA ")
    cpu.say_if_unmeasured((0, 99, 1))
    assert capsys.readouterr().out == ""
    cpu.say_if_unmeasured.cache_clear()
    monkeypatch.setattr(cpu, "cores", lambda: 1)
    cpu.say_if_unmeasured((0, 99, 1))
    assert capsys.readouterr().out == ""
    cpu.say_if_unmeasured.cache_clear()


@pytest.mark.parametrize(("cores", "expected"), [({0}, "False"), ({0, 1}, "True")])
def test_what_xla_makes_of_it(cores: set[int], expected: str) -> None:
    """Forward and backward; in a program of its own, since XLA reads its flags once."""
    code = f"""
import os
os.environ.pop("XLA_FLAGS", None)
os.environ["JAX_PLATFORMS"] = "cpu"
os.sched_getaffinity = lambda process: {cores!r}
from launch.cli import cpu
import jax
cpu.prepare()
from jax import lax, numpy as jnp
def f(x, k):
    return lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
def both(x, k):
    y, back = jax.vjp(f, x, k)
    return y, back(y)
text = jax.jit(both).lower(jnp.ones((8, 8, 8, 32)), jnp.ones((3, 3, 32, 32))).compile().as_text()
print("ynn" not in text)
"""
    assert said(code) == [expected]
    assert "ynn" not in os.environ.get("XLA_FLAGS", "")
