"""Where the pass band of the programme ends: the cutoff that the whole restoration stands on.

A Kalman filter runs up the long-term spectrum, once for every low-pass that could have made it. It follows the natural
level of the programme, which wanders and falls a few dB per octave, lowered by that low-pass and lying on a flat noise
floor; how well it foretells each band tells how likely the low-pass is. The answer is the median of the -3 dB points
under the posterior: first on a coarse grid of filters, then on a fine one around it. `docs/bandwidth.md` explains and
holds the errors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d, max_pool1d, pad

from latentsr.signal.degrade import Array, Recipe, cutoff_3db_hz, response

FRAME_S = 0.085  # seconds; rounded to a power of two samples
LOWEST_BAND_HZ = 700.0
LOWEST_CUTOFF_HZ = 1_000.0
TOP = 0.917  # of half the rate: above 22 of 24 kHz lie the skirts of every converter and resampler
FULL_BAND = 0.9  # of half the rate: a cutoff above this is reported as full band
LOWEST_RATE = 4_000

BANDS_PER_OCTAVE = 24
CUTOFFS_PER_OCTAVE = 48
ORDERS = {
    "cheby1": (2, 3, 4, 6, 8, 10),
    "butter": (2, 3, 4, 6, 8, 10),
    "ellip": (2, 3, 4, 6, 8, 10),
    "boxcar": (2, 3, 4, 5, 6, 7, 8, 9, 10),  # side lobes tell the lengths apart
}
COARSE_ORDERS = {"cheby1": (2, 4, 8), "butter": (2, 4, 8), "boxcar": (2, 4, 10)}
COARSE_EVERY = 4  # cutoffs
FINE_COUNT = 512  # filters nearest to the coarse answer
LOWEST_GAIN = 1e-7

# The natural spectrum: fitted to uncut recordings, in dB and per band of 1/24 octave.
SLOPE_DB = -0.3
DRIFT_DB2 = 2.0
GRAIN_DB2 = 6.0  # harmonics and chance in one band
FLOOR_DB2 = 1.5
START_DB2 = 100.0
TAIL = 4.0  # degrees of freedom of Student's t: one odd band does not decide
FULL_BAND_ODDS = 6.0  # log of the odds, before looking, that nothing was cut
QUANTILE = 0.45  # of the posterior: too low costs less than too high

DUST_DBFS = -101.0  # white noise of rounding to 16 bit; nothing below it counts ...
RANGE_DB = 75.0  # ... unless the whole recording is this quiet
UNSEEN_DB = 20.0  # a floor this far below the lowest level does nothing
HEARD_DB = 10.0  # a programme stands this far above its floor somewhere
STEADY = 1.3  # mean squared power over squared mean power: 1 for a sine, 2 for noise, more for programme
LINE_DB = 6.0
FEWEST_FRAMES = 8  # with fewer, steadiness says nothing
DB = 10 / math.log(10)


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
        if together:
            # Steadiness per channel, weighted: a tone is steady in every channel that has it.
            squared = (squared / power.clamp_min(1e-18)).sum(0, keepdim=True) * power.sum(0, keepdim=True)
            power = power.sum(0, keepdim=True)
        level_db = DB * power.clamp_min(1e-15).log()
        if self._frames >= FEWEST_FRAMES:
            level_db = _without_lines(level_db, squared / power.square().clamp_min(1e-36))
        return _cutoff_hz(level_db, _templates(self.sample_rate, self.frame, power.device))

    def _add(self, samples: Tensor) -> None:
        window = _blackman_harris(self.frame, samples.device)
        spectra = torch.fft.rfft(samples.unfold(-1, self.frame, self.frame // 2) * window)
        power = spectra.real.square().addcmul_(spectra.imag, spectra.imag)  # (B, L, F); white noise of variance v: v
        self._power = power.sum(1) + (0 if self._power is None else self._power)
        self._squared = power.square().sum(1) + (0 if self._squared is None else self._squared)
        self._frames += power.shape[1]


@lru_cache(maxsize=8)
def _blackman_harris(length: int, device: torch.device) -> Tensor:
    """Side lobes at -92 dB: a tone at full scale stays within four bins. Scaled to unit energy."""
    phase = 2 * math.pi * torch.arange(length, dtype=torch.float64) / length
    terms = (0.35875, -0.48829, 0.14128, -0.01168)
    window = torch.stack([a * torch.cos(k * phase) for k, a in enumerate(terms)]).sum(0)
    return (window / window.square().sum().sqrt()).float().to(device)


def _without_lines(level_db: Tensor, unsteadiness: Tensor) -> Tensor:
    """Replace lines of constant amplitude by the level beside them. (B, F) -> (B, F)"""
    sides = avg_pool1d(pad(level_db[:, None], (22, 22), mode="reflect"), 13, 1)[:, 0]  # 13 bins, centred 16 away
    beside = (sides[:, : level_db.shape[1]] + sides[:, -level_db.shape[1] :]) / 2
    peak = (unsteadiness < STEADY) & (level_db > beside + LINE_DB)
    line = max_pool1d(peak.float()[:, None], 11, 1, 5)[:, 0] > 0
    return torch.where(line, torch.minimum(level_db, beside), level_db)


@dataclass(frozen=True)
class _Templates:
    """Low-passes that could have been applied."""

    half_rate: float
    first_bin: int
    last_bin: int
    to_bands: Tensor  # (F, K) means over bands of 1/24 octave
    gain_db: Tensor  # (K, N), in ascending order of cutoff
    cutoff_hz: Tensor  # (N,) -3 dB points
    coarse_gain_db: Tensor  # (K, M + 2), of a coarse grid of them; the last two cut nothing
    coarse_hz: Tensor  # (M,)


@lru_cache(maxsize=8)
def _templates(sample_rate: int, frame: int, device: torch.device) -> _Templates:
    half_rate, bin_hz = sample_rate / 2, sample_rate / frame
    bands = int(math.log2(TOP * half_rate / LOWEST_BAND_HZ) * BANDS_PER_OCTAVE)
    edges_hz = LOWEST_BAND_HZ * 2 ** (np.arange(bands + 1) / BANDS_PER_OCTAVE)
    inside_hz = LOWEST_BAND_HZ * 2 ** ((np.arange(4 * bands) + 0.5) / (4 * BANDS_PER_OCTAVE))  # 4 points per band
    steps = np.arange(0, math.log2(FULL_BAND * half_rate / LOWEST_CUTOFF_HZ), 1 / CUTOFFS_PER_OCTAVE)
    cutoffs_hz = LOWEST_CUTOFF_HZ * 2**steps
    gains, ends_hz, coarse = [], [], []
    for family, orders in ORDERS.items():
        for order in orders:
            gain, end_hz = _BANK[family](family, order, cutoffs_hz, inside_hz, sample_rate)
            gains.append(gain)
            ends_hz.append(end_hz)
            coarse.append((np.arange(len(steps)) % COARSE_EVERY == 0) & (order in COARSE_ORDERS.get(family, ())))
    gain_db = 20 * np.log10(np.maximum(np.concatenate(gains), LOWEST_GAIN)).reshape(-1, bands, 4).mean(-1)
    cutoff_hz = np.concatenate(ends_hz)
    rank = np.argsort(cutoff_hz, kind="stable")
    rough = rank[np.concatenate(coarse)[rank]]
    return _Templates(
        half_rate=half_rate,
        first_bin=round(LOWEST_BAND_HZ / bin_hz),
        last_bin=int(TOP * half_rate / bin_hz),
        to_bands=torch.from_numpy(_band_means(frame // 2 + 1, bin_hz, edges_hz)).float().to(device),
        gain_db=torch.from_numpy(gain_db[rank].T.copy()).float().to(device),
        cutoff_hz=torch.from_numpy(cutoff_hz[rank]).float().to(device),
        coarse_gain_db=torch.from_numpy(np.pad(gain_db[rough].T, ((0, 0), (0, 2)))).float().to(device),
        coarse_hz=torch.from_numpy(cutoff_hz[rough]).float().to(device),
    )


def _warped_bank(family: str, order: int, cutoffs_hz: Array, freqs_hz: Array, rate: int) -> tuple[Array, Array]:
    """Gains (cutoffs, F) and -3 dB points of one recursive filter: the bilinear transform moves a single design."""
    middle = Recipe(family, order, rate / 4)
    place, cutoff = np.tan(math.pi / rate * freqs_hz), np.tan(math.pi / rate * cutoffs_hz)
    gain = response(middle, rate / math.pi * np.arctan(place / cutoff[:, None]), rate)
    end = math.tan(math.pi / rate * cutoff_3db_hz(middle, rate))
    return gain, rate / math.pi * np.arctan(end * cutoff)


def _designed_bank(family: str, order: int, cutoffs_hz: Array, freqs_hz: Array, rate: int) -> tuple[Array, Array]:
    """The same where every cutoff has its own design."""
    recipes = [Recipe(family, order, float(cutoff_hz)) for cutoff_hz in cutoffs_hz]
    gains = np.stack([response(recipe, freqs_hz, rate) for recipe in recipes])
    return gains, np.array([cutoff_3db_hz(recipe, rate) for recipe in recipes])


_BANK = {"cheby1": _warped_bank, "ellip": _warped_bank, "butter": _warped_bank, "boxcar": _designed_bank}


def _band_means(bins: int, bin_hz: float, edges_hz: Array) -> Array:
    """(F, K): each column averages the bins of one band, those at its edges in part."""
    centres_hz = np.arange(bins)[:, None] * bin_hz
    overlap = np.minimum(centres_hz + bin_hz / 2, edges_hz[1:]) - np.maximum(centres_hz - bin_hz / 2, edges_hz[:-1])
    overlap = np.maximum(overlap, 0)
    return overlap / overlap.sum(0)


def _cutoff_hz(level_db: Tensor, bank: _Templates) -> Tensor:
    """(B, F) long-term spectrum -> (B,) Hz"""
    floor_db = _floor_db(level_db[:, bank.first_bin : bank.last_bin])
    bands_db = torch.maximum(level_db @ bank.to_bands, floor_db[:, None])  # (B, K)
    count = len(bank.coarse_hz)
    # Nothing cut: the programme goes on to the top, above the floor, or above one that is never seen.
    floors_db = floor_db[:, None].repeat(1, count + 2)
    floors_db[:, -1] -= UNSEEN_DB
    likelihood, uncut = _log_likelihood(bands_db, floors_db, bank.coarse_gain_db[:, None]).split([count, 2], dim=1)
    rough_hz = _median_hz(likelihood, bank.coarse_hz.expand(len(bands_db), -1))
    odds = uncut.logsumexp(-1) - math.log(2) - likelihood.logsumexp(-1) + math.log(count) + FULL_BAND_ODDS
    fine = min(FINE_COUNT, len(bank.cutoff_hz))
    start = (torch.searchsorted(bank.cutoff_hz, rough_hz) - fine // 2).clamp(0, len(bank.cutoff_hz) - fine)
    near_db = bank.gain_db.unfold(1, fine, 1)[:, start]  # (K, B, fine)
    likelihood = _log_likelihood(bands_db, floor_db[:, None], near_db)
    hz = _median_hz(likelihood, bank.cutoff_hz.unfold(0, fine, 1)[start])
    heard = bands_db.amax(-1) > floor_db + HEARD_DB
    return torch.where(heard & (odds < 0) & (hz < FULL_BAND * bank.half_rate), hz, bank.half_rate)


def _floor_db(level_db: Tensor) -> Tensor:
    """Lowest level that spans about 1 kHz, but no lower than dust. (B, F) -> (B,)"""
    width = min(86, level_db.shape[1])
    level_db = avg_pool1d(level_db[:, None], width, max(width // 4, 1))[:, 0]
    dust_db = (level_db.amax(-1) - RANGE_DB).clamp_max(DUST_DBFS)
    return torch.maximum(level_db.amin(-1), dust_db)


def _median_hz(likelihood: Tensor, cutoff_hz: Tensor) -> Tensor:
    """Median of the cutoffs under the posterior of their filters. (B, N) logarithms, (B, N) ascending -> (B,)"""
    weight = torch.softmax(likelihood, dim=-1).cumsum(-1)
    place = (weight < QUANTILE).sum(-1, keepdim=True).clamp_max(cutoff_hz.shape[1] - 1)
    return cutoff_hz.gather(1, place)[:, 0]


def _log_likelihood(bands_db: Tensor, floor_db: Tensor, gain_db: Tensor) -> Tensor:
    """How well each low-pass explains the spectrum: an extended Kalman filter from the lowest band up.

    The state is the programme's level before the low-pass, a random walk with a slope. The low-pass lowers it, the
    floor adds to it: `expected = log(exp(state + gain) + exp(floor))`. Student's t makes it robust (West 1981).
    Levels are counted in nepers of power above the floor, and the slope is moved from the state into the gain: each
    operation here is paid for once per band.

    Args:
        bands_db: (B, K) level of each band.
        floor_db: (B, N) or (B, 1) noise floor.
        gain_db: (K, B, N) or (K, 1, N) candidates.

    Returns:
        (B, N) log-likelihood up to a constant.
    """
    bands = (bands_db.T[..., None] - floor_db) / DB  # (K, B, N) or (K, B, 1)
    losses = torch.arange(len(bands), device=bands.device)[:, None, None] * (-SLOPE_DB / DB) - gain_db / DB
    state = -bands[0].expand(-1, gain_db.shape[-1])  # negative, so that its sigmoid is the floor's share
    # Constants as large as the state: a number beside a tensor costs as much as three operations on it.
    one, drift, floor_variance, variance, doubt = (
        torch.full_like(state, value, memory_format=torch.contiguous_format)
        for value in (1, DRIFT_DB2 / DB**2, FLOOR_DB2 / DB**2, START_DB2 / DB**2, 1 / (TAIL + 1))
    )
    spreads, scales = (bands.new_empty(len(bands), *state.shape) for _ in range(2))
    for band, loss, spread, scale in zip(
        bands.unbind(), losses.unbind(), spreads.unbind(), scales.unbind(), strict=True
    ):
        floor_share = torch.sigmoid(state + loss)
        slope = one - floor_share  # share of the programme in what is expected
        error = floor_share.log_().add_(band)
        moved = slope * variance
        torch.addcmul(floor_variance, slope, slope, value=GRAIN_DB2 / DB**2, out=spread)
        spread.addcmul_(slope, moved)
        # Trust min(1, 5 / (4 + error^2 / spread)): an odd band moves the state little.
        torch.lerp(spread, error.square(), doubt, out=scale)
        kalman_gain = moved / torch.maximum(scale, spread)
        state = torch.addcmul(state, kalman_gain, error, value=-1)
        variance.addcmul_(kalman_gain, moved, value=-1).add_(drift)
    return (TAIL / 2 * spreads.log_() - (TAIL + 1) / 2 * scales.log_()).sum(0)
