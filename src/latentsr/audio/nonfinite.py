"""Samples that are no numbers: counted, found, and replaced by zeros."""

from __future__ import annotations

import numpy as np


class NonFinite:
    """The samples of a recording that are NaN or infinite, as its blocks come by."""

    def __init__(self) -> None:
        self.count = 0
        self.first = self.channel = 0  # sample and channel, from 0, of the first one

    def look(self, start: int, block: np.ndarray) -> bool:
        """Count those in a block (C, n) whose first sample is number `start`; whether there are any."""
        bad = ~np.isfinite(block)
        if not (found := int(bad.sum())):
            return False
        if not self.count:
            inside = int(np.flatnonzero(bad.any(axis=0))[0])
            self.first, self.channel = start + inside, int(np.flatnonzero(bad[:, inside])[0])
        self.count += found
        return True

    def counted(self) -> str:
        """How many there are, in words."""
        return (
            "1 sample that is NaN or infinite" if self.count == 1 else f"{self.count} samples that are NaN or infinite"
        )

    def where(self, sample_rate: int) -> str:
        """Where the first one is, in words."""
        return f"at {self.first / sample_rate:.6f} s (sample {self.first}, channel {self.channel + 1})"


def zeroed(block: np.ndarray) -> np.ndarray:
    """A block with zeros in the place of samples that are NaN or infinite."""
    return np.where(np.isfinite(block), block, np.float32(0))
