"""Round trips come back where they were, as loud as they were, and end where they say."""

import numpy as np
import pytest
from scipy import signal

from latentsr.signal.codecs import CODECS, codec_edge_hz, round_trip, telephone

RATE = 48_000
ALL = [(name, kbps) for name, codec in CODECS.items() for kbps in codec.rates_kbps]


def programme(seed: int = 5, samples: int = RATE) -> np.ndarray:
    """Noise that falls by 6 dB per octave from 300 Hz, in bursts."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).normal(0, 0.3, samples))
    wave = np.fft.irfft(spectrum / np.maximum(1, np.fft.rfftfreq(samples, 1 / RATE) / 300), samples)
    return (wave * (0.6 + 0.4 * np.sign(np.sin(6 * np.pi * np.arange(samples) / RATE)))).astype(np.float32)


def shift_samples(wave: np.ndarray, other: np.ndarray) -> float:
    """By how much the other comes later, to an eighth of a sample, judged below 3 kHz."""
    length = 2 * len(wave)
    cross = np.fft.rfft(wave, length).conj() * np.fft.rfft(other, length)
    cross[int(3_000 / RATE * length) :] = 0
    place = int(np.argmax(np.fft.irfft(cross, 8 * length)))
    return (place if place < 4 * length else place - 8 * length) / 8


@pytest.mark.parametrize(("name", "kbps"), ALL)
def test_round_trips_come_back_where_they_were_and_as_loud(name, kbps):
    wave = programme()
    low = signal.sosfiltfilt(signal.butter(6, 2_000, fs=RATE, output="sos"), programme(6)).astype(np.float32)
    for each in (wave, low):
        back = round_trip(each, name, kbps, RATE)
        assert back.shape == each.shape
        assert abs(shift_samples(each, back)) <= 1
        loss_db = 10 * np.log10(np.square(back).mean() / np.square(each).mean())
        assert abs(loss_db) < (0.5 if kbps >= 64 else 1.0)  # they leave out what is masked


@pytest.mark.parametrize(("name", "kbps"), [("mp3", 128), ("vorbis", 128), ("opus", 64)])
def test_high_rates_are_close_to_the_wave(name, kbps):
    wave = programme()
    error = round_trip(wave, name, kbps, RATE) - wave
    assert 10 * np.log10(np.square(error).mean() / np.square(wave).mean()) < -15


@pytest.mark.parametrize("name", CODECS)
def test_waves_beyond_full_scale_are_not_clipped(name):
    wave = 4 * programme() / np.abs(programme()).max()
    back = round_trip(wave, name, 64, RATE)
    assert np.square(back - wave).mean() < 0.15 * np.square(wave).mean()
    assert np.abs(back).max() > 3


@pytest.mark.parametrize(("name", "kbps"), [("mp3", 32), ("vorbis", 64), ("opus", 12)])
@pytest.mark.parametrize("samples", [0, 1, 100, 5_001])
def test_any_length_comes_back(name, kbps, samples):
    back = round_trip(np.full(samples, 0.5, dtype=np.float32), name, kbps, RATE)
    assert back.shape == (samples,)
    assert np.isfinite(back).all()


@pytest.mark.parametrize(("name", "kbps", "edge_hz"), [("mp3", 32, 7_900), ("mp3", 64, 16_450), ("vorbis", 64, 15_750)])
def test_the_edge_is_where_a_burst_of_noise_ends(name, kbps, edge_hz):
    """On other noise than the edge is measured on; the figures are those of LAME 3.100 and libvorbis 1.3."""
    edge = codec_edge_hz(name, float(kbps), RATE)
    assert edge == pytest.approx(edge_hz, rel=0.05)
    noise = np.random.default_rng(9).normal(0, 0.2, RATE).astype(np.float32)
    power = np.square(np.abs(np.fft.rfft(round_trip(noise, name, kbps, RATE))))  # 1 Hz per bin
    inside, outside = power[int(0.8 * edge) : int(0.95 * edge)].mean(), power[int(1.1 * edge) :].mean()
    assert 10 * np.log10(outside / inside) < -40


def test_a_telephone_line_ends_where_it_says_and_what_it_quantises_too():
    wave = programme()
    line = telephone(wave, RATE)
    power = np.square(np.abs(np.fft.rfft(line * np.hanning(RATE))))  # 1 Hz per bin
    total = power.sum()
    assert 10 * np.log10(power[4_050:].sum() / total) < -100
    assert 10 * np.log10(power[3_600:].sum() / total) < -28  # the noise of 8 bits too
    assert 10 * np.log10(power[:200].sum() / total) < -20
    assert shift_samples(wave, line) == 0


def test_a_telephone_line_has_the_gain_of_its_band_pass_and_the_noise_of_8_bits():
    time = np.arange(RATE) / RATE
    for hz, gain_db in [(300, -3), (1_018, 0), (3_400, -3)]:
        wave = (0.5 * np.sin(2 * np.pi * hz * time)).astype(np.float32)
        line = telephone(wave, RATE)[RATE // 4 : -RATE // 4].astype(np.float64)  # 2 Hz per bin; the ends ring
        amplitude = np.abs(np.fft.rfft(line))[hz // 2] / (RATE / 4)
        assert 20 * np.log10(amplitude / 0.5) == pytest.approx(gain_db, abs=0.3)
        if hz == 1_018:  # no multiple of it repeats the same few steps
            noise = np.square(line).mean() - amplitude**2 / 2
            assert -45 < 10 * np.log10(noise / (amplitude**2 / 2)) < -27


@pytest.mark.parametrize("samples", [0, 1, 2, 27, 28])
def test_a_telephone_line_takes_any_length(samples):
    assert telephone(np.full(samples, 0.5, dtype=np.float32), RATE).shape == (samples,)
