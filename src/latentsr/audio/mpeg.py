"""The frames of MPEG audio (MP1, MP2, MP3), counted, and its Xing or VBRI header beside them.

libsndfile believes that header, or an estimate where there is none, which tags make untrue, and drops what lies
beyond. So the frames are counted, in windows of bounded size, and each stream that was joined to others is found: a
new one begins at a header, behind a tag, and where rate or channels change.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from functools import lru_cache
from typing import BinaryIO

from latentsr.audio.spans import bytes_at, tags_end

SLACK = 3 * 1152  # samples: encoder delay and padding make declared lengths inexact by up to 2.7 frames
WINDOW_BYTES = 1 << 20
SEARCH_BYTES = 65_536  # how far the next frame is looked for
SIZE_SLACK_BYTES = 4_096  # what a header may be wrong by
DECODER_DELAY = 529  # samples of a Layer III decoder; LAME's header says the encoder's
# Samples by which a decoder of this layer is late where no header says: LAME's 576 more, and the filter bank's 481.
DELAYS = {3: 576 + DECODER_DELAY, 2: 481, 1: 481}

_EMPTY_ID3 = b"ID3\4\0\0\0\0\0\x0a" + bytes(10)  # in front of it libsndfile looks for no file beside this one
_KBPS = {  # (MPEG 1, layer)
    (True, 1): range(0, 480, 32),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = (44_100, 48_000, 32_000)  # Hz, MPEG 1; halved for 2, quartered for 2.5


@dataclass
class Stream:
    """What one encoder wrote: frames from `start` to `end`. Samples are per channel."""

    start: int
    head: bytes  # of its first frame
    end: int = 0
    counted: int = 0  # samples, without the frame of a header
    declared: int | None = None  # samples by its header
    delay: int = 0  # to take off
    removed: int = 0  # that libsndfile takes off itself, though no header says so
    cut: bool = False  # its header declares more bytes and more samples than there are
    prefix: bytes = _EMPTY_ID3
    mends: list[tuple[int, bytes]] = field(default_factory=list)  # (offset, bytes): the header's size put right

    @property
    def layer(self) -> int:
        return 4 - (self.head[1] >> 1 & 3)


def streams(file: BinaryIO, start: int, end: int, most: int) -> tuple[list[Stream], int]:
    """The streams in [start, end), `most` and one more at most, and how many bytes are neither frames nor tags."""
    found: list[Stream] = []
    at, junk, joined = start, 0, False
    while at < end and len(found) <= most:
        if (behind := tags_end(file, at)) > at:
            at, joined = behind, False
            continue
        data = bytes_at(file, at, min(SEARCH_BYTES + 4_096, end - at))
        step = _first_frame(data, 2 if found else 4)
        if step is None:
            break
        junk += step
        stream = Stream(at + step, data[step : step + 4])
        _measure(file, stream, end)
        if step and joined and found:  # after damage it is the same stream, which is late but once
            stream.delay = 0
        found.append(stream)
        at, joined = stream.end, True
    return found, junk + max(end - at, 0)


def _measure(file: BinaryIO, stream: Stream, end: int) -> None:
    """Count a stream's frames, and decide how libsndfile is to see it."""
    head = bytes_at(file, stream.start, 4_096)
    declared_bytes, stream.declared, size_at, lame = _header(head)
    has_header = stream.layer == 3 and (declared_bytes is not None or stream.declared is not None)
    frames = _count(file, stream, end, skip_first=has_header)
    stream.delay = 0 if lame is not None else DELAYS[stream.layer]
    if has_header and stream.declared is not None and stream.counted <= stream.declared + SLACK:
        present = stream.end - stream.start
        if declared_bytes is not None and size_at is not None and abs(present - declared_bytes) > SIZE_SLACK_BYTES:
            stream.cut = declared_bytes > present and stream.counted + SLACK < stream.declared
            # mpg123 complains on stderr about a size that is off.
            stream.mends = [(stream.start + size_at, struct.pack(">I", min(present, 2**32 - 1)))]
    elif stream.layer == 3:  # no header, or an untrue one: ours in its place
        stream.delay, stream.removed = 576 if lame is None else lame, DECODER_DELAY
        stream.declared = None
        stream.start += _sizes(stream.head[1:4])[0] if has_header else 0  # type: ignore[index]
        stream.prefix = _EMPTY_ID3 + _info_frame(stream.head, frames)


