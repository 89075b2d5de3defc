"""The boxes of an MP4 file, looked over before FFmpeg allocates what their tables claim."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from latentsr.audio.spans import size_of, unpack

MAX_BOXES = 200_000
MAX_PACKETS = 20_000_000  # in fragments, whose packets need not have a byte of their own: 8 days of AAC

_PARENTS = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf")
_ENTRY_BYTES = {b"stts": 8, b"ctts": 8, b"stsc": 12, b"stco": 4, b"co64": 8}


def index_is_lost(file: BinaryIO) -> bool:
    """Whether the index without which nothing can be decoded lay where the file was cut off."""
    size = size_of(file)
    return not any(name == b"moov" and offset + length <= size for name, offset, length in _boxes(file, 0, size))


def lie(file: BinaryIO) -> str | None:
    """What a table claims that the file cannot hold; None if all of them fit."""
    size = size_of(file)
    packets = 0
    for name, offset, length in _tables(file, size):
        count, needed = _claim(name, *unpack(file, offset, ">III"))
        packets += count if name == b"trun" else 0
        if needed > min(length, size) or (name in (b"stsz", b"trun") and count > size) or packets > MAX_PACKETS:
            return f"its table {name.decode()} claims {count} entries, which it cannot hold"
    return None


def _claim(name: bytes, first: int, second: int, third: int) -> tuple[int, int]:
    """(entries, bytes for them) that the first three numbers of a table claim."""
    if name == b"stsz":  # second: one size for all, or 0
        return third, 0 if second else 4 * third
    if name == b"stz2":
        return third, third * (second & 0xFF) // 8
    if name == b"trun":
        return second, second * 4 * (first & 0xF00).bit_count()
    return second, second * _ENTRY_BYTES.get(name, 0)


def _tables(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int, int]]:
    """(name, offset of the body, its length) of the tables at any depth, as far as `MAX_BOXES` boxes go."""
    levels, seen = [_boxes(file, 0, size)], 0
    while levels and seen < MAX_BOXES:
        seen += 1
        if (box := next(levels[-1], None)) is None:
            levels.pop()
            continue
        name, offset, length = box
        if name in _PARENTS:
            levels.append(_boxes(file, offset, min(offset + length, size)))
        elif name in _ENTRY_BYTES or name in (b"stsz", b"stz2", b"trun"):
            yield box


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(name, offset of the body, claimed length of it) of the boxes that begin in [start, end)."""
    offset = start
    for _ in range(MAX_BOXES):
        if offset + 8 > end:
            return
        length, name, wide = unpack(file, offset, ">I4sQ")
        body = 8
        if length == 1:
            length, body = wide, 16
        elif length == 0:  # to the end of the file
            length = end - offset
        yield name, offset + body, max(length - body, 0)
        offset += max(length, body)


def further_files(file: BinaryIO, end: int) -> Iterator[int]:
    """Where another MP4 file begins behind a whole one: a file type behind an index."""
    whole = False
    for name, offset, length in _boxes(file, 0, end):
        if name == b"moov":
            whole = True
        elif name == b"ftyp" and whole and offset + length <= end:
            whole = False
            yield offset - 8
