"""Vorbis comments, FLAC's metadata blocks and the header pages of Ogg.

A comment packet is rewritten in a finished Ogg file, since libsndfile writes nine tags and no picture;
in FLAC our blocks go between the stream's own and the frames.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO

from latentsr.audio.tags import riff
from latentsr.audio.tags.metadata import MAX_BYTES, MAX_ITEMS, Metadata, Picture, collected, megabytes, values_of

STREAMINFO, PADDING, APPLICATION, SEEKTABLE, COMMENT, CUESHEET, PICTURE = range(7)
FLAC_HEAD = 42  # bytes: "fLaC" and STREAMINFO, which come first
MAX_BLOCK = 2**24 - 1
MASK = "waveformatextensible_channel_mask"
PICTURE_TAG = "metadata_block_picture"
# Speakers of a FLAC by its number of channels, where no comment says otherwise (RFC 9639).
FLAC_MASKS = {1: 0x4, 2: 0x3, 3: 0x7, 4: 0x33, 5: 0x37, 6: 0x3F, 7: 0x70F, 8: 0x63F}
# Channels of Vorbis and Opus among those of WAV and FLAC, by their number; libsndfile leaves them as they come.
VORBIS_ORDER = {
    3: (0, 2, 1), 5: (0, 2, 1, 3, 4), 6: (0, 2, 1, 4, 5, 3), 7: (0, 2, 1, 5, 6, 4, 3), 8: (0, 2, 1, 6, 7, 4, 5, 3),
}  # fmt: skip
_HEADS = (b"OpusTags", b"\x03vorbis")
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_COPY_BYTES = 2**20


def read_flac(file: BinaryIO, start: int = 0) -> Metadata:
    """Tags, pictures, rate and speakers of a FLAC file whose first byte is at `start`; damage ends them."""
    file.seek(start)
    info = file.read(21)[18:].ljust(3, b"\0")  # 20 bits of rate, 3 of channels less one
    file.seek(start + 4)
    blocks: list[Metadata] = []
    left_out: list[str] = []
    total = 0
    for _ in range(MAX_ITEMS):
        head = file.read(4)
        if len(head) < 4 or head[0] & 0x7F == 0x7F:
            break
        kind, size = head[0] & 0x7F, int.from_bytes(head[1:], "big")
        content = file.read(size) if kind in (COMMENT, PICTURE, APPLICATION) else b""
        total += len(content)
        if content:
            blocks.append(_flac_block(kind, content))
        else:
            file.seek(size, io.SEEK_CUR)
        if kind == CUESHEET:
            left_out.append("cue sheet")
        if total > 2 * MAX_BYTES:
            left_out.append(f"what lies beyond {megabytes(total)} of tags and pictures")
            break
        if head[0] & 0x80:
            break
    tags = {key: text for block in reversed(blocks) for key, text in block.tags.items()}
    mask = next((block.channel_mask for block in blocks if block.channel_mask is not None), None)
    notes = [note for block in blocks for note in block.notes]
    notes += [f"{what}: not carried from FLAC" for what in dict.fromkeys(left_out)]
    pictures = tuple(picture for block in blocks for picture in block.pictures)
    chunks = tuple(chunk for block in blocks for chunk in block.chunks)
    mask = FLAC_MASKS[(info[2] >> 1 & 7) + 1] if mask is None else mask
    return Metadata(tags, pictures, chunks, int.from_bytes(info, "big") >> 4 or None, mask, tuple(notes))


def flac_blocks(metadata: Metadata) -> tuple[bytes, list[str]]:
    """Metadata blocks to go behind STREAMINFO, none of them marked as the last, and what does not fit."""
    blocks, notes = [], []
    if metadata.tags:
        blocks.append((COMMENT, comment(metadata, b"latentsr")))
    blocks += [(PICTURE, picture_block(picture)) for picture in metadata.pictures]
    packed = b""
    for kind, data in blocks:
        if len(data) > MAX_BLOCK:
            what = "a picture" if kind == PICTURE else "the tags"
            notes.append(f"{what} of {megabytes(len(data))}: more than a FLAC block holds, and not carried")
        else:
            packed += bytes([kind]) + len(data).to_bytes(3, "big") + data
    return packed, notes


def hide_comment(file: BinaryIO) -> None:
    """Turn the comment block that the encoder wrote behind STREAMINFO into padding: there may be only one."""
    file.seek(FLAC_HEAD)
    first = file.read(1)[0]
    file.seek(FLAC_HEAD)
    file.write(bytes([first & 0x80 | PADDING]))


def read_ogg(file: BinaryIO) -> Metadata:
    """Tags and pictures of the first Opus or Vorbis stream of an Ogg file."""
    try:
        found = [packet for packet, _ in islice(packets(file, 2 * MAX_BYTES), 2)]
    except OverflowError:
        return Metadata(notes=(f"tags of more than {megabytes(2 * MAX_BYTES)} are not carried",))
    head = next((head for head in _HEADS if len(found) == 2 and found[1].startswith(head)), None)
    if head is None:
        return Metadata()
    first = found[0].ljust(19, b"\0")
    opus = first.startswith(b"OpusHead")
    unmapped = opus and first[18] > 1  # its channels are for no speakers
    mask = None if unmapped else FLAC_MASKS.get(first[9 if opus else 11])
    return parse_comment(found[1][len(head) :]).over(Metadata(channel_mask=mask))


def parse_comment(data: bytes) -> Metadata:
    """Tags and pictures of a Vorbis comment, which begins with its vendor string; damage ends them."""
    pairs, pictures = [], []
    notes: list[str] = []
    for entry in _entries(data)[1]:
        key, found, text = entry.partition(b"=")
        name = key.decode("utf-8", "replace")
        if not found:
            continue
        if name.lower() == PICTURE_TAG:
            try:
                pictures.append(parse_picture(base64.b64decode(text, validate=True)))
            except (binascii.Error, ValueError):
                notes.append("a picture in the tags is damaged, and not carried")
        else:
            pairs.append((name, text.decode("utf-8", "replace")))
    tags = collected(pairs)
    mask = None
    with suppress(ValueError):
        mask = int(tags.pop(MASK, ""), 16) & 0xFFFFFFFF
    return Metadata(tags, tuple(pictures), channel_mask=mask, notes=tuple(notes))


def comment(metadata: Metadata, vendor: bytes, *, pictures: Iterable[Picture] = ()) -> bytes:
    """A Vorbis comment of the tags, and of pictures where the container has no place of its own for them."""
    entries = [
        f"{key.upper()}={value}".encode("utf-8", "replace")
        for key, text in metadata.tags.items()
        for value in values_of(text)
    ]
    for picture in pictures:
        entries.append(PICTURE_TAG.upper().encode() + b"=" + base64.b64encode(picture_block(picture)))
    packed = b"".join(struct.pack("<I", len(entry)) + entry for entry in entries)
    return struct.pack("<I", len(vendor)) + vendor + struct.pack("<I", len(entries)) + packed


def parse_picture(data: bytes) -> Picture:
    """FLAC's picture block; ValueError where it is cut short."""
    fields: list[bytes] = []
    kind, at = int.from_bytes(data[:4], "big"), 4
    for skip in (0, 16, 0):  # MIME type, description, (width, height, depth, colours,) content
        if at + 4 > len(data):
            raise ValueError("a picture block that is cut short")
        size = int.from_bytes(data[at : at + 4], "big")
        fields.append(data[at + 4 : at + 4 + size])
        if len(fields[-1]) < size:
            raise ValueError("a picture block that is cut short")
        at += 4 + size + skip
    mime, description, content = fields
    return Picture(mime.decode("latin-1"), content, kind & 0xFF, description.decode("utf-8", "replace"))


