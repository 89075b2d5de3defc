"""A recording that comes in blocks: listen first, then restore as it comes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from latentsr.audio.arrays import Samples, checked_samples
from latentsr.options import Options
from latentsr.restoring.analysis import Heard, estimator, hear
from latentsr.restoring.chain import Chain
from latentsr.restoring.engine import Restorer
from latentsr.restoring.source import resampled
from latentsr.signal.correlation import Correlation
from latentsr.signal.holes import LOWEST_HZ
from latentsr.signal.track import FULL_BAND_HZ, Track

Chains = Callable[[Heard], Chain]  # makes the chain of what was heard of a recording


def latency_samples(chains: Chains, options: Options) -> int:
    """A sample that goes into `stream` comes out when so many more have gone in, at the latest."""
    holes_hz = (LOWEST_HZ,) if options.repair else ()
    return Restorer(chains(Heard(0, 1, 0.0, Track.constant(FULL_BAND_HZ, 1, 0.0), holes_hz=holes_hz))).latency_samples


def stream(
    blocks: Iterable[Samples],
    sample_rate: int,
    chains: Chains,
    options: Options,
    peak: float | None = None,
    alike: Correlation | None = None,
) -> Iterator[np.ndarray]:
    """Blocks (C, n) at `sample_rate` in, restored blocks at 48 kHz out.

    Cutoff, largest absolute sample and correlation of the channels, unless given, are those of the first blocks, as
    many as the restorer waits for anyway; so are the lines and hiss that `denoise` takes out, and where
    holes begin. Where a channel's band ends at their end, it ends for good.
    """
    latency = latency_samples(chains, options)
    band = estimator(sample_rate, options)
    hearing = [] if band is None else [band.update]  # the first blocks only

    def tap(block: np.ndarray) -> None:
        for update in hearing:
            update(block)

    ours = resampled(map(checked_samples, blocks), sample_rate, tap=tap)
    first: list[Tensor] = []
    for block in ours:
        first.append(block)
        if sum(b.shape[-1] for b in first) >= latency:
            break
    if not first:
        return
    hearing.clear()
    beginning = torch.cat(first, dim=-1)
    heard = hear(lambda: [beginning], [beginning], band, options)
    alike = alike or heard.channel_correlation
    heard = replace(heard, peak=heard.peak if peak is None else peak, channel_correlation=alike)
    if not options.denoise and not heard.holed and (heard.track.full_band or options.amount == 0):
        yield beginning.numpy()
        for block in ours:
            yield block.numpy()
        return
    restorer = Restorer(chains(heard))
    yield from _run(restorer, beginning)
    for block in ours:
        yield from _run(restorer, block)
    yield from _run(restorer, None)


def _run(restorer: Restorer, block: Tensor | None) -> list[np.ndarray]:
    """Push a block, or finish. Inference mode must not stay on while a generator waits for its caller."""
    with torch.inference_mode():
        pieces = restorer.finish() if block is None else restorer.push(block)
        return [piece.numpy() for piece in pieces]
