"""Sound as it is played: blocks at 48 kHz in, the same with what is made above the cutoff out, 15 ms late."""

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
from latentsr.models.live import DELAY, LiveGenerator, band_of
from latentsr.signal.bandframes import FrameMaker
from latentsr.signal.track import FULL_BAND_HZ

LATENCY = DELAY + HOP  # samples: a hop fills up, wherever the blocks end
AT_ONCE = 64  # hops that the network gets at most
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


class LiveHead:
    """Restore causally; nothing that came in is taken away."""

    def __init__(self, live: LiveGenerator, device: torch.device | None = None) -> None:
        self.network = live
        self.device = live.device if device is None else device

    def stream(
        self, channels: int, nyquist_hz: float = FULL_BAND_HZ, cutoff_hz: float | None = None, seed: int = 0
    ) -> LiveStream:
        """A recording of so many channels that begins now."""
        return LiveStream(self, channels, RunningCutoff(nyquist_hz, cutoff_hz), seed)


class LiveStream:
    """One recording: `process` takes blocks (C, n) float32 at 48 kHz of any length and gives as many samples, `LATENCY`
    behind. How it was cut into blocks changes nothing beyond rounding."""

    def __init__(self, head: LiveHead, channels: int, cutoff: RunningCutoff, seed: int) -> None:
        self.head, self.cutoff = head, cutoff
        self._draws = np.random.default_rng(seed % 2**64)
        self._state = head.network.start(channels)
        self._band, self._band_hz = band_of(torch.tensor([[FULL_BAND_HZ]], device=head.device)), FULL_BAND_HZ
        self._pending = np.zeros((channels, 0), np.float32)  # less than a hop
        self._late = np.zeros((channels, DELAY), np.float32)  # what came in last, for which nothing is made yet
        self._ready = np.zeros((channels, HOP), np.float32)
        self._unborn = DELAY  # samples before the first one that came, where nothing is made

    @torch.inference_mode()
    def process(self, block: np.ndarray) -> np.ndarray:
        held = np.concatenate([self._pending, block], axis=1)
        whole = held.shape[1] // HOP * HOP
        self._pending = held[:, whole:].copy()
        made = [self._ready]
        for at in range(0, whole, AT_ONCE * HOP):
            made.append(self._restored(held[:, at : min(at + AT_ONCE * HOP, whole)]))
        ready = np.concatenate(made, axis=1)
        self._ready = ready[:, block.shape[1] :].copy()
        return ready[:, : block.shape[1]]

    def _restored(self, wave: np.ndarray) -> np.ndarray:
        """Whole hops, `DELAY` samples late."""
        channels, samples = wave.shape
        cutoffs_hz = [self.cutoff.hop(wave[:, at : at + HOP]) for at in range(0, samples, HOP)]
        steady = len(set(cutoffs_hz)) == 1
        if not steady or cutoffs_hz[0] != self._band_hz:
            self._band_hz = cutoffs_hz[0] if steady else 0.0
            self._band = band_of(torch.tensor([cutoffs_hz[:1] if steady else cutoffs_hz], device=self.head.device))
        noise = torch.from_numpy(self._draws.standard_normal(samples, np.float32)).to(self.head.device)
        given = torch.from_numpy(wave).to(self.head.device)
        added, self._state = self.head.network(given, noise.expand(channels, -1), self._band, self._state)
        late = np.concatenate([self._late, wave], axis=1)
        self._late = late[:, samples:].copy()
        kept, made = late[:, :samples], added.cpu().numpy()
        before = min(self._unborn, samples)
        made[:, :before], self._unborn = 0.0, self._unborn - before
        ceiling = np.maximum(np.abs(kept), 1.0)  # what is added takes nothing beyond full scale
        return np.clip(kept + made, -ceiling, ceiling)


class RunningCutoff:
    """One cutoff for all channels, hop by hop: the learned estimator on the last second.

    It is asked every 260 ms, a layer every 5 ms, so that no block waits for it; at the beginning twice before, at once,
    of what little has come. What it says moves the cutoff once two answers agree, or when it is the first, and then at
    a limited pace, so that nothing clicks. Down it takes eight, once it is sure: a sound that dies away ends lower, and
    a cutoff that is too low doubles what is there.

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
