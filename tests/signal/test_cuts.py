"""How the world cuts recordings: each operator against what it is said to do."""

import numpy as np
import pytest
from scipy import signal

from latentsr.signal import cuts

RATE = 48_000


def white(seconds=2.0, seed=0):
    return 0.1 * np.random.default_rng(seed).standard_normal(int(seconds * RATE))


def level_db(wave, low_hz, high_hz, rate=RATE):
    freqs, power = signal.welch(wave, rate, nperseg=4096)
    return 10 * np.log10(power[(freqs >= low_hz) & (freqs < high_hz)].mean())


@pytest.mark.parametrize("family", ["butter", "cheby1", "cheby2", "ellip", "bessel"])
@pytest.mark.parametrize("order", [2, 5, 9])
def test_the_analogue_gain_is_scipys_digital_one(family, order):
    hz, freqs = 5_000.0, np.linspace(10, 20_000, 400)
    design = {
        "butter": lambda: signal.butter(order, hz, fs=RATE, output="sos"),
        "cheby1": lambda: signal.cheby1(order, 0.2, hz, fs=RATE, output="sos"),
        "cheby2": lambda: signal.cheby2(order, 45, hz, fs=RATE, output="sos"),
        "ellip": lambda: signal.ellip(order, 0.2, 45, hz, fs=RATE, output="sos"),
        "bessel": lambda: signal.bessel(order, hz, fs=RATE, output="sos", norm="mag"),
    }
    wanted = np.abs(signal.sosfreqz(design[family](), freqs, fs=RATE)[1])
    made = cuts.magnitude(family, order, hz, cuts.warped(freqs, hz, RATE), 0.2, 45)
    assert np.abs(20 * np.log10((made + 1e-4) / (wanted + 1e-4))).max() < 0.1


@pytest.mark.parametrize(
    ("operator", "image_db"),
    [(cuts.hold, (-22, -8)), (cuts.linear, (-40, -18)), (cuts.cubic, (-50, -25)), (cuts.soxr_at("VHQ"), (-400, -80))],
)
def test_images_are_as_strong_as_the_operator_is_poor(operator, image_db):
    low = cuts.soxr_at("VHQ")(white(), RATE, 8_000)
    low = signal.sosfilt(signal.butter(6, [500, 3_000], "band", fs=8_000, output="sos"), low)
    made = operator(low, 8_000, RATE)
    assert len(made) == pytest.approx(2 * RATE, abs=8)
    assert image_db[0] < level_db(made, 5_500, 7_500) - level_db(made, 600, 2_500) < image_db[1]


def test_zeros_leave_images_at_full_strength():
    made = cuts.zeros_between(white()[:16_000], 8_000, 48_000)
    assert level_db(made, 5_000, 7_500) == pytest.approx(level_db(made, 500, 3_500), abs=0.5)


def test_polyphase_cuts_below_the_lower_nyquist_frequency():
    made = cuts.polyphase("hann", 16, 0.9)(white(), RATE, 16_000)
    assert len(made) == 2 * 16_000
    assert level_db(made, 7_900, 8_000, 16_000) < level_db(made, 500, 6_000, 16_000) - 20


@pytest.mark.parametrize("bits", [8, 16])
def test_rounding_lies_on_the_grid_and_leaves_a_quarter_of_a_squared_step(bits):
    rng, steps = np.random.default_rng(0), 2.0 ** (bits - 1)
    made = cuts.rounded(white(), bits, rng)
    assert np.array_equal(made * steps, np.rint(made * steps))
    assert ((made - white()) ** 2).mean() * steps**2 == pytest.approx(0.25, rel=0.02)


def test_shaped_rounding_rises_towards_the_top():
    error = cuts.rounded(white(), 16, np.random.default_rng(0), shaper="nine taps") - white()
    assert level_db(error, 18_000, 22_000) - level_db(error, 2_000, 5_000) > 20
