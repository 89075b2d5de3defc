"""Tags, pictures, speakers and depth of what PyAV opens; the container is an argument: nothing here imports `av`."""

from __future__ import annotations

from typing import Any, BinaryIO

from latentsr.audio.spans import bytes_at, unpack
from latentsr.audio.tags.metadata import MAX_ITEM_BYTES, Metadata, Picture, collected, megabytes

MAX_PICTURES = 32
_ATTACHED = 0x400  # AV_DISPOSITION_ATTACHED_PIC
_HYBRID = 0x8  # of the flags in a WavPack block
_SILENCE, _REPEAT, MAX_BLOCKS = 3, 6, 100_000  # of Creative Voice
_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_MIME = {"mjpeg": "image/jpeg", "png": "image/png", "bmp": "image/bmp", "gif": "image/gif", "webp": "image/webp"}
# FFmpeg's names of speakers, from the lowest bit of dwChannelMask up.
_SPEAKERS = (
    "FL", "FR", "FC", "LFE", "BL", "BR", "FLC", "FRC", "BC", "SL", "SR", "TC", "TFL", "TFC", "TFR", "TBL", "TBC", "TBR",
)  # fmt: skip

_PCM = {"u8": "PCM_U8", "s16": "PCM_16", "s32": "PCM_32", "flt": "FLOAT", "dbl": "DOUBLE"}
_LOSSLESS = {"ALAC", "FLAC", "WAVPACK", "TTA", "APE", "TRUEHD", "MLP", "WMALOSSLESS", "SHORTEN", "TAK"}
_LOSSLESS_BITS = {"u8": "16", "s16": "16", "s32": "32"}  # 24 bits lie in 32 too: rather too deep than too shallow


def collect(container: Any, stream: Any) -> Metadata:
    """What is known of an open container and its audio stream, before any of it is decoded.

    Pictures are packets that come before all others, and so taking them loses no sound.
    """
    pairs = [*container.metadata.items(), *stream.metadata.items()]
    pictures, notes = _pictures(container)
    if chapters := container.chapters():
        notes.append(f"{len(chapters)} chapters are not carried")
    return Metadata(collected(pairs), tuple(pictures), channel_mask=_mask(stream), notes=tuple(notes)).checked()


def subtype(stream: Any) -> str:
    """The codec of an audio stream, named as libsndfile would and with its depth where it loses nothing: 'ALAC_24'."""
    context = stream.codec_context
    codec, layout = context.name.upper(), context.format.name.rstrip("p") if context.format else ""
    if codec.startswith("PCM_") and layout in _PCM:
        if "_S8" in codec:
            return "PCM_S8"
        return "PCM_24" if "S24" in codec or "S20" in codec else _PCM[layout]
    if codec not in _LOSSLESS:
        return codec
    cookie = context.extradata or b""
    if codec == "ALAC" and len(cookie) >= 18:
        return f"ALAC_{cookie[17]}"
    if codec == "FLAC" and len(cookie) >= 34:
        return f"FLAC_{((cookie[12] & 1) << 4 | cookie[13] >> 4) + 1}"
    return f"{codec}_{_LOSSLESS_BITS.get(layout, 'FLOAT')}"


def is_picture(stream: Any) -> bool:
    """Whether a stream is a cover, not a film."""
    return bool(stream.disposition.value & _ATTACHED)


def is_streamed(file: BinaryIO) -> bool:
    """Whether a WMA (ASF) file was written into a pipe, and so knows no length: a flag of its file properties."""
    head = bytes_at(file, 0, 8_192)
    at = head.find(_FILE_PROPERTIES)
    return at >= 0 and bool(head[at + 88 : at + 89] > b"" and head[at + 88] & 1)


def losses(demuxer: str | None, file: BinaryIO) -> list[str]:
    """What of the sound as it was recorded a decoding cannot give back, though nothing fails."""
    if demuxer == "voc" and (said := _silent_blocks(file)):
        return [said]
    if demuxer == "wv" and unpack(file, 24, "<I")[0] & _HYBRID:
        return ["WavPack hybrid: what its correction file (.wvc) holds is not read, and this is its lossy half"]
    return []


def _silent_blocks(file: BinaryIO) -> str | None:
    """What FFmpeg leaves out of a Creative Voice file: blocks of silence, and repetitions."""
    at, silence_s, repeats = unpack(file, 20, "<H")[0], 0.0, 0
    for _ in range(MAX_BLOCKS):
        kind, low, high = unpack(file, at, "<BHB")
        if kind == 0:
            break
        if kind == _SILENCE:
            samples, divisor = unpack(file, at + 4, "<HB")
            silence_s += (samples + 1) * (256 - divisor) / 1e6
        repeats += kind == _REPEAT
        at += 4 + (high << 16 | low)
    parts = [f"{silence_s:.3f} s of silence"] if silence_s else []
    parts += [f"{repeats} repetition{'s' * (repeats > 1)}"] if repeats else []
    return f"its blocks say {' and '.join(parts)} more, which were left out" if parts else None


def _pictures(container: Any) -> tuple[list[Picture], list[str]]:
    attached = [stream for stream in container.streams.video if is_picture(stream)]
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
