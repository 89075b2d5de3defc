"""Beside a restored file: the made band alone in another one, and a table of what was kept, raised and made."""

import json

import numpy as np
import pytest
import soundfile

from latentsr import audio
from latentsr.audio import AudioError, resample
from latentsr.restoring.bands import BandTable
from tiny import RATE, programme, tiny_pipeline


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline()


def written(path, rate=44_100, channels=2, seconds=7.0, gain=1.0):
    wave = resample(programme(seconds, channels), RATE, rate) * np.float32(gain)
    soundfile.write(path, wave.T, rate, "FLOAT")
    return path


def error_db(made, wanted):
    return 10 * np.log10((np.square(made - wanted).sum() + 1e-20) / np.square(wanted).sum())


@pytest.mark.parametrize("band", ["band.wav", "band.flac"])
@pytest.mark.parametrize(("rate", "to"), [(48_000, None), (16_000, None), (44_100, "source"), (96_000, 88_200)])
def test_the_band_and_the_recording_sum_to_the_result(pipe, tmp_path, rate, to, band):
    source = written(tmp_path / "a.wav", rate)
    how = {"steps": 1, "cutoff_hz": 4_000.0, "sample_rate": to}
    done = pipe.restore_file(source, tmp_path / "b.wav", write_band=tmp_path / band, **how)
    pipe.restore_file(source, tmp_path / "given.wav", **how, amount=0.0)
    pipe.restore_file(source, tmp_path / "plain.wav", **how)
    made, top, given = (audio.read(tmp_path / name).samples for name in ("b.wav", band, "given.wav"))
    assert done.band == tmp_path / band
    assert error_db(given + top, made) < -80
    assert np.abs(top).max() > 1e-3
    assert np.array_equal(made, audio.read(tmp_path / "plain.wav").samples)


def test_above_full_scale_both_are_scaled_alike(pipe, tmp_path):
    source = written(tmp_path / "loud.wav", RATE, gain=6.0)  # a peak of 1.8
    done = pipe.restore_file(source, tmp_path / "b.flac", write_band=tmp_path / "band.wav", cutoff_hz=4_000.0, steps=1)
    assert done.gain == pytest.approx(1 / 1.8, rel=0.01)
    made, top, given = (audio.read(tmp_path / name).samples for name in ("b.flac", "band.wav", "loud.wav"))
    assert error_db(given * done.gain + top, made) < -80


def test_where_nothing_is_made_the_band_is_silent(pipe, tmp_path):
    source = written(tmp_path / "a.wav")
    done = pipe.restore_file(source, tmp_path / "b.wav", write_band=tmp_path / "c.wav", amount=0, bands=True)
    assert (done.copied, np.abs(audio.read(tmp_path / "c.wav").samples).max()) == ("an amount of 0%", 0.0)
    assert np.isnan(done.bands.made_db).all()


def test_no_half_of_two(pipe, tmp_path):
    """Where the second file cannot be written, the first is not either."""
    source = written(tmp_path / "a.wav", seconds=1.0)
    (tmp_path / "c.wav").write_bytes(b"precious")
    with pytest.raises(AudioError, match="exists already"):
        pipe.restore_file(source, tmp_path / "b.wav", write_band=tmp_path / "c.wav", cutoff_hz=4_000.0, steps=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav", "c.wav"]


def test_a_table_of_known_levels():
    """A second of noise below 4 kHz raised by 6 dB, with a tenth of its power made above; then the same untouched."""
    noise = np.random.default_rng(0).standard_normal((2, 2, 2 * RATE))
    hz = np.fft.rfftfreq(2 * RATE, 1 / RATE)
    given = np.fft.irfft(np.fft.rfft(noise[0]) * (hz < 4_000)) * 0.1
    above = np.fft.irfft(np.fft.rfft(noise[1]) * (hz >= 4_000)) * 0.1 * 10**-0.5
    first = np.arange(2 * RATE) < RATE
    restored = np.where(first, 2 * given + above, given)
    table = BandTable(RATE)
    for at in range(0, 2 * RATE, 10_007):
        table.update(given[:, at : at + 10_007].astype(np.float32), restored[:, at : at + 10_007].astype(np.float32))
    bands = table.result()
    assert bands.made_db.shape == (2, len(bands.edges_hz) - 1) == (2, 15)
    at = bands.edges_hz.index(1_000.0), bands.edges_hz.index(10_000.0)
    wide = 10 * np.log10(0.01 * np.array([1_000.0, 2_000.0]) / 24_000)  # mean square of these bands' share of 0.1 ** 2
    assert bands.kept_db[:, at[0]] == pytest.approx([wide[0] + 6.02, wide[0]], abs=0.3)
    assert bands.raised_db[:, at[0]] == pytest.approx([6.02, 0.0], abs=0.05)
    assert np.isnan(bands.made_db[:, at[0]]).all()
    assert bands.made_db[0, at[1]] == pytest.approx(wide[1] - 10, abs=0.3)
    assert np.isnan(bands.kept_db[:, at[1]]).all() and np.isnan(bands.made_db[1, at[1]])
    assert json.loads(json.dumps(bands.to_dict()))["raised_db"][0][at[0]] == pytest.approx(6.0)


@pytest.mark.parametrize(("rate", "bands"), [(8_000, 5), (44_100, 15), (192_000, 15)])
def test_bands_end_with_the_file(rate, bands):
    table = BandTable(rate)
    table.update(np.zeros((1, 100), np.float32), np.zeros((1, 100), np.float32))
    done = table.result()
    assert len(done.edges_hz) == bands + 1 and done.edges_hz[-1] == min(rate / 2, 24_000)
    assert done.to_dict()["made_db"] == [[None] * bands]
