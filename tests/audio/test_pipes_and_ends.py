"""Headers that pipes leave behind, chunks without padding, tags of other formats at both ends: whole files are read."""

import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from latentsr.audio import EmptyAudio, UnsupportedAudio, read

sys.path.append(str(Path(__file__).parent))
from containers import CASES, ape, id3

V1 = b"TAG" + b"A title".ljust(30, b"\0") + b"A name".ljust(30, b"\0") + bytes(30) + b"1999" + bytes(29) + b"\x07\xff"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """name -> (bytes of the file, samples read of it)"""
    folder, known = tmp_path_factory.mktemp("whole"), {}

    def of(name):
        if name not in known:
            path = CASES[name].make(folder)
            known[name] = path.read_bytes(), read(path).samples
        return known[name]

    return of


def chunk(name, data, size=None, pad=True):
    length = len(data) if size is None else size
    return name + struct.pack("<I", length) + data + b"\0" * (len(data) % 2 if pad else 0)


def riff(*chunks, size=None, name=b"RIFF"):
    body = b"WAVE" + b"".join(chunks)
    return name + struct.pack("<I", len(body) if size is None else size) + body


def parts_of(wav):
    at = wav.index(b"data")
    return chunk(b"fmt ", wav[20:36]), wav[at + 8 :]


# What is written into a pipe by FFmpeg, SoX, lame and opusdec, arecord; and with a size that follows from that of RIFF.
PIPED = [(0xFFFFFFFF, 0xFFFFFFFF), (0x7FFFF000, 0x7FFFF024), (0x7FFFFFFF, 0x80000023), (0x80000000, 0x80000024),
         (0xFFFFFFDB, 0xFFFFFFFF), (0, 0)]  # fmt: skip


@pytest.mark.parametrize(("data_bytes", "riff_bytes"), PIPED)
def test_a_wav_of_a_pipe_is_read_whole(made, tmp_path, data_bytes, riff_bytes):
    wav, samples = made("wav")
    form, sound = parts_of(wav)
    (tmp_path / "a.wav").write_bytes(riff(form, chunk(b"data", sound, data_bytes), size=riff_bytes))
    got = read(tmp_path / "a.wav")
    assert np.array_equal(got.samples, samples)
    assert got.account.frames_declared is None and got.account.bytes_unread == 0


@pytest.mark.parametrize(("name", "at", "layout", "value"), [
    ("rf64", b"ds64", "<12xQ", 0), ("rf64", b"ds64", "<12xQ", 2**64 - 1), ("w64", b"data\xf3", "<12xQ", 2**63 - 1),
    ("aiff", b"SSND", ">I", 0), ("aiff", b"SSND", ">I", 0x7F000008), ("caf", b"data", ">q", 2**63 - 1),
    ("au", b".snd", ">4xI", 0xFFFFFFFF),
])  # fmt: skip
def test_other_formats_of_a_pipe_are_read_whole(made, tmp_path, name, at, layout, value):
    data, samples = made(name)
    data = bytearray(data)
    offset = data.index(at) + 4
    struct.pack_into(layout.replace("12x", "").replace("4x", ""), data,
                     offset + (12 if "12x" in layout else 4 if "4x" in layout else 0), value)  # fmt: skip
    (tmp_path / "a").write_bytes(data)
    got = read(tmp_path / "a")
    assert np.array_equal(got.samples, samples)
    assert got.account.frames_declared is None


