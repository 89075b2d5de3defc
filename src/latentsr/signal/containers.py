"""What a file claims about itself, read from its first bytes without a decoder.

libsndfile clamps a lying or truncated header to what is there and says nothing, so the claims are
compared with the file here. Everything is read with bounded sizes; nothing is allocated from a claim.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO


class AudioError(ValueError):
    """A recording that cannot be read or written; the message says what is wrong and what to do."""


# The kinds are named for what the recording is: "except EmptyAudio" reads as what is meant.
class InvalidAudio(AudioError):  # noqa: N818
    """Samples that are NaN or infinite: `count` of them, the first at sample `first` of its channel."""

    def __init__(self, message: str, count: int = 0, first: int = 0) -> None:
        super().__init__(message)
        self.count, self.first = count, first


class TruncatedAudio(AudioError):  # noqa: N818
    """Cut short or damaged: `decoded_s` seconds could be had of `declared_s` (None where that is not known)."""

    def __init__(self, message: str, decoded_s: float = 0.0, declared_s: float | None = None) -> None:
        super().__init__(message)
        self.decoded_s, self.declared_s = decoded_s, declared_s


class EmptyAudio(AudioError):  # noqa: N818
    """A recording in good order that holds no samples."""


class UnsupportedAudio(AudioError):  # noqa: N818
    """A recording in a coding that cannot be decoded here; `extra` is what to install (None where nothing helps)."""

    def __init__(self, message: str, extra: str | None = None) -> None:
        super().__init__(message)
        self.extra = extra


# Lengths that mean "not known yet": what ffmpeg and sox write into a pipe.
UNKNOWN_BYTES = (0xFFFFFFFF, 0x7FFFF000)
MAX_CHUNKS = 10_000
MAX_OGG_PAGE_BYTES = 65_307
MAX_PACKET_TABLE_BYTES = 2**24  # two weeks of ALAC
CAF_EDIT_BYTES = 4  # a counter that comes before the audio
OGG_CUT, OGG_OPEN = "it ends inside a page", "it has no end mark"


@dataclass(frozen=True)
class Claim:
    """What the header of an uncompressed container claims, beside what is there."""

    data_bytes: int | None  # size of the audio; None = written by a pipe, not known
    present_bytes: int  # what follows the start of the audio
    channels: int | None = None
    sample_rate: float | None = None
    mend: tuple[int, bytes] | None = None  # (offset, bytes) that make the header claim what is there
    frames: int | None = None  # samples per channel that a table of packets declares; None = no table
    whole_frames: int | None = None  # those of the packets that are there to their end
    block_bytes: int = 1  # the audio comes in blocks of so many; 1 = not known

    @property
    def cut(self) -> bool:
        """Less is there than is claimed. One byte less is a missing pad byte, which some writers forget.

        Unless the last block lacks it: padding comes behind whole blocks.
        """
        missing = 0 if self.data_bytes is None else self.data_bytes - self.present_bytes
        return missing > 1 or (missing == 1 and self.present_bytes % self.block_bytes > 0)

    @property
    def unfinished(self) -> bool:
        """The size was never filled in: the recorder was killed before it closed the file."""
        return self.data_bytes == 0 and self.present_bytes > 0


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
    (0, b"TTA1", Foreign("True Audio", "tta")),
    (0, b"#!AMR", Foreign("AMR", "amr")),
    (8, b"AVI LIST", Foreign("AVI", "avi")),
)


def foreign(head: bytes) -> Foreign | None:
    """The kind of a file that needs PyAV, from its first 64 bytes; None for anything else."""
    return next((kind for offset, magic, kind in _MAGIC if head[offset:].startswith(magic)), None)


# What is found under the names of recordings and is none.
_NO_AUDIO = (
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"%PDF-", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"MThd", "MIDI: notes"),
    (b"SQLite format 3", "an SQLite database"),
)


def what_else(head: bytes) -> str | None:
    """What a file is that is no recording, from its first 64 bytes; None if that cannot be told."""
    if is_text(head):
        return "text"
    if not head.strip(b"\0"):
        return "zeros"
    return next((kind for magic, kind in _NO_AUDIO if head.startswith(magic)), None)


def is_text(head: bytes) -> bool:
    """Whether the first bytes are printable text (HTML, JSON, a playlist, a log)."""
    return bool(head) and all(byte >= 0x80 or 32 <= byte < 127 or byte in b"\t\r\n\f" for byte in head)


def claim(file: FileIO) -> Claim | None:
    """The claim of a RIFF, RF64, Wave64, AIFF, 8SVX, AU, CAF or NIST file; None for every other kind."""
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    head = file.read(40)
    if head[8:12] == b"WAVE" and head[:4] in (b"RIFF", b"RF64", b"BW64", b"RIFX"):
        return _riff(file, size, ">" if head[:4] == b"RIFX" else "<")
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC", b"8SVX", b"16SV"):
        return _aiff(file, size)
    if head[:4] == b"riff" and head[24:28] == b"wave":
        return _wave64(file, size)
    if head[:4] == b"caff":
        return _caf(file, size)
    if head[:8] == b"NIST_1A\n":
        return _nist(file, size)
    if head[:4] == b".snd" and len(head) >= 24:
        offset, data, _, rate, channels = struct.unpack(">5I", head[4:24])
        known = None if data in UNKNOWN_BYTES else data
        return Claim(known, max(size - offset, 0), channels, rate, (8, b"\xff" * 4))
    return None


def ogg_end(file: FileIO) -> str | None:
    """How an Ogg file ends, where it does not end as it should; None for a whole one and for other kinds."""
    size = os.fstat(file.fileno()).st_size
    if _at(file, 0, 4) != b"OggS":
        return None
    start = max(size - 2 * MAX_OGG_PAGE_BYTES, 0)
    tail = _at(file, start, size - start)
    at, last = tail.find(b"OggS\0"), None
    while at >= 0:
        segments = tail[at + 26] if at + 26 < len(tail) else 0
        body = sum(tail[at + 27 : at + 27 + segments])
        if at + 27 + segments + body > len(tail):
            return OGG_CUT
        last = tail[at + 5]
        at = tail.find(b"OggS\0", at + 27 + segments + body)
    return OGG_OPEN if last is None or not last & 4 else None


def _riff(file: FileIO, size: int, order: str) -> Claim | None:
    channels = rate = wide = wide_at = None
    block = 1
    for name, offset, length in _chunks(file, 12, size, order + "I"):
        if name == b"ds64":
            wide_at, wide = offset + 8, struct.unpack("<Q", _at(file, offset + 8, 8))[0]
        elif name == b"fmt ":
            channels, rate, block = struct.unpack(order + "HI4xH", _at(file, offset + 2, 12))
        elif name == b"data":
            is_wide = wide_at is not None and length == 0xFFFFFFFF
            data = wide if is_wide else length
            present = _unclaimed(file, offset, size, order) if data == 0 else size - offset
            whole = present - present % max(block, 1)  # half a block of ADPCM would be filled up with a buzz
            narrow = offset - 4, struct.pack(order + "I", min(whole, 0xFFFFFFFE))
            mend = (wide_at, struct.pack("<Q", whole)) if is_wide and wide_at is not None else narrow
            if data in UNKNOWN_BYTES:
                return Claim(None, present, channels, rate)
            return Claim(data, present, channels, rate, mend, block_bytes=max(block, 1))
    return None


def _aiff(file: FileIO, size: int) -> Claim | None:
    channels = None
    for name, offset, length in _chunks(file, 12, size, ">I"):
        if name == b"COMM":
            channels = struct.unpack(">H", _at(file, offset, 2))[0]
        elif name in (b"SSND", b"BODY"):
            present = _unclaimed(file, offset, size, ">") if length == 0 else size - offset
            if length in UNKNOWN_BYTES:
                return Claim(None, present, channels)
            return Claim(length, present, channels, None, (offset - 4, struct.pack(">I", min(present, 0xFFFFFFFE))))
    return None


def _wave64(file: FileIO, size: int) -> Claim | None:
    """Sony Wave64: 16-byte identifiers, and sizes that include the 24-byte chunk header."""
    offset, channels, rate = 40, None, None
    for _ in range(MAX_CHUNKS):
        head = _at(file, offset, 24)
        if not head.strip(b"\0"):
            return None
        length = struct.unpack("<Q", head[16:])[0]
        if head[:4] == b"fmt ":
            channels, rate = struct.unpack("<HI", _at(file, offset + 26, 6))
        elif head[:4] == b"data":
            present = size - offset - 24
            return Claim(max(length - 24, 0), present, channels, rate, (offset + 16, struct.pack("<Q", present + 24)))
        offset += max((length + 7) // 8 * 8, 24)
    return None


def _caf(file: FileIO, size: int) -> Claim | None:
    """Apple's CAF, whose sizes are signed; -1 is "to the end of the file", which libsndfile does not know."""
    channels = rate = table = None
    packet_frames = 0
    for name, offset, length in _chunks(file, 8, size, ">q", pad=False):
        if name == b"desc":
            rate, packet_frames, channels = struct.unpack(">d12xII", _at(file, offset, 28))
        elif name == b"pakt" and 24 < length <= min(MAX_PACKET_TABLE_BYTES, size - offset):
            table = _at(file, offset, length)
        elif name == b"data":
            present = size - offset
            mend = offset - 8, struct.pack(">q", present)
            frames = whole = None
            if table is not None:
                frames = max(struct.unpack(">q", table[8:16])[0], 0)
                whole = min(packet_frames * _whole_packets(table, present - CAF_EDIT_BYTES), frames)
            return Claim(None if length == -1 else length, present, channels, rate, mend, frames, whole)
    return None


