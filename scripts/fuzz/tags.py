"""Targets over tags and chunks: what is carried from one file into another must never fail for what a file holds."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable

FORMATS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "FLAC", "OGG", "MP3")


def _text(key: bytes, text: bytes) -> bytes:
    return key + struct.pack(">I", len(text) + 1) + b"\0\0\3" + text


def _id3() -> bytes:
    frames = _text(b"TIT2", b"A title") + _text(b"TRCK", b"3/9")
    frames += b"APIC" + struct.pack(">I", 23) + b"\0\0" + b"\0image/png\0\3cover\0\x89PNG."
    return b"ID3\4\0\0" + bytes([0, 0, len(frames) >> 7, len(frames) & 127]) + frames


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def _wave(form: bytes = b"RIFF") -> bytes:
    cue = struct.pack("<7I", 1, 1, 100, 0x61746164, 0, 0, 100)
    chunks = [
        _chunk(b"fmt ", struct.pack("<HHIIHH", 1, 2, 44_100, 176_400, 4, 16)),
        _chunk(b"bext", b"A description".ljust(256, b"\0") + bytes(346) + b"A=PCM,F=44100\r\n"),
        _chunk(b"iXML", b"<BWFXML><SPEED><FILE_SAMPLE_RATE>44100</FILE_SAMPLE_RATE></SPEED></BWFXML>"),
        _chunk(b"cue ", cue),
        _chunk(b"smpl", struct.pack("<15I", 0, 0, 22_675, 60, 0, 0, 0, 1, 0, 1, 0, 10, 99, 0, 0)),
        _chunk(b"LIST", b"INFO" + _chunk(b"INAM", b"A title\0") + _chunk(b"IART", b"Someone\0")),
        _chunk(b"LIST", b"adtl" + _chunk(b"labl", b"\1\0\0\0here\0")),
        _chunk(b"cart", bytes(748) + b"post1   " + bytes(1300)),
        _chunk(b"id3 ", _id3()),
        _chunk(b"data", bytes(400)),
    ]
    if form == b"RF64":
        chunks.insert(0, _chunk(b"ds64", struct.pack("<QQQI", 0, 400, 100, 0)))
    body = b"WAVE" + b"".join(chunks)
    return form + struct.pack("<I", len(body)) + body


def _flac() -> bytes:
    import numpy as np
    import soundfile

    out = io.BytesIO()
    with soundfile.SoundFile(out, "w", 44_100, 2, "PCM_16", format="FLAC") as file:
        file.title, file.artist = "A title", "Someone"
        file.write(np.zeros((100, 2)))
    data = out.getvalue()
    picture = (
        struct.pack(">II", 3, 9) + b"image/png" + struct.pack(">I", 0) + bytes(16) + struct.pack(">I", 4) + b"\x89PNG"
    )
    return data[:42] + b"\6" + len(picture).to_bytes(3, "big") + picture + data[42:]


def seeds() -> Iterable[bytes]:
    """A broadcast WAV with every chunk that is carried, RF64, FLAC and Ogg with tags and a cover, and ID3 alone."""
    import numpy as np
    import soundfile

    yield from (_wave(), _wave(b"RF64"), _flac(), _id3() + b"\xff\xfb\x90\x00" + bytes(413), _id3() + _flac())
    for format, subtype in (("OGG", "VORBIS"), ("OGG", "OPUS"), ("AIFF", "PCM_16")):
        out = io.BytesIO()
        with soundfile.SoundFile(out, "w", 48_000, 2, subtype, format=format) as file:
            file.title = "A title"
            file.write(np.zeros((100, 2)))
        yield out.getvalue()


def run(data: bytes) -> None:
    """Found in the bytes, and fitted into every container at another rate."""
    from latentsr.audio.tags import carry, metadata

    found = carry.found(io.BytesIO(data))
    assert sum(len(chunk.data) for chunk in found.chunks) <= metadata.MAX_BYTES
    for major in FORMATS:
        fitted = carry.fitted(found, major, "PCM_24", 2, 48_000)
        assert len(fitted.inset) <= 4 * len(data) + 10_000, (major, len(fitted.inset), len(data))
        assert all("\n" not in note for note in fitted.notes), fitted.notes
