"""What a file claims about itself, read from its first bytes without a decoder.

libsndfile clamps a lying or truncated header to what is there and says nothing, so the claims are
compared with the file here. Everything is read with bounded sizes; nothing is allocated from a claim.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import BinaryIO

from latentsr.audio.spans import bytes_at, size_of, tags_begin, unpack
from latentsr.audio.tags import riff

# Lengths that mean "not known yet", of FFmpeg, SoX (WAV, AIFF), lame and opusdec, and arecord, written into a pipe.
UNKNOWN_BYTES = (0xFFFFFFFF, 0x7FFFF000, 0x7F000008, 0x7FFFFFFF, 0x80000000)
UNKNOWN_WIDE = (2**63 - 1, 2**64 - 1)  # the same in 64 bits
MAX_CHUNKS = 10_000
MAX_FORMAT_BYTES = 4_096
MAX_OGG_PAGE_BYTES = 65_307
MAX_PACKET_TABLE_BYTES = 2**24  # two weeks of ALAC
CAF_EDIT_BYTES = 4  # a counter that comes before the audio
OGG_CUT, OGG_OPEN = "it ends inside a page", "it has no end mark"

_FORMS = {b"RIFF": (b"WAVE",), b"RF64": (b"WAVE",), b"BW64": (b"WAVE",), b"FORM": (b"AIFF", b"AIFC", b"8SVX", b"16SV")}


@dataclass(frozen=True)
class Claim:
    """What the header of an uncompressed container claims, beside what is there."""

    data_bytes: int | None  # size of the audio; None = not known: written into a pipe, or never filled in
    present_bytes: int  # what follows the start of the audio
    channels: int | None = None
    sample_rate: float | None = None
    mend: tuple[int, bytes] | None = None  # (offset, bytes) that make the header claim what is there
    frames: int | None = None  # samples per channel that a table of packets declares; None = no table
    whole_frames: int | None = None  # those of the packets that are there to their end
    block_bytes: int = 1  # the audio comes in blocks of so many; 1 = not known
    fresh: tuple[int, int, bytes] | None = None  # (start, end, header) to read in the place of a RIFF file that lies
    next_at: int | None = None  # where another file of this kind begins behind this one
    behind_bytes: int = 0  # what lies behind the audio and is neither chunk nor tag
    unfinished: bool = False  # its size is 0, though audio follows: a pipe, or a recorder that was killed

    @property
    def cut(self) -> bool:
        """Less is there than is claimed. One byte less is a missing pad byte, which some writers forget.

        Unless the last block lacks it: padding comes behind whole blocks.
        """
        missing = 0 if self.data_bytes is None else self.data_bytes - self.present_bytes
        return missing > 1 or (missing == 1 and self.present_bytes % self.block_bytes > 0)


def claim(file: BinaryIO) -> Claim | None:
    """The claim of a RIFF, RF64, Wave64, AIFF, 8SVX, AU, CAF or NIST file; None for every other kind."""
    size, head = size_of(file), bytes_at(file, 0, 40)
    if head[8:12] == b"WAVE" and head[:4] in (b"RIFF", b"RF64", b"BW64", b"RIFX"):
        return _riff(file, size, ">" if head[:4] == b"RIFX" else "<")
    if head[:4] == b"FORM" and head[8:12] in _FORMS[b"FORM"]:
        return _aiff(file, size)
    if head[:4] == b"riff" and head[24:28] == b"wave":
        return _wave64(file, size)
    if head[:4] == b"caff":
        return _caf(file, size)
    if head[:8] == b"NIST_1A\n":
        return _nist(file, size)
    return _au(file, size) if head[:4] == b".snd" and len(head) >= 24 else None


def ogg_end(file: BinaryIO) -> str | None:
    """How an Ogg file ends, where it does not end as it should; None for a whole one and for other kinds."""
    size = size_of(file)
    if bytes_at(file, 0, 4) != b"OggS":
        return None
    start = max(size - 2 * MAX_OGG_PAGE_BYTES, 0)
    tail = bytes_at(file, start, size - start)
    page, last = tail.find(b"OggS\0"), None
    while page >= 0:
        segments = tail[page + 26] if page + 26 < len(tail) else 0
        end = page + 27 + segments + sum(tail[page + 27 : page + 27 + segments])
        if end > len(tail):
            return OGG_CUT
        last = tail[page + 5]
        page = tail.find(b"OggS\0", end)
    return OGG_OPEN if last is None or not last & 4 else None


def _riff(file: BinaryIO, size: int, order: str) -> Claim | None:
    """RIFF, RF64, BW64 and RIFX. A header that lies, or that libsndfile does not follow, is made anew."""
    channels = rate = None
    block, form, at = 1, b"", 12
    riff_id, riff_bytes = unpack(file, 0, order + "4sI")
    plain = riff_id != b"BW64"  # libsndfile finds the samples by itself
    for name, offset, length in riff.scan(file, order):
        plain = plain and offset == at + 8
        # libsndfile passes over the pad byte of RIFF, whether it is there or not, and over none in RF64.
        at = offset + length + (length % 2 if riff_id != b"RF64" else 0)
        if name == b"fmt ":
            channels, rate, block = unpack(file, offset + 2, order + "HI4xH")
            form = bytes_at(file, offset, min(length, MAX_FORMAT_BYTES))
        elif name == b"data":
            break
    else:
        return None
    present, (narrow,) = _there(file, offset, length, size, order), unpack(file, offset - 4, order + "I")
    unfinished = length == 0 < present
    piped = riff_id == b"RIFF" and riff_bytes in UNKNOWN_BYTES and size - offset < 2**30 <= length
    length = length if narrow in UNKNOWN_BYTES else _unwrapped(file, offset, length, size, order)
    known = None if unfinished or piped or length in (*UNKNOWN_BYTES, 2**64 - 1) else length
    next_at, behind = _behind(file, offset + length, size, order) if known else (None, 0)
    present = next_at - offset if next_at else present
    block = max(block, 1)
    whole = present - present % block  # half a block of ADPCM would be filled up with a buzz
    whole = min(whole, known or whole)
    plain = plain and whole == (length if riff_id == b"RF64" else narrow)
    wide = riff_id not in (b"RIFF", b"RIFX") or (order == "<" and whole > 0xFFFFFFFE)
    fresh = None if plain or not form else (offset, offset + whole, _head(form, whole, order, wide))
    return Claim(known, present, channels, rate, block_bytes=block, fresh=fresh, next_at=next_at, behind_bytes=behind,
                 unfinished=unfinished)  # fmt: skip


def _unwrapped(file: BinaryIO, offset: int, data: int, size: int, order: str) -> int:
    """The bytes of audio, of which 32 bits were written: as many times 4 GiB more as the file has room for."""
    name, _ = unpack(file, offset + data + data % 2, order + "4sI")
    lacks = (size - offset - data) >> 32 << 32
    return data + (0 if riff.is_name(name) or lacks < 0 else lacks)


def _head(format_chunk: bytes, data_bytes: int, order: str, wide: bool) -> bytes:
    """All that stands before the samples of a RIFF or RF64 file."""
    form = b"fmt " + struct.pack(order + "I", len(format_chunk)) + format_chunk + bytes(len(format_chunk) % 2) + b"data"
    if wide:
        sizes = struct.pack("<IQQQI", 28, data_bytes + 60 + len(format_chunk), data_bytes, 0, 0)
        return b"RF64\xff\xff\xff\xffWAVEds64" + sizes + form + b"\xff\xff\xff\xff"
    data_bytes = min(data_bytes, 0xFFFFFFFE)
    riff_bytes = min(data_bytes + len(form) + 8, 0xFFFFFFFF)
    name = b"RIFF" if order == "<" else b"RIFX"
    return name + struct.pack(order + "I", riff_bytes) + b"WAVE" + form + struct.pack(order + "I", data_bytes)


def _aiff(file: BinaryIO, size: int) -> Claim | None:
    channels = None
    for name, offset, length in riff.scan(file, ">"):
        if name == b"COMM":
            (channels,) = unpack(file, offset, ">H")
        elif name in (b"SSND", b"BODY"):
            present = _there(file, offset, length, size, ">")
            unfinished = length == 0 < present
            known = None if unfinished or length in UNKNOWN_BYTES else length
            next_at, behind = _behind(file, offset + length, size, ">") if known else (None, 0)
            present = next_at - offset if next_at else present
            mend = offset - 4, struct.pack(">I", min(present, 0xFFFFFFFE))
            return Claim(known, present, channels, None, mend, next_at=next_at, behind_bytes=behind,
                         unfinished=unfinished)  # fmt: skip
    return None


def _au(file: BinaryIO, size: int) -> Claim:
    offset, data, rate, channels = unpack(file, 4, ">II4xII")
    unfinished = data == 0 and size > offset
    known = None if unfinished or data in UNKNOWN_BYTES else data
    next_at = _next(file, offset + data, size, b".snd") if known else None
    behind = max(tags_begin(file, offset + data, size) - offset - data, 0) if known and next_at is None else 0
    return Claim(known, max((next_at or size) - offset, 0), channels, rate, (8, b"\xff" * 4), next_at=next_at,
                 behind_bytes=behind, unfinished=unfinished)  # fmt: skip


def _behind(file: BinaryIO, at: int, size: int, order: str) -> tuple[int | None, int]:
    """(where another file begins behind the chunks from `at` on, bytes there that are no chunk)."""
    for _ in range(MAX_CHUNKS):
        name = bytes_at(file, at + at % 2, 4)
        at += at % 2 if riff.is_name(name) else 0  # some writers forget the pad byte
        name, length, form = unpack(file, at, order + "4sI4s")
        if name in _FORMS and form in _FORMS[name]:
            return at, 0
        if at + 8 > size or name == b"data" or not riff.is_name(name) or at + 8 + length > size + 1:
            break
        at += 8 + length
    return None, max(tags_begin(file, at, size) - at - at % 2, 0)  # many programs append tags, such as ID3v1


def _wave64(file: BinaryIO, size: int) -> Claim | None:
    """Sony Wave64: 16-byte identifiers, and sizes that include the 24-byte chunk header."""
    offset, channels, rate = 40, None, None
    for _ in range(MAX_CHUNKS):
        name, length = unpack(file, offset, "<4s12xQ")
        if not name.strip(b"\0"):
            return None
        if name == b"fmt ":
            channels, rate = unpack(file, offset + 26, "<HI")
        elif name == b"data":
            next_at = _next(file, offset + (length + 7) // 8 * 8, size, b"riff")
            present = (next_at or size) - offset - 24
            mend, data = (offset + 16, struct.pack("<Q", present + 24)), max(length - 24, 0)
            unknown = data == 0 < present
            known = None if unknown or length in UNKNOWN_WIDE else data
            return Claim(known, present, channels, rate, mend, next_at=next_at, unfinished=unknown)
        offset += max((length + 7) // 8 * 8, 24)
    return None


def _caf(file: BinaryIO, size: int) -> Claim | None:
    """Apple's CAF, whose sizes are signed; -1 is "to the end of the file", which libsndfile does not know."""
    channels = rate = table = None
    packet_frames = 0
    at = 8
    for _ in range(MAX_CHUNKS):
        if at + 12 > size:
            return None
        name, length = unpack(file, at, ">4sq")
        offset, at = at + 12, at + 12 + max(length, 0)
        if name == b"desc":
            rate, packet_frames, channels = unpack(file, offset, ">d12xII")
        elif name == b"pakt" and 24 < length <= min(MAX_PACKET_TABLE_BYTES, size - offset):
            table = bytes_at(file, offset, length)
        elif name == b"data":
            next_at = _next_caf(file, offset + length, size) if length > 0 else None
            present = (next_at or size) - offset
            mend = offset - 8, struct.pack(">q", present)
            frames = whole = None
            if table is not None:
                frames = max(struct.unpack(">q", table[8:16])[0], 0)
                whole = min(packet_frames * _whole_packets(table, present - CAF_EDIT_BYTES), frames)
            unfinished = length in (0, CAF_EDIT_BYTES) and present > CAF_EDIT_BYTES
            known = None if length in (-1, *UNKNOWN_WIDE) or unfinished else length
            return Claim(known, present, channels, rate, mend, frames, whole, next_at=next_at, unfinished=unfinished)
    return None


