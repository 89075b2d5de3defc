"""What a file claims about itself, read from its first bytes without a decoder.

libsndfile clamps a lying or truncated header to what is there and says nothing, so the claims are
compared with the file here. Everything is read with bounded sizes; nothing is allocated from a claim.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from mmap import mmap


class AudioError(ValueError):
    """A recording that cannot be read or written; the message says what is wrong and what to do."""


# Lengths that mean "not known yet": what ffmpeg and sox write into a pipe.
UNKNOWN_BYTES = (0xFFFFFFFF, 0x7FFFF000)
MAX_CHUNKS = 10_000


@dataclass(frozen=True)
class Claim:
    """What the header of an uncompressed container claims, beside what is there."""

    data_bytes: int | None  # size of the audio; None = written by a pipe, not known
    present_bytes: int  # what follows the start of the audio
    channels: int | None = None
    sample_rate: int | None = None


@dataclass(frozen=True)
class Foreign:
    """A kind of file that libsndfile cannot read, and the FFmpeg demuxer that can."""

    label: str
    demuxer: str


# (offset, first bytes, what it is); the demuxer is named so that FFmpeg never guesses one from hostile content.
_MAGIC = (
    (4, b"ftyp", Foreign("MP4 / M4A", "mov")),
    (0, bytes.fromhex("3026b2758e66cf11"), Foreign("WMA (ASF)", "asf")),
    (0, bytes.fromhex("1a45dfa3"), Foreign("Matroska / WebM", "matroska")),
    (0, b"\xff\xf1", Foreign("AAC", "aac")),
    (0, b"\xff\xf9", Foreign("AAC", "aac")),
    (0, b"wvpk", Foreign("WavPack", "wv")),
    (0, b"MAC ", Foreign("Monkey's Audio", "ape")),
    (0, b"DSD ", Foreign("DSD", "dsf")),
    (0, b"FLV\x01", Foreign("Flash video", "flv")),
    (0, b"\x0b\x77", Foreign("AC-3", "ac3")),
)


def foreign(head: bytes) -> Foreign | None:
    """The kind of a file that needs PyAV, from its first 64 bytes; None for anything else."""
    return next((kind for offset, magic, kind in _MAGIC if head[offset:].startswith(magic)), None)


def is_text(head: bytes) -> bool:
    """Whether the first bytes are printable text (HTML, JSON, a playlist, a log)."""
    return bool(head) and all(byte >= 0x80 or 32 <= byte < 127 or byte in b"\t\r\n\f" for byte in head)


def claim(file: FileIO) -> Claim | None:
    """The claim of a RIFF, RF64, Wave64, AIFF or AU file; None for every other kind."""
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    head = file.read(40)
    if head[8:12] == b"WAVE" and head[:4] in (b"RIFF", b"RF64", b"BW64", b"RIFX"):
        return _riff(file, size, ">" if head[:4] == b"RIFX" else "<")
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return _aiff(file, size)
    if head[:4] == b"riff" and head[24:28] == b"wave":
        return _wave64(file, size)
    if head[:4] == b".snd" and len(head) >= 24:
        offset, data, _, rate, channels = struct.unpack(">5I", head[4:24])
        return Claim(None if data in UNKNOWN_BYTES else data, max(size - offset, 0), channels, rate)
    return None


def mpeg_samples(data: bytes | mmap) -> int | None:
    """Samples per channel in an MPEG layer III stream without a Xing or VBRI header, from its frame headers.

    None when the stream carries such a header. libsndfile then trusts an estimate from the first
    frames' bit rate, and drops what lies beyond it.
    """
    at = _first_mpeg_frame(data)
    if at is None or any(tag in data[at : at + 200] for tag in (b"Xing", b"Info", b"VBRI")):
        return None
    samples = 0
    while (frame := _mpeg_frame(data, at)) is not None:
        samples += frame[1]
        at += frame[0]
    return samples


def _riff(file: FileIO, size: int, order: str) -> Claim | None:
    channels = rate = wide = None
    for name, offset, length in _chunks(file, 12, size, order + "I"):
        if name == b"ds64":
            wide = struct.unpack("<Q", _at(file, offset + 8, 8))[0]
        elif name == b"fmt ":
            channels, rate = struct.unpack(order + "HI", _at(file, offset + 2, 6))
        elif name == b"data":
            data = wide if wide is not None and length == 0xFFFFFFFF else length
            return Claim(None if data in UNKNOWN_BYTES else data, size - offset, channels, rate)
    return None


def _aiff(file: FileIO, size: int) -> Claim | None:
    channels = None
    for name, offset, length in _chunks(file, 12, size, ">I"):
        if name == b"COMM":
            channels = struct.unpack(">H", _at(file, offset, 2))[0]
        elif name == b"SSND":
            return Claim(None if length in UNKNOWN_BYTES else length, size - offset, channels)
    return None


def _wave64(file: FileIO, size: int) -> Claim | None:
    """Sony Wave64: 16-byte identifiers, and sizes that include the 24-byte chunk header."""
    offset = 40
    for _ in range(MAX_CHUNKS):
        if offset + 24 > size:  # a length of nearly 2^64 leads where no file can be read
            return None
        head = _at(file, offset, 24)
        length = struct.unpack("<Q", head[16:])[0]
        if head[:4] == b"data":
            return Claim(length - 24, size - offset - 24)
        offset += max((length + 7) // 8 * 8, 24)
    return None


def _chunks(file: FileIO, start: int, size: int, length_format: str) -> Iterator[tuple[bytes, int, int]]:
    """(name, offset of the body, claimed length) of each chunk that begins inside the file."""
    offset = start
    for _ in range(MAX_CHUNKS):
        if offset + 8 > size:
            return
        head = _at(file, offset, 8)
        length = struct.unpack(length_format, head[4:])[0]
        yield head[:4], offset + 8, length
        offset += 8 + length + length % 2


def _at(file: FileIO, offset: int, count: int) -> bytes:
    """`count` bytes at `offset`, zeros beyond the end of the file."""
    file.seek(offset)
    return file.read(count).ljust(count, b"\0")


_KBPS = {
    1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),  # MPEG 1 layer III
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),  # MPEG 2 and 2.5
}
_MPEG_RATES = (44_100, 48_000, 32_000)  # Hz, MPEG 1; halved for 2, quartered for 2.5


def _mpeg_frame(data: bytes | mmap, at: int) -> tuple[int, int] | None:
    """(bytes, samples) of the layer III frame at `at`; None if there is none."""
    head = data[at : at + 4]
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:  # sync word, layer III
        return None
    version, rate, kbps = head[1] >> 3 & 3, head[2] >> 2 & 3, head[2] >> 4
    if version == 1 or rate == 3 or kbps in (0, 15):
        return None
    rate_hz = _MPEG_RATES[rate] // {3: 1, 2: 2, 0: 4}[version]
    samples = 1152 if version == 3 else 576
    return samples // 8 * 1000 * _KBPS[1 if version == 3 else 2][kbps] // rate_hz + (head[2] >> 1 & 1), samples


def _first_mpeg_frame(data: bytes | mmap) -> int | None:
    """Offset of the first frame that is followed by another, behind an ID3v2 tag if there is one."""
    start = 0
    if data[:3] == b"ID3" and len(data) >= 10:
        size = data[6:10]
        start = 10 + (size[0] << 21 | size[1] << 14 | size[2] << 7 | size[3])
    for at in range(start, min(start + 65_536, len(data))):
        frame = _mpeg_frame(data, at)
        if frame is not None and _mpeg_frame(data, at + frame[0]) is not None:
            return at
    return None
