"""What a recording carries beside its samples: tags, pictures, and the chunks of a broadcast WAV.

Tags have the names of Vorbis comments in lower case (`title`, `albumartist`, `replaygain_track_gain`,
...) whatever file they come from; several values of one tag are joined by "; ", and kept apart in
`Text.values`. Nothing here raises for what a file holds: what cannot be carried is left out and said in `notes`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
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


class Text(str):
    """A tag's text: its values joined. `values` are they, one by one, for a container that keeps them apart."""

    values: tuple[str, ...]

    @classmethod
    def of(cls, values: Iterable[str]) -> Text:
        values = tuple(values)
        made = cls(SEPARATOR.join(values))
        made.values = values
        return made


def values_of(text: str) -> tuple[str, ...]:
    """The values of a tag: of a plain string one."""
    return text.values if isinstance(text, Text) else (text,)


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
    sample_rate: int | None = None  # Hz, in which the times of `chunks` and loop points are counted
    channel_mask: int | None = None  # which speakers: dwChannelMask of WAVE_FORMAT_EXTENSIBLE; None = not said
    notes: tuple[str, ...] = ()  # what the source holds and cannot be carried, one line each
    frames: tuple[Chunk, ...] = ()  # of ID3v2.4, that are no plain tags: chapters, ratings, comments by language, ...

    def __bool__(self) -> bool:
        return bool(self.tags or self.pictures or self.chunks or self.frames)

    @property
    def size_bytes(self) -> int:
        """What it takes in a file, at most: every tag twice in UTF-8, and pictures and chunks as they are."""
        tags = sum(2 * (len(key) + 4 * len(text) + 32) for key, text in self.tags.items())
        pictures = sum(len(picture.data) + 4 * len(picture.description) + 256 for picture in self.pictures)
        return tags + pictures + sum(len(chunk.data) + 256 for chunk in (*self.chunks, *self.frames))

    def over(self, other: Metadata) -> Metadata:
        """This, and what only `other` knows."""
        return Metadata(
            {**other.tags, **self.tags},
            self.pictures or other.pictures,
            self.chunks or other.chunks,
            self.sample_rate or other.sample_rate,
            self.channel_mask if self.channel_mask is not None else other.channel_mask,
            tuple(dict.fromkeys((*self.notes, *other.notes))),
            self.frames or other.frames,
        )

    def checked(self) -> Metadata:
        """What of it can be written anywhere: no NUL, nothing beyond 16 MiB, not more than 64 MiB of a kind.

        >>> Metadata({"title": "a", "x": "b\\0c"}).checked().notes
        ('the tag x holds a NUL and is not carried',)
        """
        notes = list(self.notes)
        tags = _kept(self.tags.items(), _tag_fault, lambda item: len(item[0]) + 4 * len(item[1]), "tags", notes)
        pictures = _kept(self.pictures, _picture_fault, lambda picture: len(picture.data), "pictures", notes)
        chunks = _kept(self.chunks, lambda _: None, lambda chunk: len(chunk.data), "chunks", notes)
        # Half of a surrogate pair has no encoding, and becomes a question mark.
        written = {
            key: Text.of(value.encode("utf-8", "replace").decode() for value in values_of(text)) for key, text in tags
        }
        frames = _kept(self.frames, lambda _: None, lambda frame: len(frame.data), "ID3 frames", notes)
        return dataclasses.replace(
            self, tags=written, pictures=tuple(pictures), chunks=tuple(chunks), frames=tuple(frames),
            notes=tuple(dict.fromkeys(notes)),
        )  # fmt: skip


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
    return {key: Text.of(texts) for key, texts in values.items()}


# Tags that count samples: where a game's music goes back to.
_LOOPS = {"loopstart", "looplength", "loopend", "loop_start", "loop_length", "loop_end"}


def retimed_tags(metadata: Metadata, sample_rate: int) -> Mapping[str, str]:
    """The tags as they belong beside samples at another rate: loop points name the same instant, rounded half up.

    >>> dict(retimed_tags(Metadata({"loopstart": "44100", "title": "a"}, sample_rate=44100), 48000))
    {'loopstart': '48000', 'title': 'a'}
    """
    from_hz = metadata.sample_rate or sample_rate

    def scaled(text: str) -> str:
        digits = text.isascii() and text.isdigit() and len(text) < 16
        return str((2 * int(text) * sample_rate + from_hz) // (2 * from_hz)) if digits else text

    return {key: scaled(text) if key in _LOOPS else text for key, text in metadata.tags.items()}


def megabytes(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"


def listed(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _tag_fault(tag: tuple[str, str]) -> str | None:
    """Why a tag cannot be carried."""
    key, text = tag
    if "\0" in text or "\0" in key:
        return f"the tag {_shown(key)} holds a NUL and is not carried"
    if not key or any(not 0x20 <= ord(letter) <= 0x7D or letter == "=" for letter in key):
        return f"a tag named {_shown(key)!r} is not carried: names of tags are plain ASCII"
    if len(text) > MAX_ITEM_BYTES // 4:
        return f"the tag {_shown(key)} holds {len(text)} letters and is not carried"
    return None


def _picture_fault(picture: Picture) -> str | None:
    if len(picture.data) > MAX_ITEM_BYTES:
        limit = MAX_ITEM_BYTES // 2**20
        return f"a picture of {megabytes(len(picture.data))} is not carried: more than {limit} MiB"
    return None if picture.data else "a picture without content is not carried"


def _kept(
    items: Iterable[T], fault: Callable[[T], str | None], size_of: Callable[[T], int], kind: str, notes: list[str]
) -> list[T]:
    """The items without a fault, in order, as long as they and their sizes stay within the limits of all."""
    kept: list[T] = []
    total = left_out = 0
    for item in items:
        if (why := fault(item)) is not None:
            notes.append(why)
            continue
        total += size_of(item)
        if total > MAX_BYTES or len(kept) + left_out >= MAX_ITEMS:
            left_out += 1
        else:
            kept.append(item)
    if left_out:
        notes.append(f"{left_out} {kind} are not carried: more than {MAX_BYTES // 2**20} MiB or {MAX_ITEMS} of them")
    return kept


def _shown(key: str) -> str:
    return key.replace("\0", "\\0")[:40]
