"""What documents name is there: links and their anchors, files, modules and functions, flags, programs."""

import ast
import importlib
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

from launch.cli import options

ROOT = Path(__file__).resolve().parents[1]
TOP = ("mcss_jax", "datasets", "launch", "tests", "docs", ".ci")
PROGRAMS = {file.stem: file for file in (ROOT / "launch").glob("*.py") if "flags.run(" in file.read_text()}


def _kept(suffixes: tuple[str, ...]) -> list[Path]:
    """Files of the repository, without what programs, environments and caches leave in a clone."""
    actual = list(ROOT.glob("*"))
    for folder in TOP:
        actual += (ROOT / folder).rglob("*")
    return sorted(file for file in actual if file.suffix in suffixes and file.is_file())


# The golden folders hold what earlier commits wrote, with their names of things.
DOCUMENTS = [file for file in _kept((".md",)) if not re.search(r"golden/20", file.as_posix())]
FLAG_FILES = [file for file in _kept((".flags",)) if "golden" not in file.parts]
SOURCES = [file for file in _kept((".py", ".sh", ".toml", ".txt")) if file != Path(__file__).resolve()]

# Words in capitals that stand for something else (NAME, FOLDER, test_NAME.py), but for names of files that have them.
PLACEHOLDER = re.compile(r"(?!README|CITATIONS|TAGS|WORKSPACE)(?<![A-Z])[A-Z]{2,}|[*<>{}]")
# What follows the dot of a file's name, where that is not a name in a module.
EXTENSIONS = {
    "py",
    "sh",
    "md",
    "js",
    "json",
    "jsonl",
    "xml",
    "mat",
    "npz",
    "txt",
    "toml",
    "onnx",
    "html",
    "csv",
}
# Flags of other people's programs.
FOREIGN = {
    *("help", "flagfile"),  # of all programs
    *("check", "xla_cpu_experimental_ynn_fusion_type"),  # ruff, XLA
    *("only",),  # tests.mutations
    *("gpus-per-task",),  # SLURM
    *("subset", "downsample"),  # VideoPose3D
}


@cache
def text_of(file: Path) -> str:
    return file.read_text(encoding="utf-8")


@cache
def anchors(file: Path) -> frozenset[str]:
    """Those that GitHub gives to the headings of a document."""
    actual: list[str] = []
    for line in re.sub(r"```.*?```", "", text_of(file), flags=re.DOTALL).splitlines():
        if heading := re.match(r"#{1,6} +(.*)", line):
            plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading[1]).replace("`", "").replace("*", "")
            slug = re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")
            actual.append(slug if slug not in actual else f"{slug}-{actual.count(slug)}")
    return frozenset(actual)


def broken(file: Path, target: str) -> bool:
    """Whether a relative link of `file` leads nowhere."""
    path, _, anchor = target.partition("#")
    there = (file.parent / path).resolve() if path else file
    return not there.exists() or bool(anchor and anchor not in anchors(there))


def found_in(files: Iterable[Path], wrong: Callable[[Path], Iterable[str]]) -> list[str]:
    """What is wrong in each of these files, with its name."""
    return [f"{file.relative_to(ROOT)}: {one}" for file in files for one in wrong(file)]


def links_in(text: str) -> list[str]:
    """Targets of links, those on the web aside."""
    targets = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [target for target in targets if not target.startswith(("http://", "https://"))]


def test_links_lead_somewhere() -> None:
    assert not found_in(DOCUMENTS, lambda file: [x for x in links_in(text_of(file)) if broken(file, x)])


def test_code_points_to_sections_that_are_there() -> None:
    def wrong(file: Path) -> list[str]:
        targets = re.findall(r"docs/\w+\.md(?:#[\w-]+)?", text_of(file))
        return [target for target in targets if broken(ROOT / "README.md", target)]

    assert not found_in(SOURCES, wrong)


def paths_in(text: str) -> Iterator[str]:
    """Paths of the repository that a text names, from its root."""
    tops = "|".join(map(re.escape, TOP))
    for path in re.findall(rf"(?<![\w./*<>-])(?:{tops})/[\w./*<>{{}},-]*", text):
        if not PLACEHOLDER.search(path):
            yield path.rstrip(".,-")


def test_files_are_there() -> None:
    def wrong(file: Path) -> list[str]:
        return [path for path in paths_in(text_of(file)) if not (ROOT / path).exists()]

    assert not found_in([*DOCUMENTS, *FLAG_FILES], wrong)


def test_files_named_alone_are_there() -> None:
    """`parallel.py`; data_formats.md names files of other people's repositories."""
    names = {source.name for source in _kept((".py", ".sh", ".flags"))}

    def wrong(file: Path) -> list[str]:
        actual = re.findall(r"`([\w-]+\.(?:py|sh|flags))`", text_of(file))
        return [name for name in actual if name not in names and not PLACEHOLDER.search(name)]

    assert not found_in([file for file in DOCUMENTS if file.name != "data_formats.md"], wrong)


@cache
def modules() -> dict[str, list[Path]]:
    """The files of the three packages by the last part of their module's name."""
    actual: dict[str, list[Path]] = {}
    for file in SOURCES:
        if file.suffix == ".py" and file.relative_to(ROOT).parts[0] in TOP[:3]:
            actual.setdefault(file.parent.name if file.stem == "__init__" else file.stem, []).append(file)
    actual.pop("labelled")  # a part of the batch, too
    return actual


