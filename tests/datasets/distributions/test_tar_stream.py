"""The stream under `tarfile`: what a hostile tar could make its reader do, it does not do."""

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from datasets.distributions import archives
from datasets.distributions.archives import Limits
from datasets.distributions.tar_stream import HEADER_BYTES, TarStream
from tests.datasets.packing import header, tgz
from tests.refusals import refused

NOISE = np.random.default_rng(0).bytes(100_000)


def test_a_header_does_not_fill_the_memory(tmp_path: Path) -> None:
    path = tgz(tmp_path / "x.tgz", header("x", HEADER_BYTES + 1, tarfile.XHDTYPE) + bytes(1 << 20))
    with refused("truncated or damaged", "header"):
        archives.members(path)


def test_a_header_does_not_send_the_reader_back(tmp_path: Path) -> None:
    """A negative size, as tar's binary numbers can say it, would be read round and round."""
    block = bytearray(header("x"))
    block[124:136] = b"\xff" * 10 + b"\xfc\x00"  # -1024
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + 8 * 32 + sum(block[156:]))
    with refused("truncated or damaged"):
        archives.members(tgz(tmp_path / "x.tgz", header("a") + bytes(block) + bytes(1024)))


def stream_of(data: bytes, most: int) -> TarStream:
    return TarStream(io.BytesIO(data), most, lambda count: None)


@pytest.mark.parametrize("packed", [bytes, gzip.compress])
def test_the_stream_goes_forwards_only(packed: Callable[[bytes], bytes]) -> None:
    data = packed(NOISE)
    stream = stream_of(data, 100_000)
    assert stream.read(10) == NOISE[:10]
    stream.seek(50_000)
    assert (stream.tell(), stream.read(10)) == (50_000, NOISE[50_000:50_010])
    with pytest.raises(tarfile.ReadError, match="points backwards"):
        stream.seek(50_009)
    with pytest.raises(tarfile.ReadError, match="unpacks to more than 99,999 bytes"):
        stream_of(data, 99_999).read(200_000)


def test_what_follows_the_last_member_is_not_unpacked_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tgz(tmp_path / "x.tgz", header("a") + bytes(3_000_000))
    assert len(archives.members(path)) == 1
    monkeypatch.setattr(archives, "RATIO_FROM", 1 << 20)
    with refused("truncated or damaged", "2,097,152 bytes"):
        archives.members(path, Limits(ratio=1))
