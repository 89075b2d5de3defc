"""Bytes of a file by their place, which the file itself claims: what is not there is missing, never an error."""

from __future__ import annotations

import io
import struct
from typing import Any, BinaryIO


def size_of(file: BinaryIO) -> int:
    """Bytes of an open file; its position is changed."""
    return file.seek(0, io.SEEK_END)


def bytes_at(file: BinaryIO, offset: int, count: int) -> bytes:
    """What there is of `count` bytes from `offset` on."""
    if not 0 <= offset < size_of(file):  # a claim may lie where no file can be sought
        return b""
    file.seek(offset)
    return file.read(count)


def unpack(file: BinaryIO, offset: int, layout: str) -> tuple[Any, ...]:
    """The numbers at `offset`, laid out as `struct` says; zeros behind the end of the file."""
    size = struct.calcsize(layout)
    return struct.unpack(layout, bytes_at(file, offset, size).ljust(size, b"\0"))
