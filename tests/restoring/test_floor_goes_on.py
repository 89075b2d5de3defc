"""The noise floor of a recording with pauses goes on above its end, and nothing else does."""

import numpy as np
import pytest
import torch

from latentsr import Pipeline
from latentsr.errors import UsageError
from latentsr.signal.lowband import cut_sharply
from paused import RATE, beats, white

CUTOFF_HZ = 4_000.0
HEADS = ["mamba-gan", "vocoder", "diffwave-mamba"]
FLOOR_DB = -62.0


@pytest.fixture(scope="module")
def pipe():
    made = Pipeline.from_pretrained(heads=HEADS)
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="module")
def wide():
    return (beats(6) + white(6, FLOOR_DB)).numpy()


@pytest.fixture(scope="module")
def cut(wide):
    return cut_sharply(torch.from_numpy(wide)[None], torch.tensor([CUTOFF_HZ]), RATE)[0].numpy()


def pause_db(wave, low_hz, high_hz):
    """Level of a band in the pauses, dB of full scale in 48 kHz."""
    pauses = np.concatenate([wave[..., n : n + RATE // 10] for n in range(RATE // 2 - RATE // 8, 5 * RATE, RATE // 2)])
    power = np.square(np.abs(np.fft.rfft(pauses * np.hanning(pauses.shape[-1])))).mean(axis=0)
    hz = np.fft.rfftfreq(pauses.shape[-1], 1 / RATE)
    return 10 * np.log10(power[(hz >= low_hz) & (hz < high_hz)].mean() / np.square(np.hanning(RATE // 10)).sum())


@pytest.mark.parametrize("head", HEADS)
def test_pauses_have_the_recordings_floor_up_to_the_top(pipe, wide, cut, head):
    made = pipe(cut, sample_rate=RATE, head=head, cutoff_hz=CUTOFF_HZ).audio
    without = pipe(cut, sample_rate=RATE, head=head, cutoff_hz=CUTOFF_HZ, no_floor=True).audio
    for band in ((5_000, 10_000), (10_000, 20_000)):
        assert pause_db(made, *band) > pause_db(wide, *band) - 3
    assert pause_db(without, 10_000, 20_000) < pause_db(wide, 10_000, 20_000) - 6
    added = made - without
    assert abs(10 * np.log10(np.square(added).mean() * RATE / 2 / (RATE / 2 - CUTOFF_HZ)) - FLOOR_DB) < 2.5
    below = np.abs(np.fft.rfft(added))[..., : round(0.9 * CUTOFF_HZ * 6)]
    assert 20 * np.log10(below.max() / np.abs(np.fft.rfft(cut)).max()) < -100


def test_alike_channels_stay_alike_and_others_have_noises_of_their_own(pipe, cut):
    made = pipe(np.concatenate([cut, cut]), sample_rate=RATE, cutoff_hz=CUTOFF_HZ).audio
    assert np.array_equal(made[0], made[1])
    late = np.concatenate([cut, np.roll(cut, 9_000, axis=1)])
    floors = pipe(late, sample_rate=RATE, cutoff_hz=CUTOFF_HZ).audio
    floors = floors - pipe(late, sample_rate=RATE, cutoff_hz=CUTOFF_HZ, no_floor=True).audio
    assert abs(np.corrcoef(floors)[0, 1]) < 0.2


def test_gates_stay_gates(pipe, cut):
    gated = cut.copy()
    gated[:, 2 * RATE : 3 * RATE] = 0
    made = pipe(gated, sample_rate=RATE, cutoff_hz=CUTOFF_HZ).audio
    assert np.abs(made[:, 2 * RATE + 2400 : 3 * RATE - 2400]).max() == 0


def test_a_stream_hears_the_same_floor(pipe, cut):
    whole = pipe(cut, sample_rate=RATE, cutoff_hz=CUTOFF_HZ).audio
    streamed = np.concatenate(list(pipe.stream(np.array_split(cut, 13, axis=1), RATE, cutoff_hz=CUTOFF_HZ)), axis=1)
    assert np.abs(whole - streamed).max() < 1e-4


@pytest.mark.parametrize("idle", [{"denoise": True}, {"amount": 0.0}, {"head": "live"}])
def test_where_nothing_goes_on_leaving_it_out_is_an_error(pipe, cut, idle):
    with pytest.raises(UsageError, match="no_floor"):
        pipe(cut, sample_rate=RATE, no_floor=True, **idle)