@pytest.mark.parametrize("odd", [b"abc", b"INFOISFT\5\0\0\0abcd\0"])
@pytest.mark.parametrize("name", [b"RIFF", b"RF64"])
@pytest.mark.parametrize("pad", [True, False])
def test_odd_chunks_in_front_with_and_without_padding(made, tmp_path, odd, name, pad):
    wav, samples = made("wav")
    form, sound = parts_of(wav)
    wide = [chunk(b"ds64", struct.pack("<QQQI", len(wav) + 60, len(sound), 0, 0))] if name == b"RF64" else []
    for first in (len(sound) & 0xFF, ord(" ")):  # of the size: what may look like the last letter of a name
        cut = len(sound) - (len(sound) - first) % 256
        size = 0xFFFFFFFF if wide else cut
        if wide:
            wide = [chunk(b"ds64", struct.pack("<QQQI", 2**30, cut, 0, 0))]
        data = riff(*wide, form, chunk(b"note", odd, pad=pad), chunk(b"data", sound[:cut], size), name=name)
        (tmp_path / "a.wav").write_bytes(data)
        assert np.array_equal(read(tmp_path / "a.wav").samples, samples[:, : cut // 4])


def test_an_rf64_file_without_ds64_is_read(made, tmp_path):
    wav, samples = made("wav")
    form, sound = parts_of(wav)
    (tmp_path / "a.wav").write_bytes(riff(form, chunk(b"data", sound, 0xFFFFFFFF), size=0xFFFFFFFF, name=b"RF64"))
    assert np.array_equal(read(tmp_path / "a.wav").samples, samples)


@pytest.mark.parametrize("name", ["wav", "aiff", "au", "flac", "wv", "tta", "alac.m4a", "flac.mka", "ac3", "aac", "mp2",
                                  "wma2.wma", "flac.oga", "ogg"])  # fmt: skip
@pytest.mark.parametrize("ends", ["ID3v1 behind", "APE behind", "ID3v2 in front"])
def test_tags_of_other_formats_cost_nothing(made, tmp_path, name, ends):
    data, samples = made(name)
    changed = {"ID3v1 behind": data + V1, "APE behind": data + ape(40), "ID3v2 in front": id3(30) + data}[ends]
    (tmp_path / name).write_bytes(changed)
    got = read(tmp_path / name)
    assert np.array_equal(got.samples, samples)
    assert got.account.bytes_unread == 0
    assert got.tags.get("title") == ("A title" if ends == "ID3v1 behind" else None)


def test_a_tag_that_is_id3v1_alone_is_carried(made, tmp_path):
    known = {"title": "A title", "artist": "A name", "date": "1999"}
    for tag, more in ((V1, {"tracknumber": "7"}), (V1[:97] + b"c" * 30 + b"\xff", {"comment": "c" * 30})):
        (tmp_path / "a.mp3").write_bytes(made("bare.mp3")[0] + tag)
        assert dict(read(tmp_path / "a.mp3").tags) == known | more


@pytest.mark.parametrize(("name", "tag", "codec"), [("aac", 0xFF, "aac"), ("ogg", 0x566F, "vorbis")])
def test_packets_in_wav_that_nothing_tells_apart_are_named(tmp_path, name, tag, codec):
    pytest.importorskip("av")
    noise = np.random.default_rng(1).integers(0, 256, 60_000, dtype=np.uint8).tobytes()
    form = struct.pack("<HHIIHH", tag, 2, 48_000, 16_000, 1, 16)
    (tmp_path / "a.wav").write_bytes(riff(chunk(b"fmt ", form), chunk(b"data", noise)))
    with pytest.raises(UnsupportedAudio, match=f"WAV that holds {codec} without saying where its packets begin.*; "):
        read(tmp_path / "a.wav")


def _voc(*blocks):
    head = b"Creative Voice File\x1a" + struct.pack("<HHH", 26, 0x10A, 0x1129)
    return head + b"".join(bytes([kind]) + struct.pack("<I", len(data))[:3] + data for kind, data in blocks) + b"\0"


def test_silence_and_repetition_in_a_creative_voice_file_are_noted(tmp_path):
    pytest.importorskip("av")
    sound = bytes(range(100, 150)) * 100
    first, silence = (1, b"\xa6\0" + sound), (3, struct.pack("<HB", 5_554, 166))
    (tmp_path / "a.voc").write_bytes(_voc(first, silence, (6, b"\2\0"), first, (7, b"")))
    got = read(tmp_path / "a.voc")
    assert got.samples.shape == (1, 10_000)
    assert got.notes == ["its blocks say 0.500 s of silence and 1 repetition more, which were left out"]


@pytest.mark.parametrize("name", ["flac.nut", "sox"])
def test_more_kinds_that_were_joined(made, tmp_path, name):
    data, samples = made(name)
    (tmp_path / name).write_bytes(2 * data)
    got = read(tmp_path / name)
    assert np.array_equal(got.samples, np.concatenate([samples, samples], axis=1))
    assert got.account.parts == 2


def test_a_transport_stream_of_192_byte_packets(made, tmp_path):
    data, samples = made("mp2.ts")
    packets = b"".join(b"\0\0\0\0" + data[at : at + 188] for at in range(0, len(data), 188))
    (tmp_path / "a.m2ts").write_bytes(packets)
    assert np.array_equal(read(tmp_path / "a.m2ts").samples, samples)


def test_a_wma_of_a_pipe_declares_no_length(made, tmp_path):
    data, samples = made("wma2.wma")
    data = bytearray(data)
    at = data.index(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365"))
    data[at + 88] |= 1
    data[at + 40 : at + 48] = bytes(8)  # bytes of the file, packets and duration: written when it was closed
    data[at + 56 : at + 80] = bytes(24)
    (tmp_path / "a.wma").write_bytes(data)
    got = read(tmp_path / "a.wma")
    assert got.samples.shape == samples.shape and got.account.frames_declared is None


def test_no_samples_in_a_w64_header_alone(tmp_path, made):
    data, _ = made("w64")
    data = bytearray(data[: data.index(b"data\xf3") + 24])
    struct.pack_into("<Q", data, len(data) - 8, 24)
    (tmp_path / "a.w64").write_bytes(data)
    with pytest.raises(EmptyAudio):
        read(tmp_path / "a.w64")
