"""What images tell of the interpolator that left them, on signals of our own making."""

import numpy as np
import pytest
from scipy import interpolate, signal

from latentsr.bandwidth import BandEstimator, estimate_cutoff
from latentsr.signal import cuts
from latentsr.signal.bandframes import BIN_HZ, FrameMaker
from latentsr.signal.images import Interpolated, interpolated

SECONDS = 4
VHQ = cuts.soxr_at("VHQ")


def spline(wave, from_hz, to_hz):
    at = np.arange(int(len(wave) * to_hz / from_hz)) * (from_hz / to_hz)
    return interpolate.CubicSpline(np.arange(len(wave)), wave)(np.minimum(at, len(wave) - 1))


def keys(wave, from_hz, to_hz):
    """Catmull-Rom, as game engines write it."""
    at = np.arange(int(len(wave) * to_hz / from_hz)) * (from_hz / to_hz)
    whole, t = at.astype(int), at % 1
    a, b, c, d = (wave[np.clip(whole + k, 0, len(wave) - 1)] for k in (-1, 0, 1, 2))
    return b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))


# Where each is 3 dB down, of half the lower rate: sinc, sinc^2, sinc^4 over the B-spline's, and Keys 1981.
KINDS = {"hold": (cuts.hold, 0.886), "lines": (cuts.linear, 0.638), "spline": (spline, 0.885), "keys": (keys, 0.809)}


def noise(rate, seed=0):
    return 0.1 * np.random.default_rng(seed).standard_normal(SECONDS * rate)


def pulses(rate, seed=0):
    """Bursts that fall 6 dB per octave above 300 Hz."""
    wave = signal.lfilter(*signal.butter(1, 300, fs=rate), noise(rate, seed))
    return 5 * wave * np.exp(-10 * (np.arange(len(wave)) / rate % 0.25))


def voice(rate, glide=0.03):
    """A series of harmonics whose pitch wavers."""
    time_s = np.arange(SECONDS * rate) / rate
    turns = 140 * (time_s - glide / 5 * np.cos(5 * time_s))
    return 0.05 * sum(np.sin(2 * np.pi * k * turns) / k**0.5 for k in range(1, 80)) * (1 + np.sin(9 * time_s)) / 2


def rounded(wave):
    return cuts.rounded(wave, 16, np.random.default_rng(0)).astype(np.float32)


def said(wave, rate, end_hz) -> Interpolated | None:
    maker = FrameMaker(rate)
    maker.update(rounded(wave)[None])
    frames = maker.result()
    return interpolated(frames.power_db[0], end_hz, frames.nyquist_hz, frames.dust_db)


@pytest.mark.parametrize("programme", [noise, pulses])
@pytest.mark.parametrize(
    ("kind", "rate", "file_rate"),
    [
        *(
            (kind, rate, file_rate)
            for kind in ("lines", "spline", "keys")
            for rate in (9_600, 18_900)
            for file_rate in (44_100, 48_000)
        ),
        *(("hold", *rates) for rates in ((9_000, 48_000), (11_025, 44_100))),
    ],
)
def test_images_name_their_interpolator(kind, rate, file_rate, programme):
    up, share = KINDS[kind]
    wave = up(VHQ(programme(48_000), 48_000, rate), rate, file_rate)
    found = said(wave, file_rate, end_hz=0.95 * share * rate / 2)
    assert found is not None and found.kind == kind
    assert found.mirror_hz == pytest.approx(rate / 2, abs=BIN_HZ / 2)
    assert 0.99 < found.end_hz / (share * rate / 2) < 1.06  # against the level about 900 Hz, which has fallen too


@pytest.mark.parametrize("file_rate", [44_100, 48_000])
@pytest.mark.parametrize("rate", [12_500, 20_000])
@pytest.mark.parametrize("kind", ["spline", "keys"])
def test_the_estimate_is_the_interpolators_end(kind, rate, file_rate):
    up, share = KINDS[kind]
    wave = up(VHQ(pulses(48_000), 48_000, rate), rate, file_rate)
    assert estimate_cutoff(rounded(wave), file_rate) == pytest.approx(share * rate / 2, rel=0.03)


