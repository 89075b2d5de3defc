"""Which container keeps what of a recording's metadata: found in one file, fitted into another.

`found` reads; `fitted` says, before the first sample is written, which bytes go where into the new
file, and what is left to do when it is complete. Neither fails for what a file holds.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO

import soundfile

from latentsr.audio.tags import broadcast, id3, riff, xiph
from latentsr.audio.tags.metadata import (
    MAX_BYTES,
    Chunk,
    Metadata,
    collected,
    listed,
    megabytes,
    retimed_tags,
    values_of,
)

LIBSNDFILE_TAGS = ("title", "copyright", "artist", "comment", "date", "album", "license", "tracknumber", "genre")
_CHUNKED = ("WAV", "WAVEX", "RF64")
_TAGLESS = ("W64", "AU")
_PLAIN_MASKS = {1: 0x4, 2: 0x3}  # the speakers of mono and stereo, which no container has to name


@dataclass
class Fitted:
    """What to do for a new file's metadata."""

    major: str  # libsndfile's container
    at: int = 0  # where `inset` goes, in bytes from the start
    inset: bytes = b""
    strings: dict[str, str] = field(default_factory=dict)  # for libsndfile to write
    notes: tuple[str, ...] = ()
    finish: Callable[[BinaryIO, int], None] | None = None  # (the complete file, its size in bytes)


def found(file: BinaryIO) -> Metadata:
    """Tags, pictures, chunks and speakers of a recording that FFmpeg need not read, within the limits of `metadata`."""
    file.seek(0)
    head = file.read(12)
    if head[:3] == b"ID3":
        return _behind_id3(file, id3.size(head[:10]))
    if head[:4] == b"fLaC":
        return xiph.read_flac(file).checked()
    if head[:4] == b"OggS":
        return xiph.read_ogg(file).checked()
    held = riff.read(file)
    tags = Metadata(collected(held.info), (), held.chunks, held.sample_rate, held.channel_mask, held.notes)
    return id3.parse(held.id3).over(tags).checked()


def fitted(metadata: Metadata, major: str, subtype: str, channels: int, sample_rate: int) -> Fitted:
    """How the metadata of a source goes into a new file; `major` and `subtype` are libsndfile's: 'WAV', 'PCM_24'."""
    known = metadata.checked()
    known = dataclasses.replace(known, tags=retimed_tags(known, sample_rate))
    if major in _CHUNKED:
        plan = _riff(known, major, subtype, channels, sample_rate)
    else:
        plan = _OTHERS.get(major, _strings)(known, major, subtype, channels, sample_rate)
        if known.chunks:
            names = list(dict.fromkeys(chunk.id.decode("latin-1").strip() for chunk in known.chunks))
            plan.notes += (f"{major} has no room for {listed(names)}; write WAV to keep such chunks",)
        if known.frames and major not in ("MP3", "AIFF") and (lost := id3.without_plain(known)):
            plan.notes += (f"{major} has no room for the ID3 frames {listed(lost)}; write WAV or MP3 to keep them",)
    plan.notes = tuple(dict.fromkeys((*known.notes, *plan.notes)))
    return plan


def _behind_id3(file: BinaryIO, size: int) -> Metadata:
    """An ID3 tag at the start, and what an MP3 or FLAC behind it says itself."""
    if size > 2 * MAX_BYTES:
        return Metadata(notes=(f"an ID3 tag of {megabytes(size)} is not carried",))
    file.seek(0)
    tag = id3.parse(file.read(size))
    file.seek(size)
    return (xiph.read_flac(file, size).checked().over(tag) if file.read(4) == b"fLaC" else tag).checked()


