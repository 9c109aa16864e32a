"""Archives: what is read comes back exactly; what is hostile, cut or damaged is told in one sentence."""

import gzip
import resource
import stat
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from datasets.distributions import archives
from datasets.distributions.archives import Limits, Member
from tests.datasets.packing import header, pack, tgz
from tests.refusals import refused

KINDS = ["x.tgz", "x.tar", "x.zip"]
NOISE = np.random.default_rng(0).bytes(3_000_000)
CONTENT = {"S1/Videos/Directions 1.54138969.mp4": NOISE, "S1/empty.cdf": b"", "metadata.xml": b"<a/>" * 200}


def content_of(path: Path) -> dict[str, bytes]:
    return {member.name: b"".join(chunks()) for member, chunks in archives.walk(path)}


@pytest.mark.parametrize("kind", KINDS)
def test_members_come_back_exactly_and_in_order(tmp_path: Path, kind: str) -> None:
    path = pack(tmp_path / kind, CONTENT)
    assert archives.members(path) == [Member(name, len(content)) for name, content in CONTENT.items()]
    assert content_of(path) == CONTENT
    assert archives.read(path, "metadata.xml", 800) == CONTENT["metadata.xml"]


@pytest.mark.parametrize("kind", KINDS)
def test_folders_and_droppings_are_passed_over_and_names_made_plain(tmp_path: Path, kind: str) -> None:
    names = ["./", "./S1/", "./S1//a", "S1/./b", "__MACOSX/S1/a", "S1/._a", ".DS_Store", "S1\\c", ".hidden"]
    path = pack(tmp_path / kind, dict.fromkeys(names, b""))
    assert [member.name for member in archives.members(path)] == ["S1/a", "S1/b", "S1/c", ".hidden"]


@pytest.mark.parametrize("kind", KINDS)
def test_content_tells_the_kind_not_the_name(tmp_path: Path, kind: str) -> None:
    path = pack(tmp_path / kind, CONTENT)
    assert content_of(path.rename(tmp_path / "other.zip.tgz")) == CONTENT


def test_archives_are_known_by_suffix() -> None:
    assert all(map(archives.is_archive, ["a.tgz", "b/c.TAR.GZ", "a.tar", "a.Zip"]))
    assert not any(map(archives.is_archive, ["a.gz", "zip", "a.zip.part", "a.tgz.md5"]))


@pytest.mark.parametrize("kind", KINDS)
def test_progress_of_listing_counts_the_archive(tmp_path: Path, kind: str) -> None:
    path, passed = pack(tmp_path / kind, {"a": NOISE, "b": NOISE}), list[int]()
    archives.members(path, progress=passed.append)
    assert sum(passed) == pytest.approx(path.stat().st_size, rel=0.01)
    assert kind != "x.tgz" or max(passed) < 2 << 20  # a bar that moves inside a large member


@pytest.mark.parametrize("kind", KINDS)
def test_wanted_members_go_to_the_paths_given(tmp_path: Path, kind: str) -> None:
    path, written = pack(tmp_path / kind, CONTENT), list[int]()
    (tmp_path / "out").mkdir()
    wanted = {name: tmp_path / "out" / str(k) for k, name in enumerate(CONTENT) if k != 1}
    archives.extract(path, wanted, progress=written.append)
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["0", "2"]
    assert all(place.read_bytes() == CONTENT[name] for name, place in wanted.items())
    assert sum(written) == len(NOISE) + 800
    archives.extract(path, {})


@pytest.mark.parametrize("kind", KINDS)
def test_a_wanted_member_that_is_missing_is_named(tmp_path: Path, kind: str) -> None:
    path = pack(tmp_path / kind, CONTENT)
    with refused("'S1/Videos'", "1 of 2"):
        archives.extract(path, {"S1/Videos": tmp_path / "a", "metadata.xml": tmp_path / "b"})
    with refused("holds no 'x'"):
        archives.read(path, "x", 10)
    with refused("'metadata.xml'", "800 bytes", "799"):
        archives.read(path, "metadata.xml", 799)


