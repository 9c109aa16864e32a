"""The files of an original distribution, as they lie on a user's disk: loose, or in archives.

Archives are folders here, whatever they are called, and so are archives in archives; deeper ones are files.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from datasets.distributions import archives
from datasets.distributions.archives import LIMITS, Limits, Progress, no_progress
from datasets.distributions.tar_stream import CHUNK
from mcss_jax.errors import UserError

DEPTH = 2  # archives in archives
LISTING_VERSION = 1
SUM_LIST = re.compile(r"checksums\.txt|md5sums(\.txt)?|.*\.md5", re.IGNORECASE)
SUM_LINE = re.compile(r"([0-9a-fA-F]{32}) [ *](.+)")

Listing = list[tuple[tuple[str, ...], int]]
"""What an archive holds: the names that lead to a file (`File.members`) and its size in bytes."""


@dataclasses.dataclass(frozen=True, order=True)
class File:
    """One file below `--source`, loose or a member of an archive (which may itself lie in an archive).

    Attributes:
      path: where it lies below the source, with `/`; archives count as folders, so a member of `a/S1.tgz` is
        `a/S1.tgz/S1/Videos/x.mp4`. Patterns are matched against this.
      size: bytes, unpacked.
      archive: the path below the source of the (outermost) archive that it lies in; empty for a loose file.
      members: the names inside, one for each archive around it; empty for a loose file.
      source: the source's own path.
      modified: time of last change of the loose file or outermost archive, nanoseconds.
    """

    path: str
    size: int
    archive: str
    members: tuple[str, ...]
    source: str
    modified: int


def scan(
    source: str | Path,
    workdir: Path | None = None,
    progress: Progress = no_progress,
    unreadable: list[tuple[str, str]] | None = None,
) -> tuple[File, ...]:
    """All files below `source`, sorted by path. Hidden files and what macOS leaves in archives are left out.

    Listing a .tgz takes a pass over it, so listings are kept in `workdir` for as long as an archive's size
    and time of change stay the same. Links are followed, except back to a folder that they lie in.

    Args:
      source: a folder, or a single archive (the files' `source` is then the folder that it lies in).
      workdir: where listings are kept if it can be written to; by default none are. It is not searched.
      progress: called with the number of bytes of archives that were gone through.
      unreadable: takes the path of each archive that is damaged or refused, and the sentence that says why; by
        default the first one ends the scan.

    Archives in archives are written to the system's folder for temporary files while they are listed.

    Raises:
      UserError: `source`, or what a link in it names, does not exist; it holds no file, it is a file but no archive, or
        as `archives.walk`.
    """
    source = Path(source).absolute()
    if not source.exists():
        raise UserError(f"{source}: does not exist; the folder of the original downloads was expected")
    if source.is_dir():
        root, loose = source, walk_folder(source, workdir)
    elif archives.is_archive(source.name):
        root, loose = source.parent, iter([source.name])
    else:
        raise UserError(f"{source}: is neither a folder nor a {', '.join(archives.SUFFIXES)} archive")
    files: list[File] = []
    for path in loose:
        try:
            files.extend(_files_at(root, path, workdir, progress))
        except UserError as error:
            if unreadable is None:
                raise
            unreadable.append((path, str(error)))
    if not files and not unreadable:
        raise UserError(f"{source}: holds no file; the original downloads were expected")
    return tuple(sorted(files))


def read_bytes(file: File, limit: int = 64 << 20) -> bytes:
    """The content of a small file, loose or in archives.

    Raises:
      OSError: it is no longer there.
      UserError: it has more than `limit` bytes, or as `archives.read`.
    """
    place = Path(file.source) / (file.archive or file.path)
    if file.size > limit:
        raise UserError(f"{file.path}: has {file.size:,} bytes; at most {limit:,} were expected")
    if not file.archive:
        return place.read_bytes()
    *outer, name = file.members
    if not outer:
        return archives.read(place, name, limit)
    with contextlib.closing(archives.pick(place, outer)) as picked:
        _, chunks = next(picked)
        with _spooled(chunks(), None) as inner:
            return archives.read(inner, name, limit, f"{place}/{outer[0]}")


def unpacked_name(file: File) -> str:
    """The name under which `unpack` stores a file: a digest of where it comes from, and its suffix.

    A changed archive gives other names, so what was unpacked from its predecessor is not taken for its own.
    """
    digest = hashlib.sha256(json.dumps([file.archive, file.modified, file.members]).encode()).hexdigest()
    suffix = PurePosixPath(file.path).suffix
    return digest[:32] + (suffix if re.fullmatch(r"\.[A-Za-z0-9]{1,8}", suffix) else "")


def unpack(
    files: Sequence[File], folder: Path, limits: Limits = LIMITS, progress: Progress = no_progress
) -> None:
    """Brings members of one outermost archive into `folder`, in one pass over it, under their `unpacked_name`.

    Files that are there already are not unpacked again; each is there complete or not at all. An archive in
    the archive lies in `folder` while its members are unpacked. One process at a time for each archive.

    Args:
      files: all of the same `archive`.
      folder: is made when it does not exist.
      limits: what each archive may hold.
      progress: called with the number of bytes of `files` that are there now, those there before included.

    Raises:
      ValueError: files of several archives or loose ones.
      UserError: a member is missing or damaged; as `archives.walk`.
      OSError: it cannot be written (a full disk).
    """
    places = {Path(file.source) / file.archive for file in files if file.archive}
    if len(places) != 1 or not all(file.archive for file in files):
        raise ValueError(
            f"{len(files)} files of {len(places)} archives are to be unpacked in one pass; members of one "
            "archive were expected"
        )
    [place] = places
    folder.mkdir(parents=True, exist_ok=True)
    direct: dict[str, Path] = {}
    nested: dict[str, dict[str, Path]] = {}
    for file in files:
        target = folder / unpacked_name(file)
        if _is_there(file, target):
            progress(file.size)
        elif len(file.members) == 1:
            direct[file.members[0]] = target
        else:
            nested.setdefault(file.members[0], {})[file.members[1]] = target
    for member, chunks in archives.pick(place, direct.keys() | nested.keys(), limits):
        if member.name in direct:
            archives.save(chunks(), direct[member.name], progress)
        else:
            with _spooled(chunks(), folder) as inner:
                archives.extract(inner, nested[member.name], limits, progress, f"{place}/{member.name}")


def locate(file: File, folder: Path) -> Path:
    """The path of a file's content: its own when it is loose, else where `unpack` put it in `folder`.

    Raises UserError when it was not unpacked.
    """
    if not file.archive:
        return Path(file.source) / file.path
    place = folder / unpacked_name(file)
    if not _is_there(file, place):
        raise UserError(f"{file.path}: was not unpacked to {folder} ({place.name} is not there)")
    return place


def checksum_warnings(source: str | Path, progress: Progress = no_progress) -> tuple[str, ...]:
    """One sentence for every archive below `source` whose MD5 sum is not the one that a list there gives.

    Lists are files as `md5sum` writes them: `checksums.txt`, `MD5SUMS`, `*.md5`. A name in them means the archive at
    that place beside the list, else the only one of that file name. A mismatch is no error: the sum of one
    Human3.6M archive differs between genuine downloads (docs/data_formats.md#human36m-archives-and-layout).

    Args:
      source: a folder; a single archive has no list.
      progress: called with the number of bytes that were summed.
    """
    source = Path(source).absolute()
    warnings = []
    for path, sums in sorted(_expected_sums(source).items() if source.is_dir() else ()):
        if (actual := _md5(source / path, progress)) not in sums:
            lists = " and ".join(sorted(set(sums.values())))
            warnings.append(
                f"{path}: its MD5 sum is {actual}, not {' or '.join(sums)} as {lists} would have it; the download "
                "may be damaged (genuine ones are known to differ, too)"
            )
    return tuple(warnings)


def _expected_sums(source: Path) -> dict[str, dict[str, str]]:
    """For every archive that a list names: the sums it may have, each with the list that says so."""
    paths = list(walk_folder(source))
    by_name: dict[str, list[str]] = {}
    for path in filter(archives.is_archive, paths):
        by_name.setdefault(PurePosixPath(path).name, []).append(path)
    expected: dict[str, dict[str, str]] = {}
    for listing in paths:
        if not SUM_LIST.fullmatch(PurePosixPath(listing).name):
            continue
        for md5, name in _read_sums(source / listing):
            beside = str(PurePosixPath(listing).parent / name)
            alike = by_name.get(PurePosixPath(name).name, [])
            if beside in alike:
                expected.setdefault(beside, {})[md5] = listing
            elif len(alike) == 1:
                expected.setdefault(alike[0], {})[md5] = listing
    return expected


def _read_sums(path: Path) -> Iterator[tuple[str, str]]:
    """(sum, name) of every line that `md5sum` may have written."""
    with path.open(errors="replace") as lines:
        for line in lines:
            if match := SUM_LINE.fullmatch(line.strip()):
                yield match[1].lower(), match[2].removeprefix("./")


def _md5(path: Path, progress: Progress) -> str:
    total = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            total.update(chunk)
            progress(len(chunk))
    return total.hexdigest()


def walk_folder(folder: Path, leave_out: Path | None = None) -> Iterator[str]:
    """Paths of the files below a folder, relative to it, with `/`; hidden ones are left out, links followed.

    Raises UserError at a link to nowhere.
    """
    left_out = leave_out and leave_out.resolve()

    def below(at: Path, prefix: str, around: frozenset[Path]) -> Iterator[str]:
        for entry in sorted(os.scandir(at), key=lambda entry: entry.name):
            if _is_hidden(entry.name):
                continue
            if entry.is_file():
                yield prefix + entry.name
            elif entry.is_dir():
                real = Path(entry).resolve()
                if real != left_out and real not in around:
                    yield from below(Path(entry), f"{prefix}{entry.name}/", around | {real})
            elif entry.is_symlink() and not os.path.exists(entry):
                raise UserError(f"{entry.path}: is a link to {os.readlink(entry)}, which does not exist")

    yield from below(folder, "", frozenset({folder.resolve()}))


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in path.split("/"))


def _is_there(file: File, place: Path) -> bool:
    return place.is_file() and place.stat().st_size == file.size


def _files_at(root: Path, path: str, workdir: Path | None, progress: Progress) -> Iterator[File]:
    """A loose file itself, or the files in an archive."""
    status = (root / path).stat()
    if not archives.is_archive(path):
        yield File(path, status.st_size, "", (), str(root), status.st_mtime_ns)
        return
    for members, size in _listing(root / path, workdir, progress):
        yield File("/".join((path, *members)), size, path, members, str(root), status.st_mtime_ns)


def _listing(path: Path, workdir: Path | None, progress: Progress) -> Listing:
    """What an archive holds, from `workdir` when it was listed before."""
    if workdir is None:
        return list(_list_archive(path, str(path), DEPTH, progress))
    status = path.stat()
    key: list[int | str] = [LISTING_VERSION, str(path), status.st_size, status.st_mtime_ns]
    cache = workdir / f"listing_{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]}.json"
    cached = _read_listing(cache, key)
    if cached is not None:
        progress(status.st_size)
        return cached
    listing = list(_list_archive(path, str(path), DEPTH, progress))
    with contextlib.suppress(OSError):  # a listing that cannot be kept is made again next time
        workdir.mkdir(parents=True, exist_ok=True)
        archives.save([json.dumps({"key": key, "files": listing}).encode()], cache)
    return listing


def _read_listing(cache: Path, key: list[int | str]) -> Listing | None:
    """A listing that was kept; None when there is none, or it is damaged: it is made again then."""
    try:
        content = json.loads(cache.read_bytes())
        if content["key"] != key:
            return None
        return [(tuple(map(str, names)), int(size)) for names, size in content["files"]]
    except (OSError, ValueError, TypeError, LookupError):
        return None


def _list_archive(
    path: Path, name: str, depth: int, progress: Progress
) -> Iterator[tuple[tuple[str, ...], int]]:
    for member, chunks in archives.walk(path, progress=progress, name=name):
        if _is_hidden(member.name):
            continue
        if depth == 1 or not archives.is_archive(member.name):
            yield (member.name,), member.size
            continue
        with _spooled(chunks(), None) as inner:
            for names, size in _list_archive(inner, f"{name}/{member.name}", depth - 1, no_progress):
                yield (member.name, *names), size


@contextlib.contextmanager
def _spooled(chunks: Iterable[bytes], folder: Path | None) -> Iterator[Path]:
    """A temporary file with this content: an archive in an archive cannot be searched where it lies."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".inner_archive_") as file:
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        yield Path(file.name)
