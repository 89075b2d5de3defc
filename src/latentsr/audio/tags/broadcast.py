"""Chunks of a broadcast WAV made true of the restored samples: times counted at the new rate, and what was done.

Everything that counts samples is scaled by the ratio of the rates and rounded half up; all other bytes
stay as they were. What cannot be understood is carried as it is, with a note.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass

from latentsr.audio.tags.metadata import Chunk, Metadata

BEXT_TIME, BEXT_FIXED = 338, 602  # bytes: where TimeReference stands, and where the coding history begins
_BITS = {"PCM_16": 16, "PCM_24": 24, "PCM_32": 32, "FLOAT": 32, "DOUBLE": 64}


@dataclass(frozen=True)
class Timing:
    """The file that the chunks are for, and the rate that their times are counted in now."""

    source_hz: int
    sample_rate: int  # Hz
    channels: int
    subtype: str  # libsndfile's

    def scaled(self, samples: int, bits: int = 32) -> int:
        """A time in samples at the new rate, rounded half up; the largest that the field holds where it is beyond."""
        if self.source_hz == self.sample_rate:
            return samples
        return min((2 * samples * self.sample_rate + self.source_hz) // (2 * self.source_hz), 2**bits - 1)


def retimed(metadata: Metadata, sample_rate: int, channels: int, subtype: str) -> tuple[list[Chunk], list[str]]:
    """The chunks as they belong into a WAV file of this rate and subtype, and what could not be made true."""
    timing = Timing(metadata.sample_rate or sample_rate, sample_rate, channels, subtype)
    chunks, notes = [], []
    for chunk in metadata.chunks:
        rewrite = _REWRITERS.get(chunk.id)
        data = chunk.data if rewrite is None else rewrite(chunk.data, timing)
        if data is None:
            name = chunk.id.decode("latin-1").strip()
            notes.append(f"the chunk {name} is not as its standard says; carried as it is")
        chunks.append(Chunk(chunk.id, chunk.data if data is None else data))
    return chunks, notes


def coding_history(timing: Timing) -> bytes:
    """The line that EBU R 98 asks of whoever processes a file.

    >>> coding_history(Timing(44100, 48000, 2, "PCM_24"))
    b'A=PCM,F=48000,W=24,M=stereo,T=latentsr\\r\\n'
    """
    mode = {1: ",M=mono", 2: ",M=stereo"}.get(timing.channels, "")  # R 98 has no word for more channels
    return f"A=PCM,F={timing.sample_rate},W={_BITS.get(timing.subtype, 16)}{mode},T=latentsr\r\n".encode()


def _bext(data: bytes, timing: Timing) -> bytes | None:
    if len(data) < BEXT_FIXED:
        return None
    time = timing.scaled(struct.unpack_from("<Q", data, BEXT_TIME)[0], 64)
    history = data[BEXT_FIXED:].rstrip(b"\0")
    if history and not history.endswith(b"\r\n"):
        history += b"\r\n"
    fixed = data[:BEXT_TIME] + struct.pack("<Q", time) + data[BEXT_TIME + 8 : BEXT_FIXED]
    return fixed + history + coding_history(timing)


def _ixml(data: bytes, timing: Timing) -> bytes | None:
    """FILE_SAMPLE_RATE, AUDIO_BIT_DEPTH and the times counted at the file's rate; every other byte stays.

    A time stamp with a rate of its own that is not the file's (pulled down video) is true as it is.
    """
    if not data.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<") or b"\0" in data.rstrip(b"\0"):
        return None
    stamp_hz = _number(data, b"TIMESTAMP_SAMPLE_RATE")
    data = _replaced(data, b"FILE_SAMPLE_RATE", timing.sample_rate)
    data = _replaced(data, b"AUDIO_BIT_DEPTH", _BITS.get(timing.subtype, 16))
    if stamp_hz in (None, timing.source_hz):
        data = _replaced(data, b"TIMESTAMP_SAMPLE_RATE", timing.sample_rate)
        data = _pair(data, b"TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_HI", b"TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_LO", timing)
    data = _pair(data, b"BWF_TIME_REFERENCE_HIGH", b"BWF_TIME_REFERENCE_LOW", timing)
    points = data.split(b"</SYNC_POINT>")  # not a pattern: a file of openings only would take it hours
    return b"</SYNC_POINT>".join(_pair(point, b"SYNC_POINT_HIGH", b"SYNC_POINT_LOW", timing) for point in points)


def _number(xml: bytes, name: bytes) -> int | None:
    found = re.search(rb"<%b>\s*(\d{1,10})\s*</%b>" % (name, name), xml)
    return int(found[1]) if found else None


def _replaced(xml: bytes, name: bytes, value: int) -> bytes:
    return re.sub(rb"(<%b>\s*)\d{1,10}(\s*</%b>)" % (name, name), rb"\g<1>%d\g<2>" % value, xml)


def _pair(xml: bytes, high: bytes, low: bytes, timing: Timing) -> bytes:
    """A time of 64 bits in two elements of 32, scaled."""
    halves = _number(xml, high), _number(xml, low)
    if halves[1] is None:
        return xml
    time = timing.scaled(((halves[0] or 0) << 32) + halves[1], 64)
    return _replaced(_replaced(xml, high, time >> 32), low, time & 0xFFFFFFFF)


def _table(data: bytes, timing: Timing, count: int, start: int, stride: int, fields: tuple[int, ...]) -> bytes | None:
    """Entries of `stride` bytes from `start` on, in which some fields count samples."""
    if len(data) < start + stride * count:
        return None
    out = bytearray(data)
    for at in range(start, start + stride * count, stride):
        for field in fields:
            _scale(out, at + field, timing)
    return bytes(out)


def _cue(data: bytes, timing: Timing) -> bytes | None:
    """dwPosition and dwSampleOffset of the cue points."""
    return None if len(data) < 4 else _table(data, timing, struct.unpack_from("<I", data)[0], 4, 24, (4, 20))


def _smpl(data: bytes, timing: Timing) -> bytes | None:
    """Sample period in ns, and dwStart and dwEnd of the loops."""
    if len(data) < 36:
        return None
    data = data[:8] + struct.pack("<I", round(1e9 / timing.sample_rate)) + data[12:]
    return _table(data, timing, struct.unpack_from("<I", data, 28)[0], 36, 24, (8, 12))


def _cart(data: bytes, timing: Timing) -> bytes | None:
    """The eight timers of AES46: a name and a time in samples each."""
    return _table(data, timing, 8, 684, 8, (4,))


def _list(data: bytes, timing: Timing) -> bytes | None:
    """Labels and notes of cue points; only `ltxt` counts samples."""
    out, at = bytearray(data), 4
    while at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        if at + 8 + size > len(data):
            return None
        if name == b"ltxt" and size >= 8:
            _scale(out, at + 12, timing)
        at += 8 + size + size % 2
    return bytes(out)


def _scale(out: bytearray, offset: int, timing: Timing) -> None:
    struct.pack_into("<I", out, offset, timing.scaled(struct.unpack_from("<I", out, offset)[0]))


_REWRITERS: dict[bytes, Callable[[bytes, Timing], bytes | None]] = {
    b"bext": _bext, b"iXML": _ixml, b"cue ": _cue, b"smpl": _smpl, b"cart": _cart, b"LIST": _list,
}  # fmt: skip
