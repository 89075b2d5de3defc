"""Properties of the sharp cut and of the merge."""

import math

import pytest
import torch

from latentsr.signal.lowband import MERGE_CONTEXT, MERGE_HOP, cut_sharply, merge
from latentsr.signal.track import SKIRT_BIN_HZ, Skirt

RATE = 48_000
ALL_HZ = [2_000.0, 4_000.0, 12_000.0]


def noise(seed: int, count: int = 1, samples: int = 48_000) -> torch.Tensor:
    return 0.1 * torch.randn(count, 1, samples, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)


def band_power(wave: torch.Tensor, low_hz: float, high_hz: float) -> float:
    """Power between two frequencies; the window keeps the ends from leaking."""
    window = torch.signal.windows.kaiser(wave.shape[-1], beta=20.0, dtype=torch.float64)
    power = torch.fft.rfft(wave.double() * window).abs().square()
    freqs_hz = torch.fft.rfftfreq(wave.shape[-1], 1 / RATE)
    return power[..., (freqs_hz >= low_hz) & (freqs_hz < high_hz)].sum().item()


def db(ratio: float) -> float:
    return 10 * math.log10(max(ratio, 1e-30))


@pytest.mark.parametrize("cutoff_hz", ALL_HZ)
def test_cut_keeps_everything_below_and_nothing_above_its_skirt(cutoff_hz):
    wave = noise(0)
    out = cut_sharply(wave, torch.tensor([cutoff_hz]), RATE)
    kept = band_power(out - wave, 0, cutoff_hz - 110) / band_power(wave, 0, cutoff_hz - 110)
    left = band_power(out, cutoff_hz + 110, 24_000) / band_power(wave, cutoff_hz + 110, 24_000)
    assert db(kept) < -100 and db(left) < -100
    assert out.shape == wave.shape


def test_cut_treats_each_wave_of_a_batch_by_its_own_cutoff():
    waves, cutoffs = noise(1, count=3), torch.tensor([3_000.0, 9_000.0, 24_000.0])
    out = cut_sharply(waves, cutoffs, RATE)
    for i in range(3):
        assert (out[i] - cut_sharply(waves[i : i + 1], cutoffs[i : i + 1], RATE)[0]).abs().max() < 1e-6
    assert torch.equal(out[2], waves[2])  # full band comes back bit for bit


@pytest.mark.parametrize("cutoff_hz", ALL_HZ)
def test_merge_keeps_the_low_band_and_takes_the_high_band(cutoff_hz):
    low, wide = noise(2), noise(3)
    out = merge(low, wide, torch.tensor([cutoff_hz]), RATE)
    below, above = (0, 0.8 * cutoff_hz), (1.1 * cutoff_hz, 24_000)
    assert db(band_power(out - low, *below) / band_power(low, *below)) < -80
    assert db(band_power(out - wide, *above) / band_power(wide, *above)) < -80


def test_merge_gains_sum_to_one():
    low, wide = noise(4), noise(5)
    cutoff_hz = torch.tensor([5_000.0])
    there, back = merge(low, wide, cutoff_hz, RATE), merge(wide, low, cutoff_hz, RATE)
    assert (there + back - low - wide).abs().max() < 1e-6


@pytest.mark.parametrize("samples", [1, 100, 2_047, 2_048, 48_001])
def test_merge_of_a_wave_with_itself_is_that_wave_to_the_last_sample(samples):
    wave = noise(6, samples=samples)
    assert torch.equal(merge(wave, wave, torch.tensor([4_000.0]), RATE), wave)


@pytest.mark.parametrize("samples", [1, 100, 2_047, 48_001])
def test_merge_reconstructs_at_the_ends(samples):
    # Every frequency lies below 0.9 of the cutoff, so `low` must return whole.
    low, wide = noise(7, samples=samples), noise(8, samples=samples)
    out = merge(low, wide, torch.tensor([27_000.0]), RATE)
    assert out.shape == low.shape
    nearly = merge(low.double(), wide.double(), torch.tensor([23_999.0 / 0.9]), RATE)
    assert torch.equal(out, low) and (nearly - low).abs().max() < 1e-12


def test_merge_above_full_band_gives_low_back():
    low, wide = noise(9), noise(10)
    assert torch.equal(merge(low, wide, torch.tensor([24_000.0]), RATE), low)


