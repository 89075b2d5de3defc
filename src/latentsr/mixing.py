"""A recording and what restoration adds to it, at the rate that was asked for.

At 48 kHz what comes out is what the restorer makes. At any other rate it is the recording itself at that rate, plus
what restoration added: a 96 kHz transfer keeps what it has above 24 kHz, and at its own rate a recording keeps its own
samples to the bit wherever nothing was added.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch

from latentsr.config import AUDIO
from latentsr.signal.level import StreamTurnDown
from latentsr.source import Resampler, resampled
from latentsr.windowed import Restorer


def mixed(
    blocks: Iterable[np.ndarray], from_hz: int, restorer: Restorer | None, to_hz: int, ceiling: float
) -> Iterator[np.ndarray]:
    """Restore blocks (C, n) at `from_hz`, and give pieces (C, m) at `to_hz`.

    Args:
        blocks: the recording.
        from_hz: its rate, Hz.
        restorer: fresh; None leaves the recording as it is.
        to_hz: rate of the pieces, Hz.
        ceiling: the largest absolute sample of the pieces; the recording's own at `to_hz`, 1.0 at least.
    """
    if restorer is None:
        return (block.numpy() for block in resampled(blocks, from_hz, to_hz))
    if to_hz == AUDIO.sample_rate:
        return _restored(blocks, from_hz, restorer)
    return _AtRate(restorer, from_hz, to_hz, ceiling).pieces(blocks)


def _restored(blocks: Iterable[np.ndarray], from_hz: int, restorer: Restorer) -> Iterator[np.ndarray]:
    for block in resampled(blocks, from_hz):
        yield from (piece.numpy() for piece in restorer.push(block))
    yield from (piece.numpy() for piece in restorer.finish())


class _AtRate:
    """base(t) + resampled(restored(t) - low(t)): each runs ahead of the others, and waits for them in a queue."""

    def __init__(self, restorer: Restorer, from_hz: int, to_hz: int, ceiling: float) -> None:
        self.restorer = restorer
        self.to_low, self.to_base = Resampler(from_hz, AUDIO.sample_rate), Resampler(from_hz, to_hz)
        self.to_added = Resampler(AUDIO.sample_rate, to_hz)
        self.low, self.base, self.added = _Queue(), _Queue(), _Queue()
        self.limit = StreamTurnDown(ceiling)

    def pieces(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for block in blocks:
            self.base.put(self.to_base.push(block))
            yield self._push(self.to_low.push(block))
        self.base.put(self.to_base.finish())
        yield self._push(self.to_low.finish())
        for piece in self.restorer.finish():
            yield self._take_up(piece.numpy())
        self.added.put(self.to_added.finish())
        # Two roundings on the way to 48 kHz and on may make one sample more or less than one.
        self.added.put(np.zeros((self.base.channels, max(len(self.base) - len(self.added), 0)), np.float32))
        yield self._joined()
        yield self.limit.finish().numpy()

    def _push(self, low: np.ndarray) -> np.ndarray:
        self.low.put(low)
        made = [self._take_up(piece.numpy()) for piece in self.restorer.push(torch.from_numpy(low))]
        return np.concatenate(made, axis=1) if made else low[:, :0]

    def _take_up(self, restored: np.ndarray) -> np.ndarray:
        self.added.put(self.to_added.push(restored - self.low.take(restored.shape[1])))
        return self._joined()

    def _joined(self) -> np.ndarray:
        count = min(len(self.base), len(self.added))
        base, added = self.base.take(count), self.added.take(count)
        return self.limit.push(torch.from_numpy(base), torch.from_numpy(base + added)).numpy()


class _Queue:
    """Samples (C, n) that wait, first in, first out."""

    def __init__(self) -> None:
        self._blocks: list[np.ndarray] = []
        self._length = self.channels = 0

    def __len__(self) -> int:
        return self._length

    def put(self, block: np.ndarray) -> None:
        self._blocks.append(block)
        self._length, self.channels = self._length + block.shape[1], block.shape[0]

    def take(self, count: int) -> np.ndarray:
        taken, have = [], 0
        while have < count:
            block = self._blocks.pop(0)
            if block.shape[1] > count - have:
                self._blocks.insert(0, block[:, count - have :])
                block = block[:, : count - have]
            taken.append(block)
            have += block.shape[1]
        self._length -= count
        return np.concatenate(taken, axis=1) if taken else np.zeros((self.channels, 0), np.float32)
