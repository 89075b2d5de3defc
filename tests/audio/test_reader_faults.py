"""The rows of the fault table that are about media, each with a file that has the fault."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from crafting import FFMPEG, RATE_HZ, SOUNDFILE, make, noise, ogg, patched, stream_info

from latentsr import audio
from latentsr.audio import AudioError, EmptyAudio, InvalidAudio, Reader, UnsupportedAudio, read

SRC = Path(audio.__file__).parents[2]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    return {name: make(folder, name) for name in (*SOUNDFILE, *FFMPEG)}


def _save(path: Path, samples: np.ndarray, rate_hz: int = RATE_HZ, subtype: str = "FLOAT") -> Path:
    soundfile.write(path, samples.T, rate_hz, format="WAV", subtype=subtype)
    return path


# --- row 1: NaN and infinity -----------------------------------------------------------------------


def _with_bad_samples(folder: Path) -> tuple[Path, np.ndarray]:
    samples = noise(frames=3 * RATE_HZ)
    samples[1, 100_000] = np.nan
    samples[:, 120_000:120_010] = np.inf
    samples[0, 7] = -np.inf  # in another block than the rest
    return _save(folder / "bad.wav", samples), samples


def test_bad_samples_are_an_error_that_counts_them(tmp_path):
    path, samples = _with_bad_samples(tmp_path)
    with pytest.raises(
        InvalidAudio, match=r"22 samples that are NaN.*sample 7, channel 1.*--on-nonfinite zero"
    ) as caught:
        read(path)
    assert (caught.value.count, caught.value.first) == (int((~np.isfinite(samples)).sum()), 7)


def test_bad_samples_become_zeros_when_asked_and_are_counted(tmp_path):
    path, samples = _with_bad_samples(tmp_path)
    got = read(path, on_nonfinite="zero")
    assert np.array_equal(got.samples, np.where(np.isfinite(samples), samples, 0))
    assert got.notes == [
        "22 samples that are NaN or infinite, replaced by zeros, the first at 0.000146 s (sample 7, channel 1)"
    ]


def test_a_double_that_float32_cannot_hold_is_no_sample(tmp_path):
    samples = noise(1, 100).astype(np.float64)
    samples[0, 50] = 1e300
    with pytest.raises(InvalidAudio, match="1 sample that is NaN or infinite, the first at .*sample 50"):
        read(_save(tmp_path / "a.wav", samples, subtype="DOUBLE"))


def test_no_third_way_with_bad_samples(files):
    with pytest.raises(ValueError, match="'error' or 'zero', got 'mean'"):
        Reader(files["wav"], on_nonfinite="mean")


# --- rows 2 and 3: nothing, and one sample -----------------------------------------------------------


@pytest.mark.parametrize("format", ["WAV", "AIFF", "AU", "W64", "RF64", "OGG"])
def test_no_samples_is_an_error_of_its_own(tmp_path, format):
    soundfile.write(tmp_path / "a", np.zeros((0, 2)), RATE_HZ, format=format)
    for salvage in (False, True):
        with pytest.raises(EmptyAudio, match="holds no samples"):
            read(tmp_path / "a", salvage=salvage)


def test_no_samples_but_tags_behind_them(tmp_path):
    """The chunk that follows is none of the audio of a recorder that was killed."""
    path = _save(tmp_path / "a.wav", np.zeros((1, 0), np.float32), subtype="PCM_16")
    path.write_bytes(path.read_bytes() + b"LIST\x1a\0\0\0INFOINAM\x0e\0\0\0Nothing at all")
    with pytest.raises(EmptyAudio):
        read(path)


@pytest.mark.parametrize("name", ["wav", "flac", "aiff", "caf", "ogg", "opus", "mp3", "wv", "alac.m4a"])
def test_one_sample_is_a_recording(tmp_path, name):
    assert read(make(tmp_path, name, noise(frames=1))).samples.shape == (2, 1)


# --- rows 4, 5 and 31: silence, beyond full scale, DC and opposite phases ------------------------------


@pytest.mark.parametrize("level", [0.0, 1e-30, 0.25, 1.0, 40.0])
def test_direct_current_is_kept_to_the_bit(tmp_path, level):
    samples = np.full((1, 1_000), level, np.float32)
    assert np.array_equal(read(_save(tmp_path / "a.wav", samples)).samples, samples)


def test_opposite_phases_are_kept_to_the_bit(tmp_path):
    one = 3 * noise(1)
    got = read(_save(tmp_path / "a.wav", np.concatenate([one, -one]))).samples
    assert np.array_equal(got[0], -got[1])
    assert got.max() > 1.4


# --- row 6: depths -----------------------------------------------------------------------------------


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "MS_ADPCM"])
@pytest.mark.parametrize("block_frames", [1, 1_000, 65_536])
def test_blocks_of_any_size_are_the_decoders_samples(tmp_path, subtype, block_frames):
    path = _save(tmp_path / "a.wav", noise(frames=3_000), subtype=subtype)
    with Reader(path, block_frames=block_frames) as reader:
        blocks = list(reader)
    expected = soundfile.read(path, dtype="float32", always_2d=True)[0].T
    assert np.array_equal(np.concatenate(blocks, axis=1), expected)
    assert {block.shape[1] for block in blocks[:-1]} <= {block_frames}


# --- row 9: two passes, blocks, memory -----------------------------------------------------------------


@pytest.mark.parametrize("name", [*SOUNDFILE, *FFMPEG])
def test_two_passes_give_the_same_samples(files, name):
    """A recording is listened to first and restored then: from blocks of any size the same samples come."""
    with Reader(files[name], block_frames=3_333) as reader:
        first = np.concatenate(list(reader), axis=1)
    assert np.array_equal(first, read(files[name]).samples)


# --- row 11: headers that lie ----------------------------------------------------------------------------


def _ogg_vorbis(files, offset, layout_bytes):
    def change(page: bytearray) -> None:
        at = page.index(b"\x01vorbis") + offset
        page[at : at + len(layout_bytes)] = layout_bytes

    return ogg(files["ogg"], change)


LIES = {
    "WAV, 2 GB": (lambda f: patched(f["wav"], b"data", 4, "<I", 2_000_000_000), "declares 2000000000 bytes"),
    "WAV, 0 Hz": (lambda f: patched(f["wav"], b"fmt ", 12, "<I", 0), "0 Hz"),
    "WAV, 65535 channels": (lambda f: patched(f["wav"], b"fmt ", 10, "<H", 65_535), "65535 channels"),
    "RF64, 2^63 bytes": (lambda f: patched(f["rf64"], b"ds64", 16, "<Q", 2**63), "declares 9223372036854775808 bytes"),
    "W64, 2^63 bytes": (lambda f: patched(f["w64"], b"data\xf3", 16, "<Q", 2**63), "92233720368547757.. bytes"),
    "W64, 0 Hz": (lambda f: patched(f["w64"], b"fmt \xf3", 28, "<I", 0), "0 Hz"),
    "W64, 65535 channels": (lambda f: patched(f["w64"], b"fmt \xf3", 26, "<H", 65_535), "65535 channels"),
    "W64, a chunk of 2^63 bytes": (lambda f: patched(f["w64"], b"fmt \xf3", 16, "<Q", 2**63), "can be read|read"),
    "AIFF, 4 GB": (lambda f: patched(f["aiff"], b"SSND", 4, ">I", 2**32 - 2), "declares 4294967294 bytes"),
    "AIFF, 0 Hz": (lambda f: patched(f["aiff"], b"COMM", 16, ">QH", 0, 0), "declares 1 Hz"),
    "AIFF, 65535 channels": (lambda f: patched(f["aiff"], b"COMM", 8, ">H", 65_535), "65535 channels"),
    "AU, 2 GB": (lambda f: patched(f["au"], b".snd", 8, ">I", 2_000_000_000), "declares 2000000000 bytes"),
    "AU, samples from 2 GB on": (lambda f: patched(f["au"], b".snd", 4, ">I", 2**31), "cut short: nothing"),
    "AU, 0 Hz": (lambda f: patched(f["au"], b".snd", 16, ">I", 0), "0 Hz"),
    "CAF, 2^62 bytes": (lambda f: patched(f["caf"], b"data", 4, ">q", 2**62), "declares 4611686018427387904 bytes"),
    "CAF, -5 bytes": (lambda f: patched(f["caf"], b"data", 4, ">q", -5), "declares -5 bytes"),
    "CAF, 0 Hz": (lambda f: patched(f["caf"], b"desc", 12, ">d", 0.0), "0 Hz"),
    "CAF, NaN Hz": (lambda f: patched(f["caf"], b"desc", 12, ">d", float("nan")), "impossible sampling rate"),
    "CAF, 2^31 channels": (lambda f: patched(f["caf"], b"desc", 36, ">I", 2**31), "2147483648 channels"),
    "FLAC, 2^36 frames": (lambda f: stream_info(f["flac"], frames=2**36 - 1), "1.000 s of 1431655"),
    "FLAC, 0 Hz": (lambda f: stream_info(f["flac"], rate_hz=0), "impossible sampling rate"),
    "FLAC, 8 channels": (lambda f: stream_info(f["flac"], channels=8), "0.000 s of 1.000 s.*channel"),
    "Vorbis, 255 channels": (lambda f: _ogg_vorbis(f, 11, b"\xff"), "impossible.*number of channels"),
    "Vorbis, 0 Hz": (lambda f: _ogg_vorbis(f, 12, bytes(4)), "cannot be read|can be read"),
    "Vorbis, 2 GHz": (lambda f: _ogg_vorbis(f, 12, b"\xff\xff\xff\x7f"), "declares 2147483647 Hz"),
    "Ogg, 2^61 frames": (
        lambda f: ogg(f["ogg"], lambda page: page.__setitem__(slice(6, 14), (2**61).to_bytes(8, "little")), "last"),
        r"1\.\d+ s of 4803839602528",
    ),
    "MP3, 2^32 frames": (lambda f: patched(f["mp3"], b"Xing", 8, ">I", 2**32 - 1), "could be decoded"),
    "NIST, 10^18 samples": (lambda f: _nist(f), "cut short: its header declares 4000000000"),
} | {
    f"MP4, 2^31 entries in {table}": (
        lambda f, table=table, at=at: patched(f["m4a"], table.encode(), at, ">I", 2**31 - 1),
        f"its table {table} claims 2147483647 entries",
    )
    for table, at in [("stsz", 12), ("stts", 8), ("stsc", 8), ("stco", 8)]
} | {
    "MP4, 2^31 packets of a byte": (lambda f: patched(f["m4a"], b"stsz", 8, ">II", 1, 2**31 - 1), "table stsz claims"),
    "MP4, 2^31 packets in a fragment": (
        lambda f: patched(f["fragmented.m4a"], b"trun", 4, ">II", 1, 2**31 - 1), "table trun claims"
    ),
}  # fmt: skip


def _nist(files) -> Path:
    data = files["nist"].read_bytes()
    lying = files["nist"].with_name("lying.nist")
    # The text is followed by padding up to 1,024 bytes, which makes room.
    head, samples = data[:1_024].replace(b"sample_count -i 48000", b"sample_count -i " + b"1" + b"0" * 18), data[1_024:]
    lying.write_bytes(head[:1_024] + samples)
    return lying


@pytest.mark.parametrize("case", LIES)
def test_a_header_that_lies_is_an_error_at_once(files, case):
    craft, message = LIES[case]
    path = craft(files)
    started = time.process_time()
    with pytest.raises(AudioError, match=message) as caught:
        read(path)
    assert time.process_time() - started < 1
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("case", LIES)
def test_a_header_that_lies_is_never_believed_with_salvage(files, case):
    try:
        got = read(LIES[case][0](files), salvage=True)
    except AudioError:
        return
    assert got.samples.shape[1] <= 1.1 * RATE_HZ
    assert len(got.notes) == 1


def test_nothing_is_allocated_from_a_claim(files, tmp_path):
    """All lies in a process that may have 700 MB: one that is believed ends it."""
    paths = []
    for number, (craft, _) in enumerate(LIES.values()):
        paths.append(tmp_path / str(number))
        paths[-1].write_bytes(craft(files).read_bytes())
    script = (
        "import resource, sys, av\n"
        "from latentsr.audio import AudioError, read\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 300_000_000,) * 2)\n"
        "for path in sys.argv[1:]:\n"
        "    for salvage in (False, True):\n"
        "        try: read(path, salvage=salvage)\n"
        "        except AudioError: pass\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *paths],
        env={**os.environ, "PYTHONPATH": str(SRC)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # nor does a library speak past us


@pytest.mark.parametrize(("frames", "name"), [(0, "mp3"), (10, "mp3"), (2**16, "m4a")])
def test_too_little_declared_loses_nothing(files, frames, name):
    pytest.importorskip("av")
    if name == "mp3":
        path = patched(files["mp3"], b"Xing", 8, ">I", frames)
        assert read(path).samples.shape[1] == pytest.approx(RATE_HZ, abs=3 * 1152)
        return
    path = patched(files["m4a"], b"mdhd", 16, ">II", RATE_HZ, RATE_HZ // 10)  # seconds are in the next word
    got = read(path)
    assert got.samples.shape[1] == pytest.approx(RATE_HZ, abs=2_048)
    assert "there was more, and it was read" in got.notes[0]


def test_a_flac_that_goes_on_behind_its_end_is_read_on(files):
    got = read(stream_info(files["flac"], frames=1_000))
    assert np.array_equal(got.samples, read(files["flac"]).samples)
    assert got.notes == ["its header declares 0.021 s; there was more, and it was read"]


# --- row 12: what is no recording, and names that mislead ---------------------------------------------------


@pytest.mark.parametrize("name", [*SOUNDFILE, *FFMPEG])
def test_any_kind_is_read_under_any_name(files, tmp_path, name):
    path = tmp_path / "recording.wav"
    path.write_bytes(files[name].read_bytes())
    assert read(path).samples.shape[1] == pytest.approx(RATE_HZ, abs=2_048)


# --- row 13: extras and codecs ------------------------------------------------------------------------------


def test_a_missing_extra_is_named(files, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    for name in FFMPEG:
        with pytest.raises(UnsupportedAudio, match=r"pip install 'latentsr\[av\]'") as caught:
            read(files[name])
        assert caught.value.extra == "av"


def test_an_unknown_codec_is_told_from_damage(files, tmp_path):
    data = files["m4a"].read_bytes().replace(b"mp4a", b"xxxx").replace(b"esds", b"xsds")
    (tmp_path / "a.m4a").write_bytes(data)
    with pytest.raises(UnsupportedAudio, match="in a coding that cannot be decoded here; convert it") as caught:
        read(tmp_path / "a.m4a")
    assert caught.value.extra is None


# --- row 14: little that becomes much -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def bomb(tmp_path_factory) -> Path:
    """Two hours of silence in a megabyte."""
    path = tmp_path_factory.mktemp("bomb") / "silence.flac"
    with soundfile.SoundFile(path, "w", 8_000, 1, "PCM_16", format="FLAC") as file:
        for _ in range(120):
            file.write(np.zeros(60 * 8_000, np.int16))
    assert path.stat().st_size < 5e6
    return path


@pytest.mark.parametrize("declared", ["true", "unknown", "a second"])
def test_a_bomb_is_stopped_by_what_is_decoded(bomb, declared, tmp_path):
    copy = tmp_path / "bomb.flac"
    copy.write_bytes(bomb.read_bytes())
    path = copy if declared == "true" else stream_info(copy, frames=0 if declared == "unknown" else 8_000)
    done = 0
    started = time.process_time()
    with pytest.raises(AudioError, match="longer than 60 s"), Reader(path, max_seconds=60) as reader:
        for block in reader:
            done += block.shape[1]
    assert done <= 60 * 8_000
    assert time.process_time() - started < 1


def test_too_long_by_its_header_is_refused_before_anything_is_decoded(files):
    with pytest.raises(AudioError, match="longer than 0.5 s"):
        Reader(files["wav"], max_seconds=0.5)


def test_a_small_length_in_an_mp4_does_not_get_past_the_limit(files):
    path = patched(files["m4a"], b"mdhd", 16, ">II", RATE_HZ, RATE_HZ // 10)
    with pytest.raises(AudioError, match="longer than 0.5 s"):
        read(path, max_seconds=0.5)


def test_the_kinds_of_errors_are_at_hand_without_torch():
    script = (
        "import sys, latentsr\n"
        "kinds = [latentsr.InvalidAudio, latentsr.TruncatedAudio, latentsr.EmptyAudio, latentsr.UnsupportedAudio]\n"
        "assert all(issubclass(kind, latentsr.AudioError) for kind in kinds)\n"
        "assert not {'torch', 'soundfile'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(SRC)}, check=True)