def test_merge_of_chunks_with_context_equals_merge_of_the_whole():
    low, wide, cutoff_hz = noise(11, samples=60_000), noise(12, samples=60_000), torch.tensor([4_000.0])
    whole = merge(low, wide, cutoff_hz, RATE)
    start, stop = 40 * MERGE_HOP, 80 * MERGE_HOP
    part = slice(start - MERGE_CONTEXT, stop + MERGE_CONTEXT)
    chunk = merge(low[..., part], wide[..., part], cutoff_hz, RATE)[..., MERGE_CONTEXT:-MERGE_CONTEXT]
    assert (chunk - whole[..., start:stop]).abs().max() < 1e-6


def test_bad_shapes_and_cutoffs_are_named():
    with pytest.raises(ValueError, match="must have the same shape"):
        merge(noise(0), noise(0, samples=100), torch.tensor([4_000.0]), RATE)
    with pytest.raises(ValueError, match="1 waves need as many cutoffs"):
        cut_sharply(noise(0), torch.tensor([4_000.0, 5_000.0]), RATE)
    with pytest.raises(ValueError, match="above 0 Hz"):
        merge(noise(0), noise(0), torch.tensor([0.0]), RATE)


# --- with a skirt that is known ---------------------------------------------------------------------------------------


def butterworth(order, cutoff_hz, freqs_hz):
    return 1 / (1 + (freqs_hz / cutoff_hz) ** (2 * order)).sqrt()


def skirt_of(order, cutoff_hz, floor_db=-20.0, width_db=6.0):
    """Raise by what the filter took, and fade out as the recording sinks to `floor_db`. The filter's -3 dB: cutoff."""
    loss_db = -20 * butterworth(order, cutoff_hz, torch.arange(257) * SKIRT_BIN_HZ).log10()
    above = torch.arange(257) * SKIRT_BIN_HZ >= 0.8 * cutoff_hz
    kept = ((-floor_db - loss_db) / width_db).clamp(0, 1)
    raise_db = torch.where(above & (kept > 0), loss_db, 0.0)
    return Skirt(tuple(raise_db.tolist()), tuple(torch.where(above, kept, 1.0).tolist()))


@pytest.mark.parametrize("cutoff_hz", ALL_HZ)
@pytest.mark.parametrize("order", [2, 4])
def test_a_skirt_is_raised_back_to_what_was_there(order, cutoff_hz):
    truth = noise(12)
    spectrum = torch.fft.rfft(truth)
    low = torch.fft.irfft(spectrum * butterworth(order, cutoff_hz, torch.fft.rfftfreq(48_000, 1 / RATE)))
    out = merge(low, truth, torch.tensor([cutoff_hz]), RATE, [skirt_of(order, cutoff_hz)])
    for octaves in (-0.05, 0.0, 0.3, 0.6, 1.0):
        band = cutoff_hz * 2 ** (octaves - 0.05), min(cutoff_hz * 2 ** (octaves + 0.05), 23_999)
        assert abs(db(band_power(out, *band) / band_power(truth, *band))) < 0.5
    assert db(band_power(out - low, 0, 0.8 * cutoff_hz) / band_power(low, 0, 0.8 * cutoff_hz)) < -60


def test_shares_with_a_skirt_sum_to_one():
    low, wide, cutoff_hz = noise(13), noise(14), torch.tensor([5_000.0])
    kept = Skirt((0.0,) * 257, skirt_of(4, 5_000.0).kept)
    there, back = merge(low, wide, cutoff_hz, RATE, [kept]), merge(wide, low, cutoff_hz, RATE, [kept])
    assert (there + back - low - wide).abs().max() < 1e-6
    above = 12_000, 24_000  # where the share is 0
    assert db(band_power(there - wide, *above) / band_power(wide, *above)) < -80


def test_only_the_waves_with_a_skirt_are_merged_by_it():
    low, wide, cutoffs = noise(15, count=3), noise(16, count=3), torch.tensor([4_000.0, 4_000.0, 24_000.0])
    hard = merge(low, wide, cutoffs, RATE)
    assert torch.equal(merge(low, wide, cutoffs, RATE, [None] * 3), hard)
    soft = merge(low, wide, cutoffs, RATE, [None, skirt_of(2, 4_000.0), skirt_of(2, 4_000.0)])
    assert torch.equal(soft[0], hard[0]) and torch.equal(soft[2], low[2])
    assert db(band_power(soft[1] - hard[1], 4_000, 6_000) / band_power(hard[1], 4_000, 6_000)) > -10
