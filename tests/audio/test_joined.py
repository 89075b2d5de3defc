"""Bytes consumed against bytes there: what lies behind the first recording in a file is read, noted or refused."""

import struct
import sys

import numpy as np
import pytest
import soundfile
from containers import CASES, ape, id3

from latentsr.audio import AudioError, Reader, TruncatedAudio, UnsupportedAudio, parts, probe, read
from latentsr.audio.tags import av_tags

RATE_HZ = 48_000


def noise(frames=RATE_HZ, channels=1, rate_hz=RATE_HZ, path=None, **how):
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal((frames, channels)), rate_hz, **how)
    return path.read_bytes()


def big_wav(path, size: int, declared: int, tail: bytes = b""):
    """A sparse WAV of `size` bytes of sound, and a size that 32 bits hold."""
    with path.open("wb") as file:
        file.write(b"RIFF" + struct.pack("<I", (size + 36) % 2**32) + b"WAVEfmt ")
        file.write(struct.pack("<IHHIIHH", 16, 1, 2, 44_100, 176_400, 4, 16) + b"data" + struct.pack("<I", declared))
        file.seek(44 + size - 4)
        file.write(b"\1\1\2\2" + tail)
    return path


@pytest.mark.parametrize(("size", "declared"), [
    (2**32 + 10_584_000, 10_584_000), (2 * 2**32 + 4, 4), (2**32 + 400, 0xFFFFFFFF), (2**32 + 400, 0x7FFFF000),
])  # fmt: skip
def test_a_wav_beyond_4_gib_is_read_whole(tmp_path, size, declared):
    path = big_wav(tmp_path / "a.wav", size, declared)
    assert probe(path).frames == size // 4
    with Reader(path) as reader:  # its end, without the gigabytes before
        decoder = reader._decoder
        soundfile.SoundFile.seek(decoder, size // 4 - 1)
        assert np.array_equal(soundfile.SoundFile.read(decoder, 2, dtype="int16"), [[0x0101, 0x0202]])


def test_a_chunk_behind_a_small_wav_is_no_wrapped_size(tmp_path):
    path = big_wav(tmp_path / "a.wav", 400, 400, b"LIST" + struct.pack("<I", 2**32 - 10))
    assert probe(path).frames == 100


@pytest.mark.parametrize("kind", ["FLAC", "WAV", "MP3", "OGG"])
def test_another_rate_in_the_second_part_is_refused_with_figures(tmp_path, kind):
    data = noise(path=tmp_path / "a", format=kind)
    other = noise(path=tmp_path / "b", format=kind, rate_hz=32_000)
    path = tmp_path / "joined"
    path.write_bytes(data + other)
    with pytest.raises(TruncatedAudio, match=r"1\.000 s could be decoded .*1 channels at 32000 Hz: \d+ bytes were not"):
        read(path)
    got = read(path, salvage=True)
    assert got.samples.shape == (1, RATE_HZ)
    assert 0.95 * len(other) < got.account.bytes_unread <= len(other)


def test_mp3_without_headers_as_speech_servers_join_them(tmp_path):
    one = CASES["bare.mp3"].make(tmp_path)
    data, alone = one.read_bytes(), read(one).samples
    path = tmp_path / "joined.mp3"
    path.write_bytes((id3(200_000) + data) * 3)  # a cover in each: more than mpg123 skips
    got = read(path)
    assert np.array_equal(got.samples, np.tile(alone, 3))
    assert got.account.parts == 3 and got.account.bytes_unread == 0


def test_noise_between_frames_is_skipped_and_counted(tmp_path):
    one = CASES["bare.mp3"].make(tmp_path)
    data = one.read_bytes()
    path = tmp_path / "damaged.mp3"
    middle = 416 * (len(data) // 832)
    path.write_bytes(data[:middle] + bytes(5_000) + data[middle:])
    got = read(path)
    assert abs(got.samples.shape[1] - read(one).samples.shape[1]) <= 2 * 1152
    assert got.account.bytes_unread == pytest.approx(5_000, abs=1_000)
    assert any("are neither sound nor tags" in note for note in got.notes)


@pytest.mark.parametrize("name", ["bare.mp3", "aac", "mp2"])
def test_a_capture_that_begins_within_a_frame_is_read(tmp_path, name):
    path = CASES[name].make(tmp_path)
    whole = read(path).samples
    path.write_bytes(path.read_bytes()[777:])
    got = read(path)
    assert 0 <= whole.shape[1] - got.samples.shape[1] <= 8 * 1152
    assert 0 < got.account.bytes_unread <= 777


@pytest.mark.parametrize("behind", [bytes(1), bytes(511), bytes(70_000), b"some words", bytes(range(1, 256)) * 30])
def test_what_lies_behind_a_flac_costs_nothing(tmp_path, behind):
    """libFLAC, not told where to stop, looks for another frame there, and loses the last one (libsndfile 1.2.2)."""
    path = tmp_path / "a.flac"
    data = noise(frames=RATE_HZ + 77, path=path, format="FLAC")
    whole = read(path).samples
    path.write_bytes(data + behind)
    got = read(path)
    assert np.array_equal(got.samples, whole)
    assert len(behind) < 2 or any("behind its last sample" in note for note in got.notes)


def test_zeros_before_an_mp3_are_passed_over_and_counted(tmp_path):
    path = tmp_path / "a.mp3"
    data = noise(path=path, format="MP3")
    whole = read(path).samples
    path.write_bytes(bytes(3_000) + data)
    got = read(path)
    assert np.array_equal(got.samples, whole) and got.account.bytes_unread == 3_000
    path.write_bytes(bytes(100_000))
    with pytest.raises(AudioError, match="holds zeros, not audio"):
        read(path)


def test_caf_files_with_chunks_behind_the_sound_are_read_one_after_the_other(tmp_path):
    path = tmp_path / "a.caf"
    data = noise(path=path, format="CAF") + b"free" + struct.pack(">q", 20) + bytes(20)
    one = read(path).samples
    path.write_bytes(data + data)
    got = read(path)
    assert np.array_equal(got.samples, np.concatenate([one, one], axis=1)) and got.account.parts == 2


@pytest.mark.parametrize("name", ["wav", "au"])
def test_what_follows_the_sound_and_is_nothing_known_is_counted(tmp_path, name):
    path = CASES[name].make(tmp_path)
    whole = read(path).samples
    with path.open("ab") as file:
        file.write(bytes(5_000))
    got = read(path)
    assert np.array_equal(got.samples, whole) and got.account.bytes_unread == 5_000
    assert got.notes == ["5000 bytes are neither sound nor tags that are known, and were not read"]


def test_rubbish_in_an_aac_stream_is_counted(tmp_path):
    path = CASES["aac"].make(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data + b"rubbish " * 300)
    got = read(path, salvage=True)
    assert got.account.bytes_unread == pytest.approx(2_400, abs=20) or "cut short" in got.notes[0]


def test_a_chain_has_an_end(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "MAX_PARTS", 4)
    for name in ("flac", "mp3", "wav", "aac.m4a"):
        path = CASES[name].make(tmp_path)
        path.write_bytes(path.read_bytes() * 5)
        with pytest.raises(AudioError, match="more than 4 recordings joined; split it"):
            probe(path)


def test_three_recordings_in_blocks_of_a_prime(tmp_path):
    data = noise(path=tmp_path / "a.ogg", format="OGG")
    path = tmp_path / "chain.ogg"
    path.write_bytes(data * 3)
    with Reader(path, block_frames=7_919) as reader:
        assert sum(block.shape[1] for block in reader) == 3 * RATE_HZ


def test_an_mp3_beside_a_folder_of_apple_double(tmp_path, monkeypatch):
    (tmp_path / ".AppleDouble").mkdir()
    monkeypatch.chdir(tmp_path)
    path = CASES["bare.mp3"].make(tmp_path)
    assert read(path).samples.shape[1] > 40_000


# --- what is refused says what it is ------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "data", "message"), [
    ("a.vox", bytes(range(256)) * 9, "Dialogic ADPCM without a header.*sox -t vox -r 8000"),
    ("a.ofr", b"OFR " + bytes(range(256)) * 9, "is OptimFROG.*ofr --decode"),
    ("a.g722", b"this is a note\n" * 9, "holds text"),
    ("a.hcom", bytes(65) + b"FSSD" + bytes(99), "is HCOM, which .*sox -t hcom IN OUT.wav"),
    ("a.smp", b"SOUND SAMPLE DATA 2.1 " + b"x" * 99, "is SampleVision, which .*sox -t smp IN OUT.wav"),
    ("a.maud", b"FORM\0\0\1\0MAUDMHDR" + bytes(99), "is MAUD, which .*sox -t maud IN OUT.wav"),
    ("a.cvsd", bytes(range(256)) * 4, "is CVSD without a header, which .*sox -t cvsd -r 8000 -c 1 IN OUT.wav"),
])  # fmt: skip
def test_what_nobody_decodes_is_named_with_its_command(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(AudioError, match=message):
        read(tmp_path / name)


@pytest.mark.parametrize("name", ["ac3.wav", "alac_av.caf", "flac.oga", "stereo.8svx", "24.sph", "voc"])
def test_without_pyav_the_extra_is_named(tmp_path, monkeypatch, name):
    path = CASES[name].make(tmp_path)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UnsupportedAudio, match=r"pip install 'latentsr\[av\]'"):
        read(path)


