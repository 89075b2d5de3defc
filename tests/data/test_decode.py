"""Files become 48 kHz mono once, and a broken one is named."""

import logging

import av
import numpy as np
import pytest
import soundfile

from latentsr.data.decode import decode, decode_clip, resampled_edge_hz
from latentsr.data.layouts import find_clips, guess_layout
from latentsr.data.manifest import Clip, DataError


def error_db(reference, estimate):
    return 10 * np.log10(np.mean((reference - estimate) ** 2) / np.mean(reference**2))


def test_16_bit_with_a_scale_keeps_90_db(tmp_path):
    quiet = 1e-3 * np.random.default_rng(0).standard_normal((48_000, 2))
    soundfile.write(tmp_path / "a.wav", quiet, 48_000, subtype="DOUBLE")
    recording = decode_clip(Clip(tmp_path / "a.wav", "music", 24_000))
    assert error_db(quiet.mean(axis=1), recording.wave()) < -84
    assert np.array_equal(recording.wave(100, 200), recording.wave()[100:200])


def test_above_full_scale_and_silence_survive(tmp_path):
    soundfile.write(tmp_path / "loud.wav", np.full(480, 3.0), 48_000, subtype="FLOAT")
    soundfile.write(tmp_path / "zero.wav", np.zeros(480), 48_000)
    assert decode_clip(Clip(tmp_path / "loud.wav", "x", 1e4)).wave().max() == pytest.approx(3.0, rel=1e-4)
    assert not decode_clip(Clip(tmp_path / "zero.wav", "x", 1e4)).wave().any()


@pytest.mark.parametrize(("rate", "length"), [(48_000, 24_000), (44_100, 24_000), (96_000, 24_000), (8_000, 24_000)])
def test_every_rate_becomes_48_khz(tmp_path, make_wav, rate, length):
    path = make_wav(tmp_path / "a.wav", seconds=0.5, rate=rate, channels=2)
    assert len(decode_clip(Clip(path, "music", 24_000)).samples) == length


@pytest.mark.parametrize("rate", [32_000, 44_100, 96_000])
def test_the_resampler_ends_where_we_say(tmp_path, make_wav, rate):
    """White noise is within 1.5 dB up to the edge and 10 dB down 4 % of it higher."""
    recording = decode_clip(Clip(make_wav(tmp_path / "a.wav", seconds=4, rate=rate), "noise", 24_000))
    edge_hz = resampled_edge_hz(rate)
    assert recording.bandwidth_hz == edge_hz < min(rate, 48_000) / 2
    power = np.abs(np.fft.rfft(recording.wave())) ** 2
    hz = np.fft.rfftfreq(len(recording.samples), 1 / 48_000)

    def level_db(low_hz, high_hz):
        return 10 * np.log10(power[(hz >= low_hz) & (hz < high_hz)].mean())

    assert level_db(edge_hz - 200, edge_hz) == pytest.approx(level_db(1000, 10_000), abs=1.5)
    assert level_db(1.03 * edge_hz, 1.04 * edge_hz) < level_db(1000, 10_000) - 10


def test_bandwidth_is_the_given_one_or_measured(tmp_path, make_wav):
    path = make_wav(tmp_path / "a.wav", seconds=2, rate=16_000)
    assert decode_clip(Clip(path, "x", 5_000)).bandwidth_hz == 5_000
    assert decode_clip(Clip(path, "x")).bandwidth_hz == pytest.approx(7_560, rel=0.1)
    assert decode_clip(Clip(make_wav(tmp_path / "b.wav", seconds=2), "x")).bandwidth_hz == 24_000


def broken_files(folder, make_wav):
    make_wav(folder / "good.wav")
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("this is not audio")
    soundfile.write(folder / "nothing.wav", np.zeros(0), 48_000)
    soundfile.write(folder / "nan.wav", np.full(480, np.nan), 48_000, subtype="FLOAT")
    names = ["good", "empty", "text", "nothing", "nan", "missing"]
    return [Clip(folder / f"{name}.wav", "music", 24_000) for name in names]


def test_a_broken_file_is_an_error_that_names_it(tmp_path, make_wav):
    good, *broken = broken_files(tmp_path, make_wav)
    for clip in broken:
        with pytest.raises(DataError, match=f"{clip.path.name}.*; remove the file or set on_bad=skip"):
            decode([good, clip])


