"""Recordings survive a round trip to the bit, and everything that is not one gets one clear line."""

import os
import resource
import stat
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from latentsr import audio
from latentsr.audio import AudioError, Reader, Target, Writer, headers, probe, read, resample, write
from latentsr.audio import writer as writer_module
from latentsr.audio.tags.metadata import Metadata

RATE_HZ = 48_000
SRC = Path(audio.__file__).parents[2]


def noise(channels: int = 2, frames: int = RATE_HZ, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (channels, frames)).astype(np.float32)


def save(path: Path, samples: np.ndarray, rate_hz: int = RATE_HZ, **how: str) -> Path:
    """Written by soundfile itself, so that reading is not tested against our own writing."""
    how.setdefault("format", "WAV")
    soundfile.write(path, samples.T, rate_hz, **how)
    return path


def patched(source: Path, target: Path, offset: int, layout: str, value: int) -> Path:
    data = bytearray(source.read_bytes())
    struct.pack_into(layout, data, offset, value)
    target.write_bytes(data)
    return target


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    return save(tmp_path / "whole.wav", noise())


# --- reading ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM"]
)
def test_reads_what_the_decoder_decodes(tmp_path, subtype):
    path = save(tmp_path / "a.wav", noise(), subtype=subtype)
    expected = soundfile.read(path, dtype="float32", always_2d=True)[0].T
    got = read(path)
    assert (got.sample_rate, got.subtype, got.format) == (RATE_HZ, subtype, "WAV")
    assert got.samples.dtype == np.float32
    assert np.array_equal(got.samples, expected)


@pytest.mark.parametrize(("format", "subtype"), [("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS"), ("OGG", "OPUS")])
def test_reads_lossy_files_whole(tmp_path, format, subtype):
    path = save(tmp_path / "a", noise(frames=3 * RATE_HZ), format=format, subtype=subtype)
    assert read(path).samples.shape == (2, 3 * RATE_HZ)


@pytest.mark.parametrize("channels", [1, 2, 6, 8, 64])
@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 37_800, 384_000])
def test_any_rate_and_many_channels(tmp_path, channels, rate_hz):
    got = read(save(tmp_path / "a.wav", noise(channels, 500), rate_hz))
    assert got.samples.shape == (channels, 500)
    assert got.sample_rate == rate_hz


@pytest.mark.parametrize("frames", [1, 7])
def test_a_sample_or_seven_are_a_recording(tmp_path, frames):
    assert read(save(tmp_path / "a.wav", noise(1, frames))).samples.shape == (1, frames)


def test_blocks_join_to_the_whole(wav):
    with Reader(wav, block_frames=1_000) as reader:
        joined = np.concatenate(list(reader), axis=1)
    assert np.array_equal(joined, read(wav).samples)


def test_float_beyond_full_scale_is_kept(tmp_path):
    assert read(save(tmp_path / "a.wav", 6 * noise(), subtype="FLOAT")).samples.max() > 2.9


def test_content_decides_not_the_name(tmp_path):
    path = save(tmp_path / "really_an_mp3.wav", noise(), format="MP3")
    assert read(path).format == "MP3"


def test_probe_does_not_decode(wav):
    info = probe(wav)
    assert (info.channels, info.sample_rate, info.frames, info.subtype) == (2, RATE_HZ, RATE_HZ, "PCM_16")


def test_a_name_that_is_not_utf8(tmp_path, wav):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav"))
    write(path, read(wav).samples, RATE_HZ)
    assert read(path).samples.shape == (2, RATE_HZ)


def test_wave_piped_by_ffmpeg_or_sox_is_read(tmp_path, wav):
    for unknown in headers.UNKNOWN_BYTES:
        assert read(patched(wav, tmp_path / "piped.wav", 40, "<I", unknown)).samples.shape == (2, RATE_HZ)


def test_flac_of_unknown_length_is_read_to_its_end(tmp_path):
    """A streamed FLAC declares 0 samples in STREAMINFO, which libsndfile reports as 2^63 - 1."""
    data = bytearray(save(tmp_path / "a.flac", noise(frames=50_001), format="FLAC").read_bytes())
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    (tmp_path / "b.flac").write_bytes(data)
    assert probe(tmp_path / "b.flac").frames is None
    assert read(tmp_path / "b.flac").samples.shape == (2, 50_001)


