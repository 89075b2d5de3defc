"""The chunks of RIFF, RF64, BW64 and AIFF files: found with bounded sizes, and packed again.

`read` takes any seekable binary file and never raises for its content: sizes are claims, and what is
too big, beyond the end or unknown is left out and noted. Times inside the chunks are the business
of `latentsr.audio.tags.broadcast`.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO

from latentsr.audio.spans import bytes_at, size_of, unpack
from latentsr.audio.tags.metadata import MAX_BYTES, MAX_ITEM_BYTES, Chunk, listed, megabytes

MAX_CHUNKS = 10_000
UNKNOWN = 0xFFFFFFFF  # a size that stands in ds64, or that a pipe did not know
EXTENSIBLE = 0xFFFE  # WAVE_FORMAT_EXTENSIBLE

# Chunks that stay true of other samples of the same sound, once their times are counted anew.
CARRIED = frozenset(
    {b"bext", b"ubxt", b"iXML", b"axml", b"bxml", b"sxml", b"chna", b"dbmd", b"cart", b"_PMX", b"cue ", b"smpl"}
    | {b"inst", b"umid"}
)
_XML = frozenset({b"iXML", b"axml", b"sxml", b"_PMX"})
# The file's own structure, made anew with every file; ID3 and LIST INFO are read as tags.
_STRUCTURE = frozenset(
    {b"fmt ", b"data", b"fact", b"PEAK", b"ds64", b"JUNK", b"junk", b"PAD ", b"FLLR", b"filr", b"id3 ", b"ID3 "}
)
_AIFF_STRUCTURE = frozenset({b"COMM", b"SSND", b"FVER", b"NAME", b"AUTH", b"(c) ", b"ANNO", b"PEAK", b"ID3 ", b"id3 "})

INFO = {
    "title": b"INAM", "artist": b"IART", "album": b"IPRD", "date": b"ICRD", "genre": b"IGNR", "comment": b"ICMT",
    "copyright": b"ICOP", "tracknumber": b"ITRK", "engineer": b"IENG", "technician": b"ITCH", "keywords": b"IKEY",
    "subject": b"ISBJ", "media": b"IMED", "source": b"ISRC", "sourceform": b"ISRF", "archivallocation": b"IARL",
    "commissioned": b"ICMS", "language": b"ILNG",
}  # fmt: skip
_INFO_NAMES = {name: key for key, name in INFO.items()} | {b"IPRT": "tracknumber", b"ISFT": "software"}


@dataclass(frozen=True)
class Riff:
    """What a file holds beside its samples."""

    chunks: tuple[Chunk, ...] = ()  # those that are carried, in order
    info: tuple[tuple[str, str], ...] = ()  # (name, text) of LIST INFO
    id3: bytes = b""  # the content of the ID3 chunk
    sample_rate: int | None = None  # Hz, of the fmt chunk
    channel_mask: int | None = None
    notes: tuple[str, ...] = ()


def read(file: BinaryIO) -> Riff:
    """The chunks of a RIFF, RF64, BW64 or AIFF file that are worth carrying; an empty answer for every other file.

    At most 16 MiB a chunk and 64 MiB in all, and notes of what was left out.
    """
    head = bytes_at(file, 0, 12)
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return _sorted_out(file, ">", _AIFF_STRUCTURE, frozenset())
    if head[8:12] != b"WAVE" or head[:4] not in (b"RIFF", b"RF64", b"BW64"):
        return Riff()
    return _sorted_out(file, "<", _STRUCTURE, CARRIED)


def scan(file: BinaryIO, order: str = "<") -> Iterator[tuple[bytes, int, int]]:
    """(name, offset of the content, size) of each chunk, at most 10,000; the last may claim more than is there.

    `order`: "<" for RIFF and RF64, ">" for AIFF.
    """
    end, at = size_of(file), 12
    sizes: dict[bytes, int] = {}
    for _ in range(MAX_CHUNKS):
        name, size = unpack(file, at, order + "4sI")
        if at + 8 > end or not is_name(name):
            return
        if size == UNKNOWN:
            size = sizes.get(name, UNKNOWN)
        if name == b"ds64" and order == "<":
            sizes = _wide_sizes(bytes_at(file, at + 8, min(size, 28 + 12 * 100)))
        yield name, at + 8, size
        if at + 8 + size >= end:
            return
        at += 8 + size + _padding(file, at + 8 + size, order)


def pack(chunks: tuple[Chunk, ...] | list[Chunk], order: str = "<") -> bytes:
    """Chunks as they stand in a file, each padded to an even length.

    >>> pack([Chunk(b"test", b"abc")])
    b'test\\x03\\x00\\x00\\x00abc\\x00'
    """
    return b"".join(
        chunk.id + struct.pack(order + "I", len(chunk.data)) + chunk.data + b"\0" * (len(chunk.data) % 2)
        for chunk in chunks
    )


def even(chunk: Chunk) -> Chunk:
    """The chunk with an even number of bytes: libsndfile skips no padding in RF64, and would find no samples."""
    filler = b" " if chunk.id in _XML else b"\0"  # what XML, ID3 and a coding history may end with
    return chunk if len(chunk.data) % 2 == 0 else Chunk(chunk.id, chunk.data + filler)


def info_chunk(tags: Mapping[str, str]) -> Chunk | None:
    """LIST INFO of the tags that have a name there, in UTF-8; None where none has."""
    entries = [Chunk(INFO[key], text.encode("utf-8", "replace") + b"\0") for key, text in tags.items() if key in INFO]
    return Chunk(b"LIST", b"INFO" + pack(entries)) if entries else None


def fix_sizes(file: BinaryIO, size: int) -> None:
    """Write the size of a finished file of `size` bytes into its header: RIFF, RF64 or AIFF."""
    offset, layout = {b"RIFF": (4, "<I"), b"FORM": (4, ">I"), b"RF64": (20, "<Q")}[bytes_at(file, 0, 4)]
    file.seek(offset)
    file.write(struct.pack(layout, size - 8))


def fix_channel_mask(file: BinaryIO, mask: int) -> None:
    """Write which speakers the channels of a finished WAVE_FORMAT_EXTENSIBLE file are for."""
    offset = next(offset for name, offset, _ in scan(file) if name == b"fmt ")
    file.seek(offset + 20)
    file.write(struct.pack("<I", mask))


def offset_of(file: BinaryIO, wanted: bytes, order: str = "<") -> int:
    """Where the header of the first chunk of that name begins."""
    return next(offset - 8 for name, offset, _ in scan(file, order) if name == wanted)


def _sorted_out(file: BinaryIO, order: str, structure: frozenset[bytes], carried: frozenset[bytes]) -> Riff:
    chunks: list[Chunk] = []
    info: list[tuple[str, str]] = []
    id3, rate, mask = b"", None, None
    notes: dict[str, None] = {}
    total, end, unknown = 0, size_of(file), dict[str, None]()
    for name, offset, size in scan(file, order):
        kind = bytes_at(file, offset, 4) if name == b"LIST" else b""
        if name == b"fmt ":
            rate, mask = _format(bytes_at(file, offset, min(size, 40)))
        elif name in carried or kind in (b"INFO", b"adtl") or name in (b"id3 ", b"ID3 "):
            if offset + size > end or size > MAX_ITEM_BYTES or (total := total + size) > MAX_BYTES:
                why = "the file ends before it does" if offset + size > end else "too big"
                notes[f"the chunk {_shown(name)} of {megabytes(size)} is not carried: {why}"] = None
                continue
            data = bytes_at(file, offset, size)
            if kind == b"INFO":
                info += _info(data)
            elif name in (b"id3 ", b"ID3 "):
                id3 = id3 or data
            else:
                chunks.append(Chunk(name, data))
        elif name not in structure:
            unknown[_shown(name)] = None
    if unknown:
        notes[f"{listed(list(unknown))}: chunks that are not known, and not carried"] = None
    return Riff(tuple(chunks), tuple(info), id3, rate, mask, tuple(notes))


def _info(data: bytes) -> Iterator[tuple[str, str]]:
    # The scanner skips the 12 bytes of a file's own header: "INFO" is 4 of them.
    for name, offset, size in scan(io.BytesIO(b"\0" * 8 + data)):
        if name in _INFO_NAMES:
            yield _INFO_NAMES[name], _text(data[offset - 8 : offset - 8 + size])


def _text(data: bytes) -> str:
    """Text of LIST INFO, which has no word for its encoding: UTF-8 where it is valid, else that of Windows."""
    data = data.rstrip(b"\0")
    for encoding in ("utf-8", "cp1252"):
        with suppress(UnicodeDecodeError):
            return data.decode(encoding)
    return data.decode("latin-1")


def _format(data: bytes) -> tuple[int | None, int | None]:
    """Rate in Hz and channel mask of a fmt chunk."""
    if len(data) < 16:
        return None, None
    tag, _, rate = struct.unpack("<HHI", data[:8])
    mask = struct.unpack("<I", data[20:24])[0] if tag == EXTENSIBLE and len(data) >= 40 else None
    return rate or None, mask


def _wide_sizes(body: bytes) -> dict[bytes, int]:
    """The sizes of more than 32 bits in a ds64 chunk: of `data`, and of what its table names."""
    if len(body) < 28:
        return {}
    data, count = struct.unpack_from("<8xQ8xI", body)
    table = body[28 : 28 + 12 * count]
    return {b"data": data, **dict(struct.iter_unpack("<4sQ", table[: len(table) // 12 * 12]))}


def _padding(file: BinaryIO, end: int, order: str) -> int:
    """1 where a chunk that ends at an odd offset is padded; some writers forget it."""
    if end % 2 == 0:
        return 0
    behind = bytes_at(file, end, 4)
    if len(behind) < 4 or behind[0] == 0 or not is_name(behind):
        return 1
    padded, size = unpack(file, end + 1, order + "4sI")
    return int(is_name(padded) and end + 9 + size <= size_of(file))  # else its first letter would be the padding


def is_name(name: bytes) -> bool:
    """Whether four bytes may name a chunk."""
    return len(name) == 4 and all(0x20 <= byte < 0x7F for byte in name)


def _shown(name: bytes) -> str:
    return name.decode("latin-1").strip()