def says(files: list[Path], word: str) -> bool:
    return any(re.search(rf"\b{re.escape(word)}\b", text_of(file)) for file in files)


def missing_names(text: str) -> Iterator[str]:
    """`sampling.plan`, `launch.cli.options`, `mcss_jax.geometry.project`: those that are nowhere.

    The first part that is a module's name tells where to look; what follows must be a module there or a word in it.
    """
    for span in re.findall(r"`([a-z_]\w*(?:\.\w+)+)[`(]", text):
        head, *rest = span.split(".")
        if (
            PLACEHOLDER.search(span)
            or EXTENSIONS.intersection(rest)
            or (head not in TOP[:3] and head not in modules())
        ):
            continue
        place, files = ROOT / head, modules().get(head, [])
        while rest and ((place / rest[0]).is_dir() or (place / f"{rest[0]}.py").is_file()):
            place = place / rest.pop(0)
            files = [file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()]
        if rest and not says(files, rest[0]):
            yield span


def test_functions_are_there() -> None:
    assert not found_in(DOCUMENTS, lambda file: missing_names(text_of(file)))


@cache
def flags_of(program: str) -> frozenset[str]:
    """Every flag of a program, switches in both forms."""
    module = importlib.import_module(f"launch.{program}")
    calls = (node for node in ast.walk(ast.parse(text_of(PROGRAMS[program]))) if isinstance(node, ast.Call))
    (config,) = [ast.unparse(call.args[0]) for call in calls if ast.unparse(call.func) == "flags.run"]
    held: object = module
    for part in config.split("."):
        held = getattr(held, part)
    assert isinstance(held, type)
    actual = options.options(held)
    return frozenset(actual) | {f"no{name}" for name, one in actual.items() if one.hint is bool}


@cache
def known_flags() -> frozenset[str]:
    """Those of all programs and of the launchers, whose help lists theirs."""
    launchers = [text_of(file) for file in (ROOT / "launch" / "pods").glob("*.sh")]
    own = (flag for text in launchers for flag in re.findall(r"--([a-z][a-z_]*)", text))
    return frozenset().union(*map(flags_of, PROGRAMS), own, FOREIGN)


def flags_in(text: str) -> list[str]:
    return re.findall(r"(?<![\w-])--([a-z][a-z0-9_-]*)", text)


def commands_in(text: str) -> Iterator[tuple[str, str]]:
    """Every `python -m launch.NAME`, and what follows it on its line, continued ones included."""
    joined = re.sub(r"\\\n(?:#)?\s*", " ", text)
    for name, rest in re.findall(r"python -m launch\.(\w+)([^\n`|]*)", joined):
        if name != "NAME":
            yield name, rest.split(" # ")[0]


def wrong_flags(text: str) -> Iterator[str]:
    """Flags that nobody has, programs that are none, and flags that a program is given and does not have."""
    yield from (f"--{flag}" for flag in flags_in(text) if flag not in known_flags())
    for name, rest in commands_in(text):
        if name not in PROGRAMS:
            yield f"launch.{name}"
        else:
            own = flags_of(name) | FOREIGN
            yield from (f"launch.{name} --{flag}" for flag in flags_in(rest) if flag not in own)


def test_flags_and_programs_are_there() -> None:
    """One test, as it imports every program."""
    assert not found_in([*DOCUMENTS, *FLAG_FILES], lambda file: wrong_flags(text_of(file)))
    wrong = wrong_flags(
        "--nobodys, --noseed\npython -m launch.nothing\npython -m launch.train --split=x --nostream"
    )
    assert list(wrong) == ["--nobodys", "--noseed", "launch.nothing", "launch.train --split"]


def test_every_program_is_in_the_readme() -> None:
    told = text_of(ROOT / "README.md")
    assert [name for name in PROGRAMS if f"`{name}`" not in told and f"launch/{name}.sh" not in told] == []


def test_the_readers_read() -> None:
    """The tests above pass on an empty answer."""
    assert len(DOCUMENTS) > 10 and len(FLAG_FILES) > 20 and len(PROGRAMS) > 10
    assert list(
        paths_in("`launch/nowhere.py`, (docs/no.md), launch/pods/*.sh, tests/NAME.py, a/launch/x.py")
    ) == [
        "launch/nowhere.py",
        "docs/no.md",
    ]
    missing = "`sampling.plan` `sampling.nobody` `mcss_jax.nothing` `launch.cli.options` `launch.NAME` `metadata.xml`"
    assert list(missing_names(missing)) == ["sampling.nobody", "mcss_jax.nothing"]
    assert broken(ROOT / "README.md", "docs/results.md#no-such-heading")
    assert not broken(ROOT / "docs" / "limits.md", "results.md#why-25--is-not-reached")
    assert list(commands_in("python -m launch.train --seed=1 \\\n    --depth=18  # x --y\n`launch.x`")) == [
        ("train", " --seed=1  --depth=18 ")
    ]
    assert flags_in("--no_such --labelled=S1:0.1 a--b `--dry_run`") == ["no_such", "labelled", "dry_run"]
