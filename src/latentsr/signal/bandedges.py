"""What frames tell of the end of a band: where it changes, whether it is a cliff, and how gently it falls.

Changes are few, decided over the whole recording, and placed to a frame. A cliff, which falls so far within so little
and never comes back, was cut, whoever says it was not. A gentle filter leaves a skirt, which can be raised back as far
as it stands clear of its floor; at a steep end the recording is kept up to the edge.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from latentsr.signal.bandframes import BIN_HZ, BINS, SILENT_DB
from latentsr.signal.lowband import SKIRT_FROM
from latentsr.signal.track import Skirt

Array = NDArray[np.float32]

INSIDE = 0.97  # of the Nyquist frequency: above it there is the resampler's own edge

# --- changes ---------------------------------------------------------------------------------------------------------

SEARCHED = 16  # frames on either side of a change that a window has found
CLEAR_OF, TOP = 1.2, 4.0  # of a cutoff: what lies between tells whether a frame goes beyond it
EVENT_FRAMES = 3  # at least: a click, with its windows, lies in two
EVENT_DB, EVENT_ABOVE_USUAL_DB = 10.0, 10.0  # over the floor, and over what usually comes with such a low band
USUAL = 0.97  # quantile of what comes along in the louder half of the frames


def likeliest_path(evidence: Array, change_cost: float) -> NDArray[np.int64]:
    """Viterbi's path through classes that change at a cost, whichever they are.

    Args:
        evidence: (N, K) log-likelihood of each class in each window.
        change_cost: nats per change.

    Returns:
        (N,) classes.
    """
    score, came_from = evidence[0].astype(np.float64), np.zeros(evidence.shape, np.int64)
    stay = np.arange(evidence.shape[1])
    for n in range(1, len(evidence)):
        best = int(score.argmax())
        changed = score[best] - change_cost > score
        came_from[n] = np.where(changed, best, stay)
        score = np.where(changed, score[best] - change_cost, score) + evidence[n]
    path = np.empty(len(evidence), np.int64)
    path[-1] = score.argmax()
    for n in range(len(evidence) - 1, 0, -1):
        path[n - 1] = came_from[n, path[n]]
    return path


def bins_between(low_hz: float, high_hz: float) -> slice:
    """The bins from one frequency to another, one at least."""
    first = int(np.clip(np.ceil(low_hz / BIN_HZ), 0, BINS - 1))
    return slice(first, max(int(min(high_hz / BIN_HZ, BINS)), first + 1))


def placed(power_db: Array, near: int, low_hz: float, high_hz: float) -> int:
    """The frame at which what lies between two cutoffs comes or goes, near a frame; by least squares of two levels."""
    first, last = max(near - SEARCHED, 1), min(near + SEARCHED, len(power_db) - 1)
    if last <= first:
        return near
    band = bins_between(low_hz * CLEAR_OF, max(high_hz * 0.95, low_hz * 1.3))
    level = np.maximum(power_db[first - 1 : last + 1, band], -140).mean(axis=1)
    total, squares = np.cumsum(level), np.cumsum(level**2)
    count = np.arange(1, len(level))
    left = squares[:-1] - total[:-1] ** 2 / count
    right = (squares[-1] - squares[:-1]) - (total[-1] - total[:-1]) ** 2 / (len(level) - count)
    return first + int(np.argmin(left + right))


def events(power_db: Array, cutoff_hz: float, nyquist_hz: float) -> list[tuple[int, int]]:
    """Frames [first, last) in which a dull stretch goes beyond its cutoff after all, as its other frames never do.

    Images and artefacts of codecs come with the programme, always alike; what is here and nowhere else was there.
    """
    high = bins_between(CLEAR_OF * cutoff_hz, min(TOP * cutoff_hz, 0.95 * nyquist_hz))
    if high.start * BIN_HZ >= 0.9 * nyquist_hz or len(power_db) < 4 * EVENT_FRAMES:
        return []
    power = 10 ** (power_db / 10)
    above = 10 * np.log10(power[:, high].mean(axis=1) + 1e-20)
    below = 10 * np.log10(power[:, bins_between(200, 0.9 * cutoff_hz)].mean(axis=1) + 1e-20)
    heard = power_db.max(axis=1) > SILENT_DB
    if heard.sum() < 4 * EVENT_FRAMES:
        return []
    louder = heard & (below >= np.median(below[heard]))
    usual = np.quantile((above - below)[louder], USUAL)
    floor = np.median(above[heard])
    odd = heard & (above > floor + EVENT_DB) & (above - below > usual + EVENT_ABOVE_USUAL_DB)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], odd.astype(int), [0]])))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True) if b - a >= EVENT_FRAMES]


# --- cliffs ----------------------------------------------------------------------------------------------------------

FALL_DB = 20.0  # at least, from every bin of WIDTH to all behind
WIDTH, WITHIN = 12, 3  # bins before it that stand, so that no tone is taken for a band; and bins it may fall over
LOWEST_CLIFF_HZ = 2_000.0
BEHIND = 4  # bins, at least, that show how low it goes


def cliffs_hz(power_db: Tensor, nyquist_hz: Tensor, none_hz: float) -> Tensor:
    """Where the long-term spectra of stretches fall off a cliff for good.

    Args:
        power_db: (N, L, BINS) frames of the stretches.
        nyquist_hz: (N,) of the files.
        none_hz: what to say where there is none.

    Returns:
        (N,) Hz.
    """
    bins = torch.arange(BINS)
    inside = bins * BIN_HZ <= INSIDE * nyquist_hz[:, None]  # (N, BINS)
    mean = (power_db / 10 * 2.302585092994046).exp().mean(1).clamp(min=1e-30).log() * (10 / 2.302585092994046)
    standing = -F.max_pool1d(F.pad(-mean[:, None], (WIDTH, 0), value=400.0), WIDTH, 1)[:, 0, :BINS]  # before each bin
    behind = bins[None, :] >= bins[:, None] + WITHIN  # (place, others)
    highest = torch.where(behind & inside[:, None], mean[:, None], -400.0).amax(2)
    shown = (behind & inside[:, None]).sum(2) >= BEHIND
    cliff = (standing - highest >= FALL_DB) & shown & (bins * BIN_HZ >= LOWEST_CLIFF_HZ)
    last = (cliff * bins).amax(1)
    return torch.where(cliff.any(1), last * BIN_HZ, none_hz)


# --- skirts ----------------------------------------------------------------------------------------------------------

MOST_DB = 20.0  # of raising
FADED_DB, CUT_DB = 10.0, 3.0  # of loss from which on the made band fades in: where a skirt is raised; at a steep end
STEEP_BINS = 2  # over which it fades in at a steep end
CLEAR_DB = 10.0  # above its floor, what is raised stands so far
WIDE = 1.12  # of the cutoff: a skirt that has FADED_DB of loss below it is no skirt
BEYOND = 1.3  # of the cutoff: from there on, floor
HIGHEST_HZ = 20_000.0


def skirt_of(power_db: Array, loss_db: Array, cutoff_hz: float, nyquist_hz: float, dust_db: float) -> Skirt:
    """How a stretch fades out.

    Args:
        power_db: (L, BINS) of the stretch.
        loss_db: (BINS,) that the filter took.
        cutoff_hz: where it ends.
        nyquist_hz: of the file.
        dust_db: level of rounding.
    """
    figures = (torch.tensor([each], dtype=torch.float32) for each in (cutoff_hz, nyquist_hz, dust_db))
    raise_db, kept = skirts(torch.from_numpy(power_db)[None], torch.from_numpy(loss_db)[None], *figures)
    raised, share = (each[0].double().numpy() for each in (raise_db, kept))
    return Skirt(tuple(raised.round(3).tolist()), tuple(share.round(4).tolist()))


def skirts(
    power_db: Tensor, loss_db: Tensor, cutoff_hz: Tensor, nyquist_hz: Tensor, dust_db: Tensor
) -> tuple[Tensor, Tensor]:
    """The skirts of stretches, as `Skirt` has them.

    Args:
        power_db: (B, L, BINS) of the stretches.
        loss_db: (B, BINS) that the filters took.
        cutoff_hz: (B,) where they end.
        nyquist_hz: (B,) of the files.
        dust_db: (B,) level of rounding.

    Returns:
        `raise_db` and `kept`, each (B, BINS).
    """
    bins = torch.arange(BINS)
    hz = bins * BIN_HZ
    cutoff_hz = cutoff_hz[:, None]
    above = hz > SKIRT_FROM * cutoff_hz
    inside = hz <= (INSIDE * nyquist_hz[:, None]).clamp(max=HIGHEST_HZ)
    average = ((power_db * (math.log(10) / 10)).exp().mean(1) + 1e-20).log10() * 10
    floor = torch.maximum(dust_db, _quantile(average, inside & (hz > BEYOND * cutoff_hz), 0.2))
    lost = loss_db.clamp(0, 60) * above
    behind = torch.ones(BINS, BINS, dtype=torch.bool).triu(1)  # (place, others); ONNX has no cumulative maximum
    loss = lost[:, None].masked_fill(behind, -1e9).amax(2)
    standing = inside & (average > floor[:, None] + CLEAR_DB)
    falls = above & (~standing | (loss > MOST_DB))
    end = bins.masked_fill(~falls, BINS - 1).amin(1, keepdim=True)
    faded, cut = (((loss < db) & (bins < end)).sum(1, keepdim=True) for db in (FADED_DB, CUT_DB))
    gentle = faded * BIN_HZ >= WIDE * cutoff_hz
    start = torch.where(gentle, faded, cut)
    width = torch.where(gentle, (end - start).clamp(min=1), STEEP_BINS)
    kept = 0.5 + 0.5 * torch.cos(((bins - start) / width).clamp(0, 1) * math.pi)
    return loss.clamp(max=MOST_DB) * gentle, kept


def _quantile(values: Tensor, among: Tensor, share: float) -> Tensor:
    """Of the values (B, K) that are marked, linear between two; -1e9 where none is. -> (B,)"""
    count = among.sum(1, keepdim=True)
    ordered = values.masked_fill(~among, 1e9).sort(1).values
    place = share * (count - 1).clamp(min=0).float()
    low = place.long()
    at_low, at_high = (ordered.gather(1, torch.minimum(each, (count - 1).clamp(min=0))) for each in (low, low + 1))
    return torch.where(count > 0, at_low + (place - low) * (at_high - at_low), -1e9)[:, 0]