def _whole_packets(table: bytes, present: int) -> int:
    """How many packets of a CAF packet table end within the first `present` bytes of the audio.

    After 24 bytes of header each packet's size stands in groups of 7 bits, the highest first, the last without bit 7.
    """
    count = end = packet = 0
    for byte in table[24:]:
        packet = packet << 7 | byte & 0x7F
        if end + packet > present:  # also in mid-number: a hostile one would grow with the table
            break
        if not byte & 0x80:
            end, packet, count = end + packet, 0, count + 1
    return count


def _nist(file: FileIO, size: int) -> Claim | None:
    """NIST Sphere: 1,024 bytes or more of text before the samples."""
    text = _at(file, 0, 4_096).decode("latin-1")
    fields = dict(re.findall(r"^(\w+) -i (\d{1,19})\s", text, re.MULTILINE))
    start = re.match(r"NIST_1A\n\s*(\d{1,9})\n", text)
    if start is None or not {"sample_count", "channel_count", "sample_n_bytes"} <= fields.keys() or "shorten" in text:
        return None
    count, channels, width = (int(fields[key]) for key in ("sample_count", "channel_count", "sample_n_bytes"))
    return Claim(count * channels * width, max(size - int(start[1]), 0), channels)


def _chunks(
    file: FileIO, start: int, size: int, length_format: str, *, pad: bool = True
) -> Iterator[tuple[bytes, int, int]]:
    """(name, offset of the body, claimed length) of each chunk that begins inside the file."""
    offset, head_bytes = start, 4 + struct.calcsize(length_format)
    for _ in range(MAX_CHUNKS):
        if offset + head_bytes > size:
            return
        head = _at(file, offset, head_bytes)
        length = struct.unpack(length_format, head[4:])[0]
        yield head[:4], offset + head_bytes, length
        offset += head_bytes + max(length, 0) + (length % 2 if pad else 0)


def _unclaimed(file: FileIO, offset: int, size: int, order: str) -> int:
    """Bytes from `offset` on that are no chunk: audio of a recorder that was killed before it wrote the size."""
    name, length = struct.unpack(order + "4sI", _at(file, offset, 8))
    is_chunk = all(32 <= byte < 127 for byte in name) and length <= size - offset - 8
    return 0 if is_chunk else size - offset


def _at(file: FileIO, offset: int, count: int) -> bytes:
    """`count` bytes at `offset`, zeros beyond the end of the file."""
    if offset >= os.fstat(file.fileno()).st_size:  # a claim may lie where no file can be sought
        return bytes(count)
    file.seek(offset)
    return file.read(count).ljust(count, b"\0")
