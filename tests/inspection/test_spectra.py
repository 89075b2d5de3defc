"""Hum, lines, floor, holes, and how much is kept of a long recording."""

import numpy as np
import pytest
from making import RATE, musical_noise, seconds, speech_like, write

from latentsr.inspection.spectra import Spectrogram


@pytest.mark.parametrize("mains_hz", [50, 60])
@pytest.mark.parametrize("make", [musical_noise, speech_like])
@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_hum_is_found_with_its_level(tmp_path, inspected, make, mains_hz, rate):
    wave = 0.3 * make(8.0, rate=rate) + 0.01 * np.sin(2 * np.pi * mains_hz * seconds(8.0, rate))[:, None]
    hum = inspected(write(tmp_path, wave, rate)).hum
    assert hum.mains_hz == mains_hz and hum.dbfs == pytest.approx(-40, abs=1.5)
    assert hum.harmonics_hz[0] == pytest.approx(mains_hz, abs=0.2)


def test_hum_of_one_channel_has_its_level(tmp_path, inspected):
    wave = musical_noise(8.0, 2) * 0.1
    wave[:, 1] += sum(0.01 * np.sin(2 * np.pi * hz * seconds(8.0)) for hz in (100, 200))
    hum = inspected(write(tmp_path, wave)).hum
    assert hum.harmonics_hz == pytest.approx((100, 200), abs=0.3) and hum.dbfs == pytest.approx(-37, abs=1.5)


@pytest.mark.parametrize("make", [musical_noise, speech_like])
def test_no_hum_and_no_lines_where_none_are(tmp_path, inspected, make):
    for seed in range(5):
        found = inspected(write(tmp_path, make(8.0, seed=seed)))
        assert found.hum is None and found.lines == ()


@pytest.mark.parametrize("hz", [49.0, 61.74, 98.0, 146.83])  # bass notes, held
def test_a_note_is_no_hum(tmp_path, inspected, hz):
    wave = 0.05 * np.sin(2 * np.pi * hz * seconds(8.0))[:, None] + 0.1 * musical_noise(8.0)
    assert inspected(write(tmp_path, wave)).hum is None


def test_a_whine_is_a_line(tmp_path, inspected):
    wave = speech_like() + 0.003 * np.sin(2 * np.pi * 15_625 * seconds(8.0))[:, None]
    (line,) = inspected(write(tmp_path, wave)).lines
    assert line.hz == pytest.approx(15_625, abs=0.3) and line.dbfs == pytest.approx(-50.5, abs=1)


@pytest.mark.parametrize("level", [1e-2, 1e-3, 1e-4])
def test_the_floor_is_what_is_there_in_the_pauses(tmp_path, inspected, level):
    noise = level * np.random.default_rng(0).standard_normal((8 * RATE, 2))
    pauses = (np.sin(2 * np.pi * 0.5 * seconds(8.0)) > 0)[:, None]
    found = inspected(write(tmp_path, noise + pauses * musical_noise(8.0, 2), subtype="PCM_24"))
    assert found.floor_dbfs == pytest.approx(20 * np.log10(level), abs=2) and found.floor_bits is None


def test_hum_is_not_part_of_the_floor(tmp_path, inspected):
    hum = sum(0.01 * np.sin(2 * np.pi * hz * seconds(8.0)) for hz in (50, 100, 150, 12_345))[:, None]
    found = inspected(write(tmp_path, 1e-3 * np.random.default_rng(0).standard_normal((8 * RATE, 1)) + hum))
    assert found.floor_dbfs == pytest.approx(-60, abs=0.5)
    assert found.hum.harmonics_hz == pytest.approx((50, 100, 150), abs=0.2) and len(found.lines) == 1


@pytest.mark.parametrize("bits", [8, 16])
def test_dust_is_called_so(tmp_path, inspected, bits):
    rng = np.random.default_rng(0)
    pauses = (np.sin(2 * np.pi * 0.5 * seconds(8.0)) > 0)[:, None]
    dither = rng.uniform(-0.5, 0.5, (8 * RATE, 1)) + rng.uniform(-0.5, 0.5, (8 * RATE, 1))
    wave = np.round(pauses * musical_noise(8.0) * 2 ** (bits - 1) + dither) / 2 ** (bits - 1)
    found = inspected(write(tmp_path, wave, subtype="PCM_24"))
    assert (found.floor_bits, found.bits) == (bits, bits)


def test_a_long_recording_takes_no_more_memory_than_a_short_one():
    spectrogram = Spectrogram(256, 128, most=20)
    block = np.random.default_rng(0).standard_normal((1, 4_000)).astype(np.float32)
    for _ in range(100):
        spectrogram.update(block)
    rows = spectrogram.rows
    assert 10 <= len(rows) <= 20 and rows.sum(axis=1).mean() / 2 == pytest.approx(1.0, rel=0.1)
