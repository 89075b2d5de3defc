"""Which low-pass made this spectrum? The inner half of the cutoff estimate; `signal/bandwidth.py` is its front.

A Kalman filter runs up the long-term spectrum, once for every low-pass that could have made it. It follows the natural
level of the programme, which wanders and falls a few dB per octave, lowered by that low-pass and lying on a noise
floor; how well it foretells each band tells how likely the low-pass is. The answer is the median of the -3 dB points
under the posterior: first on a coarse grid of filters, then on a fine one around it and around the last edge above the
floor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d, pad

from latentsr.signal.degrade import Array, Recipe, boxcar_gain, cosines, cutoff_3db_hz, ends_hz, response

LOWEST_BAND_HZ = 700.0
LOWEST_CUTOFF_HZ = 1_000.0
TOP = 0.917  # of half the rate: above 22 of 24 kHz lie the skirts of every converter and resampler
FULL_BAND = 0.9  # of half the rate: a cutoff above this is reported as full band

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
FINE_COUNT = 512  # filters nearest to the coarse answer ...
EDGE_COUNT = 384  # ... and to the last edge above the floor
LOWEST_GAIN = 1e-7

# The natural spectrum: fitted to uncut recordings, in dB and per band of 1/24 octave.
SLOPE_DB = -0.3
DRIFT_DB2 = 2.0
GRAIN_DB2 = 6.0  # harmonics and chance in one band
FLOOR_DB2 = 1.5
START_DB2 = 100.0
TAIL = 4.0  # degrees of freedom of Student's t: one odd band does not decide ...
JUMP = 2.0  # ... but it makes the level uncertain, so that the next ones can show that it really fell
FULL_BAND_ODDS = 6.0  # log of the odds, before looking, that nothing was cut
QUANTILE = 0.45  # of the posterior: too low costs less than too high

DUST_DBFS = -101.0  # white noise of rounding to 16 bit; nothing below it counts ...
RANGE_DB = 75.0  # ... unless the whole recording is this quiet
UNSEEN_DB = 20.0  # a floor this far below the lowest level does nothing
HEARD_DB = 10.0  # a programme stands this far above its floor somewhere

# A shelf is a floor that is not flat: it begins after a fall of STEP_DB within STEP_BANDS, and is smooth.
STEP_DB = 20.0
STEP_BANDS = 8
SHELF_BANDS = 16  # at least
SHELF_GRAIN_DB = 3.0  # at most, in any band

# An edge is where a programme that stood CLEAR_DB above its floor is lost in it for good.
CLEAR_DB = 15.0
FURTHEST = 2.0  # from the coarse answer, as a ratio: natural levels do not fall from a low-pass on for longer
SKIRT = 0.88  # the cutoff lies this far below the point of being lost, give or take

# A cliff is steeper than any filter of the bank: resamplers leave such. None of the filters explains it, and the one
# that is least wrong may lie far below; but the pass band goes on to the cliff's edge for sure.
CLIFF_DB = 40.0  # within two bands, and nothing behind it comes within as much again
CLIFF_TREND_BANDS, CLIFF_TREND_DB = 12, 10.0  # the edge stands no lower than this below those before it
DB = 10 / math.log(10)


@dataclass(frozen=True)
class Templates:
    """Low-passes that could have been applied."""

    half_rate: float
    first_bin: int
    last_bin: int
    band_hz: Tensor  # (K,) lower edges
    to_bands: Tensor  # (F, K) means over bands of 1/24 octave
    gain_db: Tensor  # (K, N), in ascending order of cutoff
    cutoff_hz: Tensor  # (N,) -3 dB points
    coarse_gain_db: Tensor  # (K, M + 2), of a coarse grid of them; the last two cut nothing
    coarse_hz: Tensor  # (M,)


@lru_cache(maxsize=8)
def templates(sample_rate: int, frame: int, device: torch.device) -> Templates:
    """The bank for spectra of `frame` samples."""
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
    return Templates(
        half_rate=half_rate,
        first_bin=round(LOWEST_BAND_HZ / bin_hz),
        last_bin=int(TOP * half_rate / bin_hz),
        band_hz=torch.from_numpy(edges_hz[:-1]).float().to(device),
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


def _boxcar_bank(family: str, order: int, cutoffs_hz: Array, freqs_hz: Array, rate: int) -> tuple[Array, Array]:
    """The same for cut ideal low-passes, which have a design for every cutoff."""

    def gain(freqs_hz: Array) -> Array:
        return boxcar_gain(order, cutoffs_hz[:, None], cosines(freqs_hz, rate), rate)

    return gain(freqs_hz), ends_hz(gain, cutoffs_hz, rate)


_BANK = {"cheby1": _warped_bank, "ellip": _warped_bank, "butter": _warped_bank, "boxcar": _boxcar_bank}


def _band_means(bins: int, bin_hz: float, edges_hz: Array) -> Array:
    """(F, K): each column averages the bins of one band, those at its edges in part."""
    centres_hz = np.arange(bins)[:, None] * bin_hz
    overlap = np.minimum(centres_hz + bin_hz / 2, edges_hz[1:]) - np.maximum(centres_hz - bin_hz / 2, edges_hz[:-1])
    overlap = np.maximum(overlap, 0)
    return overlap / overlap.sum(0)


def cutoff_of_spectrum(level_db: Tensor, bank: Templates) -> Tensor:
    """Where each long-term spectrum was cut; half the rate where nothing was. (B, F) dB -> (B,) Hz"""
    bands_db = level_db @ bank.to_bands  # (B, K)
    floor_db = _with_shelf(_floor_db(level_db[:, bank.first_bin : bank.last_bin]), bands_db)
    bands_db = torch.maximum(bands_db, floor_db)
    floors_db = floor_db.T[..., None]  # (K, B, 1)
    count = len(bank.coarse_hz)
    # Nothing cut: the programme goes on to the top, above the floor, or above one that is never seen.
    coarse_floors_db = floors_db.repeat(1, 1, count + 2)
    coarse_floors_db[..., -1] -= UNSEEN_DB
    both = _log_likelihood(bands_db, coarse_floors_db, bank.coarse_gain_db[:, None])
    likelihood, uncut = both.split([count, 2], dim=1)
    rough_hz = _median_hz(likelihood, bank.coarse_hz.expand(len(bands_db), -1))
    odds = uncut.logsumexp(-1) - math.log(2) - likelihood.logsumexp(-1) + math.log(count) + FULL_BAND_ODDS
    filters, known = _fine_filters(rough_hz, _edge_hz(bands_db - floor_db, rough_hz, bank), bank)
    likelihood = _log_likelihood(bands_db, floors_db, bank.gain_db[:, filters], JUMP)
    hz = _median_hz(likelihood.masked_fill(~known, -torch.inf), bank.cutoff_hz[filters])
    hz = torch.maximum(hz, _cliff_hz(bands_db, bank))
    heard = (bands_db - floor_db).amax(-1) > HEARD_DB
    return torch.where(heard & (odds < 0) & (hz < FULL_BAND * bank.half_rate), hz, bank.half_rate)


def _floor_db(level_db: Tensor) -> Tensor:
    """Lowest level that spans about 1 kHz, but no lower than dust. (B, F) -> (B,)"""
    width = min(86, level_db.shape[1])
    level_db = avg_pool1d(level_db[:, None], width, max(width // 4, 1))[:, 0]
    dust_db = (level_db.amax(-1) - RANGE_DB).clamp_max(DUST_DBFS)
    return torch.maximum(level_db.amin(-1), dust_db)


def _with_shelf(floor_db: Tensor, bands_db: Tensor) -> Tensor:
    """The floor of each band: flat, or the smooth shelf that begins after the last steep fall. (B,), (B, K) -> (B, K)

    Crackle and clipping leave such shelves; they fall towards the top.
    """
    count = bands_db.shape[1]
    flat_db = floor_db[:, None].expand_as(bands_db)
    if count < STEP_BANDS + SHELF_BANDS:
        return flat_db
    smooth_db = avg_pool1d(pad(bands_db[:, None], (3, 3), mode="replicate"), 7, 1)[:, 0]
    fall = bands_db[:, :-STEP_BANDS] - bands_db[:, STEP_BANDS:]
    steep = torch.minimum(fall[:, :-1], fall[:, 1:]) > STEP_DB
    band = torch.arange(count, device=bands_db.device)
    start = (steep * band[: steep.shape[1]]).amax(-1, keepdim=True) + STEP_BANDS
    on = band >= start
    shelf_db = torch.where(on, smooth_db, smooth_db.gather(1, (start + 3).clamp_max(count - 1)))
    grain_db = ((bands_db - smooth_db).abs() * on).amax(-1, keepdim=True)
    found = steep.any(-1, keepdim=True) & (on.sum(-1, keepdim=True) >= SHELF_BANDS) & (grain_db < SHELF_GRAIN_DB)
    return torch.where(found, torch.maximum(shelf_db, flat_db), flat_db)


def _edge_hz(above_db: Tensor, rough_hz: Tensor, bank: Templates) -> Tensor:
    """Where a cutoff may lie if what falls from the coarse answer on is the programme's own trend: at its end.

    Args:
        above_db: (B, K) level above the floor.
        rough_hz: (B,) the coarse answer; it is also what comes back where the programme does not last without a gap.

    Returns:
        (B,) Hz.
    """
    band = torch.arange(above_db.shape[1], device=above_db.device)
    clear = above_db >= CLEAR_DB
    lost = (bank.band_hz > rough_hz[:, None]) & ~clear
    place = torch.where(lost.any(-1), lost.int().argmax(-1), above_db.shape[1] - 1)
    lasting = (clear * band).amax(-1) <= place
    hz = bank.band_hz[place] * SKIRT
    return torch.where(lasting & (hz < FURTHEST * rough_hz), hz, rough_hz)


def _cliff_hz(bands_db: Tensor, bank: Templates) -> Tensor:
    """Where the last band before a cliff begins; 0 where there is none. (B, K) -> (B,) Hz"""
    count = bands_db.shape[1] - 2
    highest_behind = _highest_from(bands_db)[:, 2:]
    before = pad(bands_db[:, None], (CLIFF_TREND_BANDS, 0), mode="replicate")[:, :, : count + CLIFF_TREND_BANDS - 1]
    trend = avg_pool1d(before, CLIFF_TREND_BANDS, 1)[:, 0]
    level = bands_db[:, :count]
    cliff = (level - highest_behind > CLIFF_DB) & (level > trend - CLIFF_TREND_DB)
    band = torch.arange(count, device=bands_db.device)
    return torch.where(cliff.any(-1), bank.band_hz[(cliff * band).amax(-1)], 0.0)


def _highest_from(x: Tensor) -> Tensor:
    """The largest value at each place or behind it. (B, K) -> (B, K)"""
    return x.flip(1).cummax(1).values.flip(1)


def _fine_filters(rough_hz: Tensor, edge_hz: Tensor, bank: Templates) -> tuple[Tensor, Tensor]:
    """Indices of the filters next to either frequency, ascending, and False where one is there twice. -> 2 x (B, N)"""
    near, edge = _around(rough_hz, FINE_COUNT, bank), _around(edge_hz, EDGE_COUNT, bank)
    twice = (edge >= near[:, :1]) & (edge <= near[:, -1:])
    filters = torch.cat([near, edge.masked_fill(twice, -1)], dim=1).sort(-1).values
    return filters.clamp_min(0), filters >= 0


def _first_at_least(ascending: Tensor, values: Tensor) -> Tensor:
    """Index in (N,) of the first that is no smaller than each of (B,). -> (B,)"""
    return torch.searchsorted(ascending, values)


def _around(hz: Tensor, count: int, bank: Templates) -> Tensor:
    """(B,) -> (B, count)"""
    count = min(count, len(bank.cutoff_hz))
    start = (_first_at_least(bank.cutoff_hz, hz) - count // 2).clamp(0, len(bank.cutoff_hz) - count)
    return start[:, None] + torch.arange(count, device=hz.device)


def _median_hz(likelihood: Tensor, cutoff_hz: Tensor) -> Tensor:
    """Median of the cutoffs under the posterior of their filters. (B, N) logarithms, (B, N) ascending -> (B,)"""
    weight = torch.softmax(likelihood, dim=-1).cumsum(-1)
    place = (weight < QUANTILE).sum(-1, keepdim=True).clamp_max(cutoff_hz.shape[1] - 1)
    return cutoff_hz.gather(1, place)[:, 0]


def _log_likelihood(bands_db: Tensor, floor_db: Tensor, gain_db: Tensor, jump: float = 0.0) -> Tensor:
    """How well each low-pass explains the spectrum: an extended Kalman filter from the lowest band up.

    The state is the programme's level before the low-pass, a random walk with a slope. The low-pass lowers it, the
    floor adds to it: `expected = log(exp(state + gain) + exp(floor))`. Student's t makes it robust (West 1981).
    Levels are counted in nepers of power above the floor, and the slope is moved from the state into the gain: each
    operation here is paid for once per band.

    Args:
        bands_db: (B, K) level of each band.
        floor_db: (K, B, N) or (K, B, 1) noise floor.
        gain_db: (K, B, N) or (K, 1, N) candidates.
        jump: how much of an odd band's doubt (a fifth of its squared error beyond the spread) is taken for a move of
            the level, and makes the state uncertain.

    Returns:
        (B, N) log-likelihood up to a constant.
    """
    bands = (bands_db.T[..., None] - floor_db) / DB  # (K, B, N) or (K, B, 1)
    gain_db = gain_db + (floor_db[:1] - floor_db)
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
        doubted = torch.maximum(scale, spread)
        kalman_gain = moved / doubted
        state = torch.addcmul(state, kalman_gain, error, value=-1)
        variance.addcmul_(kalman_gain, moved, value=-1).add_(drift)
        if jump:
            variance.addcmul_(slope, doubted.sub_(spread), value=jump)
    return (TAIL / 2 * spreads.log_() - (TAIL + 1) / 2 * scales.log_()).sum(0)
