"""Restore while it is played: `Live` for who has blocks, `LiveRestorer` for a recording that is there as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from numbers import Integral
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from latentsr.audio import MAX_CHANNELS
from latentsr.audio.arrays import Samples, as_numpy, checked_samples
from latentsr.audio.resampling import output_length
from latentsr.config import AUDIO
from latentsr.errors import AudioError, UsageError
from latentsr.heads.live import LATENCY, LiveHead, LiveStream
from latentsr.options import Options
from latentsr.restoring.source import resampled
from latentsr.signal.polyphase import Polyphase

if TYPE_CHECKING:
    from latentsr.restoring.flow import Restores

RATES = (4_000, 384_000)  # Hz


class Live:
    """A recording that is restored as it comes, block by block, with a delay that stays the same.

    Args:
        pipe: a model that has the live head: `Pipeline.from_pretrained()`.
        sample_rate: of the blocks, Hz.
        channels: of the blocks.
        cutoff_hz: where the band ends, Hz; None: it is listened for all the time.
        seed: of the noise in what is made.
        on_nonfinite: "error", or "zero": samples that are NaN or infinite become 0, and are counted in `nonfinite`.

    Raises:
        UsageError: a value is out of its range.
        ModelError: the model has no live head.

    >>> live = Live(pipe, sample_rate=16_000, channels=1)  # doctest: +SKIP
    >>> live.process(block).shape  # 10 ms in, 10 ms out  # doctest: +SKIP
    (1, 480)
    """

    def __init__(
        self,
        pipe: Restores,
        sample_rate: int,
        channels: int,
        *,
        cutoff_hz: float | None = None,
        seed: int = 0,
        on_nonfinite: Literal["error", "zero"] = "error",
    ) -> None:
        for name, value, (low, high) in (
            ("sample_rate", sample_rate, RATES),
            ("channels", channels, (1, MAX_CHANNELS)),
        ):
            if isinstance(value, bool) or not isinstance(value, Integral) or not low <= value <= high:
                raise UsageError(f"{name} must be a whole number of {low} to {high}, got {value!r}")
        self.options = Options(head="live", cutoff_hz=cutoff_hz, seed=seed, on_nonfinite=on_nonfinite)
        self.sample_rate, self.channels = int(sample_rate), int(channels)
        self._head = pipe.live_head()
        self.reset()

    def reset(self) -> None:
        """Begin anew, as if nothing had come."""
        options, rate = self.options, self.sample_rate
        self.nonfinite = 0
        self._stream = self._head.stream(self.channels, rate / 2, options.cutoff_hz, options.seed)
        self._resampler = None if rate == AUDIO.sample_rate else Polyphase(rate, AUDIO.sample_rate, self.channels)
        late = 0 if self._resampler is None else self._resampler.late
        self._ready = np.zeros((self.channels, late), np.float32)
        self._taken = self._given = 0  # samples at either rate
        self._flushed = False

    @property
    def latency_samples(self) -> int:
        """A sample comes out so many samples (at 48 kHz) after the place that it would have without a delay."""
        return LATENCY + (0 if self._resampler is None else self._resampler.late)

    @property
    def cutoff_hz(self) -> float:
        """Where the band is taken to end now, Hz; 24000: nothing is made."""
        return self._stream.cutoff.cutoff_hz

    def process(self, block: np.ndarray | Tensor) -> np.ndarray:
        """Take a block and give what is ready.

        Args:
            block: (C, n) float, or (n,) of a single channel; full scale 1.0; any n.

        Returns:
            (C, m) float32 at 48 kHz: of all n that came together, m are n x 48000 / sample_rate, rounded half up. The
            first `latency_samples` of them are silence.

        Raises:
            AudioError: another number of channels, no floats, or samples that are NaN or infinite. Nothing of the
                block was taken then, and the next one may come.
        """
        samples = self._checked(block)
        if self._flushed:
            raise UsageError("this recording was flushed; call reset() before the next one")
        self._taken += samples.shape[1]
        return self._pushed(samples, output_length(self._taken, self.sample_rate, AUDIO.sample_rate) - self._given)

    def flush(self) -> np.ndarray:
        """The last `latency_samples` (C, m); `reset` comes next."""
        if self._flushed:
            return np.zeros((self.channels, 0), np.float32)
        self._flushed = True
        beyond = -(-(self.latency_samples + 1) * self.sample_rate // AUDIO.sample_rate) + 1
        return self._pushed(np.zeros((self.channels, beyond), np.float32), self.latency_samples)

    def _pushed(self, samples: np.ndarray, count: int) -> np.ndarray:
        """Take in samples, give `count`."""
        ours = samples if self._resampler is None else self._resampler.push(samples)
        ready = np.concatenate([self._ready, self._stream.process(ours)], axis=1)
        self._ready = ready[:, count:].copy()
        self._given += count
        return ready[:, :count]

    def _checked(self, block: np.ndarray | Tensor) -> np.ndarray:
        given = as_numpy(block)
        given = given[None] if given.ndim == 1 else given
        if given.ndim != 2 or not np.issubdtype(given.dtype, np.floating):
            raise AudioError(f"a block is float, (channels, samples); got {given.dtype} {given.shape}")
        if len(given) != self.channels:
            raise AudioError(f"a block of {len(given)} channels came, {self.channels} were said; make another Live")
        samples = given.astype(np.float32)
        bad = ~np.isfinite(samples)
        if bad.any():
            if self.options.on_nonfinite == "error":
                raise AudioError(
                    f"{int(bad.sum())} samples of a block are NaN or infinite; repair them, or say on_nonfinite='zero'"
                )
            self.nonfinite += int(bad.sum())
            samples[bad] = 0.0
        return samples


class LiveRestorer:
    """What `Live` does to a recording that is at 48 kHz already, with the delay removed.

    `push` blocks (C, n), `finish`, and take what each yields, as from a `Restorer`.
    """

    latency_samples = LATENCY

    def __init__(
        self, head: LiveHead, options: Options, nyquist_hz: float, on_progress: Callable[[int, int], None] | None = None
    ) -> None:
        self.head, self.options, self.nyquist_hz, self.on_progress = head, options, nyquist_hz, on_progress
        self.notes: list[str] = []
        self._stream: LiveStream | None = None
        self._early, self._samples, self._channels = LATENCY, 0, 0

    def push(self, block: Tensor) -> Iterator[Tensor]:
        if self._stream is None:
            options = self.options
            self._channels = len(block)
            self._stream = self.head.stream(self._channels, self.nyquist_hz, options.cutoff_hz, options.seed)
        made = self._stream.process(block.numpy())
        early = min(self._early, made.shape[1])
        self._early, self._samples = self._early - early, self._samples + block.shape[1]
        yield torch.from_numpy(made[:, early:])
        if self.on_progress is not None:
            self.on_progress(self._samples, self._samples)

    def finish(self) -> Iterator[Tensor]:
        if self._stream is not None:
            made = self._stream.process(np.zeros((self._channels, LATENCY), np.float32))
            yield torch.from_numpy(made[:, self._early :])

    def whole(self, wave: Tensor) -> tuple[np.ndarray, list[str]]:
        """A whole recording (C, T) restored, and what should be known of the result."""
        return torch.cat([*self.push(wave), *self.finish()], dim=-1).numpy(), self.notes


def live_stream(blocks: Iterable[Samples], restorer: LiveRestorer, sample_rate: int) -> Iterator[np.ndarray]:
    """Blocks (C, n) at `sample_rate` in, blocks at 48 kHz out, without the delay."""
    for block in resampled(map(checked_samples, blocks), sample_rate):
        yield from (piece.numpy() for piece in restorer.push(block))
    yield from (piece.numpy() for piece in restorer.finish())
