"""Part of a file as a file of its own, with another beginning, or with some bytes that read differently."""

from __future__ import annotations

from collections.abc import Sequence
from io import SEEK_CUR, SEEK_END, RawIOBase
from typing import Any, BinaryIO


class View(RawIOBase):
    """`prefix`, and then the bytes [start, end) of a file; `mends` are (offset in the file, bytes to read there).

    A header that claims what is there, one link of a chain, and an MP3 with a length in front are such views.
    """

    def __init__(
        self, file: BinaryIO, start: int, end: int, prefix: bytes = b"", mends: Sequence[tuple[int, bytes]] = ()
    ) -> None:
        self._file, self._start, self._prefix, self._mends = file, start, prefix, mends
        self._size = len(prefix) + max(end - start, 0)
        self._at = 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(offset + {SEEK_CUR: self._at, SEEK_END: self._size}.get(whence, 0), 0)
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")[: max(self._size - self._at, 0)]
        if self._at < len(self._prefix):
            piece = self._prefix[self._at : self._at + len(view)]
        else:
            start = self._start + self._at - len(self._prefix)
            self._file.seek(start)
            piece = self._file.read(len(view))
            for offset, data in self._mends:
                if start < offset + len(data) and offset < start + len(piece):
                    first, last = max(start, offset), min(start + len(piece), offset + len(data))
                    piece = piece[: first - start] + data[first - offset : last - offset] + piece[last - start :]
        view[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)
