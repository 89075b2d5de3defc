"""Tags that stand before and behind what a decoder reads: ID3v2, ID3v1, APEv2 and Lyrics3."""

from __future__ import annotations

import struct
from typing import BinaryIO

from latentsr.audio.peek import bytes_at
from latentsr.audio.tags import id3

MAX_TAGS = 64


def front(file: BinaryIO, start: int) -> int:
    """Where what follows the tags at `start` begins; `start` where there is none."""
    for _ in range(MAX_TAGS):
        head = bytes_at(file, start, 32)
        if size := id3.size(head[:10]):
            start += size
        elif head[:3] == b"TAG" and len(bytes_at(file, start, 128)) == 128:
            start += 128
        elif head[:8] == b"APETAGEX" and len(head) == 32:
            count, flags = struct.unpack("<I4xI", head[12:24])
            start += count + 32 if flags & 0x20000000 else 32  # a header, or a footer that stands alone
        else:
            break
    return start


def back(file: BinaryIO, start: int, end: int) -> int:
    """Where the tags that end at `end` begin; `end` where there is none."""
    for _ in range(MAX_TAGS):
        tail = bytes_at(file, max(end - 227 - 128, start), min(end - start, 227 + 128))
        size = 0
        if tail[-128:-125] == b"TAG":
            size = 128 + (227 if tail[:4] == b"TAG+" else 0)
        elif tail[-32:-24] == b"APETAGEX":
            count, flags = struct.unpack("<I4xI", tail[-20:-8])
            size = count + (32 if flags & 0x80000000 else 0)
        elif tail[-9:] == b"LYRICS200" and tail[-15:-9].isdigit():
            size = int(tail[-15:-9]) + 15
        elif tail[-9:] == b"LYRICSEND":
            at = bytes_at(file, max(end - 5_200, start), 5_200).find(b"LYRICSBEGIN")
            size = 0 if at < 0 else min(5_200, end - start) - at
        elif tail[-10:-7] == b"3DI":
            size = id3.size(b"ID3" + tail[-7:])
        if not 0 < size <= end - start:
            break
        end -= size
    return end
