"""What a recording carries beside its samples: tags, pictures, and the chunks of a broadcast WAV.

Tags have the names of Vorbis comments in lower case (`title`, `albumartist`, `replaygain_track_gain`,
...) whatever file they come from; several values of one tag are joined by "; ". Nothing here raises
for what a file holds: what cannot be carried is left out and said in `notes`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")

MAX_ITEM_BYTES = 16 * 2**20  # of one picture, chunk or tag
MAX_BYTES = 64 * 2**20  # of all pictures, of all chunks, and of all tags
MAX_ITEMS = 10_000
FRONT_COVER = 3  # of the picture types that ID3 and FLAC share
SEPARATOR = "; "

# What the tool that made the source said of itself or of its own encoding; untrue of what is written.
_OF_THE_ENCODER = {
    "software", "encoder", "encodersettings", "encoder_options", "encoding_tool", "major_brand", "minor_version",
    "compatible_brands", "creation_time", "handler_name", "vendor_id", "itunsmpb", "length", "duration", "tlen",
    "wm/encodingsettings", "wmfsdkversion", "wmfsdkneeded", "isvbr", "deviceconformancetemplate", "cuesheet", "md5",
    "_statistics_writing_app", "_statistics_writing_date_utc", "_statistics_tags", "number_of_frames",
    "number_of_bytes", "bps",
}  # fmt: skip
# Other names for what Vorbis comments name: FFmpeg's, MP4's, APE's, WMA's.
_ALIASES = {
    "track": "tracknumber", "disc": "discnumber", "disk": "discnumber", "album_artist": "albumartist",
    "album artist": "albumartist", "year": "date", "tsrc": "isrc", "lyrics-eng": "lyrics", "lyrics-xxx": "lyrics",
    "unsyncedlyrics": "lyrics", "tbpm": "bpm", "tmpo": "bpm", "sort_name": "titlesort", "sort_artist": "artistsort",
    "sort_album": "albumsort", "title-sort": "titlesort", "artist-sort": "artistsort", "album-sort": "albumsort",
    "wm/albumartist": "albumartist", "wm/albumtitle": "album", "wm/year": "date", "wm/genre": "genre",
    "wm/tracknumber": "tracknumber", "wm/composer": "composer", "wm/partofset": "discnumber", "wm/isrc": "isrc",
    "wm/lyrics": "lyrics", "wm/publisher": "publisher", "wm/conductor": "conductor",
}  # fmt: skip


@dataclass(frozen=True)
class Picture:
    """A cover or another picture, as it lies in the file (JPEG, PNG, ...)."""

    mime: str  # "image/jpeg"
    data: bytes
    kind: int = FRONT_COVER  # ID3's and FLAC's picture type
    description: str = ""


@dataclass(frozen=True)
class Chunk:
    """A chunk of a WAV file: a name of four bytes, and its content without the padding."""

    id: bytes
    data: bytes


@dataclass(frozen=True)
class Metadata:
    """Tags, pictures and chunks of a recording, with what is needed to write them beside other samples."""

    tags: Mapping[str, str] = field(default_factory=dict)
    pictures: tuple[Picture, ...] = ()
    chunks: tuple[Chunk, ...] = ()
    sample_rate: int | None = None  # Hz, in which the times of `chunks` are counted
    channel_mask: int | None = None  # which speakers: dwChannelMask of WAVE_FORMAT_EXTENSIBLE; None = not said
    notes: tuple[str, ...] = ()  # what the source holds and cannot be carried, one line each

    def __bool__(self) -> bool:
        return bool(self.tags or self.pictures or self.chunks)

    @property
    def size_bytes(self) -> int:
        """What it takes in a file, at most: every tag twice in UTF-8, and pictures and chunks as they are."""
        tags = sum(2 * (len(key) + 4 * len(text) + 32) for key, text in self.tags.items())
        pictures = sum(len(picture.data) + 4 * len(picture.description) + 256 for picture in self.pictures)
        return tags + pictures + sum(len(chunk.data) + 256 for chunk in self.chunks)

    def over(self, other: Metadata) -> Metadata:
        """This, and what only `other` knows."""
        return Metadata(
            {**other.tags, **self.tags},
            self.pictures or other.pictures,
            self.chunks or other.chunks,
            self.sample_rate or other.sample_rate,
            self.channel_mask if self.channel_mask is not None else other.channel_mask,
            tuple(dict.fromkeys((*self.notes, *other.notes))),
        )

    def noting(self, *notes: str) -> Metadata:
        """The same with more notes."""
        return dataclasses.replace(self, notes=(*self.notes, *notes))

    def checked(self) -> Metadata:
        """What of it can be written anywhere: no NUL, nothing beyond 16 MiB, not more than 64 MiB of a kind.

        >>> Metadata({"title": "a", "x": "b\\0c"}).checked().notes
        ('the tag x holds a NUL and is not carried',)
        """
        notes = list(self.notes)
        tags = {key: _written(text) for key, text in self.tags.items() if not _tag_fault(key, text, notes)}
        tags = dict(_within(tags.items(), lambda item: len(item[0]) + 4 * len(item[1]), "tags", notes))
        pictures = [picture for picture in self.pictures if not _picture_fault(picture, notes)]
        pictures = list(_within(pictures, lambda picture: len(picture.data), "pictures", notes))
        chunks = list(_within(self.chunks, lambda chunk: len(chunk.data), "chunks", notes))
        return dataclasses.replace(
            self, tags=tags, pictures=tuple(pictures), chunks=tuple(chunks), notes=tuple(dict.fromkeys(notes))
        )


def collected(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Tags by our names, of (name, text) as they stand in a file; the values of one name are joined.

    >>> collected([("ARTIST", "A"), ("Artist", "B"), ("track", "3/12"), ("encoder", "x")])
    {'artist': 'A; B', 'tracknumber': '3/12'}
    """
    values: dict[str, list[str]] = {}
    for name, text in pairs:
        key = name.strip().lower()
        key = _ALIASES.get(key, key)
        text = text.rstrip("\0").strip()
        if not key or not text or key in _OF_THE_ENCODER or (key, text) == ("language", "und"):
            continue
        if text not in values.setdefault(key, []):
            values[key].append(text)
    return {key: SEPARATOR.join(texts) for key, texts in values.items()}