def picture_block(picture: Picture) -> bytes:
    """A picture as FLAC stores it; its measures are in the picture itself, and left at 0 here."""
    mime, text = picture.mime.encode("latin-1", "replace"), picture.description.encode("utf-8", "replace")
    return (
        struct.pack(">II", picture.kind, len(mime)) + mime + struct.pack(">I", len(text)) + text
        + bytes(16) + struct.pack(">I", len(picture.data)) + picture.data
    )  # fmt: skip


def rewrite_ogg(file: BinaryIO, metadata: Metadata) -> None:
    """Put tags and pictures into the comment packet of a finished Ogg file of one Vorbis or Opus stream.

    The pages behind it are moved and numbered anew, in place, with a megabyte of memory.
    """
    (name, page), *headers = islice(packets(file), 3)
    first = page.end
    headers = headers[:1] if name.startswith(b"OpusHead") else headers  # Vorbis has its codebooks behind the comment
    old, last = headers[0][0], headers[-1][1].end
    head = next(head for head in _HEADS if old.startswith(head))
    vendor, _ = _entries(old[len(head) :])
    # Vorbis ends its comment with a bit that must be set; in Opus what follows a comment is padding.
    packet = head + comment(metadata, vendor, pictures=metadata.pictures) + (b"\x01" if head == _HEADS[1] else b"")
    packet = packet.ljust(len(old), b"\0") if head == _HEADS[0] else packet
    file.seek(first)
    serial = file.read(18)[14:]
    made = list(_paged([packet, *(each for each, _ in headers[1:])], serial))
    whole = b"".join(made)
    _move(file, last, len(whole) - (last - first))
    file.seek(first)
    file.write(whole)
    _renumber(file, first + len(whole), 1 + len(made))


@dataclass(frozen=True)
class Page:
    """A page of Ogg: where it lies, its first 27 bytes, the lengths of its segments, and their content."""

    at: int
    head: bytes
    table: bytes
    body: bytes

    @property
    def end(self) -> int:
        return self.at + 27 + len(self.table) + len(self.body)

    def is_whole(self) -> bool:
        """Whether its checksum is right."""
        blank = self.head[:22] + bytes(4) + self.head[26:]
        return struct.pack("<I", checksum(blank + self.table + self.body)) == self.head[22:26]

    def parts(self) -> Iterator[tuple[bytes, bool]]:
        """(bytes, whether a packet ends with them) of what the page holds of each packet."""
        start = at = 0
        for size in self.table:
            at += size
            if size < 255:
                yield self.body[start:at], True
                start = at
        if start < at:
            yield self.body[start:at], False


