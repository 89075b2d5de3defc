"""Tags, pictures and speakers of what PyAV opens; the container is the argument, so nothing here imports `av`."""

from __future__ import annotations

from typing import Any

from latentsr.signal.metadata import MAX_ITEM_BYTES, Metadata, Picture, collected, megabytes

MAX_PICTURES = 32
_MIME = {"mjpeg": "image/jpeg", "png": "image/png", "bmp": "image/bmp", "gif": "image/gif", "webp": "image/webp"}
# FFmpeg's names of speakers, from the lowest bit of dwChannelMask up.
_SPEAKERS = (
    "FL", "FR", "FC", "LFE", "BL", "BR", "FLC", "FRC", "BC", "SL", "SR", "TC", "TFL", "TFC", "TFR", "TBL", "TBC", "TBR",
)  # fmt: skip


def collect(container: Any, stream: Any) -> Metadata:
    """What is known of an open container and its audio stream, before any of it is decoded.

    Pictures are packets that come before all others, and so taking them loses no sound.
    """
    pairs = [*container.metadata.items(), *stream.metadata.items()]
    pictures, notes = _pictures(container)
    return Metadata(collected(pairs), tuple(pictures), channel_mask=_mask(stream), notes=tuple(notes)).checked()


def _pictures(container: Any) -> tuple[list[Picture], list[str]]:
    attached = [stream for stream in container.streams.video if "attached_pic" in stream.disposition.name.lower()]
    pictures: list[Picture] = []
    notes: list[str] = []
    if not attached:
        return pictures, notes
    for packet in container.demux(attached[:MAX_PICTURES]):
        if packet.size > MAX_ITEM_BYTES:
            notes.append(f"a picture of {megabytes(packet.size)} is not carried: too big")
        elif packet.size:
            mime = _MIME.get(packet.stream.codec_context.name, "image/jpeg")
            pictures.append(Picture(mime, bytes(packet), description=packet.stream.metadata.get("title", "")))
        if len(pictures) + len(notes) >= min(len(attached), MAX_PICTURES):
            break
    return pictures, notes


def _mask(stream: Any) -> int | None:
    """dwChannelMask of the stream's layout; None where it has none, or speakers that the mask does not know."""
    names = [channel.name for channel in stream.layout.channels]
    if not names or not set(names) <= set(_SPEAKERS) or len(set(names)) < len(names):
        return None
    return sum(1 << _SPEAKERS.index(name) for name in names)
