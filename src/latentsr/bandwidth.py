"""Where a recording's band ends, found at the recording's own rate, for every channel over time.

A network (`models/cutoff.py`) hears each second and says how likely each end is; the likeliest course with few changes
cuts the recording into stretches, and each of these is heard again as a whole. Where images show which interpolator
the recording went through (`signal/images.py`), that one's own end is right. `docs/bandwidth.md` has the errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from latentsr.audio.arrays import Samples, as_numpy, checked_rate, checked_samples
from latentsr.model_folder.loading import EMBEDDED, check_hashes
from latentsr.models.cutoff import (
    CELLS,
    CELLS_PER_OCTAVE,
    CLASSES,
    LOWEST_CELL_HZ,
    NOTHING,
    UNCUT,
    CutoffNet,
    cells_hz,
    without_lines,
)
from latentsr.signal.bandedges import cliffs_hz, events, likeliest_path, placed, skirt_of
from latentsr.signal.bandframes import BIN_HZ, FRAME_S, SILENT_DB, FrameMaker
from latentsr.signal.images import interpolated
from latentsr.signal.track import FULL_BAND_HZ, Stretch, Track

NAME = "cutoff"  # folder of the embedded network
LOWEST_HZ, HIGHEST_HZ = 1_000.0, 20_000.0  # of a cutoff: above, nothing is missing
LEAST_NYQUIST_HZ = 1.05 * LOWEST_HZ  # of a file in which an end is looked for
NEAR = 4  # cells on either side of an end that are as good as it: 12 %
DESTROYED = 0.4  # cost of an end that lies too low, which destroys what was there; too high only dulls
WHOLE = 0.4  # least probability that nothing was cut, or is to be heard, at which nothing is made

WINDOW = 16  # frames of a local estimate: a second
STRIDE = 4  # of recordings of STRIDE^2 windows or more, every so many are heard first
MOST_FRAMES = 2**15  # held, of all channels together; beyond, neighbours are averaged
HEARD_AT_ONCE = 1024  # frames of a stretch that the network hears, spread over it
SHORT = 4  # frames at the end that are left out of it, at most
BATCH = 32
CHANGE_COST = 6.0  # nats
NEIGHBOURS = 2  # cells on either side that speak for a cell too
FAINTEST = 2e-3  # probability of a cell that a single window cannot rule out
ALIKE = 1.12  # ratio of cutoffs that are one, in neighbouring stretches and in channels
MARGIN_S = 0.03  # around what goes beyond its stretch's cutoff
DULLER = 1.25  # ratio of the cutoffs of mid and side from which on they are restored instead of left and right
LEAST_SIDE = 1e-3  # of the mid's power; below, there is no image

Array = NDArray[np.float32]


def estimate_cutoff(samples: Samples, sample_rate: int) -> float:
    """Where a recording's band ends, in Hz: what the pipeline acts on.

    Args:
        samples: (C, T) or (T,) float, full scale 1.0, as they came: at the recording's own rate.
        sample_rate: Hz.

    Returns:
        The median over time and channels of what ends below full band; 24000.0 where nothing is missing or there is
        nothing to hear.

    Raises:
        AudioError: the samples are no audio, as `Pipeline` says of them.
        UsageError: the rate is none.

    >>> estimate_cutoff(np.zeros((1, 48_000), np.float32), 48_000)
    24000.0
    """
    estimator = BandEstimator(checked_rate(sample_rate))
    given = as_numpy(samples)
    if 0 in given.shape:
        return FULL_BAND_HZ
    estimator.update(checked_samples(given))
    return estimator.result().cutoff_hz


@torch.inference_mode()
def cutoffs_hz(waves: Tensor, sample_rate: int) -> Tensor:
    """Cutoff of each of a batch of short waves, heard as a whole. (B, 1, T) -> (B,) Hz, FULL_BAND_HZ: nothing is cut"""
    found = []
    for wave in waves[:, 0].detach().float().cpu().numpy():
        maker = FrameMaker(sample_rate)
        maker.update(wave[None])
        frames = maker.result()
        listener = _Listener(embedded_network(), frames.nyquist_hz, frames.dust_db, FRAME_S)
        found.append(listener.heard(frames.power_db[0], _Part(0, frames.power_db.shape[1])).end_hz)
    return torch.tensor(found, dtype=waves.dtype, device=waves.device)


class BandEstimator:
    """Hears a recording block by block, as it comes, and says where its band ends.

    Args:
        sample_rate: Hz.
        nyquist_hz: where evidence ends, of a recording that is not at its own rate any more.
        network: in the place of the embedded one.
        apart: hear mid and side of stereo too, for `mid_side`.
    """

    def __init__(
        self,
        sample_rate: int,
        nyquist_hz: float | None = None,
        network: CutoffNet | None = None,
        *,
        apart: bool = False,
    ) -> None:
        self.sample_rate = sample_rate
        self.nyquist_hz = sample_rate / 2 if nyquist_hz is None else min(nyquist_hz, sample_rate / 2)
        self._network = network
        self._maker: FrameMaker | None = None
        self._apart = BandEstimator(sample_rate, nyquist_hz, network) if apart else None  # hears mid and side
        self._power = np.zeros(2)  # of these, summed

    def mid_side(self) -> Track | None:
        """The tracks of mid and side, where these were heard and the side is the duller one; else None."""
        if self._apart is None or self._apart._maker is None or self._power[1] < LEAST_SIDE * self._power[0]:
            return None
        apart = self._apart.result()
        mid, side = (Track((channel,), apart.seconds).cutoff_hz for channel in apart.channels)
        return apart if side * DULLER < mid else None

    def update(self, block: np.ndarray | Tensor) -> None:
        """Hear samples (C, n) float32 at the recording's own rate; blocks may have any length."""
        samples = np.asarray(block, dtype=np.float32)
        if self._maker is None:
            self._maker = FrameMaker(self.sample_rate, max(MOST_FRAMES // max(len(samples), 1), HEARD_AT_ONCE))
        self._maker.update(samples)
        if self._apart is not None and len(samples) == 2:
            both = np.stack([samples[0] + samples[1], samples[0] - samples[1]]) / 2
            self._power += np.square(both, dtype=np.float64).sum(axis=1)
            self._apart.update(both)

    @torch.inference_mode()
    def result(self) -> Track:
        """The track of what was heard."""
        if self._maker is None:
            raise ValueError("no samples yet; call update first")
        frames, frame_s = self._maker.result(), FRAME_S * self._maker.merged
        listener = _Listener(self._network or embedded_network(), self.nyquist_hz, frames.dust_db, frame_s)
        tracks: list[tuple[Stretch, ...]] = []
        for i, power_db in enumerate(frames.power_db):
            twin = next((j for j in range(i) if np.array_equal(frames.power_db[j], power_db)), None)
            tracks.append(listener.track(power_db) if twin is None else tracks[twin])
        return Track(_agreed(tracks) if len(tracks) > 1 else tuple(tracks), frames.seconds)


@dataclass
class _Part:
    """Frames [first, last) of a channel that end alike."""

    first: int
    last: int
    end_hz: float = FULL_BAND_HZ
    loss_db: Array | None = None


@dataclass(frozen=True)
class _Listener:
    """The network, and what all channels of a recording have in common."""

    network: CutoffNet
    nyquist_hz: float
    dust_db: float
    frame_s: float

    def track(self, power_db: Array) -> tuple[Stretch, ...]:
        """The stretches of one channel (L, BINS)."""
        if self.nyquist_hz < LEAST_NYQUIST_HZ or power_db.max() <= SILENT_DB:
            return (Stretch(0.0, FULL_BAND_HZ),)
        parts = [self.heard(power_db, part) for part in self._course(power_db)]
        if len(parts) > 1:
            parts = self._joined(power_db, parts)
        for before, after in zip(parts, parts[1:], strict=False):
            low, high = sorted((before.end_hz, after.end_hz))
            before.last = after.first = placed(power_db, after.first, low, min(high, self.nyquist_hz))
        stretches: list[Stretch] = []
        for part in parts:
            if part.last > part.first:
                stretches += self._stretches(power_db, part)
        return tuple(stretches) or (Stretch(0.0, FULL_BAND_HZ),)

    def _inputs(self, stretches: Sequence[Array]) -> tuple[Tensor, Tensor, Tensor]:
        """What the network hears of stretches (L, BINS) of one length."""
        count = len(stretches)
        power_db = torch.from_numpy(np.stack(stretches))
        return power_db, torch.full((count,), self.nyquist_hz), torch.full((count,), self.dust_db)

    def heard(self, power_db: Array, part: _Part) -> _Part:
        """The same part, heard as a whole."""
        every = max(-(-(part.last - part.first) // HEARD_AT_ONCE), 1)
        frames = power_db[part.first : part.last : every]
        end_hz, loss_db = hear(self.network, *self._inputs([frames]))
        part.end_hz, part.loss_db = float(end_hz), loss_db[0].numpy()
        known = interpolated(frames, part.end_hz, self.nyquist_hz, self.dust_db)
        if known is not None:
            part.end_hz, part.loss_db = known.end_hz, known.loss_db(part.loss_db)
        return part

    def _course(self, power_db: Array) -> list[_Part]:
        """Parts by the likeliest course of the local estimates."""
        starts = list(range(0, len(power_db) - WINDOW + 1, WINDOW))
        if len(starts) < 2:
            return [_Part(0, len(power_db))]
        if len(power_db) % WINDOW >= SHORT:
            starts.append(len(power_db) - WINDOW)
        hear_each = self._local if len(starts) < STRIDE**2 else self._sparse
        path = likeliest_path(hear_each(power_db, np.array(starts)), CHANGE_COST)
        changes = np.flatnonzero(np.diff(path)) + 1
        edges = [0, *(starts[n] for n in changes), len(power_db)]
        return [_Part(a, b) for a, b in zip(edges, edges[1:], strict=False)]

    def _sparse(self, power_db: Array, starts: NDArray[np.int64]) -> Array:
        """`_local` of a long recording: every `STRIDE`-th window is heard, and those between where the course changes;
        the others count as the one before them that was."""
        coarse = self._local(power_db, starts[::STRIDE])
        evidence = np.repeat(coarse, STRIDE, axis=0)[: len(starts)]
        path = likeliest_path(STRIDE * coarse, CHANGE_COST)
        changes = np.flatnonzero(np.diff(path))[:, None] * STRIDE
        near = np.unique(np.clip(changes + np.arange(1 - STRIDE, 2 * STRIDE), 0, len(starts) - 1))
        evidence[near] = self._local(power_db, starts[near]) if len(near) else coarse[:0]
        return evidence

    def _local(self, power_db: Array, starts: NDArray[np.int64]) -> Array:
        """Log evidence of each cell, and of full band, in the windows that begin at these frames. (N, CELLS + 1)"""
        windows = [power_db[start : start + WINDOW] for start in starts]
        batches = (self._inputs(windows[n : n + BATCH]) for n in range(0, len(windows), BATCH))
        p = np.concatenate([log_posterior(self.network, *batch)[0].exp().numpy() for batch in batches])
        near = np.pad(p[:, :CELLS], ((0, 0), (NEIGHBOURS, NEIGHBOURS)))
        near = np.lib.stride_tricks.sliding_window_view(near, 2 * NEIGHBOURS + 1, axis=1).sum(axis=2)
        evidence = np.concatenate([near, p[:, UNCUT, None]], axis=1) + p[:, NOTHING, None]
        return np.log(evidence + FAINTEST).astype(np.float32)

    def _joined(self, power_db: Array, parts: list[_Part]) -> list[_Part]:
        """Neighbours that end alike made one."""
        joined = parts[:1]
        for part in parts[1:]:
            if _alike(joined[-1].end_hz, part.end_hz):
                joined[-1] = self.heard(power_db, _Part(joined[-1].first, part.last))
            else:
                joined.append(part)
        return joined if len(joined) == len(parts) else self._joined(power_db, joined)

    def _stretches(self, power_db: Array, part: _Part) -> list[Stretch]:
        """A part, and within it what goes beyond its end after all."""
        start_s = part.first * self.frame_s
        if part.end_hz >= FULL_BAND_HZ:
            return [Stretch(start_s, FULL_BAND_HZ)]
        heard = power_db[part.first : part.last]
        assert part.loss_db is not None
        skirt = skirt_of(heard, part.loss_db, part.end_hz, self.nyquist_hz, self.dust_db)
        dull = Stretch(start_s, part.end_hz, skirt)
        stretches, end_s = [dull], part.last * self.frame_s
        for first, last in events(heard, part.end_hz, self.nyquist_hz):
            from_s = max(start_s + first * self.frame_s - MARGIN_S, start_s)
            to_s = start_s + last * self.frame_s + MARGIN_S
            beyond = Stretch(from_s, FULL_BAND_HZ)
            stretches = stretches[:-1] if from_s <= stretches[-1].start_s else stretches
            stretches += [beyond, Stretch(to_s, part.end_hz, skirt)] if to_s < end_s else [beyond]
        return stretches


def hear(network: CutoffNet, power_db: Tensor, nyquist_hz: Tensor, dust_db: Tensor) -> tuple[Tensor, Tensor]:
    """Where stretches (N, L, BINS) end, Hz (N,) in float64, and what the filters took, dB (N, BINS)."""
    log_p, loss_db = log_posterior(network, power_db, nyquist_hz, dust_db)
    return ends_hz(log_p, power_db, nyquist_hz), loss_db


def ends_hz(log_p: Tensor, power_db: Tensor, nyquist_hz: Tensor) -> Tensor:
    """Where stretches (N, L, BINS) end, of log posteriors (N, CLASSES): Hz (N,) in float64."""
    end_hz = best_end_hz(log_p)
    # Behind a cliff there is nothing to lose: it ends a band that the network takes for whole.
    whole = (end_hz >= FULL_BAND_HZ) & (log_p[:, UNCUT] > log_p[:, NOTHING])
    cliff_hz = cliffs_hz(power_db, nyquist_hz, FULL_BAND_HZ).double()
    end_hz = torch.where(whole & (cliff_hz < HIGHEST_HZ), cliff_hz, end_hz)
    return torch.where(nyquist_hz < LEAST_NYQUIST_HZ, FULL_BAND_HZ, end_hz)


def log_posterior(network: CutoffNet, power_db: Tensor, nyquist_hz: Tensor, dust_db: Tensor) -> tuple[Tensor, Tensor]:
    """Log posteriors (N, CLASSES) over the ends that a file can have, and losses (N, BINS)."""
    logits, loss_db = network(without_lines(power_db), nyquist_hz, dust_db)
    return possible(logits, nyquist_hz), loss_db


def possible(logits: Tensor, nyquist_hz: Tensor) -> Tensor:
    """Log posteriors of logits (N, CLASSES), of which the ends that such files cannot have are left out."""
    hz = cells_hz()
    top_hz = (nyquist_hz + BIN_HZ).clamp(max=HIGHEST_HZ)
    outside = F.pad((hz < LOWEST_HZ) | (hz > top_hz[:, None]), (0, CLASSES - CELLS))
    outside[:, UNCUT] = nyquist_hz < HIGHEST_HZ  # its rate cut such a file, if nothing else did
    return logits.masked_fill(outside, -1e9).log_softmax(1)


def best_end_hz(log_p: Tensor) -> Tensor:
    """The cutoffs to act on, of log posteriors; FULL_BAND_HZ where nothing was cut or is to be heard.

    Args:
        log_p: (N, CLASSES).

    Returns:
        (N,) float64.
    """
    p = log_p.exp().double()
    ends, full = p[:, :CELLS], p[:, UNCUT] + p[:, NOTHING]
    cells = torch.arange(CELLS)
    near = ((cells[:, None] - cells).abs() <= NEAR).to(ends)
    mass = ends @ near  # of what lies near each cell
    above = ends @ (cells[:, None] > cells + NEAR).to(ends)
    best = (mass - DESTROYED * above).argmax(1, keepdim=True)
    weight = ends * near[best[:, 0]]
    cell = (weight * cells).sum(1) / weight.sum(1).clamp(min=1e-30)
    end_hz = LOWEST_CELL_HZ * 2 ** (cell / CELLS_PER_OCTAVE)
    return torch.where(full > mass.gather(1, best)[:, 0].clamp(min=WHOLE), FULL_BAND_HZ, end_hz)


def _alike(a_hz: float, b_hz: float) -> bool:
    return max(a_hz, b_hz) / min(a_hz, b_hz) < ALIKE


def _agreed(tracks: list[tuple[Stretch, ...]]) -> tuple[tuple[Stretch, ...], ...]:
    """Channels that end alike all the time get the same track, that of the highest: else the image would wander."""
    agreed = list(tracks)
    for i, track in enumerate(tracks):
        for other in tracks:
            same = len(other) == len(track) and all(
                _alike(a.cutoff_hz, b.cutoff_hz) and abs(a.start_s - b.start_s) < 0.5
                for a, b in zip(track, other, strict=True)
            )
            if same and sum(s.cutoff_hz for s in other) > sum(s.cutoff_hz for s in agreed[i]):
                agreed[i] = other
    return tuple(agreed)


@cache
def embedded_network() -> CutoffNet:
    """The estimator that comes with the package."""
    check_hashes(EMBEDDED, NAME)
    return CutoffNet.from_pretrained(EMBEDDED / NAME).requires_grad_(False)
