"""The noise floor of a recording with pauses is found and measured; what has no pauses has none that could be told."""

import numpy as np
import pytest
import torch

from latentsr.signal.lowband import cut_sharply
from latentsr.signal.pauses import FloorFinder
from paused import RATE, beats, white

SECONDS, FLOOR_DB = 6, -62.0
BEATS, FLOOR = beats(SECONDS, 0.03), white(SECONDS, FLOOR_DB)


def found(wave, end_hz=4_000.0):
    finder = FloorFinder()
    for block in wave.split(2 * RATE, dim=-1):
        finder.update(block)
    return finder.result([end_hz] * len(wave))


def db(level):
    return 20 * np.log10(level)


@pytest.mark.parametrize("end_hz", [2_000.0, 4_000.0, 8_000.0, 16_000.0])
def test_the_floor_between_beats_is_measured(end_hz):
    wave = cut_sharply((BEATS + FLOOR)[None], torch.tensor([end_hz]), RATE)[0]
    (level,) = found(wave, end_hz)
    assert FLOOR_DB - 2.5 < db(level) < FLOOR_DB + 0.5  # the quietest moments of noise lie below its mean


def test_half_as_loud_is_half_the_floor():
    wave = BEATS + FLOOR
    assert abs(db(found(wave)[0]) - db(found(wave / 2)[0]) - 6.02) < 0.021


def test_each_channel_has_its_own():
    loud, quiet = found(torch.cat([BEATS + FLOOR, BEATS + white(SECONDS, FLOOR_DB - 12, 2)]))
    assert abs(db(loud) - db(quiet) - 12) < 1


@pytest.mark.parametrize(
    "wave",
    [
        pytest.param(white(SECONDS, -20.0), id="rain: never quieter"),
        pytest.param(white(SECONDS, -20.0) + white(SECONDS, -40.0, 2), id="hiss under rain"),
        pytest.param(BEATS, id="no floor: it fades"),
        pytest.param(BEATS * (BEATS.abs() > 1e-3), id="gated"),
        pytest.param(beats(SECONDS, 0.5) + white(SECONDS, -80.0), id="never quiet enough"),
        pytest.param(torch.zeros(1, SECONDS * RATE), id="silence"),
        pytest.param((BEATS + FLOOR)[:, : RATE // 2], id="half a second"),
        pytest.param(torch.zeros(1, 0), id="nothing"),
    ],
)
def test_no_floor_is_made_up(wave):
    level = found(wave)[0]
    assert level == 0 or db(level) < -90


def test_a_floor_that_falls_with_frequency_is_not_continued():
    """What is 12 dB an octave duller below the end says nothing of what would lie above."""
    spectrum = torch.fft.rfft(FLOOR)
    hz = torch.fft.rfftfreq(SECONDS * RATE, 1 / RATE).clamp(min=300)
    dull = torch.fft.irfft(spectrum * (300 / hz) ** 2, n=SECONDS * RATE)
    assert found(BEATS + 100 * dull)[0] == 0