def pages(file: BinaryIO, at: int = 0) -> Iterator[Page]:
    """The pages from this offset on, up to the first that is none or not whole."""
    while True:
        file.seek(at)
        head = file.read(27)
        if len(head) < 27 or head[:4] != b"OggS":
            return
        table = file.read(head[26])
        page = Page(at, head, table, file.read(sum(table)))
        if len(table) < head[26] or len(page.body) < sum(table):
            return
        yield page
        at = page.end


def packets(file: BinaryIO, most: float = math.inf) -> Iterator[tuple[bytes, Page]]:
    """Each packet, and the page that it ends on; OverflowError where more than `most` bytes have come."""
    parts: list[bytes] = []
    size = 0
    for page in pages(file):
        for part, whole in page.parts():
            size += len(part)
            parts.append(part)
            if whole:
                yield b"".join(parts), page
                parts = []
        if size > most:
            raise OverflowError


def checksum(page: bytes) -> int:
    """Ogg's CRC of a page whose checksum field is 0: zlib's polynomial on bits in the other order, from 0.

    >>> hex(checksum(b"a"))
    '0xa864db20'
    """
    mirrored = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(mirrored.to_bytes(4, "little").translate(_REVERSED), "big")


def _paged(packets: list[bytes], serial: bytes) -> Iterator[bytes]:
    """Header packets as pages, numbered from 1."""
    lengths = [size for packet in packets for size in (*[255] * (len(packet) // 255), len(packet) % 255)]
    body = memoryview(b"".join(packets))
    continued = 0
    for number, start in enumerate(range(0, len(lengths), 255), 1):
        table = bytes(lengths[start : start + 255])
        ends = any(size < 255 for size in table)
        position = bytes(8) if ends else b"\xff" * 8  # no packet ends on this page
        head = b"OggS\0" + bytes([continued]) + position + serial + struct.pack("<II", number, 0) + bytes([len(table)])
        content, body = body[: sum(table)], body[sum(table) :]
        yield _summed(head, table + bytes(content))
        continued = 0 if table[-1] < 255 else 1


def _summed(head: bytes, rest: bytes) -> bytes:
    blank = head[:22] + bytes(4) + head[26:]
    return blank[:22] + struct.pack("<I", checksum(blank + rest)) + blank[26:] + rest


def _move(file: BinaryIO, start: int, step: int) -> None:
    """Move everything from `start` on by `step` bytes towards the end, beginning where nothing is overwritten."""
    end = file.seek(0, io.SEEK_END)
    blocks = range(start, end, _COPY_BYTES) if step else ()
    for at in blocks if step < 0 else reversed(blocks):
        file.seek(at)
        block = file.read(min(_COPY_BYTES, end - at))
        file.seek(at + step)
        file.write(block)
    if step < 0:
        file.truncate(end + step)


def _renumber(file: BinaryIO, at: int, number: int) -> None:
    """Number the pages from `at` on, from `number` on."""
    for page in pages(file, at):
        if page.head[18:22] == (wanted := struct.pack("<I", number)):
            return
        file.seek(page.at)
        file.write(_summed(page.head[:18] + wanted + page.head[22:], page.table + page.body)[:27])
        number += 1


def _entries(data: bytes) -> tuple[bytes, list[bytes]]:
    """The vendor string of a Vorbis comment, and its entries up to the first that is cut short."""
    found: list[bytes] = []
    vendor, at = b"", 0
    for number in range(MAX_ITEMS + 1):
        if at + 4 > len(data):
            break
        size = struct.unpack_from("<I", data, at)[0]
        entry = data[at + 4 : at + 4 + size]
        if len(entry) < size:
            break
        at += 4 + size
        if number == 0:
            vendor, count = entry, struct.unpack_from("<I", data.ljust(at + 4, b"\0"), at)[0]
            at += 4
        elif number > count:
            break
        else:
            found.append(entry)
    return vendor, found


def _flac_block(kind: int, data: bytes) -> Metadata:
    if kind == COMMENT:
        return parse_comment(data)
    if kind == APPLICATION:
        return _foreign(data)
    try:
        return Metadata(pictures=(parse_picture(data),))
    except ValueError:
        return Metadata(notes=("a picture in the file is damaged, and not carried",))


def _foreign(data: bytes) -> Metadata:
    """What `flac --keep-foreign-metadata` kept of a WAV file: a chunk in each of its application blocks."""
    if data[:4] != b"riff":
        return Metadata(notes=("application block: not carried from FLAC",))
    with io.BytesIO(b"RIFF\0\0\0\0WAVE" + data[4:]) as wav:
        return Metadata(chunks=riff.read(wav).chunks if data[4:8] not in (b"RIFF", b"data") else ())