def _vbr_without_xing(tmp_path: Path) -> Path:
    t = np.arange(10 * 44_100) / 44_100
    whole = save(tmp_path / "a.mp3", np.sin(2 * np.pi * 440 * t)[None] / 4, 44_100, format="MP3").read_bytes()
    second = whole.index(whole[:2], 4)
    (tmp_path / "b.mp3").write_bytes(whole[second:])
    return tmp_path / "b.mp3"


def test_mp3_without_a_length_is_read_to_its_end(tmp_path, monkeypatch):
    """libsndfile trusts an estimate and drops most of such a file in silence."""
    pytest.importorskip("av")
    path = _vbr_without_xing(tmp_path)
    assert soundfile.info(path).frames < 5 * 44_100
    monkeypatch.setitem(sys.modules, "av", None)
    assert read(path).samples.shape[1] == pytest.approx(10 * 44_100, abs=3 * 1152)


# --- bad input -------------------------------------------------------------------------------------


def _bad_wav(tmp_path: Path, offset: int, layout: str, value: int) -> Path:
    return patched(save(tmp_path / "good.wav", noise()), tmp_path / "bad.wav", offset, layout, value)


def _bytes(tmp_path: Path, data: bytes) -> Path:
    (tmp_path / "bad.wav").write_bytes(data)
    return tmp_path / "bad.wav"


def _cut(tmp_path: Path, share: float = 0.5, **how: str) -> Path:
    data = save(tmp_path / "good", noise(frames=3 * RATE_HZ), **how).read_bytes()
    return _bytes(tmp_path, data[: int(len(data) * share)])


def _with(tmp_path: Path, value: float) -> Path:
    samples = noise()
    samples[1, 1234] = samples[0, 40_000] = value
    return save(tmp_path / "bad.wav", samples, subtype="FLOAT")