# --- read, with something to know ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("subtype", "scale", "note"), [
    ("DOUBLE", 0.5, "64-bit float was read as 32-bit float"),
    ("FLOAT", 32_768.0, "its largest sample is 32768 times full scale"),
    ("PCM_32", 2**-8, "its largest sample is 1/256 of full scale: these may be fewer bits in 32"),
])  # fmt: skip
def test_odd_full_scales_are_noted(tmp_path, subtype, scale, note):
    soundfile.write(tmp_path / "a.wav", scale * np.sin(np.arange(8_000) / 3), 8_000, subtype=subtype)
    assert note in "; ".join(read(tmp_path / "a.wav").notes)


@pytest.mark.parametrize("subtype", ["FLOAT", "PCM_32", "PCM_24"])
def test_plain_full_scales_are_not(tmp_path, subtype):
    soundfile.write(tmp_path / "a.wav", 0.9 * np.sin(np.arange(8_000) / 3), 8_000, subtype=subtype)
    assert read(tmp_path / "a.wav").notes == []


def test_a_lossy_half_of_wavpack_is_noted(tmp_path):
    path = CASES["wv"].make(tmp_path)
    with path.open("rb") as file:
        assert av_tags.losses("wv", file) == []
    data = bytearray(path.read_bytes())
    data[24] |= 0x08  # hybrid
    path.write_bytes(data)
    with path.open("rb") as file:
        assert "correction file (.wvc)" in av_tags.losses("wv", file)[0]


def test_the_account_in_words(tmp_path):
    path = CASES["cover.mp3"].make(tmp_path)
    account = read(path).account
    assert account.in_words() == (
        f"MP3 (MPEG_LAYER_III) by libsndfile, no length declared, {account.seconds:.3f} s counted, "
        "1105 samples of delay removed"
    )
    assert ape(10)[:8] == b"APETAGEX"
