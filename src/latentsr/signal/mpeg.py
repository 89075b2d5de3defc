"""How long an MP3 says it is, and how long it is: its Xing or VBRI header against its frames.

libsndfile believes that header, or an estimate where there is none, and drops what lies beyond. So the
frames are counted, in windows of bounded size: 0.4 s for an hour of music.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from io import FileIO

SLACK = 3 * 1152  # samples: encoder delay and padding make declared lengths inexact by up to 2.7 frames
WINDOW_BYTES = 1 << 20
SEARCH_BYTES = 65_536  # how far behind the ID3 tag the first frame is looked for
SIZE_SLACK_BYTES = 4_096  # tags at the end, a frame more or less

_KBPS = {
    1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),  # MPEG 1 layer III
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),  # MPEG 2 and 2.5
}
_RATES = (44_100, 48_000, 32_000)  # Hz, MPEG 1; halved for 2, quartered for 2.5


@dataclass(frozen=True)
class Survey:
    """What an MP3 declares, and what was counted. Samples are per channel."""

    declared: int | None
    counted: int
    cut: bool = False  # the header declares more bytes and more samples than there are
    mend: tuple[int, bytes] | None = None  # (offset, bytes) that put the header's size right

    def longer_than(self, frames: int) -> bool:
        """Whether the file goes on behind what libsndfile would read of it."""
        return self.counted > frames + SLACK


def survey(file: FileIO) -> Survey | None:
    """Look an MP3 over; None for anything else."""
    size = os.fstat(file.fileno()).st_size
    start = _behind_id3(file)
    head = _at(file, start, SEARCH_BYTES + 4_096)
    if head.startswith(b"fLaC") or (first := _first_frame(head)) is None:
        return None
    declared_bytes, samples, size_at = _header(head, first)
    present = size - start - first
    counted = _count(file, start + first)
    if declared_bytes is None or size_at is None or abs(present - declared_bytes) <= SIZE_SLACK_BYTES:
        return Survey(samples, counted)
    short = declared_bytes > present and (samples is None or counted + SLACK < samples)
    # mpg123 complains on stderr about a size that is off.
    return Survey(samples, counted, short, (start + first + size_at, struct.pack(">I", min(present, 2**32 - 1))))


def _header(head: bytes, first: int) -> tuple[int | None, int | None, int | None]:
    """(bytes, samples, offset of the bytes behind the first frame) that a Xing or VBRI header declares."""
    frame = head[first : first + 200]
    _, per_frame = _frame(head, first) or (0, 0)
    if (at := frame.find(b"VBRI")) >= 0 and len(frame) >= at + 18:
        size, frames = struct.unpack(">II", frame[at + 10 : at + 18])
        return size, frames * per_frame or None, at + 10
    at = max(frame.find(b"Xing"), frame.find(b"Info"))
    if at < 0 or len(frame) < at + 16:
        return None, None, None
    flags, *fields = struct.unpack(">III", frame[at + 4 : at + 16])
    frames = fields.pop(0) if flags & 1 else 0
    size_at = at + (12 if flags & 1 else 8)
    return (fields[0] if flags & 2 else None), frames * per_frame or None, size_at if flags & 2 else None


def _count(file: FileIO, start: int) -> int:
    """Samples in the unbroken chain of frames from `start` on, one window of the file in memory at a time."""
    samples, offset, at, window = 0, start, 0, _at(file, start, WINDOW_BYTES)
    while True:
        if at + 4 > len(window) and window:
            offset, at = offset + at, 0
            window = _at(file, offset, WINDOW_BYTES)
        if (frame := _frame(window, at)) is None:
            return samples
        samples += frame[1]
        at += frame[0]


def _frame(data: bytes, at: int) -> tuple[int, int] | None:
    """(bytes, samples) of the layer III frame at `at`; None if there is none."""
    head = data[at : at + 4]
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:  # sync word, layer III
        return None
    version, rate, kbps = head[1] >> 3 & 3, head[2] >> 2 & 3, head[2] >> 4
    if version == 1 or rate == 3 or kbps in (0, 15):
        return None
    rate_hz = _RATES[rate] // {3: 1, 2: 2, 0: 4}[version]
    samples = 1152 if version == 3 else 576
    return samples // 8 * 1000 * _KBPS[1 if version == 3 else 2][kbps] // rate_hz + (head[2] >> 1 & 1), samples


def _first_frame(data: bytes) -> int | None:
    """Offset of the first frame that is followed by another."""
    for at in range(min(SEARCH_BYTES, len(data))):
        frame = _frame(data, at)
        if frame is not None and _frame(data, at + frame[0]) is not None:
            return at
    return None


def _behind_id3(file: FileIO) -> int:
    head = _at(file, 0, 10)
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    return 10 + (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9])


def _at(file: FileIO, offset: int, count: int) -> bytes:
    file.seek(offset)
    return file.read(count)
