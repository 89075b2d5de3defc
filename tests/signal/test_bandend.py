"""The truth of cutoff estimates, against filters whose -3 dB point is known; and a shaper that writes whole steps."""

import math

import numpy as np
import pytest
from scipy import signal

from latentsr.signal.bandend import measured_end_hz
from latentsr.signal.cuts import SHAPERS, fed_back, rounded, soxr_at
from wide import RATE, music_like


@pytest.mark.parametrize("cutoff_hz", [1_700, 5_000, 12_500])
@pytest.mark.parametrize("order", [3, 6, 10])
def test_a_butterworth_filter_ends_where_it_was_designed_to(cutoff_hz, order):
    wide = music_like()
    narrow = signal.sosfilt(signal.butter(order, cutoff_hz, fs=RATE, output="sos"), wide)
    assert measured_end_hz(narrow, wide) == pytest.approx(cutoff_hz, rel=0.02)
    assert measured_end_hz(0.003 * np.roll(narrow, 40), wide) == pytest.approx(cutoff_hz, rel=0.02)


def test_twice_the_filter_ends_where_once_it_is_half_as_far_down():
    wide, once = music_like(), (10**0.15 - 1) ** (1 / 12)  # |H|^2 = 1 / (1 + w^12)
    narrow = signal.sosfiltfilt(signal.butter(6, 6_000, fs=RATE, output="sos"), wide)
    warped = np.arctan(once * np.tan(np.pi * 6_000 / RATE)) / np.pi * RATE
    assert measured_end_hz(narrow, wide) == pytest.approx(warped, rel=0.02)


def test_nothing_ends_where_nothing_lasting_was_cut():
    wide = music_like()
    assert math.isinf(measured_end_hz(wide, wide))
    notch = signal.filtfilt(*signal.iirnotch(6_000, 60, fs=RATE), wide)  # 100 Hz wide
    assert math.isinf(measured_end_hz(notch, wide))
    stop = signal.butter(6, (7_000, 8_000), "bandstop", fs=RATE, output="sos")
    assert measured_end_hz(signal.sosfilt(stop, wide), wide) == pytest.approx(7_000, rel=0.02)
    assert math.isinf(measured_end_hz(signal.sosfilt(stop, wide), wide, lasting_hz=2_000))
    high = soxr_at("VHQ")(soxr_at("VHQ")(wide, RATE, 44_100), 44_100, RATE)  # 20.9 kHz
    assert math.isinf(measured_end_hz(high, wide))


@pytest.mark.parametrize("shaper", ["first order", "three taps", "nine taps"])
def test_a_fed_back_error_lies_on_the_grid_and_has_the_shape_that_is_asked(shaper):
    wave = music_like(1.0)
    looped = fed_back(wave, 16, np.random.default_rng(0), shaper)
    assert np.array_equal(looped * 32_768, np.round(looped * 32_768))
    added = rounded(wave, 16, np.random.default_rng(1), shaper=shaper)
    freqs, loop = signal.welch(looped - wave, RATE, nperseg=1024)
    direct = signal.welch(added - wave, RATE, nperseg=1024)[1]
    taps = np.abs(signal.freqz(SHAPERS[shaper], 1, freqs, fs=RATE)[1]) ** 2
    heard = taps > 0.01 * taps.max()
    difference_db = 10 * np.log10(loop[heard] / direct[heard])
    assert np.abs(np.median(difference_db)) < 0.3
    assert np.abs(difference_db).max() < 3  # of a second
