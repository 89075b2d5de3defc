"""What is measured in samples, on signals whose faults are known."""

import numpy as np
import pytest
from making import RATE, musical_noise, seconds, speech_like, with_clicks, write
from scipy import signal

from latentsr.inspection.measures import Clicks, Clipping, Levels


@pytest.mark.parametrize("offset", [0.0123, -0.3, 0.0])
def test_an_offset_is_measured(tmp_path, inspected, offset):
    wave = musical_noise(channels=2)
    wave -= wave.mean(axis=0)
    wave[:, 1] += offset
    found = inspected(write(tmp_path, wave))
    assert found.offset == pytest.approx((0.0, offset), abs=1e-4)
    assert found.steady_offset == pytest.approx((0.0, offset), abs=1e-4)


def test_a_slow_sound_is_no_steady_offset(tmp_path, inspected):
    wave = 0.2 * np.sin(2 * np.pi * 0.3 * seconds(5.0)) ** 3
    found = inspected(write(tmp_path, wave))
    assert abs(found.offset[0]) > 1e-3 and found.steady_offset == (0.0,)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
@pytest.mark.parametrize("limit", [0.2, 0.9])
def test_the_share_of_clipped_samples(tmp_path, inspected, limit, subtype):
    wave = np.clip(3 * musical_noise(channels=2), -limit, limit)
    true = np.mean(np.abs(wave) >= limit)
    found = inspected(write(tmp_path, wave, subtype=subtype))
    assert found.clipped_share == pytest.approx(true, rel=0.1) and true > 1e-4


@pytest.mark.parametrize("hz", [20, 50, 440, 5_000])
def test_a_loud_sine_is_not_clipped(tmp_path, inspected, hz):
    assert inspected(write(tmp_path, 0.99 * np.sin(2 * np.pi * hz * seconds(5.0)))).clipped_share == 0


def test_music_and_speech_are_not_clipped(tmp_path, inspected):
    for wave in (musical_noise(), speech_like()):
        assert inspected(write(tmp_path, wave / np.abs(wave).max())).clipped_share == 0


@pytest.mark.parametrize("cutoff_hz", [None, 4_000])
@pytest.mark.parametrize("per_minute", [30, 240])
def test_clicks_are_counted(tmp_path, inspected, per_minute, cutoff_hz):
    wave = 0.3 * musical_noise(20.0)
    if cutoff_hz is not None:
        wave = signal.sosfilt(signal.butter(6, cutoff_hz, fs=RATE, output="sos"), wave, axis=0)
    found = inspected(write(tmp_path, with_clicks(wave, per_minute, amplitude=0.6)))
    assert found.clicks_per_minute == pytest.approx(per_minute, rel=0.2)


def test_no_clicks_where_none_are(tmp_path, inspected):
    bursts = musical_noise(20.0) * (np.sin(2 * np.pi * 3 * seconds(20.0)) > 0)[:, None]  # sudden, and they last
    for wave in (musical_noise(20.0), speech_like(20.0), bursts):
        assert inspected(write(tmp_path, wave)).clicks_per_minute < 1


def test_likeness_of_channels(tmp_path, inspected):
    one, other = musical_noise(5.0, 2).T
    told = {
        "identical": np.stack([one, one], 1), "inverted": np.stack([one, -0.5 * one], 1),
        "scaled": np.stack([one, 0.25 * one], 1), "apart": np.stack([one, other], 1),
        "dead": np.stack([one, 1e-6 * other], 1), "wide": np.stack([one + 0.6 * other, one - 0.6 * other], 1),
    }  # fmt: skip
    found = {name: inspected(write(tmp_path, wave, name=f"{name}.wav")) for name, wave in told.items()}
    assert {name for name, one in found.items() if one.identical == ((1, 2),)} == {"identical", "scaled"}
    assert {name for name, one in found.items() if one.out_of_phase} == {"inverted"}
    assert found["inverted"].out_of_phase[0][2] < -0.999
    assert {name: one.dead for name, one in found.items() if one.dead} == {"dead": (2,)}


@pytest.mark.parametrize("bits", [8, 12, 16, 20, 24])
def test_the_bits_that_are_used(tmp_path, inspected, bits):
    wave = np.round(musical_noise(2.0) * 2 ** (bits - 1)) / 2 ** (bits - 1)
    assert inspected(write(tmp_path, wave, subtype="PCM_24")).bits == bits


def test_floating_point_uses_no_bits(tmp_path, inspected):
    assert inspected(write(tmp_path, musical_noise(2.0), subtype="FLOAT")).bits is None


def test_measures_do_not_depend_on_how_the_blocks_are_cut():
    wave = with_clicks(np.clip(4 * musical_noise(10.0, 2), -0.5, 0.5), 60).T.astype(np.float32)
    answers = set()
    for size in (997, 65_536, wave.shape[1]):
        levels, clipping, clicks = Levels(2), Clipping(2), Clicks(RATE)
        for start in range(0, wave.shape[1], size):
            for part in (levels, clipping, clicks):
                part.update(wave[:, start : start + size])
        answers.add((tuple(levels.offset.round(9)), round(clipping.share, 9), clicks.count, levels.bits))
    assert len(answers) == 1
