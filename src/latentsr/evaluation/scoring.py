"""All figures of one estimate, in this process or in others: the figures do not depend on how many there are."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from latentsr.config import AUDIO
from latentsr.evaluation import metrics, perceptual
from latentsr.evaluation.inputs import Input
from latentsr.evaluation.noises import KEPT_SHARE, Wave
from latentsr.signal.degrade import Recipe

TONE_GONE_DB, TONE_LIKE_CLEAN_DB = -30.0, 3.0  # a tone is left where it is above both
OF_NOISE = ("si_sdr_kept_db", "si_sdr_gain_db", "tone_db", "tone_vs_clean_db", "tone_left")

WORTH_S = 20.0  # of work: a process takes several seconds to start

Figures = dict[str, float | None]


@dataclass(frozen=True)
class Clip:
    """One reference: its name below the folder, its group, and where its own content ends (None: to be measured)."""

    name: str
    path: Path
    group: str
    bandwidth_hz: float | None


@dataclass(frozen=True)
class Case:
    """One clip under one condition; waves are mono, (T,), at 48 kHz but for what systems are given."""

    clip: Clip
    truth: Wave
    bandwidth_hz: float  # scores count up to here
    input: Input
    given: Wave  # at the input's rate
    degraded: Wave  # the same at 48 kHz
    edge_hz: float  # where it is 3 dB down: the truth for cutoff estimates; inf: nowhere
    operator: str | None = None  # the filter or resampler that made it; None where a codec ends the band
    recipe: Recipe | None = None  # None at a lower rate, and of a case
    gain: float = 1.0  # `given` is so much louder than the truth; estimates and `degraded` are at the truth's level

    @property
    def hidden(self) -> bool:
        """Something was cut, and hiss or rounding lie over the place: nobody can tell where."""
        return not math.isfinite(self.edge_hz) and self.input.cutoff_hz < AUDIO.sample_rate / 2

    @property
    def told_hz(self) -> float:
        """What a system is told that need not estimate the cutoff."""
        return self.edge_hz if math.isfinite(self.edge_hz) else self.input.cutoff_hz

    @property
    def tone_hz(self) -> float | None:
        """The frequency of the tone, where a tone is what was added."""
        effects = () if self.recipe is None else self.recipe.effects
        return effects[0].frequency_hz if [effect.name for effect in effects] == ["tone"] else None


@dataclass(frozen=True)
class Task:
    """The estimates of one clip, each with its case; one process scores them all and remembers the reference."""

    pairs: Sequence[tuple[Case, Wave]]
    visqol: bool
    zimtohrli: bool


def measured(case: Case, estimate: Wave) -> Figures:
    """The figures that are computed here, from spectra and waves."""
    truth, given, wave = as_tensor(case.truth), as_tensor(case.degraded), as_tensor(estimate)
    cutoff, top, kept = case.input.cutoff_hz, case.bandwidth_hz, KEPT_SHARE * case.input.cutoff_hz
    bands = [(0.0, top), (0.0, None), (cutoff, top), (0.0, cutoff)]
    figures = dict(zip(("lsd", "lsd_full", "lsd_hf", "lsd_lf"), metrics.lsd_bands(truth, wave, bands), strict=True))
    ssr_eval = metrics.lsd_bands(truth, wave, bands[:2], preset="ssr_eval")
    figures |= dict(zip(("ssr_eval", "ssr_eval_full"), ssr_eval, strict=True))
    figures["hf_energy_db"] = metrics.band_energy_ratio_db(truth, wave, cutoff, top)
    figures["hf_spread"] = metrics.band_spread_ratio(truth, wave, cutoff, top)
    figures["level_error_db"] = metrics.level_error_db(given, wave, kept)
    figures["kept_error_db"] = metrics.kept_band_error_db(given, wave, kept)
    figures["si_sdr_db"] = metrics.si_sdr_db(truth, wave)
    figures["snr_db"] = metrics.snr_db(truth, wave)
    if case.input.noise != "none":
        figures["si_sdr_kept_db"] = metrics.si_sdr_db(truth, wave, kept)
        figures["si_sdr_gain_db"] = figures["si_sdr_kept_db"] - metrics.si_sdr_db(truth, given, kept)
    if case.tone_hz is not None:
        figures["tone_db"] = metrics.tone_level_db(given, wave, case.tone_hz)
        figures["tone_vs_clean_db"] = metrics.tone_level_db(truth, wave, case.tone_hz)
        left = (figures["tone_db"] > TONE_GONE_DB) & (figures["tone_vs_clean_db"] > TONE_LIKE_CLEAN_DB)
        figures["tone_left"] = left.double()
    found = {name: float(value[0]) for name, value in figures.items()}
    return dict.fromkeys(OF_NOISE) | {name: value if math.isfinite(value) else None for name, value in found.items()}


def heard(truth: Tensor, wave: Tensor, *, visqol: bool, zimtohrli: bool) -> Figures:
    """The figures of models of hearing. Two (T,)"""
    distance, opinion = perceptual.zimtohrli(truth, wave) if zimtohrli else (None, None)
    return {
        "visqol": perceptual.visqol(truth, wave) if visqol else None,
        "zimtohrli": distance,
        "zimtohrli_mos": opinion,
    }


def score_task(task: Task) -> list[Figures]:
    """The figures of one clip's estimates, in order; equal estimates (the ceiling's) are heard once."""
    with one_thread(), metrics.remembering():
        known: dict[int, Figures] = {}
        results = []
        for case, estimate in task.pairs:
            figures = measured(case, estimate)
            if id(estimate) not in known:
                truth, wave = as_tensor(case.truth)[0], as_tensor(estimate)[0]
                known[id(estimate)] = heard(truth, wave, visqol=task.visqol, zimtohrli=task.zimtohrli)
            results.append(figures | known[id(estimate)])
        return results


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: how threads share out a sum changes its last digits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Scorers:
    """Worker processes that score clips; with one job the work is done here."""

    def __init__(self, jobs: int) -> None:
        if jobs < 1:
            raise ValueError(f"jobs: needs at least 1 process, got {jobs}")
        self._jobs = jobs
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Scorers:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._pool is None:
            return
        if kind is not None:  # somebody wants to leave now
            for worker in set(multiprocessing.active_children()) - self._others:
                worker.terminate()
        self._pool.shutdown(cancel_futures=True)

    def score(self, tasks: Sequence[Task]) -> list[list[Figures]]:
        """Each clip's figures; the longest clips go first, so that no process is left with one at the end."""
        small = self._pool is None and sum(map(_work_s, tasks)) < WORTH_S
        if self._jobs == 1 or len(tasks) < 2 or small:
            return [score_task(task) for task in tasks]
        if self._pool is None:
            context = multiprocessing.get_context("spawn")  # a fork would copy torch's threads in whatever state
            self._others = set(multiprocessing.active_children())
            self._pool = ProcessPoolExecutor(self._jobs, mp_context=context, initializer=_ready_worker)
        order = sorted(range(len(tasks)), key=lambda i: -sum(len(wave) for _, wave in tasks[i].pairs))
        futures = {i: self._pool.submit(score_task, tasks[i]) for i in order}
        try:
            return [futures[i].result() for i in range(len(tasks))]
        except BrokenProcessPool:
            raise ValueError("a process that scores was killed, often for want of memory; pass --jobs 1") from None


def _work_s(task: Task) -> float:
    """About how long a task takes, seconds of one core."""
    heard_s = sum(len(wave) for _, wave in task.pairs) / perceptual.RATE
    return heard_s * (0.2 if task.visqol else 0.08)


def _ready_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told, and ends its workers
    torch.set_num_threads(1)
    os.environ["NUMBA_NUM_THREADS"] = "1"  # read when numba is imported, which is later


def as_tensor(wave: Wave) -> Tensor:
    """(T,) -> (1, T) float64"""
    return torch.from_numpy(np.ascontiguousarray(wave, dtype=np.float64))[None]
