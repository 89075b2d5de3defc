"""What is cut in the frames of a recording is what the samples would have given."""

import math

import numpy as np
import pytest
from scipy import signal

from latentsr.signal import cuts
from latentsr.signal.bandframes import BIN_HZ, BINS, FrameMaker
from latentsr.training.cutoff_examples import CutConfig
from latentsr.training.cutoff_frames import IMAGE_HZ, FrameCut, Heard, recut, sharp

RATE = 48_000
PLAIN = {
    "noise": 0.0, "gates": 0.0, "tilts": 0.0, "shelf": 0.0, "same_rate": 1.0, "depths": {"float": 1.0},
    "level_db": (-1.0, 0.0),
}  # fmt: skip


def falling(seconds=3.0):
    """Noise that falls by 6 dB an octave, in syllables."""
    rng = np.random.default_rng(0)
    wave = signal.lfilter([1], [1, -0.9], rng.standard_normal(int(seconds * RATE)))
    return 0.05 * wave * np.repeat(rng.uniform(0.1, 1, 30), len(wave) // 30)


def levels_db(wave, rate=RATE):
    maker = FrameMaker(rate)
    maker.update(wave[None].astype(np.float32))
    return maker.result().power_db[0].astype(float).mean(0)


def made_db(cut):
    return (10 * np.log10(cut.power + 1e-30)).mean(0)


def test_a_filter_in_frames_is_the_filter_in_samples():
    wave, sos = falling(), signal.bessel(5, 4_000, fs=RATE, output="sos", norm="mag")
    cut = FrameCut(Heard.of(wave, RATE / 2).power)
    cut.filter(lambda f: np.abs(signal.freqz_sos(sos, np.minimum(f, 0.4999 * RATE), fs=RATE)[1]))
    given = levels_db(signal.sosfilt(sos, wave))
    heard = slice(4, round(12_000 / BIN_HZ))
    assert np.abs(made_db(cut) - given)[heard].max() < 0.5
    assert cut.measured(RATE / 2)[0] == pytest.approx(4_000, rel=0.02)


@pytest.mark.parametrize("low, back", [(8_000, 48_000), (11_025, 48_000), (6_000, 44_100)])
def test_the_images_of_held_samples_are_the_programme_folded(low, back):
    wave = falling()
    cut = FrameCut(Heard.of(wave, RATE / 2).power)
    cut.through(low, back, sharp(low), np.abs(np.sinc(IMAGE_HZ / low)))
    given = levels_db(cuts.hold(cuts.soxr_at("VHQ")(wave, RATE, low), low, back), back)
    away = np.abs(made_db(cut) - given)[4 : int(back / 2 / BIN_HZ) - 2]
    assert np.median(away) < 1 and np.quantile(away, 0.9) < 4
    end_hz, loss_db = cut.measured(RATE / 2)
    assert end_hz == pytest.approx(0.455 * low, rel=0.04)
    assert loss_db[round(0.7 * low / BIN_HZ)] > 40  # images are not what was let pass


def test_a_recut_is_3_db_down_at_its_end_and_the_same_for_the_same_seed():
    heard = Heard.of(0.1 * np.random.default_rng(0).standard_normal(4 * RATE), RATE / 2)
    config, found = CutConfig(kinds={"filter": 1.0}, **PLAIN), 0
    for seed in range(12):
        example = recut(heard, config, np.random.default_rng(seed))
        again = recut(heard, config, np.random.default_rng(seed))
        assert np.array_equal(example.frames.power_db, again.frames.power_db)
        if not math.isinf(example.end_hz) and example.end_hz > 2_000:
            level = 10 * np.log10((10 ** (example.frames.power_db[0] / 10)).mean(0))
            steep = np.interp(example.end_hz / BIN_HZ + np.array([-1.5, 1.5]), np.arange(BINS), level)
            usual = np.median(level[4:16])
            assert steep[0] > usual - 5 and steep[1] < usual - 2
            found += 1
    assert found > 5


def test_rounding_of_a_recut_lies_where_the_file_says():
    quiet = Heard(np.full((40, BINS), 1e-16), RATE / 2, 1.0)
    config = CutConfig(kinds={"none": 1.0}, **{**PLAIN, "depths": {"16": 1.0}, "level_db": (-0.001, 0.0)})
    for seed in range(20):
        frames = recut(quiet, config, np.random.default_rng(seed)).frames
        below = frames.power_db[0, :, 10 : int(20_000 / BIN_HZ)].mean()
        assert below > frames.dust_db - 12  # shapers lower it by so much at most, on average
