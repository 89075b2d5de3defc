"""What ID3 holds beside plain tags goes along or is noted; times and sample counts stay true; values stay apart."""

import io
import struct

import numpy as np
import pytest
import soundfile

from latentsr.audio import read, write
from latentsr.audio.tags import ape, id3, xiph
from latentsr.audio.tags.metadata import Metadata


def frame(name: bytes, data: bytes, version: int = 4) -> bytes:
    size = (
        bytes(len(data) >> shift & 0x7F for shift in (21, 14, 7, 0)) if version == 4 else struct.pack(">I", len(data))
    )
    return name + size + b"\0\0" + data


def tag(*frames: bytes, version: int = 4) -> bytes:
    body = b"".join(frames)
    return b"ID3" + bytes([version, 0, 0]) + bytes(len(body) >> shift & 0x7F for shift in (21, 14, 7, 0)) + body


TITLE = b"\3Chapter one, whose name is longer than a hundred and twenty-eight letters" + b"x" * 100
CHAPTER = b"ch1\0" + struct.pack(">IIII", 500, 1_000, 100, 900)
KEPT = {
    b"CTOC": b"toc\0\3\1ch1\0" + frame(b"TIT2", b"\3All"),
    b"POPM": b"who@example.org\0\xc4\0\0\0\x07",
    b"UFID": b"http://example.org\0id",
    b"PRIV": b"owner\0\1\2\3",
    b"SYLT": b"\3eng\2\1\0la\0" + struct.pack(">I", 250),
    b"WXXX": b"\3home\0http://example.org/",
}
SPOKEN = {b"COMM": b"\3eng\0hello", b"USLT": b"\3fra\0bonjour"}