HOSTILE = ["../x", "/x", "a/../../x", "C:/x", "c:x", "..\\x", "a\\..\\..\\x", "\\\\host\\x", "..", "C:\\x"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", HOSTILE)
def test_names_that_point_out_are_refused(tmp_path: Path, kind: str, name: str) -> None:
    path = pack(tmp_path / kind, {"good": b"1", name: b"2"})
    with refused(f"{kind}:", repr(name), "points out of the archive"):
        archives.members(path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_member_needs_a_name(tmp_path: Path, kind: str) -> None:
    with refused("without a name"):
        archives.members(pack(tmp_path / kind, {".": b""}))


@pytest.mark.parametrize("kind", KINDS)
def test_one_name_twice_is_refused(tmp_path: Path, kind: str) -> None:
    with refused("'a/b'", "twice"):
        archives.members(pack(tmp_path / kind, {"a/b": b"1", "./a/b": b"2"}))


@pytest.mark.parametrize(
    ("kind", "described"),
    [
        (tarfile.SYMTYPE, "a symbolic link"),
        (tarfile.LNKTYPE, "a hard link"),
        (tarfile.FIFOTYPE, "a named pipe"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (b"V", "no ordinary file"),
    ],
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes, described: str) -> None:
    path = tgz(tmp_path / "x.tgz", header("S1/x", 0, kind) + bytes(1024))
    with refused("x.tgz", "'S1/x'", described):
        archives.members(path)


@pytest.mark.parametrize(
    ("kind", "described"),
    [
        (stat.S_IFLNK, "a symbolic link"),
        (stat.S_IFIFO, "a named pipe"),
        (stat.S_IFCHR, "a device"),
        (stat.S_IFBLK, "a device"),
        (stat.S_IFSOCK, "no ordinary file"),
    ],
)
def test_links_and_devices_in_a_zip_are_refused(tmp_path: Path, kind: int, described: str) -> None:
    info = zipfile.ZipInfo("S1/x")
    info.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with refused("x.zip", "'S1/x'", described):
        archives.members(tmp_path / "x.zip")


def test_encrypted_members_are_refused(tmp_path: Path) -> None:
    path = pack(tmp_path / "x.zip", {"a": b"1"})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with refused("'a'", "encrypted", "password"):
        archives.members(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_unpack_without_bound_are_refused(tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w", method) as archive:
        archive.writestr("a", bytes(10))
    with refused("'a'", f"zip method {method}"):
        archives.members(tmp_path / "x.zip")


def test_a_run_of_zeros_is_refused_by_its_header(tmp_path: Path) -> None:
    """None of the ten gigabytes is there: who tried to unpack them would tell of a truncated archive."""
    facts = ("'zeros'", "10,737,418,240 bytes", "8,589,934,592")
    with refused(*facts):
        archives.members(tgz(tmp_path / "x.tgz", header("zeros", 10 << 30)))
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("zeros", b"0")
        archive.filelist[0].file_size = 10 << 30
    with refused(*facts):
        archives.members(tmp_path / "x.zip")


def test_many_runs_of_zeros_are_refused_by_the_ratio(tmp_path: Path) -> None:
    """Nothing of them is unpacked to find out: the first member that is too much is named, and is not there."""
    path = tgz(tmp_path / "x.tgz", header("a", 1 << 20) + bytes(1 << 20) + header("b", 1 << 30))
    with refused("x.tgz", f"{path.stat().st_size:,} bytes", "all up to member 'b'", "1,074,790,400 bytes"):
        archives.members(path)


@pytest.mark.parametrize("kind", KINDS)
def test_limits_hold(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pack(tmp_path / kind, {"f/": b"", "a": bytes(600_000), "b": NOISE[:600_000]})
    assert len(archives.members(path, Limits(600_000, 1_200_000, 3))) == 2
    with refused("more than 2 members"):
        archives.members(path, Limits(members=2))
    with refused("'a'", "600,000 bytes", "599,999"):
        archives.members(path, Limits(member_bytes=599_999))
    with refused("all up to member 'b'", "1,200,000 bytes", "1,199,999"):
        archives.members(path, Limits(total_bytes=1_199_999))
    monkeypatch.setattr(archives, "RATIO_FROM", 1000)
    assert len(archives.members(path, Limits(ratio=2))) == 2
    if kind != "x.tar":
        with refused("all up to member 'b'", "1,200,000 bytes"):
            archives.members(path, Limits(ratio=1))


def lie(path: Path, size: int, crc: int | None = None) -> Path:
    """A zip of five million zeros whose directory says otherwise."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(5_000_000))
        archive.filelist[0].file_size = size
        if crc is not None:
            archive.filelist[0].CRC = crc
    return path


def test_a_zip_that_lies_about_a_size_is_stopped(tmp_path: Path) -> None:
    with refused("truncated or damaged", "CRC-32", "'a'"):
        content_of(lie(tmp_path / "x.zip", 10))
    assert content_of(lie(tmp_path / "x.zip", 10, zlib.crc32(bytes(10)))) == {"a": bytes(10)}
    with refused("'a'", "5,000,000 bytes", "5,000,001", "download it again"):
        content_of(lie(tmp_path / "x.zip", 5_000_001))


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        (b"", ("is empty", "download it again")),
        (b"\n<!DOCTYPE html><html>", ("web page", "sign in")),
        (b"hello", ("not a tar, tgz or zip archive",)),
        (gzip.compress(b"hello", mtime=0), ("truncated or damaged", "truncated header")),
        (gzip.compress(b"h" * 2000, mtime=0), ("truncated or damaged", "invalid header")),
        (gzip.compress(b"", mtime=0), ("truncated or damaged", "empty file")),
        (b"\x1f\x8b" + b" hello" * 9, ("truncated or damaged", "Unknown compression method")),
    ],
)
def test_what_is_no_archive_is_told(tmp_path: Path, content: bytes, facts: tuple[str, ...]) -> None:
    (tmp_path / "x.zip").write_bytes(content)
    with refused("x.zip:", *facts):
        archives.members(tmp_path / "x.zip")


def test_a_zip_whose_members_begin_before_it_is_told(tmp_path: Path) -> None:
    path = pack(tmp_path / "x.zip", {"a": b"1"})
    data = bytearray(path.read_bytes())
    data[-6] += 10  # where the directory begins, as its end says
    path.write_bytes(data)
    with refused("damaged", "'a'", "download it again"):
        archives.members(path)


SMALL = {"S1/a": NOISE[:700], "S1/b": b"words " * 100, "c": b""}


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_cut_anywhere_is_told(tmp_path: Path, kind: str) -> None:
    path = pack(tmp_path / kind, SMALL)
    data = path.read_bytes()
    # A plain tar is complete with the first block of its end: three headers and four blocks of content before.
    whole = 8 * 512 if kind == "x.tar" else len(data)
    for length in [*range(0, whole - 512, 37), *range(whole - 512, whole, 64 if kind == "x.tar" else 1)]:
        path.write_bytes(data[:length])
        with refused("download it again"):
            archives.members(path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_archive_gives_its_files_or_one_sentence(tmp_path: Path, kind: str) -> None:
    path = pack(tmp_path / kind, SMALL)
    data, refusals = path.read_bytes(), 0
    for at in range(0, len(data), 5):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :])
        try:
            contents = content_of(path)
        except ValueError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            refusals += 1
        else:  # a plain tar has no sum over contents, a zip none over names
            assert contents == SMALL or kind != "x.tgz"
    assert refusals > len(data) / 5 * (0.1 if kind == "x.tar" else 0.5)


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path: Path) -> None:
    path = pack(tmp_path / "x.tar", {"a": b"1" * 512, "b": b"2"})
    data = bytearray(path.read_bytes())
    data[1024 + 5] ^= 1  # in the name of b
    path.write_bytes(data)
    with refused("end mark", "download it again"):
        archives.members(path)
    assert archives.read(path, "a", 512) == b"1" * 512  # the pass ends with the last one that is wanted


def fails_after(chunks: Iterator[bytes], count: int) -> Iterator[bytes]:
    for _, chunk in zip(range(count), chunks, strict=False):
        yield chunk
    raise ValueError("cut")


def test_a_file_is_there_complete_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "a.mp4"
    target.write_bytes(b"old")
    with pytest.raises(ValueError, match="cut"):
        archives.save(fails_after(iter([b"1", b"2", b"3"]), 2), target)
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"] and target.read_bytes() == b"old"
    archives.save(iter([b"1", b"2"]), target)
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"] and target.read_bytes() == b"12"


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_member_leaves_nothing(tmp_path: Path, kind: str) -> None:
    path = pack(tmp_path / kind, {"a": b"1" * 5000, "b": NOISE})
    path.write_bytes(path.read_bytes()[: 2 << 20] + (bytes(1 << 20) if kind == "x.zip" else b""))
    (tmp_path / "out").mkdir()
    with refused("download it again"):
        archives.extract(path, {"a": tmp_path / "out" / "a", "b": tmp_path / "out" / "b"})
    assert not (tmp_path / "out" / "b").exists() and not (tmp_path / "out" / "b.part").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_of_the_disk_stays_one(tmp_path: Path, kind: str) -> None:
    """A limit on the size of files stands for the full disk: writing fails half way."""
    path = pack(tmp_path / kind, {"a": NOISE})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            archives.extract(path, {"a": tmp_path / "a"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [file.name for file in tmp_path.iterdir()] == [kind]


@pytest.mark.parametrize("kind", KINDS)
def test_memory_does_not_grow_with_the_archive(tmp_path: Path, kind: str) -> None:
    path = pack(tmp_path / kind, {"a": bytes(40 << 20)})
    tracemalloc.start()
    try:
        archives.extract(path, {member.name: tmp_path / "a" for member in archives.members(path)})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (tmp_path / "a").stat().st_size == 40 << 20 and peak < 10 << 20


def test_headers_that_were_passed_are_forgotten(tmp_path: Path) -> None:
    path = tgz(tmp_path / "x.tgz", b"".join(header(f"{k}") for k in range(3000)) + bytes(1024))
    tracemalloc.start()
    try:
        count = sum(1 for _ in archives.walk(path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 3000 and peak < 2 << 20
