"""Other gains on the made band of a restoration that is kept: what `restore --amount --tilt` does, without the head."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
import torch

from latentsr import audio
from latentsr.apps.web.work import BAND, Order, Result
from latentsr.options import Options
from latentsr.restoring.chain import REACH, Control
from latentsr.restoring.source import resampled
from latentsr.signal.level import StreamTurnDown


def remix(order: Order, made: Result, peak: float, source: audio.SourceFile, tick: Callable[[], None]) -> Result:
    """Write the recording of an order with its made band at other gains; `peak` is the recording's largest sample.

    The tilt begins at one cutoff, the median over time and channels.
    """
    folder = Path(order.folder)
    shape = (made.channels, made.sample_rate, made.samples)
    target = audio.Target.of(folder / made.name, subtype=made.subtype, overwrite=True)
    with (
        audio.Writer(target, *shape, source.info.metadata) as writer,
        soundfile.SoundFile(folder / BAND) as band,
    ):
        for piece in _pieces(source, band, order.options, made, max(1.0, peak * made.gain)):
            writer.write(piece)
            tick()
    return replace(made, bytes=(folder / made.name).stat().st_size)


def _pieces(
    source: audio.SourceFile, band: soundfile.SoundFile, options: Options, made: Result, ceiling: float
) -> Iterator[np.ndarray]:
    control, limit, at = Control.of(options) or Control(), StreamTurnDown(ceiling), 0
    for block in resampled(source.native(), source.sample_rate):
        given, count = block * made.gain, block.shape[1]
        first = max(at - REACH, 0)  # the filter looks at both sides
        band.seek(first)
        around = band.read(at + count + REACH - first, dtype="float32", always_2d=True)
        wave = torch.from_numpy(np.ascontiguousarray(around.T))[:, None]
        cutoffs = torch.full((made.channels,), made.cutoff_hz)
        changed = control(torch.zeros_like(wave), wave, cutoffs)[:, 0, at - first :][:, :count]
        at += count
        yield limit.push(given, given + changed).numpy()
    yield limit.finish().numpy()