def _riff(metadata: Metadata, major: str, subtype: str, channels: int, sample_rate: int) -> Fitted:
    chunks, notes = broadcast.retimed(metadata, sample_rate, channels, subtype)
    info = riff.info_chunk(metadata.tags)
    chunks += [info] if info else []
    several = any(len(values_of(text)) > 1 for text in metadata.tags.values())
    if metadata.pictures or metadata.frames or several or metadata.tags.keys() - riff.INFO.keys():
        chunks.append(Chunk(b"id3 ", id3.build(metadata)))
    mask = metadata.channel_mask
    if mask is not None and mask == _PLAIN_MASKS.get(channels):
        mask = None  # what the number of channels says anyway
    elif major == "WAV" and mask is not None:
        major = "WAVEX"
    elif major == "RF64" and channels > 2 and mask is None:
        mask = 0  # not said, where libsndfile would say 5.1
    inset = riff.pack([riff.even(chunk) for chunk in chunks] if major == "RF64" else chunks)

    def finish(file: BinaryIO, size: int) -> None:
        if inset:
            riff.fix_sizes(file, size)
        if mask is not None:
            riff.fix_channel_mask(file, mask)

    at = _data_offset(major, subtype, channels, sample_rate) if inset else 0
    return Fitted(major, at, inset, notes=tuple(notes), finish=finish)


def _aiff(metadata: Metadata, major: str, subtype: str, channels: int, sample_rate: int) -> Fitted:
    plan = _strings(metadata, major, subtype, channels, sample_rate)
    tag = id3.build(metadata)
    inset = riff.pack([Chunk(b"ID3 ", tag)], ">") if tag else b""

    def finish(file: BinaryIO, size: int) -> None:
        if inset:
            riff.fix_sizes(file, size)

    return Fitted(major, 12, inset, plan.strings, _no_speakers(metadata, major, channels), finish)


def _flac_file(metadata: Metadata, major: str, subtype: str, channels: int, sample_rate: int) -> Fitted:
    mask = metadata.channel_mask
    tags = dict(metadata.tags)
    if mask is not None and (channels > 2 or mask != xiph.FLAC_MASKS[channels]):
        tags[xiph.MASK] = f"0x{mask:04X}"
    blocks, notes = xiph.flac_blocks(Metadata(tags, metadata.pictures))

    def finish(file: BinaryIO, size: int) -> None:
        if tags:
            xiph.hide_comment(file)

    return Fitted(major, xiph.FLAC_HEAD, blocks, notes=tuple(notes), finish=finish)


def _mp3(metadata: Metadata, major: str, subtype: str, channels: int, sample_rate: int) -> Fitted:
    return Fitted(major, 0, id3.build(metadata))


def _ogg(metadata: Metadata, major: str, subtype: str, channels: int, sample_rate: int) -> Fitted:
    def finish(file: BinaryIO, size: int) -> None:
        if metadata.tags or metadata.pictures:
            xiph.rewrite_ogg(file, metadata)

    mask = metadata.channel_mask
    notes = _no_speakers(metadata, major, channels) if mask not in (None, xiph.FLAC_MASKS.get(channels)) else ()
    return Fitted(major, notes=notes, finish=finish)


def _strings(metadata: Metadata, major: str, subtype: str, channels: int, sample_rate: int) -> Fitted:
    """Containers for which libsndfile writes what little they keep."""
    keeps = () if major in _TAGLESS else LIBSNDFILE_TAGS
    strings = {key: text for key, text in metadata.tags.items() if key in keeps}
    lost = [key for key in metadata.tags if key not in keeps]
    notes = [f"{major} does not keep the tags {listed(lost)}"] if lost else []
    notes += [f"{major} keeps no cover; write WAV, AIFF or FLAC to keep it"] if metadata.pictures else []
    return Fitted(major, strings=strings, notes=(*notes, *_no_speakers(metadata, major, channels)))


def _no_speakers(metadata: Metadata, major: str, channels: int) -> tuple[str, ...]:
    mask = metadata.channel_mask
    if not mask or mask == _PLAIN_MASKS.get(channels):
        return ()
    return (
        f"{major} does not say which speakers the channels are for (mask 0x{mask:X}); write WAV or FLAC to keep it",
    )


def _data_offset(major: str, subtype: str, channels: int, sample_rate: int) -> int:
    """Where libsndfile puts the data chunk: our chunks go before it, and behind the format, as old readers want it."""
    empty = io.BytesIO()
    soundfile.SoundFile(empty, "w", sample_rate, channels, subtype, format=major).close()
    return riff.offset_of(empty, b"data")


_OTHERS: dict[str, Callable[[Metadata, str, str, int, int], Fitted]] = {
    "AIFF": _aiff, "FLAC": _flac_file, "MP3": _mp3, "OGG": _ogg,
}  # fmt: skip
