"""ID3v2: the tags and pictures of MP3, and of a chunk in WAV and AIFF.

Versions 2.2, 2.3 and 2.4 are read; 2.4 in UTF-8 is written, so that every script survives. Compressed
and encrypted frames, which hardly exist, are left out.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from latentsr.audio.tags.metadata import MAX_ITEMS, Chunk, Metadata, Picture, collected, values_of

_ENCODINGS = {0: "latin-1", 1: "utf-16", 2: "utf-16-be", 3: "utf-8"}
_UTF8 = b"\x03"
_NO_LANGUAGE = b"XXX"  # ID3v2.4, section 4: the code of a language that is not known
_FRAMES = {
    "title": "TIT2", "artist": "TPE1", "album": "TALB", "date": "TDRC", "genre": "TCON", "tracknumber": "TRCK",
    "discnumber": "TPOS", "albumartist": "TPE2", "composer": "TCOM", "copyright": "TCOP", "isrc": "TSRC",
    "lyricist": "TEXT", "conductor": "TPE3", "remixer": "TPE4", "publisher": "TPUB", "language": "TLAN", "bpm": "TBPM",
    "initialkey": "TKEY", "titlesort": "TSOT", "artistsort": "TSOP", "albumsort": "TSOA", "mood": "TMOO",
    "media": "TMED", "subtitle": "TIT3", "grouping": "TIT1", "encodedby": "TENC", "originaldate": "TDOR",
    "compilation": "TCMP",
}  # fmt: skip
_NAMES = {frame: key for key, frame in _FRAMES.items()} | {
    "TYER": "date", "TORY": "originaldate", "TSSE": "encodersettings", "TLEN": "length",
    "TT2": "title", "TP1": "artist", "TAL": "album", "TYE": "date", "TCO": "genre", "TRK": "tracknumber",
    "TPA": "discnumber", "TP2": "albumartist", "TCM": "composer", "TCR": "copyright", "TRC": "isrc", "TXT": "lyricist",
    "TP3": "conductor", "TP4": "remixer", "TPB": "publisher", "TLA": "language", "TBP": "bpm", "TKE": "initialkey",
    "TT1": "grouping", "TT3": "subtitle", "TEN": "encodedby", "TSS": "encodersettings", "TLE": "length",
    "TMT": "media", "TCP": "compilation",
}  # fmt: skip
# What is carried as it is into another ID3 tag; comments and lyrics for their languages. Version 2.2 has other names.
_KEPT = ("CHAP", "CTOC", "POPM", "PCNT", "UFID", "SYLT", "PRIV", "GEOB", "WXXX", "RVA2", "MCDI", "OWNE", "COMR", "USER")
_SPOKEN = ("COMM", "USLT")
_OLD = {
    "POP": "POPM", "CNT": "PCNT", "UFI": "UFID", "SLT": "SYLT", "GEO": "GEOB", "WXX": "WXXX", "MCI": "MCDI",
    "COM": "COMM", "ULT": "USLT",
}  # fmt: skip
_IMAGE_TYPES = {"PNG": "image/png", "JPG": "image/jpeg"}  # version 2.2 has three letters


def size(head: bytes) -> int:
    """How many bytes the tag at the start of a file has, of its first 10 bytes; 0 where there is none.

    >>> size(b"ID3\\x04\\x00\\x00\\x00\\x00\\x02\\x01")
    267
    """
    if len(head) < 10 or head[:3] != b"ID3" or max(head[6:10]) >= 0x80:
        return 0
    return 10 + _syncsafe(head[6:10]) + (10 if head[5] & 0x10 else 0)


def parse(tag: bytes) -> Metadata:
    """Tags and pictures of an ID3v2 tag, header included; what follows it is ignored, damage ends it."""
    if not size(tag[:10]):
        return Metadata()
    version, flags = tag[3], tag[5]
    body = tag[10 : 10 + _syncsafe(tag[6:10])]
    if flags & 0x80 and version < 4:
        body = body.replace(b"\xff\x00", b"\xff")
    if flags & 0x40 and version > 2 and len(body) >= 4:  # an extended header
        body = body[_syncsafe(body[:4]) if version == 4 else 4 + struct.unpack(">I", body[:4])[0] :]
    texts: list[tuple[str, str]] = []
    pictures: list[Picture] = []
    kept: list[Chunk] = []
    closed: dict[str, None] = {}
    lost: dict[str, None] = {}
    for name, data in _frames(body, version):
        new = _OLD.get(name, name)
        if data is None:
            closed[name] = None
        elif name in ("APIC", "PIC"):
            pictures += _picture(data, name)
        elif (found := _texts(name, data)) or name[0] in "TW" and new != "WXXX":
            texts += found
            kept += [Chunk(new.encode(), data)] if new in _SPOKEN else []
        elif new in _KEPT and (whole := _renewed(new, data, version)) is not None:
            kept.append(Chunk(new.encode(), whole))
        else:
            lost[name] = None
    notes = [f"ID3 frames {', '.join(closed)} are compressed or encrypted, and not carried"] if closed else []
    notes += [f"ID3 frames {', '.join(lost)}: not known or not true of other samples, not carried"] if lost else []
    return Metadata(collected(texts), tuple(pictures), notes=tuple(notes), frames=tuple(kept))


def build(metadata: Metadata) -> bytes:
    """An ID3v2.4 tag of all tags and pictures; empty where there are none, or where they do not fit into 256 MiB."""
    named = [(frame.id.decode(), frame.data) for frame in metadata.frames]
    spoken = [(name, data, _texts(name, data)) for name, data in named if name in _SPOKEN]
    said = collected(pair for _, _, pairs in spoken for pair in pairs)
    same = {key for key, text in said.items() if metadata.tags.get(key) == text}  # their frames say it, by language
    frames = [_text_frame(key, text) for key, text in metadata.tags.items() if key not in same]
    frames += [_frame(name, data) for name, data, pairs in spoken if collected(pairs).keys() <= same]
    frames += [_frame(name, data) for name, data in named if name not in _SPOKEN]
    for picture in metadata.pictures:
        head = _UTF8 + picture.mime.encode("latin-1", "replace") + b"\0" + bytes([picture.kind & 0xFF])
        frames.append(_frame("APIC", head + _utf8(picture.description) + b"\0" + picture.data))
    body = b"".join(frames)
    return b"ID3\x04\x00\x00" + _to_syncsafe(len(body)) + body if 0 < len(body) < 2**28 else b""


def without_plain(metadata: Metadata) -> list[str]:
    """The names of the frames that a container without ID3 loses; comments and lyrics are tags there."""
    return list(dict.fromkeys(frame.id.decode() for frame in metadata.frames if frame.id.decode() not in _SPOKEN))


def _renewed(name: str, data: bytes, version: int) -> bytes | None:
    """A frame as version 2.4 has it; None where it counts what other samples have otherwise, or is cut short."""
    if name == "SYLT":  # byte 4: 2 are milliseconds, 1 are frames of MPEG
        return data if len(data) > 6 and data[4] == 2 else None
    if name not in ("CHAP", "CTOC"):
        return data
    label, _, rest = data.partition(b"\0")
    if name == "CHAP":
        if len(rest) < 16:
            return None
        # Times are in milliseconds; places in bytes are of the old file, and all ones mean: use the times.
        head, rest = label + b"\0" + rest[:8] + b"\xff" * 8, rest[16:]
    else:
        at = 2
        for _ in range(rest[1] if len(rest) > 1 else 0):
            at = rest.find(b"\0", at) + 1
            if at == 0:
                return None
        head, rest = label + b"\0" + rest[:at], rest[at:]
    inner = [_frame(_OLD.get(sub, sub), body) for sub, body in _frames(rest, version) if body is not None]
    return head + b"".join(inner)


def _frames(body: bytes, version: int) -> Iterator[tuple[str, bytes | None]]:
    """(name, content) of each frame; None for content that is compressed or encrypted."""
    head = 6 if version == 2 else 10
    at = 0
    for _ in range(MAX_ITEMS):
        name = body[at : at + (3 if version == 2 else 4)]
        if at + head > len(body) or not _is_name(name):
            return
        length = _frame_length(body, at, version)
        data = body[at + head : at + head + length]
        if len(data) < length:
            return
        at += head + length
        flags = 0 if version == 2 else body[at - length - 1]
        yield name.decode("latin-1"), _unfolded(data, flags, version)


def _frame_length(body: bytes, at: int, version: int) -> int:
    if version == 2:
        return int.from_bytes(body[at + 3 : at + 6], "big")
    field = body[at + 4 : at + 8]
    plain = int.from_bytes(field, "big")
    if version < 4:
        return plain
    length = _syncsafe(field)
    # An old iTunes writes plain sizes into version 2.4: where only those lead to a next frame, they are meant.
    follows = [body[at + 10 + step : at + 14 + step] for step in (length, plain)]
    meant_plain = max(field) >= 0x80 or (follows[0].strip(b"\0") and not _is_name(follows[0]) and _is_name(follows[1]))
    return plain if meant_plain else length


def _is_name(name: bytes) -> bool:
    return name.isalnum() and name == name.upper()


def _unfolded(data: bytes, flags: int, version: int) -> bytes | None:
    """A frame's content without what its second flag byte announces."""
    if version == 2 or not flags:
        return data
    if version == 3:
        return None if flags & 0xC0 else data[1 if flags & 0x20 else 0 :]
    if flags & 0x0C:
        return None
    data = data[(1 if flags & 0x40 else 0) + (4 if flags & 0x01 else 0) :]
    return data.replace(b"\xff\x00", b"\xff") if flags & 0x02 else data