def song(path, head: bytes, rate_hz: int = 44_100):
    out = io.BytesIO()
    soundfile.write(out, np.zeros((rate_hz // 2, 1)), rate_hz, format="MP3")
    path.write_bytes(head + out.getvalue())
    return path


def frames_of(path) -> list[tuple[str, bytes]]:
    data = path.read_bytes()
    data = data[data.index(b"ID3\4") :]
    return list(id3._frames(data[10 : id3.size(data[:10])], 4))


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("extension", ["mp3", "wav", "aiff"])
def test_frames_go_along_where_there_is_id3(tmp_path, version, extension):
    chapter = CHAPTER + frame(b"TIT2", TITLE, version)
    held = {**KEPT, **SPOKEN, b"CHAP": chapter}
    source = song(tmp_path / "a.mp3", tag(*(frame(n, d, version) for n, d in held.items()), version=version))
    got = read(source)
    assert got.notes == [] and got.metadata.notes == ()
    target = tmp_path / f"b.{extension}"
    assert write(target, np.zeros((1, 24_000), np.float32), 48_000, metadata=got.metadata) == ()
    written = dict(frames_of(target))
    assert {name: written[name.decode()] for name in {**KEPT, **SPOKEN}} == {**KEPT, **SPOKEN}
    # Times stay, places in bytes are of the old file; the inner frame has the sizes of version 2.4.
    assert written["CHAP"] == CHAPTER[:12] + b"\xff" * 8 + frame(b"TIT2", TITLE)


def test_where_there_is_no_id3_a_note_names_them(tmp_path):
    got = read(song(tmp_path / "a.mp3", tag(*(frame(n, d) for n, d in {**KEPT, **SPOKEN}.items()))))
    notes = write(tmp_path / "b.flac", np.zeros((1, 24_000), np.float32), 48_000, metadata=got.metadata)
    assert notes == (
        "FLAC has no room for the ID3 frames CTOC, POPM, UFID, PRIV, SYLT, WXXX; write WAV or MP3 to keep them",
    )
    assert dict(read(tmp_path / "b.flac").tags) == {"comment": "hello", "lyrics": "bonjour"}


def test_what_counts_frames_of_the_old_file_is_noted(tmp_path):
    held = [frame(b"SYLT", b"\3eng\1\1\0la\0" + bytes(4)), frame(b"MLLT", bytes(12)), frame(b"CHAP", b"c\0short")]
    assert id3.parse(tag(*held)).notes == (
        "ID3 frames SYLT, MLLT, CHAP: not known or not true of other samples, not carried",
    )


def test_a_changed_comment_is_written_and_the_old_one_is_not():
    held = id3.parse(tag(frame(b"COMM", SPOKEN[b"COMM"]), frame(b"USLT", SPOKEN[b"USLT"])))
    changed = Metadata({**held.tags, "comment": "new"}, frames=held.frames)
    written = list(id3._frames(id3.build(changed)[10:], 4))
    assert written == [("COMM", b"\3XXX\0new"), ("USLT", SPOKEN[b"USLT"])]


def test_two_comments_keep_their_languages():
    held = id3.parse(tag(frame(b"COMM", b"\3eng\0hello"), frame(b"COMM", b"\3deu\0hallo")))
    assert held.tags["comment"] == "hello; hallo"
    assert [data[1:4] for _, data in id3._frames(id3.build(held)[10:], 4)] == [b"eng", b"deu"]


@pytest.mark.parametrize("extension", ["flac", "ogg", "mp3"])
def test_several_values_stay_apart(tmp_path, extension):
    source = song(tmp_path / "a.mp3", tag(frame(b"TPE1", b"\3A\0B\0C")))
    got = read(source)
    assert got.tags["artist"] == "A; B; C"
    target = tmp_path / f"b.{extension}"
    write(target, np.zeros((1, 24_000), np.float32), 48_000, metadata=got.metadata)
    data = target.read_bytes()
    if extension == "mp3":
        assert b"\3A\0B\0C" in data
    else:
        assert [data.count(b"ARTIST=" + letter) for letter in (b"A", b"B", b"C")] == [1, 1, 1]
    assert read(target).metadata.tags["artist"].values == ("A", "B", "C")


@pytest.mark.parametrize(("key", "before", "after"), [
    ("LOOPSTART", "44100", "48000"), ("LOOPLENGTH", "11025", "12000"), ("LOOPEND", "1", "1"),
    ("LOOPSTART", "at once", "at once"), ("LOOPCOUNT", "44100", "44100"),
])  # fmt: skip
@pytest.mark.parametrize("extension", ["flac", "ogg", "mp3", "wav"])
def test_loop_points_follow_the_rate(tmp_path, key, before, after, extension):
    head = tag(frame(b"TXXX", b"\3" + key.encode() + b"\0" + before.encode()))
    got = read(song(tmp_path / "a.mp3", head))
    write(tmp_path / f"b.{extension}", np.zeros((1, 24_000), np.float32), 48_000, metadata=got.metadata)
    assert read(tmp_path / f"b.{extension}").tags[key.lower()] == after


def test_an_ape_tag_behind_an_mp3_is_read(tmp_path):
    def item(name: bytes, value: bytes, flags: int = 0) -> bytes:
        return struct.pack("<II", len(value), flags) + name + b"\0" + value

    items = item(b"Artist", b"A\0B") + item(b"Cover Art (Front)", b"c.png\0\x89PNG....", 2)
    footer = struct.pack("<8sIIII8x", b"APETAGEX", 2000, len(items) + 32, 2, 0)
    path = song(tmp_path / "a.mp3", b"")
    path.write_bytes(path.read_bytes() + items + footer + b"TAG".ljust(128, b"\0"))
    got = read(path)
    assert got.tags["artist"] == "A; B"
    assert [(one.mime, one.data) for one in got.metadata.pictures] == [("image/png", b"\x89PNG....")]
    assert got.account.bytes_unread == 0
    for cut in range(len(items)):  # damage ends it
        with io.BytesIO(items[:cut] + footer) as file:
            ape.read(file, cut + 32)


def test_values_of_a_vorbis_comment_stay_apart():
    packed = xiph.comment(xiph.parse_comment(xiph.comment(Metadata({"a": "1"}), b"v")), b"v")
    entries = [b"ARTIST=A", b"ARTIST=B"]
    body = b"\1\0\0\0v" + struct.pack("<I", 2) + b"".join(struct.pack("<I", len(e)) + e for e in entries)
    assert xiph.comment(xiph.parse_comment(body), b"v") == body
    assert b"A=1" in packed
