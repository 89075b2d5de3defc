"""Where the pass band of the programme ends: the cutoff that the whole restoration stands on.

The long-term spectrum is taken here and steady lines are taken out of it; `signal/passband.py` asks which low-pass
could have made it. `docs/bandwidth.md` explains and holds the errors.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d, max_pool1d, pad

from latentsr.signal.passband import DB, cutoff_of_spectrum, templates

FRAME_S = 0.085  # seconds; rounded to a power of two samples
LOWEST_RATE = 4_000
STEADY = 1.3  # mean squared power over squared mean power: 1 for a sine, 2 for noise, more for programme
LINE_DB = 6.0
FEWEST_FRAMES = 8  # with fewer, steadiness says nothing
BLACKMAN_HARRIS = (0.35875, -0.48829, 0.14128, -0.01168)


def estimate_cutoff_hz(wave: Tensor, sample_rate: int = 48_000) -> Tensor:
    """Find where the pass band of the programme ends, about 3 dB down on its own trend.

    Steady lines (tones), a flat noise floor, holes and filter skirts do not count. Where nothing was cut the answer is
    half the sampling rate: full band; so it is for silence and for a lone bass note, where there is nothing to extend.

    Args:
        wave: (B, 1, T) in [-1, 1], at least a fifth of a second for an answer worth having.
        sample_rate: Hz, best the rate the recording was made at.

    Returns:
        (B,) Hz.

    >>> estimate_cutoff_hz(torch.zeros(1, 1, 48_000))
    tensor([24000.])
    """
    return CutoffEstimator(sample_rate).update(wave).result()


class CutoffEstimator:
    """The same estimate for files of any length: feed blocks to `update`, then ask for the `result`."""

    def __init__(self, sample_rate: int = 48_000) -> None:
        if sample_rate < LOWEST_RATE:
            raise ValueError(
                f"a cutoff cannot be found at {sample_rate} Hz; resample to {LOWEST_RATE} Hz or more first"
            )
        self.sample_rate = sample_rate
        self.frame = 2 ** round(math.log2(FRAME_S * sample_rate))  # samples
        self._rest: Tensor | None = None  # (B, t) samples that no full frame has covered yet
        self._power: Tensor | None = None  # (B, F) sum over frames
        self._squared: Tensor | None = None  # (B, F) sum of squared powers
        self._frames = 0

    def update(self, wave: Tensor) -> CutoffEstimator:
        """Add the next block of the waves. (B, 1, T)"""
        if wave.ndim != 3 or wave.shape[1] != 1:
            raise ValueError(f"waves must have the shape (batch, 1, samples), got {tuple(wave.shape)}")
        samples = wave[:, 0].detach().float()
        if self._rest is not None:
            samples = torch.cat([self._rest, samples], dim=-1)
        block, hop = 256 * self.frame, self.frame // 2
        while samples.shape[-1] >= self.frame:
            self._add(samples[:, : block + hop])
            covered = (min(samples.shape[-1], block + hop) - hop) // hop * hop
            samples = samples[:, covered:]
        self._rest = samples
        return self

    def result(self) -> Tensor:
        """The cutoff of each wave so far. -> (B,) Hz"""
        return self._evaluate(together=False)

    def result_together(self) -> float:
        """One cutoff in Hz for all waves, as channels of one recording: a silent channel has no say."""
        return float(self._evaluate(together=True))

    def _evaluate(self, together: bool) -> Tensor:
        if self._rest is None:
            raise ValueError("no samples yet; call update first")
        if self._power is None:  # shorter than one frame
            self._add(pad(self._rest, (0, self.frame - self._rest.shape[-1])))
        assert self._power is not None and self._squared is not None
        power, squared = self._power / self._frames, self._squared / self._frames
        if self._frames < FEWEST_FRAMES:
            squared = 2 * STEADY * power.square()  # nothing is a line
        if together:
            return cutoff_of_power(power, squared, self.sample_rate, self.frame)
        return _cutoffs(power, squared, self.sample_rate, self.frame)

    def _add(self, samples: Tensor) -> None:
        window = _blackman_harris(self.frame, samples.device)
        spectra = torch.fft.rfft(samples.unfold(-1, self.frame, self.frame // 2) * window)
        power = spectra.real.square().addcmul_(spectra.imag, spectra.imag)  # (B, L, F); white noise of variance v: v
        self._power = power.sum(1) + (0 if self._power is None else self._power)
        self._squared = power.square().sum(1) + (0 if self._squared is None else self._squared)
        self._frames += power.shape[1]


def cutoff_of_power(power: Tensor, squared: Tensor, sample_rate: int, frame: int) -> Tensor:
    """One cutoff in Hz, (1,), of the channels' mean powers and mean squared powers (C, F) over frames."""
    # Steadiness per channel, weighted: a tone is steady in every channel that has it.
    squared = (squared / power.clamp_min(1e-18)).sum(0, keepdim=True) * power.sum(0, keepdim=True)
    return _cutoffs(power.sum(0, keepdim=True), squared, sample_rate, frame)


def _cutoffs(power: Tensor, squared: Tensor, sample_rate: int, frame: int) -> Tensor:
    """(B, F), (B, F) -> (B,) Hz"""
    level_db = DB * power.clamp_min(1e-15).log()
    level_db = _without_lines(level_db, squared / power.square().clamp_min(1e-36))
    return cutoff_of_spectrum(level_db, templates(sample_rate, frame, power.device))


@lru_cache(maxsize=8)
def _blackman_harris(length: int, device: torch.device) -> Tensor:
    """Side lobes at -92 dB: a tone at full scale stays within four bins. Scaled to unit energy."""
    phase = 2 * math.pi * torch.arange(length, dtype=torch.float64) / length
    window = torch.stack([a * torch.cos(k * phase) for k, a in enumerate(BLACKMAN_HARRIS)]).sum(0)
    return (window / window.square().sum().sqrt()).float().to(device)


def _without_lines(level_db: Tensor, unsteadiness: Tensor) -> Tensor:
    """Replace lines of constant amplitude by the level beside them. (B, F) -> (B, F)"""
    sides = avg_pool1d(pad(level_db[:, None], (22, 22), mode="reflect"), 13, 1)[:, 0]  # 13 bins, centred 16 away
    beside = (sides[:, : level_db.shape[1]] + sides[:, -level_db.shape[1] :]) / 2
    peak = (unsteadiness < STEADY) & (level_db > beside + LINE_DB)
    line = max_pool1d(peak.float()[:, None], 11, 1, 5)[:, 0] > 0
    return torch.where(line, torch.minimum(level_db, beside), level_db)
