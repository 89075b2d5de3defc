"""Bytes of a file by their place, the tags at both ends that are no sound, and parts of a file as files of their own.

The places are what a file claims: what is not there is missing, never an error.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from io import SEEK_CUR, SEEK_END, RawIOBase
from typing import Any, BinaryIO

from latentsr.audio.tags import id3

MAX_TAGS = 64  # that stand one behind the other


def size_of(file: BinaryIO) -> int:
    """Bytes of an open file; its position is changed."""
    return file.seek(0, SEEK_END)


def bytes_at(file: BinaryIO, offset: int, count: int) -> bytes:
    """What there is of `count` bytes from `offset` on."""
    if not 0 <= offset < file.seek(0, SEEK_END):  # a claim may lie where no file can be sought
        return b""
    file.seek(offset)
    return file.read(count)


def unpack(file: BinaryIO, offset: int, layout: str) -> tuple[Any, ...]:
    """The numbers at `offset`, laid out as `struct` says; zeros behind the end of the file."""
    size = struct.calcsize(layout)
    return struct.unpack(layout, bytes_at(file, offset, size).ljust(size, b"\0"))


def tags_end(file: BinaryIO, start: int) -> int:
    """Where tags (ID3v2, ID3v1, APEv2) that stand at `start` end; `start` where there is none."""
    for _ in range(MAX_TAGS):
        head = bytes_at(file, start, 32)
        if head[:3] == b"ID3" and (size := id3.size(head[:10])):
            start += size
        elif head[:3] == b"TAG" and len(bytes_at(file, start, 128)) == 128:
            start += 128
        elif head[:8] == b"APETAGEX" and len(head) == 32:
            count, flags = struct.unpack("<I4xI", head[12:24])
            start += count + 32 if flags & 0x20000000 else 32  # a header, or a footer that stands alone
        else:
            break
    return start


def tags_begin(file: BinaryIO, start: int, end: int) -> int:
    """Where tags (ID3v1, APEv2, Lyrics3, ID3v2.4) that end at `end` begin; `end` where there is none."""
    for _ in range(MAX_TAGS):
        tail = bytes_at(file, max(end - 227 - 128, start), min(end - start, 227 + 128))
        size = 0
        if tail[-128:-125] == b"TAG":
            size = 128 + (227 if tail[:4] == b"TAG+" else 0)
        elif tail[-32:-24] == b"APETAGEX":
            count, flags = struct.unpack("<I4xI", tail[-20:-8])
            size = count + (32 if flags & 0x80000000 else 0)
        elif tail[-9:] == b"LYRICS200" and tail[-15:-9].isdigit():
            size = int(tail[-15:-9]) + 15
        elif tail[-9:] == b"LYRICSEND":
            at = bytes_at(file, max(end - 5_200, start), 5_200).find(b"LYRICSBEGIN")
            size = 0 if at < 0 else min(5_200, end - start) - at
        elif tail[-10:-7] == b"3DI":
            size = id3.size(b"ID3" + tail[-7:])
        if not 0 < size <= end - start:
            break
        end -= size
    return end


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
