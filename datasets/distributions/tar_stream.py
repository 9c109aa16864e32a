"""The tar inside a file as `tarfile` is let read it: forwards only, in pieces of bounded size, not for ever."""

import gzip
import io
import tarfile
from collections.abc import Callable

CHUNK = 1 << 20
HEADER_BYTES = 16 << 20  # tarfile reads a header's extension in one piece, however long it claims to be


class TarStream:
    """A plain or gzipped tar, unzipped, as a file object.

    No header can send its reader back to what was read (and round in circles), have gigabytes read at once,
    or have more unzipped than `limit` bytes; `tarfile.ReadError` is raised then. `last` is what was read last.
    """

    def __init__(self, file: io.BufferedIOBase, limit: int, progress: Callable[[int], object]) -> None:
        """Args: file: at its start. limit: bytes. progress: called with the file's bytes that were passed."""
        gzipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        self._file = file
        self._unzipped = gzip.GzipFile(fileobj=file, mode="rb") if gzipped else None
        self._limit, self._progress = limit, progress
        self._position = self._reported = 0
        self.last = b""

    def read(self, size: int) -> bytes:
        if size > HEADER_BYTES:
            raise tarfile.ReadError(f"it has a header of {size:,} bytes")
        self.last = (self._unzipped or self._file).read(size)
        self._move(self._position + len(self.last))
        return self.last

    def seek(self, position: int) -> None:
        if position < self._position:
            raise tarfile.ReadError("a header points backwards")
        if self._unzipped is None:
            self._move(self._file.seek(position))
        while self._position < position and self.read(min(CHUNK, position - self._position)):
            pass

    def tell(self) -> int:
        return self._position

    def _move(self, position: int) -> None:
        self._position = position
        if position > self._limit:
            raise tarfile.ReadError(f"it unpacks to more than {self._limit:,} bytes")
        passed = self._file.tell()
        self._progress(passed - self._reported)
        self._reported = passed
