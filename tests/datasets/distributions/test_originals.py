"""Files of a distribution: one listing for every way of packing them, and the same bytes out of each."""

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from datasets.distributions import archives, originals
from datasets.distributions.originals import File
from tests.datasets.packing import pack
from tests.refusals import refused

VIDEO = np.random.default_rng(1).bytes(20_000)
CONTENT = {
    "S1/Videos/Sitting 1.mp4": VIDEO,
    "S1/Videos/Sitting.mp4": VIDEO[::-1],
    "S1/a.cdf": b"",
    "m.xml": b"<a/>",
}


def lay(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def packed(suffix: str, files: Mapping[str, bytes], tmp_path: Path) -> bytes:
    return pack(tmp_path / f"packing{suffix}", files).read_bytes()


@pytest.fixture
def nest(tmp_path: Path) -> Path:
    """Loose files, a tgz, a zip in a tgz, a tgz in a zip, beside what is to be left out."""
    inner = packed(
        ".zip", {"video_0.avi": VIDEO, "deep.zip": b"not opened", ".x": b"", "__MACOSX/._y": b""}, tmp_path
    )
    outer = {"S2/imageSequence/vnect.zip": inner, "S2/annot.mat": b"mat", "S2/.hidden/z": b""}
    tar, tiny = packed(".tgz", {"c d.mp4": VIDEO}, tmp_path), packed(".zip", {"e": b"e"}, tmp_path)
    return lay(
        tmp_path / "source",
        {
            **CONTENT,
            "archives/one.tgz": packed(".tgz", CONTENT, tmp_path),
            "two.TGZ": packed(".tgz", outer, tmp_path),
            "three.zip": packed(".zip", {"x/b.tar.gz": tar, "tiny.zip": tiny}, tmp_path),
            ".cache/x.mp4": b"",
            "S1/._a.cdf": b"",
            "__MACOSX/x": b"",
        },
    )


NEST = {
    **CONTENT,
    **{f"archives/one.tgz/{name}": content for name, content in CONTENT.items()},
    "three.zip/tiny.zip/e": b"e",
    "three.zip/x/b.tar.gz/c d.mp4": VIDEO,
    "two.TGZ/S2/annot.mat": b"mat",
    "two.TGZ/S2/imageSequence/vnect.zip/deep.zip": b"not opened",
    "two.TGZ/S2/imageSequence/vnect.zip/video_0.avi": VIDEO,
}


def test_archives_are_folders_two_levels_deep(nest: Path) -> None:
    files = originals.scan(nest)
    assert {file.path: file.size for file in files} == {path: len(content) for path, content in NEST.items()}
    assert [file.path for file in files] == sorted(NEST)
    by_path = {file.path: file for file in files}
    video = by_path["two.TGZ/S2/imageSequence/vnect.zip/video_0.avi"]
    changed = (nest / "two.TGZ").stat().st_mtime_ns
    members = ("S2/imageSequence/vnect.zip", "video_0.avi")
    assert video == File(video.path, len(VIDEO), "two.TGZ", members, str(nest), changed)
    loose = by_path["m.xml"]
    assert loose == File("m.xml", 4, "", (), str(nest), (nest / "m.xml").stat().st_mtime_ns)


def test_every_file_reads_the_same_wherever_it_lies(nest: Path, tmp_path: Path) -> None:
    files = originals.scan(nest)
    assert {file.path: originals.read_bytes(file) for file in files} == NEST
    for archive in {file.archive for file in files if file.archive}:
        originals.unpack([file for file in files if file.archive == archive], tmp_path / "unpacked")
    assert {f.path: originals.locate(f, tmp_path / "unpacked").read_bytes() for f in files} == NEST
    names = sorted(originals.unpacked_name(file) for file in files if file.archive)
    assert names == sorted(place.name for place in (tmp_path / "unpacked").iterdir())  # and no spool is left


@pytest.mark.parametrize("suffix", [".tgz", ".zip", ".tar"])
def test_a_single_archive_is_a_source(tmp_path: Path, suffix: str) -> None:
    path = pack(tmp_path / f"S1{suffix}", CONTENT)
    files = originals.scan(path)
    assert [file.path for file in files] == sorted(f"S1{suffix}/{name}" for name in CONTENT)
    assert {file.path[len(path.name) + 1 :]: originals.read_bytes(file) for file in files} == CONTENT


def test_relative_sources_are_found_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(tmp_path / "source", {"m.xml": b"1"})
    monkeypatch.chdir(tmp_path)
    [file] = originals.scan("source")
    monkeypatch.chdir("/")
    assert originals.read_bytes(file) == b"1" and file.source == str(tmp_path / "source")


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    lay(tmp_path / "elsewhere", {"S1/a.mp4": b"1", "b.mp4": b"22"})
    source = lay(tmp_path / "source", {"c.mp4": b"333"})
    (source / "data").symlink_to(tmp_path / "elsewhere")
    (source / "d.mp4").symlink_to(tmp_path / "elsewhere" / "b.mp4")
    (tmp_path / "elsewhere" / "S1" / "round").symlink_to(tmp_path / "elsewhere")
    (source / "self").symlink_to(source)
    os.mkfifo(source / "pipe")
    sizes = {file.path: file.size for file in originals.scan(source)}
    assert sizes == {"data/S1/a.mp4": 1, "data/b.mp4": 2, "c.mp4": 3, "d.mp4": 2}
    (source / "lost").symlink_to(tmp_path / "nowhere")
    with refused("source/lost", "link", "nowhere"):
        originals.scan(source)


def test_bad_sources_are_told(tmp_path: Path) -> None:
    with refused("nowhere", "does not exist"):
        originals.scan(tmp_path / "nowhere")
    lay(tmp_path, {"empty/.hidden": b"", "x.mp4": b"", "bad/S1.tgz": b"<html>", "none/f.tgz": b""})
    pack(tmp_path / "none" / "f.tgz", {"folder/": b""})
    for folder in ("empty", "none"):
        with refused(folder, "holds no file"):
            originals.scan(tmp_path / folder)
    with refused("x.mp4", ".tgz", ".tar.gz", ".tar", ".zip"):
        originals.scan(tmp_path / "x.mp4")
    with refused("bad/S1.tgz", "web page"):
        originals.scan(tmp_path / "bad")


def test_a_damaged_archive_in_an_archive_is_named_by_both(tmp_path: Path) -> None:
    inner = packed(".zip", {"a.avi": VIDEO}, tmp_path)
    path = pack(tmp_path / "o.tgz", {"x/i.zip": inner[:-30], "y.mp4": b""})
    with refused(f"{path}/x/i.zip", "truncated or damaged"):
        originals.scan(path, tmp_path / "work")
    nested = File("o.tgz/x/i.zip/a.avi", 20_000, "o.tgz", ("x/i.zip", "a.avi"), str(tmp_path), 0)
    for read in (originals.read_bytes, lambda file: originals.unpack([file], tmp_path / "work")):
        with refused(f"{path}/x/i.zip", "truncated or damaged"):
            read(nested)
    assert not list((tmp_path / "work").iterdir())  # no spool, and no listing of what could not be listed


def count_walks(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The archives that are gone through from now on."""
    walked: list[Path] = []
    walk = archives.walk

    def counted(path: Path, *args: object, **kwargs: object) -> object:
        walked.append(path)
        return walk(path, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(archives, "walk", counted)
    return walked


def test_listings_are_kept(nest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work, walked, passed = tmp_path / "work", count_walks(monkeypatch), [list[int](), list[int]()]
    files = originals.scan(nest, work, passed[0].append)
    assert len(walked) == 6 and len(list(work.iterdir())) == 3  # three of them lie in others
    walked.clear()
    assert originals.scan(nest, work, passed[1].append) == files == originals.scan(nest) and len(walked) == 6
    sizes = sum((nest / name).stat().st_size for name in ("two.TGZ", "three.zip", "archives/one.tgz"))
    assert sum(passed[1]) == sizes and sum(passed[0]) == pytest.approx(sizes, rel=0.2)  # a zip's own tables


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-5],
        lambda text: "",
        lambda text: "\ufffd" * 9,
        lambda text: "[1]",
        lambda text: json.dumps({**json.loads(text), "key": [0]}),
        lambda text: json.dumps({**json.loads(text), "files": [["name"]]}),
        lambda text: json.dumps({**json.loads(text), "files": [[["m.xml"], None]]}),
        lambda text: json.dumps({**json.loads(text), "files": 3}),
    ],
)
def test_a_damaged_listing_is_made_again(tmp_path: Path, damage: Callable[[str], str]) -> None:
    path, work = pack(tmp_path / "S1.tgz", CONTENT), tmp_path / "work"
    files = originals.scan(path, work)
    [kept] = work.iterdir()
    good = kept.read_text()
    kept.write_text(damage(good))
    assert originals.scan(path, work) == files and kept.read_text() == good


def test_a_changed_archive_is_listed_again(tmp_path: Path) -> None:
    source, work = tmp_path / "source", tmp_path / "source" / "work"
    source.mkdir()
    path = pack(source / "S1.tar", {"a.mp4": b"1"})
    first = originals.scan(source, work)
    pack(path, {"b.mp4": b"1"})  # of the same size
    os.utime(path, ns=(0, first[0].modified + 1000))
    second = originals.scan(source, work)
    # The work folder is no source.
    assert [file.path for file in first + second] == ["S1.tar/a.mp4", "S1.tar/b.mp4"]
    pack(path, {"c.mp4": bytes(20_000)})
    os.utime(path, ns=(0, second[0].modified))  # of the same time
    assert [file.path for file in originals.scan(source, work)] == ["S1.tar/c.mp4"]
    assert originals.unpacked_name(first[0]) != originals.unpacked_name(
        dataclasses.replace(first[0], modified=1)
    )


def test_names_of_unpacked_files_are_ours() -> None:
    base = File("a.zip/x.mp4", 1, "a.zip", ("x.mp4",), "s", 0)
    others = [
        dataclasses.replace(base, path="a.zip/x/y.b/v.AVI", members=("x", "y.b/v.AVI")),
        dataclasses.replace(base, path="a.zip/x/y.b/v", members=("x/y.b", "v")),
        dataclasses.replace(base, path="a.zip/v.m p", members=("v.m p",)),
        dataclasses.replace(base, path="a.zip/v.7z\n", members=("v.7z\n",)),
        dataclasses.replace(base, archive="b.zip"),
    ]
    names = [originals.unpacked_name(file) for file in (base, *others)]
    assert len(set(names)) == 6 and names[0] == originals.unpacked_name(dataclasses.replace(base, size=2))
    assert [name[32:] for name in names] == [".mp4", ".AVI", "", "", "", ".mp4"]
    assert all(re.fullmatch("[0-9a-f]{32}", name[:32]) for name in names)


def test_what_is_unpacked_stays_and_only_the_rest_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = originals.scan(pack(tmp_path / "S1.tgz", CONTENT))
    folder, written, walked = tmp_path / "deep" / "er", list[int](), count_walks(monkeypatch)
    originals.unpack(files[:2], folder, progress=written.append)
    [old, changed] = (originals.locate(file, folder) for file in files[:2])
    os.utime(old, (1, 1))
    changed.write_bytes(b"cut")
    originals.unpack(files, folder, progress=written.append)
    assert old.stat().st_mtime == 1 and len(walked) == 2
    assert {file.path[7:]: originals.locate(file, folder).read_bytes() for file in files} == CONTENT
    assert sum(written) == sum(file.size for file in (*files[:2], *files))
    originals.unpack(files, folder)
    assert len(walked) == 2


def test_one_pass_over_an_archive_and_each_archive_in_it(
    nest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [file for file in originals.scan(nest) if file.archive == "two.TGZ"]
    walked = count_walks(monkeypatch)
    originals.unpack(files, tmp_path / "out")
    assert len(walked) == 2 and walked[0] == nest / "two.TGZ"


def test_unpacking_is_of_one_archive(nest: Path, tmp_path: Path) -> None:
    by_path = {file.path: file for file in originals.scan(nest)}
    one, three = by_path["archives/one.tgz/m.xml"], by_path["three.zip/x/b.tar.gz/c d.mp4"]
    with pytest.raises(
        ValueError, match="2 files of 2 archives are to be unpacked in one pass; members of one"
    ):
        originals.unpack([one, three], tmp_path / "out")
    for files in ([one, by_path["m.xml"]], [by_path["m.xml"]], []):
        with pytest.raises(ValueError, match="members of one archive were expected"):
            originals.unpack(files, tmp_path / "out")
    with refused("one.tgz", "'S1/Videos/Sitting 1.mp4'", "20,000"):
        originals.unpack([one], tmp_path / "out", archives.Limits(member_bytes=100))
    gone = dataclasses.replace(one, members=("gone",))
    with refused("one.tgz", "'gone'"):
        originals.unpack([gone], tmp_path / "out")


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    files = originals.scan(pack(tmp_path / "S1.zip", CONTENT))
    with refused("S1.zip/S1/Videos/Sitting 1.mp4", "out"):
        originals.locate(files[0], tmp_path / "out")
    lay(tmp_path / "out", {originals.unpacked_name(files[0]): VIDEO[1:]})
    with refused("not unpacked"):
        originals.locate(files[0], tmp_path / "out")
    with refused("Sitting 1.mp4", "20,000 bytes", "19,999"):
        originals.read_bytes(files[0], 19_999)
    (tmp_path / "S1.zip").unlink()
    with pytest.raises(FileNotFoundError, match="S1.zip"):
        originals.read_bytes(files[0])


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def test_checksums_that_differ_are_warnings(tmp_path: Path) -> None:
    source = lay(
        tmp_path, {"S1.tgz": b"1", "deep/S5.tgz": b"5", "S9.tgz": b"9", "S11.tgz": b"11", "a.mp4": b"a"}
    )
    lines = [
        f"{md5(b'1')}  archives/S1.tgz",  # found by its file name
        f"{md5(b'x').upper()} *./deep/S5.tgz",
        f"{md5(b'x')}  S9.tgz",
        f"{md5(b'x')}  S11.tgz",
        f"{md5(b'11')}  S11.tgz",  # either will do
        f"{md5(b'x')}  a.mp4",
        f"{md5(b'x')}  not_here.tgz",
        f"{'0' * 64}  S1.tgz",
        "# a remark",
    ]
    lay(source, {"checksums.txt": "\n".join(lines).encode(), "S9.tgz.MD5": f"{md5(b'y')}  S9.tgz\n".encode()})
    summed: list[int] = []
    warnings = originals.checksum_warnings(source, summed.append)
    assert len(warnings) == 2 and sum(summed) == 5
    assert warnings[0] == (
        f"S9.tgz: its MD5 sum is {md5(b'9')}, not {md5(b'y')} or {md5(b'x')} as S9.tgz.MD5 and checksums.txt would "
        "have it; the download may be damaged (genuine ones are known to differ, too)"
    )
    assert warnings[1].startswith(
        f"deep/S5.tgz: its MD5 sum is {md5(b'5')}, not {md5(b'x')} as checksums.txt would"
    )
    assert originals.checksum_warnings(source / "S1.tgz") == ()


def test_lists_of_archives_of_one_name_mean_the_one_beside_them(tmp_path: Path) -> None:
    source = lay(tmp_path, {f"s{k}/Videos.tgz": b"%d" % k for k in (1, 5)})
    lay(
        source,
        {
            "s1/MD5SUMS": f"{md5(b'1')}  Videos.tgz".encode(),
            "s5/md5sums.txt": f"{md5(b'1')}  Videos.tgz".encode(),
        },
    )
    assert [said.split(":")[0] for said in originals.checksum_warnings(source)] == ["s5/Videos.tgz"]
    lay(source, {"x.md5": f"{md5(b'9')}  Videos.tgz".encode()})  # of which of the two, it does not say
    assert len(originals.checksum_warnings(source)) == 1
