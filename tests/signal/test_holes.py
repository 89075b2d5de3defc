"""Holes that a codec left: found where they are, in nothing that was not coded, and filled where they are alone."""

import numpy as np
import pytest
import torch
from scipy import signal

from holed import RATE, holed
from latentsr import audio
from latentsr.signal.codecs import round_trip
from latentsr.signal.holes import BAND_HZ, FRAME, HOP, HoleFinder, fill, holes_in, levels
from wide import music_like

QUIET = 0.05  # as the highs of music are: beside louder ones, the window's skirts lie in the holes


def heard(wave, block=100_000):
    """From where on channels (C, T) have holes, and the finder."""
    finder = HoleFinder()
    for start in range(0, wave.shape[-1], block):
        finder.update(np.atleast_2d(wave)[:, start : start + block].astype(np.float32))
    return finder.result([RATE / 2] * len(np.atleast_2d(wave))), finder.share


def bursts(seconds=5.0, seed=0):
    """Hits that decay within 30 to 300 ms, the higher the faster, over a steady bass. (T,)"""
    rng, t = np.random.default_rng(seed), np.arange(round(seconds * RATE)) / RATE
    wave = 0.1 * np.sin(2 * np.pi * 110 * t)
    for start_s in rng.uniform(0, seconds, 40):
        since = np.maximum(t - start_s, 0)
        hit = signal.sosfilt(signal.butter(2, rng.uniform(500, 9_000), "highpass", fs=RATE, output="sos"),
                             rng.standard_normal(len(t)))  # fmt: skip
        wave += 0.1 * hit * (t >= start_s) * np.exp(-since / rng.uniform(0.01, 0.1))
    return wave


def tremolo(seconds=5.0):
    t = np.arange(round(seconds * RATE)) / RATE
    return music_like(seconds) * (0.5 + 0.5 * np.sin(2 * np.pi * 7 * t))


def glide(seconds=5.0):
    """Harmonics that sweep through the bands, rounded with dither: what lies between them is not quite nothing."""
    t = np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(300 * 2 ** np.sin(2 * np.pi * 0.7 * t)) / RATE
    dither = np.random.default_rng(0).uniform(-0.5, 0.5, (2, len(t))).sum(axis=0)
    return np.round(sum(0.1 / k * np.sin(k * phase) for k in range(1, 30)) * 2**15 + dither) / 2**15


def gated(wave):
    """Digital silence, 60 ms in each 100."""
    return wave * (np.arange(len(wave)) % 4_800 < 1_920)


def rounded(wave, bits):
    return np.round(wave * 2 ** (bits - 1)) / 2 ** (bits - 1)


UNCODED = {
    "noise": lambda: music_like(), "hits": bursts, "hits, 16 bit": lambda: rounded(bursts(), 16),
    "hits, 8 bit": lambda: rounded(bursts(), 8), "tremolo": tremolo, "glide": glide,
    "gates": lambda: gated(music_like()), "gated hits": lambda: gated(bursts()), "silence": lambda: np.zeros(RATE),
    "a steep end": lambda: signal.sosfiltfilt(signal.cheby1(8, 0.1, 9_000, fs=RATE, output="sos"), bursts()),
    "hum": lambda: 0.1 * np.sin(np.arange(5 * RATE) * 2 * np.pi * 50 / RATE), "a sample": lambda: np.ones(1),
    "a click in silence": lambda: np.eye(1, RATE, 20_000)[0],
}  # fmt: skip


@pytest.mark.parametrize("name", UNCODED)
def test_what_was_not_coded_has_no_holes(name):
    assert heard(UNCODED[name]())[0] == (None,)


def test_no_recording_of_the_development_set_has_holes(shared):
    shares = []
    for path in sorted((shared / "data" / "dev").rglob("*.flac")):
        recording = audio.read(path)
        found, share = heard(audio.resample(recording.samples, recording.sample_rate, RATE))
        assert not any(found), path
        shares.append(share)
    assert len(shares) == 57 and max(shares) < 0.25e-3  # 0.18 per thousand


@pytest.mark.parametrize("from_hz", [3_000, 6_000, 9_000])
def test_holes_are_found_from_where_they_begin(from_hz):
    (found,), share = heard(holed(QUIET * music_like(), from_hz, from_hz + 3_000))
    assert found == pytest.approx(from_hz, abs=2 * BAND_HZ) and share > 0.6e-3