def _fifo(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe.wav")
    return tmp_path / "pipe.wav"


def _flac_that_lies(tmp_path: Path) -> Path:
    data = bytearray(save(tmp_path / "a.flac", noise(), format="FLAC").read_bytes())
    data[21] |= 0x0F
    data[22:26] = b"\xff" * 4  # 2^36 - 1 samples: 275 GB of stereo float
    return _bytes(tmp_path, bytes(data))


BAD = {
    "empty": (lambda p: _bytes(p, b""), "is empty"),
    "text": (lambda p: _bytes(p, b"<html><body>404 Not Found</body></html>\n"), "holds text, not audio"),
    "noise": (lambda p: _bytes(p, bytes(range(256)) * 9), "not a recording that can be read"),
    "zeros": (lambda p: _bytes(p, bytes(4_000)), "holds zeros, not audio"),
    "picture": (lambda p: _bytes(p, b"\x89PNG\r\n\x1a\n" + bytes(99)), "holds a PNG picture, not audio"),
    "archive": (lambda p: _bytes(p, b"PK\x03\x04" + bytes(99)), "holds a ZIP archive, not audio"),
    "missing": (lambda p: p / "nowhere.wav", "does not exist"),
    "directory": (lambda p: p, "is a directory"),
    "below a file": (lambda p: _bytes(p, b"x") / "a.wav", "cannot be opened"),
    "NUL in the name": (lambda p: Path("a\0b.wav"), "cannot be opened"),
    "name too long": (lambda p: p / ("a" * 300 + ".wav"), "cannot be opened"),
    "named pipe": (_fifo, "not a regular file"),
    "device": (lambda p: Path("/dev/null"), "not a regular file"),
    "header alone": (lambda p: _cut(p, 30 / 576_044), "not a recording that can be read"),
    "no samples": (lambda p: save(p / "a.wav", noise(frames=0)), "holds no samples"),
    "truncated WAV": (_cut, "cut short: its header declares 576000 bytes of audio, 287978 are there"),
    "truncated RF64": (lambda p: _cut(p, format="RF64"), "cut short: its header declares 576000 bytes"),
    "truncated W64": (lambda p: _cut(p, format="W64"), "cut short: its header declares 576000 bytes"),
    "truncated AIFF": (lambda p: _cut(p, format="AIFF"), "cut short: its header declares 576008 bytes"),
    "truncated AU": (lambda p: _cut(p, format="AU"), "cut short: its header declares 576000 bytes"),
    "truncated CAF": (lambda p: _cut(p, format="CAF"), "cut short: its header declares 576004 bytes"),
    "truncated FLAC": (lambda p: _cut(p, format="FLAC"), r"cut short: 1\.\d+ s of 3.000 s could be decoded"),
    "truncated MP3": (lambda p: _cut(p, format="MP3"), r"cut short: 1\.\d+ s of 3.000 s are there"),
    "2 GB claimed": (lambda p: _bad_wav(p, 40, "<I", 2_000_000_000), "cut short: its header declares 2000000000 bytes"),
    "2^36 samples claimed": (_flac_that_lies, "cut short: 1.000 s of 1431655.* s could be decoded"),
    "0 Hz": (lambda p: _bad_wav(p, 24, "<I", 0), "declares a sampling rate of 0 Hz"),
    "1 Hz": (lambda p: _bad_wav(p, 24, "<I", 1), "declares 1 Hz"),
    "2 GHz": (lambda p: _bad_wav(p, 24, "<I", 2_000_000_000), "declares 2000000000 Hz"),
    "0 channels": (lambda p: _bad_wav(p, 22, "<H", 0), "declares no channels"),
    "65535 channels": (lambda p: _bad_wav(p, 22, "<H", 65_535), "declares 65535 channels, at most 64"),
    "65 channels": (lambda p: save(p / "a.caf", noise(65, 100), format="CAF"), "65 channels, at most 64"),
    "NaN": (lambda p: _with(p, np.nan), r"2 samples that are NaN or infinite, the first at 0.025708 s .*channel 2"),
    "inf": (lambda p: _with(p, np.inf), r"2 samples that are NaN or infinite.*sample 1234"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_line(tmp_path, case):
    make, message = BAD[case]
    path = make(tmp_path)
    with pytest.raises(AudioError, match=message) as caught:
        read(path)
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text
    assert ";" in text  # what is wrong; what to do


def test_every_byte_less_is_noticed(tmp_path, wav):
    data = wav.read_bytes()
    for missing in (2, 3, 4, 5):
        with pytest.raises(AudioError, match="cut short"):
            read(_bytes(tmp_path, data[:-missing]))


def test_no_permission(tmp_path, wav):
    """Root may read anything, so the read is done by somebody who may not."""
    wav.chmod(0)
    tmp_path.chmod(0o755)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if os.getuid() == 0:
                os.chdir(tmp_path)
                os.setuid(65_534)
            read(wav.name if Path.cwd() == tmp_path else wav)
        except AudioError as error:
            status = 0 if "permission denied" in str(error) else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_too_long_is_refused_while_decoding(wav):
    assert read(wav, max_seconds=1.0).samples.shape == (2, RATE_HZ)
    with pytest.raises(AudioError, match="longer than 0.5 s"):
        read(wav, max_seconds=0.5)


@settings(max_examples=60, deadline=None)
@given(
    st.binary(max_size=400),
    st.sampled_from([b"", b"RIFF\xff\xff\xff\x7fWAVEfmt \x10\0\0\0", b"fLaC", b"FORM", b"OggS"]),
)
def test_hostile_bytes_give_an_error_and_nothing_else(tmp_path_factory, data, magic):
    path = tmp_path_factory.mktemp("fuzz") / "a.wav"
    path.write_bytes(magic + data)
    try:
        assert read(path).samples.size > 0
    except AudioError as error:
        assert str(path) in str(error)


# --- through PyAV ----------------------------------------------------------------------------------


@pytest.fixture
def m4a(tmp_path: Path) -> Path:
    av = pytest.importorskip("av")
    path = tmp_path / "a.m4a"
    t = np.arange(2 * RATE_HZ) / RATE_HZ
    wave = np.stack([0.3 * np.sin(2 * np.pi * hz * t) for hz in (440, 880)]).astype(np.float32)
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as out:
        out.metadata["title"] = "Süß"
        stream = out.add_stream("aac", rate=RATE_HZ, layout="stereo", bit_rate=192_000)
        frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = RATE_HZ, 0
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            out.mux(packet)
    return path


def test_m4a_is_read_with_its_tags(m4a):
    got = read(m4a)
    assert got.subtype == "AAC"
    assert got.tags["title"] == "Süß"
    assert got.samples.shape == (2, 2 * RATE_HZ)
    spectrum = np.abs(np.fft.rfft(got.samples[:, :RATE_HZ]))
    assert spectrum.argmax(axis=1).tolist() == [440, 880]


def test_m4a_without_the_extra_names_it(m4a, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(AudioError, match=r"MP4 / M4A.*pip install 'latentsr\[av\]'"):
        read(m4a)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_m4a(m4a, share):
    data = m4a.read_bytes()
    m4a.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(AudioError, match="cut short|cannot be read"):
        read(m4a)


# --- writing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["wav", "flac", "aiff", "caf", "w64", "rf64"])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_pcm_is_the_same_to_the_bit_after_a_round_trip(tmp_path, format, subtype):
    first = read(save(tmp_path / "a.wav", noise(), subtype=subtype))
    write(Target.of(tmp_path / f"b.{format}", subtype=subtype), first.samples, RATE_HZ)
    second = read(tmp_path / f"b.{format}")
    assert second.subtype == subtype
    assert np.array_equal(first.samples, second.samples)


@pytest.mark.parametrize(("subtype", "bits"), [("PCM_U8", 8), ("PCM_16", 16), ("PCM_24", 24), ("PCM_32", 32)])
def test_pcm_is_rounded_to_the_nearest_step_without_bias(tmp_path, subtype, bits):
    samples = noise(1, 100_000).astype(np.float64)
    write(Target.of(tmp_path / "a.wav", subtype=subtype), samples, RATE_HZ)
    error = (soundfile.read(tmp_path / "a.wav", dtype="float64")[0] - samples[0]) * 2 ** (bits - 1)
    assert np.abs(error).max() <= 0.5 + 1e-6
    assert abs(error.mean()) < 0.01


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_float_goes_beyond_full_scale(tmp_path, subtype):
    write(Target.of(tmp_path / "a.wav", subtype=subtype), 4 * noise(), RATE_HZ)
    assert np.array_equal(read(tmp_path / "a.wav").samples, 4 * noise())


def test_full_scale_itself_is_not_clipping(tmp_path):
    write(tmp_path / "a.wav", np.array([[1.0, -1.0, 0.0]], np.float32), RATE_HZ)
    assert read(tmp_path / "a.wav").samples.tolist() == [[32767 / 32768, -1.0, 0.0]]


@pytest.mark.parametrize(
    ("format", "like", "expected"),
    [
        ("wav", "PCM_U8", "PCM_16"),
        ("wav", "PCM_16", "PCM_16"),
        ("wav", "PCM_24", "PCM_24"),
        ("wav", "PCM_32", "PCM_32"),
        ("wav", "FLOAT", "FLOAT"),
        ("wav", "DOUBLE", "DOUBLE"),
        ("wav", "ULAW", "PCM_16"),
        ("wav", "VORBIS", "PCM_24"),
        ("flac", "PCM_16", "PCM_16"),
        ("flac", "DOUBLE", "PCM_24"),
        ("opus", "FLOAT", "OPUS"),
        ("mp3", None, "MPEG_LAYER_III"),
    ],
)
def test_depth_never_falls_below_the_inputs_where_the_format_allows(format, like, expected):
    assert audio.choose_subtype(format, like) == expected


@pytest.mark.parametrize("format", ["wav", "flac", "mp3", "ogg", "opus", "aiff", "caf"])
def test_writes_every_format_by_its_extension(tmp_path, format):
    write(tmp_path / f"a.{format}", noise(2, 30_000), RATE_HZ)
    assert read(tmp_path / f"a.{format}").samples.shape == (2, 30_000)


@pytest.mark.parametrize("format", ["wav", "flac", "ogg", "opus", "mp3"])
def test_tags_are_carried(tmp_path, format):
    tags = {"title": "Title", "artist": "Some One", "album": "Album", "date": "1928", "genre": "Jazz"}
    source, target = tmp_path / f"a.{format}", tmp_path / f"b.{format}"
    write(source, noise(), RATE_HZ, metadata=Metadata(tags))
    first = read(source)
    write(target, first.samples * 0.9, RATE_HZ, metadata=first.metadata)
    assert tags.items() <= read(target).tags.items()


def test_blocks_give_the_same_file_as_the_whole(tmp_path):
    samples = noise(2, 50_000)
    write(tmp_path / "a.wav", samples, RATE_HZ)
    with Writer(tmp_path / "b.wav", 2, RATE_HZ, 50_000) as writer:
        for start in range(0, 50_000, 777):
            writer.write(samples[:, start : start + 777])
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_beyond_four_gigabytes_wav_becomes_rf64(tmp_path, monkeypatch):
    monkeypatch.setattr(writer_module, "RIFF_LIMIT_BYTES", 100_000)
    write(tmp_path / "long.wav", noise(), RATE_HZ)
    write(tmp_path / "short.wav", noise(2, 1_000), RATE_HZ)
    assert [read(tmp_path / name).format for name in ("long.wav", "short.wav")] == ["RF64", "WAV"]


def test_five_gigabytes_are_declared_whole(tmp_path):
    """A sparse stand-in would not pass through the encoder, so only the choice of header is looked at."""
    writer = Writer(tmp_path / "a.wav", 2, RATE_HZ, 5 * 2**30 // 4)
    assert writer._file.format == "RF64"
    writer.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert list(tmp_path.iterdir()) == []


REFUSED = {
    "NaN": (dict(samples=np.full((1, 9), np.nan)), "NaN or infinity"),
    "inf as float": (dict(samples=np.full((1, 9), np.inf), subtype="FLOAT"), "NaN or infinity"),
    "PCM beyond full scale": (dict(samples=np.full((1, 9), 1.5)), "1.5000 of full scale.*FLOAT"),
    "MP3 beyond full scale": (dict(name="a.mp3", samples=np.full((1, 9), 1.5)), "1.5000 of full scale"),
    "no samples": (dict(samples=np.zeros((1, 0))), "there are no samples"),
    "one axis": (dict(samples=np.zeros(9)), "must be .channels, samples."),
    "9 channels in FLAC": (
        dict(name="a.flac", samples=np.zeros((9, 9))),
        "flac holds 1 to 8 channels, not 9; write WAV",
    ),
    "3 channels in MP3": (dict(name="a.mp3", samples=np.zeros((3, 9))), "mp3 holds 1 to 2 channels"),
    "300 channels in Ogg": (dict(name="a.ogg", samples=np.zeros((300, 9))), "ogg holds 1 to 8 channels"),
    "44.1 kHz Opus": (dict(name="a.opus", rate_hz=44_100), "opus has no 44100 Hz; choose one of 8000"),
    "96 kHz MP3": (dict(name="a.mp3", rate_hz=96_000), "mp3 has no 96000 Hz"),
    "float FLAC": (dict(name="a.flac", subtype="FLOAT"), "flac cannot hold FLOAT"),
    "unknown extension": (dict(name="a.xyz"), "format 'xyz' is not one of"),
    "no extension": (dict(name="a"), "a name without an extension"),
    "no folder": (dict(name="nowhere/a.wav"), "the folder .* does not exist"),
    "a directory": (dict(name="."), "cannot write"),
    "below a file": (dict(name="file/a.wav"), "not a directory"),
    "name too long": (dict(name="a" * 300 + ".wav"), "name too long"),
    "device": (dict(name="/dev/null", format="wav"), "not a regular file"),
    "read-only file system": (dict(name="/proc/a.wav"), "the folder|denied|permitted|no such"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_write_leaves_nothing(tmp_path, case):
    given, message = REFUSED[case]
    (tmp_path / "file").write_bytes(b"x")
    arguments = {"samples": noise(1, 9), "name": "a.wav", "rate_hz": RATE_HZ, **given}
    path = tmp_path / arguments.pop("name")
    with pytest.raises(AudioError, match=message) as caught:
        samples, rate_hz = arguments.pop("samples"), arguments.pop("rate_hz")
        write(Target.of(path, **arguments) if arguments else path, samples, rate_hz)
    assert str(path) in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_an_existing_file_is_replaced_only_when_asked(tmp_path, wav):
    before = wav.read_bytes()
    with pytest.raises(AudioError, match="exists already.*--overwrite"):
        write(wav, noise(1, 9), RATE_HZ)
    assert wav.read_bytes() == before
    write(Target.of(wav, overwrite=True), noise(1, 9), RATE_HZ)
    assert read(wav).samples.shape == (1, 9)


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path):
    path = tmp_path / "a.wav"
    with pytest.raises(AudioError, match="meanwhile"), Writer(path, 1, RATE_HZ, 9) as writer:
        writer.write(noise(1, 9))
        path.write_bytes(b"somebody else's")
    assert path.read_bytes() == b"somebody else's"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, SystemExit])
def test_an_interrupted_write_leaves_the_old_file(wav, error):
    before = wav.read_bytes()
    with pytest.raises(error), Writer(Target.of(wav, overwrite=True), 2, RATE_HZ, 99_999) as writer:
        writer.write(noise())
        raise error
    assert wav.read_bytes() == before
    assert [entry.name for entry in wav.parent.iterdir()] == [wav.name]


def test_ctrl_c_inside_the_encoder_is_not_lost(tmp_path):
    """libsndfile calls back into Python to write; an exception cannot cross its C code: it is kept and raised after."""
    writer = Writer(tmp_path / "a.wav", 1, RATE_HZ, RATE_HZ)
    writer._sink.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt), writer:
        writer.write(noise(1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", ["wav", "flac", "mp3", "ogg", "opus"])
def test_disk_full(tmp_path, format):
    """A limit on the size of files, which the system call reports just as a full disk: write() fails half way."""
    script = (
        "import resource, sys, numpy as np\n"
        "from latentsr.audio import AudioError, write\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "samples = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 96_000))\n"
        f"try: write({str(tmp_path / ('a.' + format))!r}, samples, 48_000)\n"
        "except AudioError as error: print(error); sys.exit(7)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(SRC)}, capture_output=True, text=True
    )
    assert done.returncode == 7, done.stderr
    assert "file too large; raise the limit on file sizes or choose another disk" in done.stdout
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_a_new_file_has_the_usual_access_rights(tmp_path):
    old = os.umask(0o022)
    write(tmp_path / "a.wav", noise(1, 9), RATE_HZ)
    os.umask(old)
    assert stat.S_IMODE((tmp_path / "a.wav").stat().st_mode) == 0o644


def test_a_name_of_255_bytes_can_be_written(tmp_path):
    write(tmp_path / ("a" * 251 + ".wav"), noise(1, 9), RATE_HZ)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_look_at_a_target_leaves_nothing(tmp_path, wav):
    audio.Target.of(tmp_path / "new.wav").check_now(1, RATE_HZ)
    assert list(tmp_path.iterdir()) == [wav]
    with pytest.raises(AudioError, match="exists already"):
        audio.Target.of(wav).check_now(1, RATE_HZ)


def test_reading_ten_minutes_takes_little_memory(tmp_path):
    """Ten minutes of mono are 115 MB as float32; the reader needs a few blocks of it."""
    path = tmp_path / "long.flac"
    with Writer(path, 1, RATE_HZ, 600 * RATE_HZ) as writer:
        for _ in range(600):
            writer.write(np.zeros((1, RATE_HZ), np.float32))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with Reader(path) as reader:
        assert sum(block.shape[1] for block in reader) == 600 * RATE_HZ
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # kB


# --- resampling ------------------------------------------------------------------------------------


@given(st.integers(0, 10**9), st.sampled_from([8_000, 11_025, 37_800, 44_100, 384_000]))
def test_length_is_rounded_half_up(samples, from_hz):
    exact = Fraction(samples * RATE_HZ, from_hz)
    assert audio.output_length(samples, from_hz, RATE_HZ) == (exact + Fraction(1, 2)).__floor__()


@pytest.mark.parametrize("from_hz", [8_000, 11_025, 16_000, 22_050, 37_800, 44_100, 48_000, 96_000, 384_000])
@pytest.mark.parametrize("frames", [1, 2, 1_000, 4_801])
def test_resampling_gives_exactly_that_many(from_hz, frames):
    out = resample(noise(2, frames), from_hz, RATE_HZ)
    assert out.shape == (2, audio.output_length(frames, from_hz, RATE_HZ))
    assert out.dtype == np.float32


@pytest.mark.parametrize(("from_hz", "limit_db"), [(16_000, -100), (44_100, -100), (96_000, -100)])
def test_a_tone_stays_that_tone(from_hz, limit_db):
    """Level, pitch and start are kept: the error against the ideal tone at the new rate."""
    tone = np.sin(2 * np.pi * 997 * np.arange(from_hz) / from_hz)[None].astype(np.float32)
    ideal = np.sin(2 * np.pi * 997 * np.arange(RATE_HZ) / RATE_HZ)
    inner = slice(2_000, -2_000)
    error = (resample(tone, from_hz, RATE_HZ)[0] - ideal)[inner]
    assert 10 * np.log10(np.mean(error**2) / np.mean(ideal[inner] ** 2)) < limit_db


def test_nothing_folds_back():
    tone = np.sin(2 * np.pi * 26_400 * np.arange(96_000) / 96_000)[None].astype(np.float32)  # 1.1 x the new Nyquist
    assert 20 * np.log10(np.abs(resample(tone, 96_000, RATE_HZ)[0, 2_000:-2_000]).max()) < -100