def _texts(name: str, data: bytes) -> list[tuple[str, str]]:
    """(our name, text) of a frame, of each of its values; none for a frame that is no text."""
    if not data:
        return []
    encoding, rest = _ENCODINGS.get(data[0], "latin-1"), data[1:]
    if name in ("TXXX", "TXX"):
        label, text = _split(rest, encoding)
        return [(_decoded(label, encoding), value) for value in _decoded(text, encoding).split("\0")]
    if name in ("COMM", "COM", "USLT", "ULT"):
        label, text = _split(rest[3:], encoding)  # 3: the language
        # A labelled comment is a program's own note (iTunNORM, ...) under a name of its own.
        key = "lyrics" if name[0] == "U" else _decoded(label, encoding).strip("\0 ") or "comment"
        return [(key, _decoded(text, encoding))]
    if name[0] == "T":
        return [(_NAMES.get(name, name), value) for value in _decoded(rest, encoding).split("\0") if value]
    if name[0] == "W" and name not in ("WXXX", "WXX"):
        return [(name, data.decode("latin-1"))]
    return []


def _picture(data: bytes, name: str) -> list[Picture]:
    if len(data) < 6:
        return []
    encoding = _ENCODINGS.get(data[0], "latin-1")
    if name == "PIC":
        mime, rest = _IMAGE_TYPES.get(data[1:4].decode("latin-1").upper(), ""), data[4:]
    else:
        name_of_type, _, rest = data[1:].partition(b"\0")
        mime = name_of_type.decode("latin-1")
    if not rest or mime == "-->":  # an address instead of a picture
        return []
    label, content = _split(rest[1:], encoding)
    mime = mime or ("image/png" if content.startswith(b"\x89PNG") else "image/jpeg")
    return [Picture(mime, content, rest[0], _decoded(label, encoding))]