def test_each_channel_is_heard_by_itself_whatever_the_blocks():
    wave = QUIET * np.stack(
        [holed(music_like(), 6_000, 9_000), music_like(seed=1), holed(music_like(seed=2), 3_000, 6_000)]
    )
    results = [heard(wave, block) for block in (3_000, 48_000, 10**9)]
    assert results[0] == results[1] == results[2]
    found = results[0][0]
    assert (found[0], found[1], found[2]) == (pytest.approx(6_000, abs=750), None, pytest.approx(3_000, abs=750))


def test_what_lame_leaves_is_found():
    wave = np.concatenate([bursts(seed=seed) for seed in range(2)]).astype(np.float32)
    coded = round_trip(wave / np.abs(wave).max(), "mp3", 64, RATE)
    assert heard(coded)[0][0] is not None and heard(wave)[0] == (None,)


def test_holes_above_the_end_of_the_band_do_not_count():
    finder = HoleFinder()
    finder.update(holed(QUIET * music_like(), 6_000, 9_000)[None])
    assert finder.result([5_000.0]) == (None,) and finder.result([8_000.0])[0] == pytest.approx(6_000, abs=750)


def cells(wave):
    return levels(torch.from_numpy(wave).float()[None])[0]


def test_holes_are_filled_with_the_prediction_and_nothing_else_changes():
    truth = QUIET * music_like()
    given = holed(truth)
    rows = [torch.from_numpy(wave).float()[None, None] for wave in (given, truth)]
    filled, count, of = fill(*rows, torch.tensor([5_000.0]), torch.tensor([20_000.0]))
    added = (filled - rows[0])[0, 0].numpy()
    lost = truth - given
    inside = holes_in(cells(given)[None])[0]
    level_db = float((cells(filled[0, 0].numpy()) - cells(truth))[inside].median())
    assert -6 < level_db < 0 and 0.02 < count / of < 0.2  # the prediction less what is masked
    # What was added lies where something was lost: beside that, nothing.
    window = np.hanning(FRAME)
    frames = [np.lib.stride_tricks.sliding_window_view(wave, FRAME)[::HOP] * window for wave in (lost, added, truth)]
    lost, added, truth = (np.square(np.abs(np.fft.rfft(each))) for each in frames)
    smeared = np.pad(lost, ((2, 2), (8, 8)), mode="edge")
    near = np.lib.stride_tricks.sliding_window_view(smeared, (5, 17)).max(axis=(2, 3)) > 1e-3 * np.median(truth, axis=0)
    assert 10 * np.log10(added[~near].sum() / truth[~near].sum()) < -60


def test_what_has_no_holes_is_filled_nowhere():
    wave = torch.from_numpy(music_like()).float()[None, None]
    filled, count, of = fill(wave, wave, torch.tensor([2_000.0]), torch.tensor([21_000.0]))
    assert count < 1e-3 * of and of > 10_000
    assert float((filled - wave).square().sum() / wave.square().sum()) < 1e-6


def test_nothing_is_filled_louder_than_what_sounds_in_the_band():
    truth = QUIET * music_like()
    rows = [torch.from_numpy(wave).float()[None, None] for wave in (holed(truth), 100 * truth)]
    filled = fill(*rows, torch.tensor([5_000.0]), torch.tensor([20_000.0]))[0][0, 0].numpy()
    inside = holes_in(cells(holed(truth))[None])[0]
    assert float((cells(filled) - cells(truth))[inside].mean()) < 3.0


def test_nothing_is_filled_outside_of_the_band_that_was_asked_for():
    rows = [torch.from_numpy(wave).float()[None, None] for wave in (holed(QUIET * music_like()), QUIET * music_like())]
    filled = fill(*rows, torch.tensor([7_000.0]), torch.tensor([9_000.0]))[0]
    power = np.square(np.abs(np.fft.rfft((filled - rows[0])[0, 0].numpy())))
    hz = np.fft.rfftfreq(rows[0].shape[-1], 1 / RATE)
    assert power[(hz < 6_500) | (hz > 9_500)].sum() < 1e-3 * power.sum()
