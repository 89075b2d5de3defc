"""A recording that comes in blocks: listen first, then restore as it comes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from latentsr.listening import Heard, listen
from latentsr.windowed import OnProgress, Restorer


class MakeRestorer(Protocol):
    """Makes a restorer of what was heard of a recording."""

    def __call__(self, heard: Heard, on_progress: OnProgress | None = None) -> Restorer: ...


def latency_samples(make: MakeRestorer) -> int:
    """A sample that goes into `stream` comes out when so many more have gone in, at the latest."""
    return make(Heard(0, 1, 0.0, 0.0)).latency_samples


def stream(
    blocks: Iterator[Tensor], make: MakeRestorer, cutoff_hz: float | None, peak: float | None, denoise: bool
) -> Iterator[np.ndarray]:
    """Blocks (C, n) at 48 kHz in, restored blocks out.

    Cutoff and peak, unless given, are those of the first blocks, as many as the restorer waits for anyway; so are the
    steady lines and hiss that `denoise` takes out.
    """
    latency = latency_samples(make)
    first: list[Tensor] = []
    for block in blocks:
        first.append(block)
        if sum(b.shape[-1] for b in first) >= latency:
            break
    if not first:
        return
    beginning = torch.cat(first, dim=-1)
    heard = listen(lambda: [beginning], denoise, cutoff_hz)
    heard = heard if peak is None else replace(heard, peak=peak)
    if heard.full_band and not denoise:
        yield beginning.numpy()
        for block in blocks:
            yield block.numpy()
        return
    restorer = make(heard)
    yield from _run(restorer, beginning)
    for block in blocks:
        yield from _run(restorer, block)
    yield from _run(restorer, None)


def _run(restorer: Restorer, block: Tensor | None) -> list[np.ndarray]:
    """Push a block, or finish. Inference mode must not stay on while a generator waits for its caller."""
    with torch.inference_mode():
        pieces = restorer.finish() if block is None else restorer.push(block)
        return [piece.numpy() for piece in pieces]
