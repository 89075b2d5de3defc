"""Augmentations do to the wave, and to its bandwidth, what they say."""

import numpy as np
import pytest

from latentsr.config import ConfigError, build
from latentsr.data import augment
from latentsr.data.augment import AugmentConfig

ALWAYS = AugmentConfig(speed=1, polarity=1, mix=1, tilt=1, gain=1)
NEVER = AugmentConfig(speed=0, polarity=0, mix=0, tilt=0, gain=0)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def noise(samples=48_000, seed=1):
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def peak_hz(wave):
    return np.argmax(np.abs(np.fft.rfft(wave * np.hanning(len(wave))))) * 48_000 / len(wave)


@pytest.mark.parametrize("factor", [0.9, 1.0, 1.1])
def test_speed_moves_pitch_and_length(factor):
    tone = np.sin(2 * np.pi * 2000 * np.arange(48_000) / 48_000).astype(np.float32)
    faster = augment.change_speed(tone, factor)
    assert len(faster) == pytest.approx(48_000 / factor, abs=1)
    assert peak_hz(faster) == pytest.approx(2000 * factor, rel=1e-3)


@pytest.mark.parametrize("factor", [0.9, 0.97, 1.03, 1.1])
@pytest.mark.parametrize("bandwidth_hz", [16_000, 24_000])
def test_bandwidth_moves_along_with_speed(factor, bandwidth_hz):
    """Content up to the bandwidth ends, after the change, within 3 % of what is said."""
    wave = noise(480_000)
    spectrum = np.fft.rfft(wave)
    spectrum[np.fft.rfftfreq(len(wave), 1 / 48_000) > bandwidth_hz] = 0
    changed = augment.change_speed(np.fft.irfft(spectrum).astype(np.float32), factor)
    power = np.abs(np.fft.rfft(changed)) ** 2
    hz = np.fft.rfftfreq(len(changed), 1 / 48_000)
    bands = np.array([power[(hz >= low) & (hz < low + 100)].mean() for low in range(0, 24_000, 100)])
    measured_hz = 100 * (np.flatnonzero(bands > 0.5 * np.median(bands[:100])).max() + 1)
    said_hz = augment.changed_bandwidth_hz(bandwidth_hz, factor)
    assert said_hz == pytest.approx(measured_hz, rel=0.03)
    assert said_hz <= min(bandwidth_hz * factor, 24_000)


def test_speed_factors_stay_in_range(rng):
    factors = np.array([augment.draw_speed(ALWAYS, rng) for _ in range(500)])
    assert 0.9 <= factors.min() < 0.91 and 1.09 < factors.max() <= 1.1
    assert augment.draw_speed(NEVER, rng) == 1.0


def test_polarity(rng):
    assert np.array_equal(augment.flip_polarity(noise(), ALWAYS, rng), -noise())
    assert np.array_equal(augment.flip_polarity(noise(), NEVER, rng), noise())


def test_mix_adds_below_the_first(rng):
    first = noise(seed=1)
    for _ in range(50):
        added = augment.mix(first, 7 * noise(seed=2), ALWAYS, rng) - first
        assert -12.01 < 20 * np.log10(augment.rms(added) / augment.rms(first)) < 0.01
    assert np.array_equal(augment.mix(first, np.zeros_like(first), ALWAYS, rng), first)


def test_tilt_is_smooth_and_within_its_limit(rng):
    """White noise through it, in thirds of octaves: at most 6 dB (and 0.5 of chance) up or down, 20 Hz to 24 kHz."""
    edges = 50 * 2 ** (np.arange(26) / 3)
    hz = np.fft.rfftfreq(480_000, 1 / 48_000)
    wave = noise(480_000)
    changes = []
    for _ in range(10):
        gain = np.abs(np.fft.rfft(augment.equalise(wave, ALWAYS, rng))) / np.abs(np.fft.rfft(wave))
        changes.append(
            [20 * np.log10(np.mean(gain[(hz >= a) & (hz < b)])) for a, b in zip(edges, edges[1:], strict=False)]
        )
    changes = np.array(changes)
    assert np.abs(changes).max() < 6.5
    assert np.abs(np.diff(changes)).max() < 6  # per third of an octave: knots lie 1.8 octaves apart
    assert changes.std() > 2


def test_tilt_keeps_timing_and_length(rng):
    click = np.zeros(4801, dtype=np.float32)
    click[2000] = 1
    for _ in range(10):
        out = augment.equalise(click, ALWAYS, rng)
        assert len(out) == 4801 and out.dtype == np.float32
        assert np.argmax(np.abs(out)) == 2000


def test_level_is_in_range_and_boost_is_limited(rng):
    peaks_db = [20 * np.log10(np.abs(augment.set_level(noise(), ALWAYS, rng)).max()) for _ in range(200)]
    assert -30.01 < min(peaks_db) < -28 and -3 < max(peaks_db) < -0.99
    faint = 1e-5 * noise()
    assert np.abs(augment.set_level(faint, ALWAYS, rng)).max() <= 100.1 * np.abs(faint).max()
    assert not augment.set_level(np.zeros(10, np.float32), ALWAYS, rng).any()


@pytest.mark.parametrize(
    ("values", "message"),
    [({"mix": 1.5}, "mix: .*less than or equal to 1"), ({"mix_db": (0, -12)}, "mix_db: .*the lower limit comes first")],
)
def test_numbers_that_make_no_sense_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        build(AugmentConfig, values)


