"""Sound as it is played: blocks at 48 kHz in, the same with what is made above the cutoff out, 15 ms late."""

from __future__ import annotations

import numpy as np
import torch

from latentsr.heads.running_cutoff import RunningCutoff
from latentsr.models.excitation import HOP
from latentsr.models.live import DELAY, LiveGenerator, band_of
from latentsr.signal.track import FULL_BAND_HZ

LATENCY = DELAY + HOP  # samples: a hop fills up, wherever the blocks end
AT_ONCE = 64  # hops that the network gets at most


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
