"""Safe reading of one archive: .tar, .tgz or .zip, told apart by content, in one pass and in constant memory.

What an archive says of itself is not trusted: names are checked and never become paths, and sizes are held to
limits before anything is unpacked.
"""

import contextlib
import gzip
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple, cast

from datasets.distributions.tar_stream import CHUNK, TarStream
from mcss_jax.errors import UserError

SUFFIXES = (".tgz", ".tar.gz", ".tar", ".zip")
RATIO_FROM = 1 << 30  # small archives may be as compressible as they like
TAR_KINDS = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.FIFOTYPE: "a named pipe",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
}
ZIP_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
# Whatever the libraries raise on bytes that are not what they should be. Errors of the disk are none of these.
DAMAGE = (
    ArithmeticError, EOFError, LookupError, RuntimeError, ValueError, gzip.BadGzipFile, struct.error,
    tarfile.TarError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


class Member(NamedTuple):
    """A file in an archive: its name, with `/` and without `.` parts, and its size unpacked, in bytes."""

    name: str
    size: int


class Limits(NamedTuple):
    """What an archive may hold.

    Attributes:
      member_bytes: of one member; the largest genuine one is a 6.9 GB zip.
      total_bytes: of all members together.
      members: how many, folders included.
      ratio: bytes unpacked over bytes packed, of an archive that unpacks to more than 1 GiB. Videos give 1,
        pictures of masks some tens, a run of zeros 1,000.
    """

    member_bytes: int = 8 << 30
    total_bytes: int = 1 << 40
    members: int = 2_000_000
    ratio: int = 200


LIMITS = Limits()

Chunks = Callable[[], Iterator[bytes]]
"""Gives a member's content piece by piece. To be called before the next member is asked for, or not at all."""

Progress = Callable[[int], object]
"""Called with the number of bytes dealt with since the last call."""


def no_progress(count: int) -> None:
    """The default `Progress`: nothing is shown."""


def is_archive(name: str) -> bool:
    """Whether a file's name says that it is an archive."""
    return name.lower().endswith(SUFFIXES)


def walk(
    path: Path, limits: Limits = LIMITS, progress: Progress = no_progress, name: str = ""
) -> Iterator[tuple[Member, Chunks]]:
    """The files in an archive, in its order, each with the means to read it.

    Folders and what macOS leaves in archives are passed over. Of a gzipped archive that is walked to its end,
    the checksum has been compared.

    Args:
      path: the archive.
      limits: what it may hold.
      progress: called with the number of the archive's own bytes that were passed.
      name: what errors call it; by default its path.

    Raises:
      UserError: it is empty, not an archive, truncated or damaged; it holds a link, a device, an encrypted
        member, one name twice, a name that points out of the folder it is unpacked to, or more than `limits`.
    """
    name = name or str(path)
    size = path.stat().st_size
    believable = max(RATIO_FROM, limits.ratio * size)
    limit = min(limits.total_bytes, believable)
    if _kind(path, name) == "zip":
        members = _walk_zip(path, name, progress)
    else:
        members = _walk_tar(path, name, 2 * believable, progress)  # headers count here
    total, count, names = 0, 0, set()
    for raw, length, is_folder, chunks in members:
        count, total = count + 1, total + length
        if count > limits.members:
            raise UserError(f"{name}: holds more than {limits.members:,} members, the most that is allowed")
        if is_folder:
            continue
        member = _clean(raw, name)
        _check_size(f"{name}: member {member!r}", length, limits.member_bytes)
        _check_size(f"{name} ({size:,} bytes): all up to member {member!r}", total, limit)
        if _is_macos_leftover(member):
            continue
        if member in names:
            raise UserError(f"{name}: holds {member!r} twice; which of the two is meant cannot be known")
        names.add(member)
        yield Member(member, length), chunks


def members(
    path: Path, limits: Limits = LIMITS, progress: Progress = no_progress, name: str = ""
) -> list[Member]:
    """All files in an archive, in its order. Arguments and errors as of `walk`."""
    return [member for member, _ in walk(path, limits, progress, name)]


def pick(
    path: Path, names: Collection[str], limits: Limits = LIMITS, name: str = ""
) -> Generator[tuple[Member, Chunks], None, None]:
    """The members called `names`, in the archive's order; the pass ends with the last of them.

    Raises UserError when one is not there, and as `walk`.
    """
    missing = set(names)
    if not missing:
        return
    for member, chunks in walk(path, limits, name=name):
        if member.name in missing:
            missing.remove(member.name)
            yield member, chunks
            if not missing:
                return
    raise UserError(f"{name or path}: holds no {min(missing)!r} ({len(missing)} of {len(names)} not found)")


def extract(
    path: Path,
    targets: Mapping[str, Path],
    limits: Limits = LIMITS,
    progress: Progress = no_progress,
    name: str = "",
) -> None:
    """Writes members to the paths given for them, in one pass; each is there complete or not at all.

    Args:
      path: the archive.
      targets: path by member name; its folder must exist.
      limits: what the archive may hold.
      progress: called with the number of bytes that were written.
      name: what errors call the archive; by default its path.

    Raises:
      UserError: a member is missing or damaged, or as `walk`.
      OSError: it cannot be written (a full disk).
    """
    for member, chunks in pick(path, targets, limits, name):
        save(chunks(), targets[member.name], progress)


def read(path: Path, member: str, limit: int, name: str = "") -> bytes:
    """The content of one member of at most `limit` bytes. Raises UserError as `pick`, or when it is longer."""
    with contextlib.closing(pick(path, [member], name=name)) as picked:
        info, chunks = next(picked)
        if info.size > limit:
            raise UserError(
                f"{name or path}: member {member!r} has {info.size:,} bytes; at most {limit:,} were expected"
            )
        return b"".join(chunks())


def save(chunks: Iterable[bytes], path: Path, progress: Progress = no_progress) -> None:
    """Writes a file beside its place (`.part`) and renames it when it is complete."""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
                progress(len(chunk))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _kind(path: Path, name: str) -> str:
    with path.open("rb") as file:
        head = file.read(tarfile.BLOCKSIZE)
    if not head:
        raise UserError(f"{name}: is empty; an archive was expected: download it again")
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if head.startswith(b"\x1f\x8b") or head[257:262] == b"ustar":
        return "tar"
    if head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise UserError(
            f"{name}: is a web page, not an archive; sign in where it comes from and download it again"
        )
    raise UserError(f"{name}: is not a tar, tgz or zip archive, or its beginning is lost; download it again")


def _clean(raw: str, name: str) -> str:
    """A member's name without empty and `.` parts; a backslash counts as `/`, as it does on Windows."""
    spelt = raw.replace("\\", "/")
    if spelt.startswith("/") or re.match("[A-Za-z]:", spelt) or ".." in spelt.split("/"):
        raise UserError(
            f"{name}: member {raw!r} points out of the archive; a relative name without '..' was expected"
        )
    clean = str(PurePosixPath(spelt))
    if clean == ".":
        raise UserError(f"{name}: holds a member without a name")
    return clean


def _check_size(what: str, size: int, limit: int) -> None:
    if size > limit:
        raise UserError(f"{what} would unpack to {size:,} bytes; at most {limit:,} are allowed")


def _is_macos_leftover(member: str) -> bool:
    *folders, file = member.split("/")
    return "__MACOSX" in folders or file.startswith("._") or file == ".DS_Store"


@contextlib.contextmanager
def _damage_reported(name: str) -> Iterator[None]:
    """Turns what the libraries raise on damaged bytes into one sentence."""
    try:
        yield
    except DAMAGE as error:
        what = str(error) or type(error).__name__
        raise UserError(f"{name}: is truncated or damaged ({what}); download it again") from error


def _chunks(name: str, member: str, size: int, start: Callable[[], IO[bytes]]) -> Iterator[bytes]:
    """A member's content. Errors of reading become the archive's; those of the code that consumes it do not."""
    remaining = size
    with _damage_reported(name):
        stream = start()
    with stream:
        while True:
            with _damage_reported(name):
                chunk = stream.read(CHUNK)
            if not chunk:
                break
            remaining -= len(chunk)
            yield chunk
    if remaining:
        raise UserError(
            f"{name}: is truncated or damaged (member {member!r} has {size - remaining:,} bytes where {size:,} were "
            "announced); download it again"
        )


Raw = tuple[str, int, bool, Chunks]
"""A member as it was found: name, size in bytes, whether it is a folder, content."""


def _walk_zip(path: Path, name: str, progress: Progress) -> Iterator[Raw]:
    with _damage_reported(name):
        archive = zipfile.ZipFile(path)
    with archive:
        for info in archive.infolist():
            progress(info.compress_size)
            kind = stat.S_IFMT(info.external_attr >> 16)
            if info.filename.endswith(("/", "\\")) or kind == stat.S_IFDIR:
                yield info.filename, 0, True, lambda: iter(())
                continue
            _check_zip_member(info, kind, name)
            yield info.filename, info.file_size, False, _zip_chunks(archive, info, name)


def _check_zip_member(info: zipfile.ZipInfo, kind: int, name: str) -> None:
    if kind not in (0, stat.S_IFREG):
        _refuse(name, info.filename, ZIP_KINDS.get(kind, "no ordinary file"))
    if info.flag_bits & 1:
        raise UserError(
            f"{name}: member {info.filename!r} is encrypted; unpack the archive with its password first"
        )
    # The library unpacks these two in bounded steps; bzip2 and LZMA at once, however much comes out.
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UserError(
            f"{name}: member {info.filename!r} is compressed by zip method {info.compress_type}, which is not "
            "read here; unpack the archive and name the folder instead"
        )
    if info.header_offset < 0:
        raise UserError(
            f"{name}: is truncated or damaged (member {info.filename!r} begins before the archive does); "
            "download it again"
        )


def _zip_chunks(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> Chunks:
    return lambda: _chunks(name, info.filename, info.file_size, lambda: archive.open(info))


def _walk_tar(path: Path, name: str, limit: int, progress: Progress) -> Iterator[Raw]:
    with path.open("rb") as file:
        stream = TarStream(file, limit, progress)
        with _damage_reported(name):
            archive = tarfile.open(fileobj=stream, mode="r:")  # type: ignore[call-overload]
        while True:
            with _damage_reported(name):
                info = archive.next()
            if info is None:
                break
            archive.members.clear()  # it keeps every header otherwise
            if not (info.isreg() or info.isdir()):
                _refuse(name, info.name, TAR_KINDS.get(info.type, "no ordinary file"))
            yield info.name, 0 if info.isdir() else info.size, info.isdir(), _tar_chunks(archive, info, name)
        # The library takes a header that it cannot read for the end.
        if stream.last != bytes(tarfile.BLOCKSIZE):
            raise UserError(
                f"{name}: is truncated or damaged (a tar's end mark is missing); download it again"
            )
        with _damage_reported(name):
            while stream.read(CHUNK):  # gzip's checksum comes last
                pass


def _tar_chunks(archive: tarfile.TarFile, info: tarfile.TarInfo, name: str) -> Chunks:
    # Never None: the member is an ordinary file.
    return lambda: _chunks(name, info.name, info.size, lambda: cast(IO[bytes], archive.extractfile(info)))


def _refuse(name: str, member: str, kind: str) -> None:
    raise UserError(f"{name}: member {member!r} is {kind}; only files and folders are unpacked")
