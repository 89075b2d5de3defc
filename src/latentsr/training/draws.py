"""The random numbers of a training step: those of an example depend on (seed, step, example) alone.

However the global batch is shared out, between processes or between the parts of an accumulated step, example i gets
the same numbers, so that the gradients are those of one process with the whole batch.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor

SHARED = 2**31  # in the place of an example's number: what all examples of a step have in common


class Draws:
    """Draws for the examples `first` ... `first + count - 1` of the global batch of `step`.

    Every call draws anew, on the CPU. `generators` has one generator per example; `shared` is the same one in every
    process, for what is drawn once for the whole batch.

    >>> whole, half = Draws(0, 7, 0, 4), Draws(0, 7, 2, 2)
    >>> torch.equal(whole.uniform()[2:], half.uniform())
    True
    """

    def __init__(self, seed: int, step: int, first: int, count: int) -> None:
        self.generators = [_generator(seed, step, first + i) for i in range(count)]
        self.shared = _generator(seed, step, SHARED)

    def part(self, chosen: Tensor) -> Draws:
        """The draws of some of the examples, (B,) bool; they go on from where these stand."""
        part = copy.copy(self)
        part.generators = [g for g, wanted in zip(self.generators, chosen.tolist(), strict=True) if wanted]
        return part

    def uniform(self) -> Tensor:
        """(B,) float32 in [0, 1)"""
        return torch.stack([torch.rand((), generator=g) for g in self.generators])

    def chosen(self, share: float) -> Tensor:
        """(B,) bool: true with probability `share`"""
        return self.uniform() < share

    def normal(self, *shape: int) -> Tensor:
        """(B, *shape) float32, standard normal"""
        return torch.stack([torch.randn(shape, generator=g) for g in self.generators])

    def integers(self, high: int) -> Tensor:
        """(B,) int64 in [0, high)"""
        return torch.stack([torch.randint(0, high, (), generator=g) for g in self.generators])


def _generator(seed: int, step: int, example: int) -> torch.Generator:
    """torch's CPU generator keeps 32 bits of its seed, so they must be well mixed."""
    state = np.random.SeedSequence([seed, step, example]).generate_state(1)
    return torch.Generator().manual_seed(int(state[0]))
