"""Where a recording's band ends while it is still coming: the learned estimator on the last second.

It is asked every 260 ms, a layer every 5 ms, so that no block waits for it; at the beginning twice before, at once, of
what little has come. What it says moves the cutoff once two answers agree, or when it is the first, and then at a
limited pace, so that nothing clicks. Down it takes eight, once it is sure: a sound that dies away ends lower, and a
cutoff that is too low doubles what is there.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator

import numpy as np
import torch

from latentsr.bandwidth import HIGHEST_HZ, LEAST_NYQUIST_HZ, embedded_network, ends_hz, possible
from latentsr.config import AUDIO
from latentsr.models.cutoff import NOTHING, without_lines
from latentsr.models.excitation import HOP
from latentsr.signal.bandframes import FrameMaker
from latentsr.signal.track import FULL_BAND_HZ

HEARD = 13_312  # samples: four of the estimator's frames
FIRST, EVERY = -(-HEARD // HOP), 52  # hops before the first regular question, and between two
EARLY = {18: 4_096, 30: 7_168}  # hops before the early ones, and samples of whole frames that they hear
REMEMBERED = 4  # questions of which the frames are heard again: 1 s
UP, DOWN = 2, 8  # answers in a row that agree, for a higher cutoff and for one lower than a cutoff that
SURE = 4  # answers have borne out
QUIET_DB, FORGOTTEN_DB = 25.0, 0.5  # below the loudest moment, which sinks so much between two questions: not heard
ALIKE = 1.12  # ratio of cutoffs that are one
OCTAVES_PER_HOP = 0.3  # the pace of a change: an octave in 17 ms
PASSED = 0.95  # of a low rate's Nyquist frequency, by which the cutoff begins

Frames = np.ndarray


class RunningCutoff:
    """One cutoff for all channels of a recording, hop by hop.

    Args:
        nyquist_hz: of the recording, Hz; above there is no evidence.
        cutoff_hz: keep to this one; None: listen.
    """

    def __init__(self, nyquist_hz: float = FULL_BAND_HZ, cutoff_hz: float | None = None) -> None:
        self.nyquist_hz = nyquist_hz
        self.listens = cutoff_hz is None and nyquist_hz >= LEAST_NYQUIST_HZ
        begins_hz = PASSED * nyquist_hz if nyquist_hz < HIGHEST_HZ else FULL_BAND_HZ
        self.cutoff_hz = self.target_hz = begins_hz if cutoff_hz is None else cutoff_hz
        self._hops: deque[np.ndarray] = deque(maxlen=FIRST)
        self._frames: deque[Frames] = deque(maxlen=REMEMBERED)
        self._wait, self._loudest_db = FIRST, -math.inf
        self._borne_out = 0
        self._last_hz, self._alike = self.cutoff_hz, 0  # the last answer, and how many in a row were like it
        self._thought: Iterator[float | None] = iter(())

    def hop(self, wave: np.ndarray) -> float:
        """The cutoff in Hz for a hop (C, HOP), which is heard."""
        if self.listens:
            self._hops.append(wave)
            self._wait -= 1
            if self._wait == 0:
                self._wait = EVERY
                self._thought = self._think(np.concatenate(self._hops, axis=1)[:, -HEARD:])
            answer_hz = next(self._thought, None)
            if not self._frames and len(self._hops) in EARLY:
                for early_hz in self._think(np.concatenate(self._hops, axis=1)[:, -EARLY[len(self._hops)] :]):
                    answer_hz = early_hz
                self._frames.clear()
            if answer_hz is not None:
                self._decide(answer_hz)
        step = math.log2(self.target_hz / self.cutoff_hz)
        self.cutoff_hz = (
            self.target_hz
            if abs(step) < OCTAVES_PER_HOP
            else self.cutoff_hz * 2 ** math.copysign(OCTAVES_PER_HOP, step)
        )
        return self.cutoff_hz

    def _think(self, heard: np.ndarray) -> Iterator[float | None]:
        """Answers None until the last layer has run; none at all where nothing new was to be heard."""
        maker = FrameMaker(AUDIO.sample_rate)
        maker.update(heard)
        frames = maker.result()
        power = (10 ** (frames.power_db / 10)).mean(axis=0)
        loud_db = 10 * math.log10(float(power.sum(axis=1).max()) + 1e-20)
        self._loudest_db = max(self._loudest_db - FORGOTTEN_DB, loud_db)
        if loud_db < self._loudest_db - QUIET_DB or not heard.any():
            return
        yield None
        self._frames.append((10 * np.log10(power + 1e-30)).astype(np.float32))
        power_db = torch.from_numpy(np.concatenate(self._frames)[None])
        nyquist_hz, network = torch.tensor([self.nyquist_hz]), embedded_network()
        x = network.features(without_lines(power_db), nyquist_hz, torch.tensor([frames.dust_db]))
        for part in network.parts():
            yield None
            x = part(x)
        yield None
        log_p = possible(x[:, 0], nyquist_hz)
        if int(log_p.argmax()) != NOTHING:
            yield float(ends_hz(log_p, power_db, nyquist_hz))

    def _decide(self, answer_hz: float) -> None:
        first, alike = self._alike == 0, _ratio(answer_hz, self._last_hz) < ALIKE
        self._alike, self._last_hz = self._alike + 1 if alike else 1, answer_hz
        near = _ratio(answer_hz, self.target_hz) < ALIKE and max(answer_hz, self.target_hz) < FULL_BAND_HZ
        if near:
            self.target_hz = math.sqrt(answer_hz * self.target_hz)
            self._borne_out += 1
        elif first or self._alike >= (DOWN if answer_hz < self.target_hz and self._borne_out >= SURE else UP):
            self.target_hz, self._borne_out = answer_hz, 0


def _ratio(a: float, b: float) -> float:
    return max(a, b) / min(a, b)