@pytest.mark.parametrize("cached", [False, True])
def test_broken_files_can_be_left_out_with_one_line(tmp_path, make_wav, caplog, cached):
    clips = broken_files(tmp_path, make_wav)
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            recordings = decode(clips, on_bad="skip", cache=tmp_path / "cache" if cached else None)
        assert [r.clip.path.name for r in recordings] == ["good.wav"]
        (record,) = caplog.records
        assert "left out 5 of 6 files" in record.message
        assert "nan.wav" in record.message


@pytest.mark.parametrize(("share", "usable"), [(0.97, True), (0.8, False)])
def test_a_file_damaged_near_its_end_is_used_up_to_there(tmp_path, caplog, share, usable):
    samples = 0.1 * np.random.default_rng(0).standard_normal(10 * 48_000)
    samples[round(share * len(samples)) :] = np.nan
    soundfile.write(tmp_path / "a.wav", samples, 48_000, subtype="FLOAT")
    clip = Clip(tmp_path / "a.wav", "music", 24_000)
    if not usable:
        with pytest.raises(DataError, match="a.wav"):
            decode_clip(clip)
        return
    recording = decode_clip(clip)
    assert 0.95 * len(samples) < len(recording.samples) <= 0.97 * len(samples)
    assert "used up to its damage" in caplog.text and "a.wav" in caplog.text


def test_a_stem_file_gives_its_first_stream(tmp_path):
    """MUSDB18: an MP4 with five AAC streams, the mixture first; mixture 500 Hz, stems 2 kHz."""
    (tmp_path / "train").mkdir()
    path = tmp_path / "train" / "Artist - Song.stem.mp4"
    time_s = np.arange(44_100) / 44_100
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("aac", rate=44_100, layout="stereo") for _ in range(5)]
        for i, stream in enumerate(streams):
            tone = 0.5 * np.sin(2 * np.pi * (2000 if i else 500) * time_s).astype(np.float32)
            for start in range(0, 44_032, 1024):
                frame = av.AudioFrame.from_ndarray(
                    np.stack([tone, tone])[:, start : start + 1024].copy(), "fltp", "stereo"
                )
                frame.sample_rate, frame.pts = 44_100, start
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    (clip,) = find_clips(tmp_path)
    recording = decode_clip(clip)
    assert guess_layout(tmp_path) == "musdb18"
    assert recording.seconds == pytest.approx(1.0, abs=0.1)
    wave = recording.wave(9_600, 38_400)
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    assert np.argmax(spectrum) * 48_000 / len(wave) == pytest.approx(500, abs=2)
    assert spectrum[1200] < 1e-2 * spectrum[300]


def test_nothing_readable_is_an_error(tmp_path, make_wav):
    broken = broken_files(tmp_path, make_wav)[1:]
    for cache in (None, tmp_path / "cache"):
        with pytest.raises(DataError, match="none of the 5 files can be used"):
            decode(broken, on_bad="skip", cache=cache)


def test_the_cache_gives_the_same_and_notices_a_change(tmp_path, make_wav):
    clips = [Clip(make_wav(tmp_path / f"{i}.wav", seed=i, rate=44_100), "music") for i in range(3)]
    plain = decode(clips)
    for _ in range(2):
        cached = decode(clips, cache=tmp_path / "cache")
        assert [np.array_equal(a.samples, b.samples) for a, b in zip(plain, cached, strict=True)] == [True] * 3
        assert [(r.scale, r.bandwidth_hz, r.digest) for r in cached] == [
            (r.scale, r.bandwidth_hz, r.digest) for r in plain
        ]
    assert len(list((tmp_path / "cache").iterdir())) == 2
    make_wav(tmp_path / "1.wav", seconds=0.25, seed=9, rate=44_100)
    assert len(decode(clips, cache=tmp_path / "cache")[1].samples) == 12_000


def test_a_cache_cut_short_is_named(tmp_path, make_wav):
    clips = [Clip(make_wav(tmp_path / "a.wav"), "music", 24_000)]
    decode(clips, cache=tmp_path / "cache")
    (data,) = (tmp_path / "cache").glob("*.int16")
    data.write_bytes(data.read_bytes()[:-100])
    with pytest.raises(DataError, match="is damaged; delete .*json and start again"):
        decode(clips, cache=tmp_path / "cache")


def test_an_unfinished_cache_is_not_read(tmp_path, make_wav):
    """A run that stops at a broken file leaves neither index nor data."""
    clips = [Clip(make_wav(tmp_path / "a.wav"), "music", 24_000), Clip(tmp_path / "none.wav", "music", 24_000)]
    with pytest.raises(DataError, match="none.wav"):
        decode(clips, cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
