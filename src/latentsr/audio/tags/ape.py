"""Tags at the end of an MP3: APEv2, with texts of several values and covers, and ID3v1 behind it."""

from __future__ import annotations

import struct
from typing import BinaryIO

from latentsr.audio.spans import bytes_at
from latentsr.audio.tags.metadata import MAX_BYTES, MAX_ITEMS, Metadata, Picture, collected, megabytes


def read(file: BinaryIO, end: int) -> Metadata:
    """What the tags say that end at `end`: APEv2, damage ends it, and the texts and track number of ID3v1."""
    old, tag = Metadata(), bytes_at(file, max(end - 128, 0), 128)
    if tag[:3] == b"TAG" and len(tag) == 128:
        fields, end = struct.unpack("3x30s30s30s4s30s", tag[:127]), end - 128
        said = [field.partition(b"\0")[0].decode("cp1252", "replace").strip() for field in fields]
        track = str(tag[126]) if tag[125] == 0 and tag[126] else ""
        pairs = zip(("title", "artist", "album", "date", "comment", "tracknumber"), [*said, track], strict=True)
        old = Metadata(collected((name, text) for name, text in pairs if text))
    footer = bytes_at(file, max(end - 32, 0), 32)
    if footer[:8] != b"APETAGEX" or len(footer) < 32:
        return old
    size, count = struct.unpack("<II", footer[12:20])
    if size > 2 * MAX_BYTES:
        return Metadata(notes=(f"an APE tag of {megabytes(size)} is not carried",)).over(old)
    data, at = bytes_at(file, max(end - size, 0), size - 32 if size >= 32 else 0), 0
    texts: list[tuple[str, str]] = []
    pictures: list[Picture] = []
    for _ in range(min(count, MAX_ITEMS)):
        name_end = data.find(b"\0", at + 8)
        if name_end < 0:
            break
        length, flags = struct.unpack("<II", data[at : at + 8])
        name, value = data[at + 8 : name_end].decode("latin-1"), data[name_end + 1 : name_end + 1 + length]
        at = name_end + 1 + length
        if flags >> 1 & 3 == 0:
            texts += [(name, text) for text in value.decode("utf-8", "replace").split("\0")]
        elif name.lower().startswith("cover art"):
            content = value.partition(b"\0")[2]
            mime = "image/png" if content.startswith(b"\x89PNG") else "image/jpeg"
            pictures.append(Picture(mime, content, 3 if "front" in name.lower() else 0))
    return Metadata(collected(texts), tuple(pictures)).over(old)