def _header(frame: bytes) -> tuple[int | None, int | None, int | None, int | None]:
    """(bytes, samples, offset of the bytes, the encoder's delay) that a Xing or VBRI header in the frame declares."""
    per_frame = (_sizes(frame[1:4]) or (0, 0))[1]
    head = frame[:200]
    if (at := head.find(b"VBRI")) >= 0 and len(head) >= at + 18:
        size, count = struct.unpack(">II", head[at + 10 : at + 18])
        return size, count * per_frame or None, at + 10, None
    at = max(head.find(b"Xing"), head.find(b"Info"))
    if at < 0 or len(head) < at + 16:
        return None, None, None, None
    flags, *fields = struct.unpack(">III", head[at + 4 : at + 16])
    count = fields.pop(0) if flags & 1 else 0
    size_at = at + (12 if flags & 1 else 8)
    lame_at = at + 8 + 4 * (flags & 1) + 2 * (flags & 2) + 25 * (flags & 4) + (flags & 8) // 2
    lame = frame[lame_at : lame_at + 24]
    delay = int.from_bytes(lame[21:23], "big") >> 4 if len(lame) == 24 and lame[:4].isalnum() else None
    return (fields[0] if flags & 2 else None), count * per_frame or None, size_at if flags & 2 else None, delay


def _count(file: BinaryIO, stream: Stream, end: int, *, skip_first: bool) -> int:
    """Frames of the stream, one window of the file in memory at a time; its samples and end are noted in it."""
    same = stream.head[1] & 0x1E, stream.head[2] & 0x0C, stream.head[3] >> 6 == 3
    side = 4 + ((17 if same[2] else 32) if stream.head[1] & 0x08 else (9 if same[2] else 17))
    side += 0 if stream.head[1] & 1 else 2  # a checksum
    offset, place, frames, samples = stream.start, 0, 0, 0
    window = bytes_at(file, offset, min(WINDOW_BYTES, end - offset))
    while True:
        if place + 200 > len(window) and offset + len(window) < end:
            offset, place = offset + place, 0
            window = bytes_at(file, offset, min(WINDOW_BYTES, end - offset))
        head = window[place : place + 4]
        size = _sizes(head[1:]) if len(head) == 4 and head[0] == 0xFF else None
        if size is None or offset + place + size[0] > end:
            break
        if (head[1] & 0x1E, head[2] & 0x0C, head[3] >> 6 == 3) != same:
            break
        if frames and window[place + side : place + side + 4] in (b"Xing", b"Info"):
            break
        frames, samples, place = frames + 1, samples + size[1], place + size[0]
    stream.end = offset + place
    first = _sizes(stream.head[1:4])
    skipped = skip_first and frames > 0 and first is not None
    stream.counted = samples - (first[1] if skipped and first else 0)
    return frames - skipped


@lru_cache(maxsize=4_096)
def _sizes(head: bytes) -> tuple[int, int] | None:
    """(bytes, samples) of a frame by the three bytes behind its first, 0xFF; None where they begin none."""
    if len(head) < 3 or head[0] & 0xE0 != 0xE0:
        return None
    version, layer, rate, kbps = head[0] >> 3 & 3, 4 - (head[0] >> 1 & 3), head[1] >> 2 & 3, head[1] >> 4
    if version == 1 or layer == 4 or rate == 3 or kbps in (0, 15):
        return None
    rate_hz = _RATES[rate] // {3: 1, 2: 2, 0: 4}[version]
    bits, padding = 1000 * _KBPS[version == 3, layer][kbps], head[1] >> 1 & 1
    if layer == 1:
        return (12 * bits // rate_hz + padding) * 4, 384
    samples = 576 if layer == 3 and version != 3 else 1152
    return samples // 8 * bits // rate_hz + padding, samples


def _info_frame(head: bytes, frames: int) -> bytes:
    """A Layer III frame of silence that declares how many frames follow it."""
    for kbps in range(1, 15):  # the shortest with room
        ours = bytes([0xFF, head[1] | 1, kbps << 4 | head[2] & 0x0C, head[3]])
        size = (_sizes(ours[1:]) or (0, 0))[0]
        if size >= 64:
            break
    side = (17 if head[3] >> 6 == 3 else 32) if head[1] & 0x08 else (9 if head[3] >> 6 == 3 else 17)
    return (ours + bytes(side) + b"Info" + struct.pack(">II", 1, min(frames, 2**32 - 1))).ljust(size, b"\0")


def _first_frame(data: bytes, chain: int) -> int | None:
    """Offset of the first frame that others follow: `chain` in all, unless the data end before."""
    at = data.find(b"\xff")
    while 0 <= at < SEARCH_BYTES:
        place, length = at, 0
        while length < chain and data[place : place + 1] == b"\xff" and (size := _sizes(data[place + 1 : place + 4])):
            place, length = place + size[0], length + 1
        if length and (length == chain or (place == len(data) and (length > 1 or at == 0))):
            return at
        at = data.find(b"\xff", at + 1)
    return None