def _next_caf(file: BinaryIO, at: int, size: int) -> int | None:
    """Where another file begins behind the chunks from `at` on."""
    for _ in range(MAX_CHUNKS):
        if (found := _next(file, at, size, b"caff\0\1")) is not None:
            return found
        name, length = unpack(file, at, ">4sq")
        if not riff.is_name(name) or length < 0:
            return None
        at += 12 + length
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


def _nist(file: BinaryIO, size: int) -> Claim | None:
    """NIST Sphere: 1,024 bytes or more of text before the samples."""
    text = bytes_at(file, 0, 4_096).decode("latin-1")
    fields = dict(re.findall(r"^(\w+) -i (\d{1,19})\s", text, re.MULTILINE))
    start = re.match(r"NIST_1A\n\s*(\d{1,9})\n", text)
    if start is None or not {"sample_count", "channel_count", "sample_n_bytes"} <= fields.keys() or "shorten" in text:
        return None
    count, channels, width = (int(fields[key]) for key in ("sample_count", "channel_count", "sample_n_bytes"))
    next_at = _next(file, int(start[1]) + count * channels * width, size, b"NIST_1A\n")
    return Claim(count * channels * width, max((next_at or size) - int(start[1]), 0), channels, next_at=next_at)


def _next(file: BinaryIO, at: int, size: int, magic: bytes) -> int | None:
    """`at`, where another file begins there."""
    return at if at + 12 <= size and bytes_at(file, at, len(magic)) == magic else None


def _there(file: BinaryIO, offset: int, length: int, size: int, order: str) -> int:
    """Bytes of audio from `offset` on; none where its length is 0 and a chunk follows.

    Where none does, a recorder was killed before it wrote the length.
    """
    name, after = unpack(file, offset, order + "4sI")
    return 0 if length == 0 and riff.is_name(name) and after <= size - offset - 8 else size - offset
