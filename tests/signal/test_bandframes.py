"""Frames of a recording at its own rate: the same levels and places whatever the rate, depth and blocks."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from latentsr.signal.bandframes import BIN_HZ, BINS, FLOAT_DB, FrameMaker, dust_db

RATES = (8_000, 11_025, 44_100, 48_000, 96_000)


def frames_of(samples, rate, **options):
    maker = FrameMaker(rate, **options)
    maker.update(np.atleast_2d(samples).astype(np.float32))
    return maker.result()


def noise(rate, seconds=3.0, channels=1, seed=0):
    return 0.1 * np.random.default_rng(seed).standard_normal((channels, int(rate * seconds)))


@pytest.mark.parametrize("rate", RATES)
def test_white_noise_has_its_density_at_every_rate(rate):
    made = frames_of(noise(rate), rate)
    inside = slice(4, int(0.9 * rate / 2 / BIN_HZ))
    mean = 10 * np.log10((10 ** (made.power_db[0] / 10)).mean(axis=0))[inside].mean()
    assert mean == pytest.approx(-20 + 10 * np.log10(48_000 / rate), abs=0.3)
    assert made.nyquist_hz == rate / 2


@pytest.mark.parametrize("rate", RATES)
def test_a_tone_lies_in_its_bin_at_every_rate(rate):
    hz = 30 * BIN_HZ
    tone = np.sin(2 * np.pi * hz * np.arange(2 * rate) / rate)
    assert int(frames_of(tone, rate).power_db[0].mean(axis=0).argmax()) == 30


def test_blocks_do_not_matter():
    wave = noise(44_100, channels=2)
    maker = FrameMaker(44_100)
    for block in np.array_split(wave.astype(np.float32), 37, axis=1):
        maker.update(block)
    assert np.array_equal(maker.result().power_db, frames_of(wave, 44_100).power_db)


@pytest.mark.parametrize("pieces", [1, 13])
def test_memory_is_bounded_and_frames_then_last_longer(pieces):
    rate, most = 8_000, 40
    maker = FrameMaker(rate, most=most)
    for block in np.array_split(noise(rate, 30.0).astype(np.float32), pieces, axis=1):
        maker.update(block)
    made = maker.result()
    assert made.power_db.shape[1] <= most + 64
    assert maker.merged >= 8
    assert made.power_db.shape[1] * maker.merged * 0.064 == pytest.approx(30.0, rel=0.03)
    assert made.power_db[0, :, 5:35].mean() == pytest.approx(-20 + 7.8, abs=0.4)


@pytest.mark.parametrize("bits", [8, 16, 24])
def test_depth_is_seen_and_halving_halves_it(bits):
    steps = 2.0 ** (bits - 1)
    wave = np.rint(noise(48_000) * steps) / steps
    assert frames_of(wave, 48_000).dust_db == pytest.approx(dust_db(bits - 1, 48_000))
    assert frames_of(0.5 * wave, 48_000).dust_db == pytest.approx(dust_db(bits - 1, 48_000) - 6.02, abs=0.01)


def test_dust_is_what_rounding_with_dither_leaves():
    rng, rate = np.random.default_rng(0), 44_100
    dither = rng.uniform(-0.5, 0.5, (2, 3 * rate)).sum(axis=0)
    made = frames_of(np.rint(dither) / 32_768, rate)
    assert 10 * np.log10((10 ** (made.power_db / 10)).mean(axis=1)[0, 5:200].mean()) == pytest.approx(
        dust_db(15, rate), abs=0.3
    )


def test_floats_have_no_dust_and_scaling_scales():
    wave = noise(48_000)
    made, scaled = (frames_of(gain * wave, 48_000) for gain in (1.0, 0.5**7))
    assert made.dust_db == scaled.dust_db == FLOAT_DB
    assert_allclose(scaled.power_db, made.power_db - 20 * np.log10(2.0**7), atol=2e-3)


@pytest.mark.parametrize("samples", [0, 1, 100, 4_000])
def test_short_recordings_have_a_frame(samples):
    made = frames_of(np.ones(samples), 48_000)
    assert made.power_db.shape == (1, 1, BINS)
    assert np.isfinite(made.power_db).all()