def _split(data: bytes, encoding: str) -> tuple[bytes, bytes]:
    """What stands before and behind the first NUL, which has two aligned bytes in UTF-16."""
    if not encoding.startswith("utf-16"):
        before, _, behind = data.partition(b"\0")
        return before, behind
    at = data.find(b"\0\0")
    while at % 2 and at >= 0:
        at = data.find(b"\0\0", at + 1)
    return (data, b"") if at < 0 else (data[:at], data[at + 2 :])


def _decoded(data: bytes, encoding: str) -> str:
    text = data.decode(encoding, "replace")
    return text.replace("\ufeff", "").rstrip("\0")


def _text_frame(key: str, text: str) -> bytes:
    if key in ("comment", "lyrics"):
        return _frame("COMM" if key == "comment" else "USLT", _UTF8 + _NO_LANGUAGE + b"\0" + _utf8(text))
    name = _FRAMES.get(key)
    if name is None:
        return _frame("TXXX", _UTF8 + _utf8(key.upper()) + b"\0" + _utf8("\0".join(values_of(text))))
    return _frame(name, _UTF8 + _utf8("\0".join(values_of(text))))


def _frame(name: str, data: bytes) -> bytes:
    return name.encode() + _to_syncsafe(len(data)) + b"\0\0" + data


def _syncsafe(four: bytes) -> int:
    return four[0] << 21 | four[1] << 14 | four[2] << 7 | four[3]


def _to_syncsafe(value: int) -> bytes:
    return bytes(value >> shift & 0x7F for shift in (21, 14, 7, 0))


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")