def test_a_room_keeps_time_and_energy(rng):
    """The direct sound comes first and at once; the energy stays; what follows dies away."""
    for _ in range(20):
        response = augment.draw_room(ALWAYS, rng)
        assert np.sum(response**2) == pytest.approx(1, abs=1e-4)
        assert np.argmax(np.abs(response)) == 0 and response[0] >= 0.5**0.5 - 1e-6
        assert np.sum(response[len(response) // 2 :] ** 2) < 0.05
    roomy = AugmentConfig(tilt=0, room=1)
    levels_db = [
        20 * np.log10(augment.rms(augment.equalise(noise(), roomy, rng)) / augment.rms(noise())) for _ in range(20)
    ]
    assert np.abs(levels_db).max() < 1
    click = np.eye(1, 4801, 100, dtype=np.float32)[0]
    out = augment.equalise(click, roomy, rng)
    assert len(out) == 4801 and out.dtype == np.float32
    assert np.abs(out[:100]).max() < 1e-5 and np.argmax(np.abs(out)) == 100


def test_hits_begin_within_a_sample_and_die_away(rng):
    config = AugmentConfig(attacks=1, attacks_per_s=(5, 5), attacks_decay_s=(0.01, 0.01))
    made = augment.cut_hits(np.ones((2, 48_000), np.float32), config, rng)
    assert np.array_equal(made[0], made[1])
    begins = np.flatnonzero(np.diff(made[0]) > 0.1) + 1
    assert 2 <= len(begins) <= 12
    assert made[0, : begins[0]].max(initial=0) == 0 and made[0, begins].min() >= 0.25
    last = begins[-1]
    if last + 480 < 48_000:
        assert made[0, last + 480] == pytest.approx(made[0, last] / np.e, rel=1e-3)
    assert np.array_equal(augment.cut_hits(noise(), NEVER, rng), noise())


def test_a_dull_top_is_brought_to_the_drawn_level_and_a_bright_one_left(rng):
    config = AugmentConfig(tilt=0, brighten=1, brighten_db=(-6, -6), brighten_hz=(3_000, 3_000), brighten_max_db=15)
    white = noise()
    spectrum = np.fft.rfft(white)
    hz = np.fft.rfftfreq(len(white), 1 / 48_000)
    dull = np.fft.irfft(spectrum * np.minimum(1, (2_500 / np.maximum(hz, 1)) ** 2.5)).astype(np.float32)

    def top_db(wave):
        power = np.abs(np.fft.rfft(wave)) ** 2
        return 10 * np.log10(power[(hz > 4_000) & (hz < 12_000)].sum() / power[(hz > 1_000) & (hz < 4_000)].sum())

    assert top_db(dull) < -11
    assert (
        -10 < top_db(augment.equalise(dull, config, rng)) < -6
    )  # the shelf turns within the middle, and raises it too
    assert np.allclose(augment.equalise(white, config, rng), white, atol=1e-6)


def test_a_shelf_turns_within_its_limit(rng):
    """Flat far below its corner, and 12 dB at most, on one side, far above it."""
    shelved = AugmentConfig(tilt=0, shelf=1)
    gains_db = []
    for _ in range(50):
        gain = np.abs(np.fft.rfft(augment.equalise(noise(), shelved, rng))) / np.abs(np.fft.rfft(noise()))
        gains_db.append(20 * np.log10([np.median(gain[10:30]), np.median(gain[20_000:])]))
    low_db, high_db = np.array(gains_db).T
    assert np.abs(low_db).max() < 0.5
    assert np.abs(high_db).max() < 12.1 and high_db.std() > 4


def test_all_waves_of_an_example_are_treated_alike(rng):
    """Two waves, the second a third of the first, stay so."""
    config = AugmentConfig(tilt=1, shelf=1, room=1)
    waves = np.stack([noise(), noise() / 3])
    for change in (
        lambda w: augment.change_speed(w, 1.07),
        lambda w: augment.mix(w, w[:, ::-1], config, rng),
        lambda w: augment.equalise(w, config, rng),
        lambda w: augment.set_level(w, config, rng),
    ):
        first, second = change(waves)
        assert first.dtype == np.float32 and np.abs(first - 3 * second).max() < 1e-5 * np.abs(first).max()


def test_bursts_are_hits_of_noise_of_the_drawn_colour():
    config = AugmentConfig(bursts_db=(-6, -6), attacks_per_s=(6, 6), attacks_decay_s=(0.05, 0.05))
    rate, drawn = 48_000, [augment.draw_bursts(48_000, config, np.random.default_rng(seed)) for seed in range(8)]
    power = sum(np.abs(np.fft.rfft(wave[0])) ** 2 for wave in drawn)
    low, high = (power[at : at + at // 4].mean() for at in (2_000, 16_000))  # bins of 1 Hz
    assert 10 * np.log10(high / low) == pytest.approx(-18, abs=1.5)  # three octaves
    for wave in drawn:
        level = 10 * np.log10(np.mean(wave.reshape(-1, rate // 200) ** 2, axis=1) + 1e-12)  # of 5 ms
        assert wave.shape == (1, rate) and np.diff(level).max() > 15  # it begins at once, somewhere
