"""Where the sound of a file lies: one part, or several recordings joined end to end, and what is neither sound nor tag.

Decoders stop at the end of the first, or stumble over the second; each gets a view of one part. A part begins where the
container's structure or its first bytes say so.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, cast

from latentsr.audio import headers, mp4, mpeg
from latentsr.audio.kinds import AAC, FLAC, MPEG, ZEROS, Kind, adts_at, kind_of, what_else
from latentsr.audio.spans import View, bytes_at, tags_begin, tags_end, unpack
from latentsr.audio.tags import xiph
from latentsr.errors import AudioError

MAX_PARTS = 10_000
WV_FINAL = 0x1000  # of a WavPack block's flags: the last of its channels
_WINDOW_BYTES = 2**20
# Demuxer: (bytes that begin a file, a pattern for what stands there). FFmpeg itself goes on in those that are not here.
_BEGINNINGS = {
    "flac": (b'fLaC\0\0\0"', rb".{16}"),
    "asf": (bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"), rb".{30}"),
    "matroska": (b"\x1aE\xdf\xa3", rb".{4}.{0,60}\x42\x82[\x80-\xff\x01].{0,7}(webm|matroska)"),
    "tta": (b"TTA1", rb".{4}[\x01-\x03]\0.\0.\0"),
    "amr": (b"#!AMR", rb"#!AMR(-WB)?\n"),
    "flv": (b"FLV\1", rb"FLV\x01[\x00-\x07]\0\0\0\t\0\0\0\0"),
    "voc": (b"Creative Voice File\x1a", rb".{20}"),
    "wv": (b"wvpk", rb"wvpk.{5}\x04\0.{5}\0{4}(?!\0{4}).{4}"),  # version 4, sample 0, some samples
    "ogg": (b"OggS\0\2", rb".{27}"),
    "nut": (b"nut/multimedia container\0", rb".{25}"),
    "rm": (b".RMF\0\0\0", rb".{8}\0[\0\1]\0{4}"),
    "sox": (b".SoX", rb".{6}\0\0.{16}[\1-\x40]\0\0\0"),
}


@dataclass(frozen=True)
class Part:
    """Bytes [start, end) that are a file of their own; `stream` is what was counted of MPEG audio."""

    start: int
    end: int
    stream: mpeg.Stream | None = None


@dataclass(frozen=True)
class Layout:
    """What lies in a file. `unread`: bytes that are neither sound nor tags, as far as that can be told beforehand."""

    kind: Kind | None
    parts: tuple[Part, ...]
    unread: int = 0


def layout(file: BinaryIO, path: Path) -> Layout:
    """Look a file over, in bounded memory."""
    size = file.seek(0, os.SEEK_END)
    start = tags_end(file, 0)
    kind = kind_of(file, start, path)
    if kind is None and what_else(bytes_at(file, start, 64)) in (None, ZEROS):
        if (found := mpeg_layout(file, path)) is not None:
            return found
        kind = AAC if adts_at(bytes_at(file, start, mpeg.SEARCH_BYTES)) is not None else None
    # What libsndfile reads may end in samples that look like a tag: there the header says where they end.
    own_end = kind is None or (kind.sndfile and kind is not FLAC)
    end = size if own_end else tags_begin(file, start, size)
    starts = [start]
    for at in _seams(file, kind, start, end):
        if len(starts) == MAX_PARTS:
            raise AudioError(f"{path} is more than {MAX_PARTS} recordings joined; split it")
        starts.append(at)
    parts = []
    for at, to in pairwise([*starts, end]):
        parts.append(Part(tags_end(file, at) if at else at, to if to == end else _without_tags(file, at, to)))
    return Layout(kind, tuple(parts))


def mpeg_layout(file: BinaryIO, path: Path) -> Layout | None:
    """That of MPEG audio; None where there are no frames."""
    size = file.seek(0, os.SEEK_END)
    found, junk = mpeg.streams(file, 0, tags_begin(file, 0, size), MAX_PARTS)
    if len(found) > MAX_PARTS:
        raise AudioError(f"{path} is more than {MAX_PARTS} recordings joined; split it")
    parts = tuple(Part(stream.start, stream.end, stream) for stream in found)
    return Layout(MPEG, parts, junk) if parts else None


def _without_tags(file: BinaryIO, start: int, end: int) -> int:
    """Where a part that another follows ends: before that one's tags, and its own."""
    window = bytes_at(file, max(end - _WINDOW_BYTES, start), min(_WINDOW_BYTES, end - start))
    at = window.rfind(b"ID3")
    if at >= 0 and tags_end(file, end - len(window) + at) == end:
        end += at - len(window)
    return tags_begin(file, start, end)


def _seams(file: BinaryIO, kind: Kind | None, start: int, end: int) -> Iterator[int]:
    """Where each further part begins."""
    if kind is None:
        return
    if kind.demuxer == "mov":
        yield from mp4.further_files(file, end)
    elif kind.demuxer in _BEGINNINGS:
        magic, pattern = _BEGINNINGS[kind.demuxer]
        shape = re.compile(pattern, re.DOTALL)
        group_end = start
        for at in _hits(file, start, end, magic):
            if not shape.match(bytes_at(file, at, 80)) or (beside := _beside(file, at, kind)) is None:
                continue
            begins, group_end = at not in (start, group_end), beside
            if begins:
                yield at
    else:
        at = start
        while (claim := headers.claim(cast(BinaryIO, View(file, at, end)))) is not None and claim.next_at:
            at += claim.next_at
            yield at


def _beside(file: BinaryIO, at: int, kind: Kind) -> int | None:
    """Where a stream of the same recording would begin, beside the one at `at`; 0: nowhere; None: nothing is here."""
    if kind.demuxer == "wv":
        size, flags = unpack(file, at + 4, "<I16xI")
        return 0 if flags & WV_FINAL else at + 8 + int(size)
    if kind.demuxer == "ogg":
        page = next(xiph.pages(file, at), None)
        return page.end if page is not None and page.is_whole() else None
    return 0


def _hits(file: BinaryIO, start: int, end: int, magic: bytes) -> Iterator[int]:
    """Where these bytes stand, a window of the file in memory at a time."""
    while start < end:
        window = bytes_at(file, start, min(_WINDOW_BYTES, end - start))
        at = window.find(magic)
        while at >= 0:
            yield start + at
            at = window.find(magic, at + 1)
        if len(window) < _WINDOW_BYTES:
            return
        start += len(window) - len(magic) + 1
