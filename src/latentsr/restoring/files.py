"""A file in, a file out, in bounded memory, whatever its length: listen first, then restore while writing.

At 48 kHz what comes out is what the restorer makes. At any other rate it is the recording itself at that rate, plus
what restoration added: a 96 kHz transfer keeps what it has above 24 kHz, and at its own rate a recording keeps its own
samples to the bit wherever nothing was added.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from latentsr import audio
from latentsr.audio import Resampler, SourceFile
from latentsr.config import AUDIO
from latentsr.options import Options
from latentsr.restoring.analysis import Heard, peak_of
from latentsr.restoring.bands import Bands, BandTable
from latentsr.restoring.engine import Restorer
from latentsr.restoring.live import LiveRestorer
from latentsr.restoring.output import CutoffTrack, note_on_cutoff
from latentsr.restoring.source import resampled
from latentsr.signal.level import StreamTurnDown


@dataclass(frozen=True)
class RestoredFile:
    """What was written, and what was found out on the way."""

    path: Path
    sample_rate: int  # Hz, of the file
    channels: int
    samples: int  # per channel, of the file
    subtype: str
    cutoff_hz: float  # median over time and channels; half of 48 kHz: full band, nothing to do
    seconds: float  # duration of the recording
    gain: float  # 1.0 unless a recording above full scale went into a format that ends there
    lines_hz: tuple[float, ...] = ()  # steady tones that were taken out
    notes: tuple[str, ...] = ()  # what should be known of the result, a line each
    cutoff_track: CutoffTrack = field(default_factory=list)
    head: str | None = None  # that made it, where something was made
    copied: str | None = None  # why nothing was made
    band: Path | None = None  # the file of what was made alone
    bands: Bands | None = None  # what was kept, raised and made
    account: audio.Account | None = None  # what was read of the recording, by whom


@dataclass(frozen=True)
class Beside:
    """What is wanted beside the restored file: the made band alone in another one, and a table of bands."""

    band: str | os.PathLike[str] | None = None
    table: bool = False


def write_restored(
    source: SourceFile,
    target: str | os.PathLike[str],
    heard: Heard,
    restorer: Restorer | LiveRestorer | None,
    options: Options,
    beside: Beside | None = None,
) -> RestoredFile:
    """Write a recording restored; the file appears when it is whole.

    Args:
        source: the recording.
        target: where; its extension says the format unless the options do.
        heard: what `listen` heard of it.
        restorer: fresh; None writes the recording as it is.
        options: rate, format and subtype of the file, and whether it may replace another.
        beside: what else is wanted.
    """
    beside = beside or Beside()
    if beside.band is not None and Path(beside.band).resolve() == Path(target).resolve():
        raise ValueError(f"the result and its made band would both be written to {target}; name another file")
    info, rate = source.info, options.output_rate(source.info.sample_rate)
    name = audio.container(target, options.format)
    subtype = options.subtype or audio.choose_subtype(name, info.subtype)
    if rate == AUDIO.sample_rate:
        peak = heard.peak
    elif rate == info.sample_rate:
        peak = source.peak
    else:  # between the samples that were heard it may be larger
        peak = max(peak_of(block) for block in resampled(source.native(), info.sample_rate, rate))
    ceiling = max(1.0, peak)
    gain = audio.full_scale_gain(ceiling, subtype)
    frames = audio.output_length(source.frames, info.sample_rate, rate)
    shape = (heard.channels, rate, frames)
    about: dict[str, Any] = {"overwrite": options.overwrite, "metadata": info.metadata}
    pieces = mixed(source.native(), info.sample_rate, restorer, rate, ceiling)
    if gain != 1.0:
        pieces = (np.clip(piece * np.float32(gain), -1.0, 1.0) for piece in pieces)
    table = BandTable(rate) if beside.table else None
    with ExitStack() as files:
        writer = files.enter_context(audio.Writer(target, *shape, subtype=subtype, format=name, **about))
        band = None
        if beside.band is not None:
            deep = audio.choose_subtype(audio.container(beside.band), "FLOAT")
            band = files.enter_context(audio.Writer(beside.band, *shape, subtype=deep, **about))
        if band is not None or table is not None:
            given = (block.numpy() * np.float32(gain) for block in resampled(source.native(), info.sample_rate, rate))
            pieces = _told_of(pieces, given, band, table)
        for piece in pieces:
            writer.write(piece)
    lost = (audio.depth_note(name, subtype, info.subtype), *writer.notes)
    notes = (note_on_cutoff(heard.track.pairs), *source.notes, *(restorer.notes if restorer else ()), *lost)
    return RestoredFile(
        path=Path(target),
        sample_rate=rate,
        channels=heard.channels,
        samples=frames,
        subtype=subtype,
        cutoff_hz=heard.track.cutoff_hz,
        seconds=source.frames / info.sample_rate,
        gain=gain,
        lines_hz=heard.lines_hz,
        notes=tuple(note for note in notes if note),
        cutoff_track=heard.track.pairs,
        head=options.head,
        copied=heard.why_copied(options) if restorer is None else None,
        band=None if beside.band is None else Path(beside.band),
        bands=None if table is None else table.result(),
        account=source.account,
    )


def _told_of(
    pieces: Iterable[np.ndarray], given: Iterator[np.ndarray], band: audio.Writer | None, table: BandTable | None
) -> Iterator[np.ndarray]:
    """The same pieces; on their way, what the recording has there is compared with each."""
    queue = _Queue()
    for piece in (each for each in pieces if each.shape[1]):
        while len(queue) < piece.shape[1]:
            queue.put(next(given))
        before = queue.take(piece.shape[1])
        if band is not None:
            band.write(piece - before)
        if table is not None:
            table.update(before, piece)
        yield piece


def mixed(
    blocks: Iterable[np.ndarray], from_hz: int, restorer: Restorer | LiveRestorer | None, to_hz: int, ceiling: float
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
        yield from (block.numpy() for block in resampled(blocks, from_hz, to_hz))
    elif to_hz == AUDIO.sample_rate:
        for block in resampled(blocks, from_hz):
            yield from (piece.numpy() for piece in restorer.push(block))
        yield from (piece.numpy() for piece in restorer.finish())
    else:
        yield from _AtRate(restorer, from_hz, to_hz, ceiling).pieces(blocks)


class _AtRate:
    """base(t) + resampled(restored(t) - low(t)): each runs ahead of the others, and waits for them in a queue."""

    def __init__(self, restorer: Restorer | LiveRestorer, from_hz: int, to_hz: int, ceiling: float) -> None:
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