def test_straight_lines_between_every_second_sample_are_gentler():
    """To twice the rate they are the filter 1/4, 1/2, 1/4, twice: cos^2, 3 dB down at 0.729 of the lower Nyquist."""
    found = said(cuts.linear(noise(22_050), 22_050, 44_100), 44_100, end_hz=7_500)
    assert found is not None and found.end_hz == pytest.approx(0.729 * 11_025, rel=0.02)


def test_the_loss_is_the_kernels_own_up_to_the_end():
    found = said(cuts.linear(noise(16_000), 16_000, 44_100), 44_100, end_hz=5_000)
    assert found is not None
    bins = np.array([20, 40, 54])
    lost_db = -40 * np.log10(np.sinc(bins * BIN_HZ / 16_000))
    heard_db = np.full(256, 30, np.float32)
    assert found.loss_db(heard_db)[bins] == pytest.approx(lost_db, abs=0.05)
    # Above, a filter before it; above the mirror nothing is left.
    assert found.loss_db(heard_db)[[60, 100]].tolist() == [30, 60]


@pytest.mark.parametrize("rate", [44_100, 48_000])
@pytest.mark.parametrize("end_hz", [1_500.0, 3_000.0, 7_000.0, 12_000.0, 24_000.0])
@pytest.mark.parametrize("programme", [noise, voice, lambda rate: voice(rate, glide=0)])
def test_programme_has_no_images(programme, end_hz, rate):
    assert said(programme(rate), rate, end_hz) is None


@pytest.mark.parametrize("end_hz", [2_500.0, 4_000.0, 5_500.0])
@pytest.mark.parametrize("programme", [noise, pulses, voice])
def test_what_a_filter_cut_is_left_alone(programme, end_hz):
    sos = signal.cheby1(8, 0.05, 4_000, fs=44_100, output="sos")
    assert said(signal.sosfilt(sos, programme(44_100)), 44_100, end_hz) is None


@pytest.mark.parametrize("up", [cuts.soxr_at("LQ"), cuts.polyphase(), VHQ])
def test_the_few_images_of_a_steep_resampler_name_nobody(up):
    low = VHQ(pulses(48_000), 48_000, 11_025)
    assert said(up(low, 11_025, 44_100), 44_100, 5_000) is None


def test_an_earlier_end_stays():
    low = signal.sosfilt(signal.cheby1(8, 0.05, 4_800, fs=16_000, output="sos"), pulses(16_000))
    assert said(spline(low, 16_000, 44_100), 44_100, 4_800) is None


def test_a_moment_is_too_short_to_tell():
    wave = spline(VHQ(pulses(48_000), 48_000, 12_000), 12_000, 44_100)
    assert said(wave[:42_000], 44_100, 5_000) is None  # 15 frames
    assert said(wave[:60_000], 44_100, 5_000) is not None


def test_each_stretch_and_channel_has_its_own():
    cut = signal.sosfiltfilt(signal.cheby1(8, 0.05, 2_900, fs=44_100, output="sos"), pulses(44_100))
    drawn = spline(VHQ(pulses(44_100, 1), 44_100, 15_000), 15_000, 44_100)
    estimator = BandEstimator(44_100)
    estimator.update(np.stack([rounded(np.concatenate([cut, drawn])), rounded(np.concatenate([drawn, cut]))]))
    for pairs, order in zip(estimator.result().pairs, (1, -1), strict=True):
        (_, before), (change_s, after) = pairs[::order] if order > 0 else pairs
        ends = [before, after][::order]
        assert ends == [pytest.approx(2_900, rel=0.08), pytest.approx(0.885 * 7_500, rel=0.05)]
        assert change_s == pytest.approx(SECONDS, abs=0.5)