def _written(text: str) -> str:
    """Text that has an encoding: half of a surrogate pair has none, and becomes a question mark."""
    return text.encode("utf-8", "replace").decode()


def megabytes(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"


def _tag_fault(key: str, text: str, notes: list[str]) -> bool:
    """Whether a tag cannot be carried, which is then noted."""
    if "\0" in text or "\0" in key:
        notes.append(f"the tag {_shown(key)} holds a NUL and is not carried")
    elif not key or any(not 0x20 <= ord(letter) <= 0x7D or letter == "=" for letter in key):
        notes.append(f"a tag named {_shown(key)!r} is not carried: names of tags are plain ASCII")
    elif len(text) > MAX_ITEM_BYTES // 4:
        notes.append(f"the tag {_shown(key)} holds {len(text)} letters and is not carried")
    else:
        return False
    return True


def _picture_fault(picture: Picture, notes: list[str]) -> bool:
    if len(picture.data) > MAX_ITEM_BYTES:
        limit = MAX_ITEM_BYTES // 2**20
        notes.append(f"a picture of {megabytes(len(picture.data))} is not carried: more than {limit} MiB")
    elif not picture.data:
        notes.append("a picture without content is not carried")
    else:
        return False
    return True


def _within(items: Iterable[T], size_of: Callable[[T], int], kind: str, notes: list[str]) -> Iterator[T]:
    """The items, in order, as long as they and their sizes stay within the limits of all."""
    total, left_out = 0, 0
    for count, item in enumerate(items):
        total += size_of(item)
        if total > MAX_BYTES or count >= MAX_ITEMS:
            left_out += 1
        else:
            yield item
    if left_out:
        notes.append(f"{left_out} {kind} are not carried: more than {MAX_BYTES // 2**20} MiB or {MAX_ITEMS} of them")


def _shown(key: str) -> str:
    return key.replace("\0", "\\0")[:40]
