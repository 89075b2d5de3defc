"""Whether the draws of a head spread as the truth does: CRPS and rank histogram of log energies in bands.

Gneiting & Raftery 2007 (the score), Hamill 2001 (the histogram). A figure of a band and half a second of one clip is
one observation; of N draws whose spread is the truth's, the truth is as likely at each of the N + 1 ranks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from latentsr.config import AUDIO
from latentsr.evaluation.benchmark import Comparison
from latentsr.evaluation.clip_cases import load_cases
from latentsr.evaluation.columns import Record
from latentsr.evaluation.noises import Wave

Array = NDArray[np.float64]

FRAME, STRETCH_S = 2048, 0.5
OCTAVE_SHARE = 1 / 3  # of a band
FLOOR_DB = -100.0  # of full scale; where the truth is below it there is nothing to be right about


def calibration(compared: Comparison, draws: int, seed: int) -> list[Record]:
    """One record per system that draws: `crps_db` of `draws` seeds, `error_db` of each alone, `ranks` (draws + 1)."""
    drawing = [system for system in compared.systems if system.draw is not None]
    truths: list[Array] = []
    drawn: dict[str, list[Array]] = {system.name: [] for system in drawing}
    for clip in compared.clips if drawing else ():
        for case in load_cases(clip, compared.conditions):
            low, high = case.input.cutoff_hz, case.bandwidth_hz
            truth = band_levels_db(case.truth, low, high)
            there = truth > FLOOR_DB
            truths.append(truth[there])
            for system in drawing:
                waves = [system.draw(seed + k, case) for k in range(draws)] if system.draw else []
                drawn[system.name].append(np.stack([band_levels_db(wave, low, high)[there] for wave in waves]))
    return [_record(name, np.concatenate(found, axis=1), np.concatenate(truths)) for name, found in drawn.items()]


def _record(name: str, draws: Array, truth: Array) -> Record:
    return {
        "system": name, "draws": len(draws), "observations": len(truth),
        "crps_db": crps(draws, truth) if len(truth) else None,
        "error_db": float(np.abs(draws - truth).mean()) if len(truth) else None,
        "ranks": [int(count) for count in ranks(draws, truth)],
    }  # fmt: skip


def band_levels_db(wave: Wave, low_hz: float, high_hz: float) -> Array:
    """Mean power in thirds of an octave from `low_hz` up, each half second, dB. (T,) -> (stretches, bands)"""
    hop = FRAME // 2
    frames = np.lib.stride_tricks.sliding_window_view(wave, FRAME)[::hop]
    power = np.abs(np.fft.rfft(frames * np.hanning(FRAME))) ** 2 * (2 / FRAME / (0.375 * FRAME))
    count = max(1, round(np.log2(high_hz / low_hz) / OCTAVE_SHARE)) if high_hz > low_hz else 0
    edges = low_hz * (high_hz / low_hz) ** (np.arange(count + 1) / max(count, 1))
    bins = np.searchsorted(np.fft.rfftfreq(FRAME, 1 / AUDIO.sample_rate), edges)
    starts = np.arange(0, len(power), max(1, round(STRETCH_S * AUDIO.sample_rate / hop)))
    level = np.add.reduceat(power, starts, axis=0) / np.diff([*starts, len(power)])[:, None]
    bands = [level[:, a:b].sum(axis=1) for a, b in zip(bins[:-1], bins[1:], strict=True) if b > a]
    floored = np.maximum(np.stack(bands, axis=1) if bands else np.zeros((len(starts), 0)), 10 ** (FLOOR_DB / 10))
    return np.asarray(10 * np.log10(floored))


def crps(draws: Array, truth: Array) -> float:
    """Continuous ranked probability score, unbiased in the number of draws; its unit is theirs, lower is better.

    (N, K) and (K,); of one draw it is the absolute error.

    >>> crps(np.array([[1.0], [3.0]]), np.array([2.0]))
    0.0
    """
    count = len(draws)
    error = np.abs(draws - truth).mean()
    if count == 1:
        return float(error)
    order = np.sort(draws, axis=0)
    weights = 2 * np.arange(1, count + 1) - count - 1  # sum over pairs of |x - y|, of sorted values
    return float(error - (weights @ order).mean() / (count * (count - 1)))


def ranks(draws: Array, truth: Array) -> NDArray[np.int64]:
    """How often the truth came at each rank among the draws. (N, K), (K,) -> (N + 1,)"""
    return np.bincount((draws < truth).sum(axis=0), minlength=len(draws) + 1)


def in_words(record: Record) -> str:
    """A line of a report."""
    name, crps_db, error_db = record["system"], record["crps_db"], record["error_db"]
    if crps_db is None:
        return f"Draws of {name}: n/a, nothing of the originals lies above the cutoffs"
    return f"Draws of {name}: CRPS {crps_db:.2f} dB, one draw {error_db:.2f} dB, ranks {record['ranks']}"
