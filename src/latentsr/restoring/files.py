"""Files in, files out, in bounded memory, whatever their length: listen first, then restore while writing.

At 48 kHz what comes out is what the restorer makes. At any other rate it is the recording itself at that rate, plus
what restoration added: a 96 kHz transfer keeps what it has above 24 kHz, and at its own rate a recording keeps its own
samples to the bit wherever nothing was added.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from latentsr import audio
from latentsr.audio import Album, Resampler, SourceFile, Target
from latentsr.config import AUDIO
from latentsr.options import Options
from latentsr.restoring.analysis import NO_HOLES, Heard, note_on_cutoff
from latentsr.restoring.bands import Bands, BandTable
from latentsr.restoring.engine import Restorer
from latentsr.restoring.live import LiveRestorer
from latentsr.restoring.source import CutoffTrack, resampled
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
    holes_hz: tuple[float | None, ...] = ()  # from where holes were filled, of each channel; None: it had none
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
    album: Album,
    targets: Sequence[str | os.PathLike[str]],
    heard: Heard,
    restorer_of: Callable[[Heard, float], Restorer | LiveRestorer | None],
    options: Options,
    beside: Beside | None = None,
) -> list[RestoredFile]:
    """Write recordings restored, through their joints where they play through; each file appears when it is whole.

    Args:
        album: the recordings, or the one.
        targets: where each goes; its extension says the format unless the options do.
        heard: what `listen` heard of them.
        restorer_of: given what was heard of a run of them and where it begins in seconds, makes a fresh restorer;
            None: the run is written as it is.
        options: rate, format and subtype of the files, and whether they may replace others.
        beside: what else is wanted; a made band of one recording only.
    """
    from_hz, rate = album.sample_rate, options.output_rate(album.sample_rate)
    if rate == AUDIO.sample_rate:
        peak = heard.peak
    elif rate == from_hz:
        peak = album.peak
    else:  # between the samples that were heard it may be larger
        peak = max(float(block.abs().max()) for block in resampled(album.native(), from_hz, rate))
    ceiling = max(1.0, peak)
    files = [
        Target.of(path, options.format, options.subtype, like=source.info.subtype, overwrite=options.overwrite)
        for path, source in zip(targets, album.sources, strict=True)
    ]
    gain = min(file.gain(ceiling) for file in files)
    writing, done, coming = _Writing(options, rate, gain, beside or Beside()), [], iter(files)
    for run in [album] if len(targets) == 1 else album.runs(heard.track.changes_s):
        bounds_s = run.bounds_s
        restorer = restorer_of(heard.part(bounds_s[0], bounds_s[-1]), run.start_s)
        pieces = mixed(run.native(), from_hz, restorer, rate, ceiling)
        if gain != 1.0:
            pieces = (np.clip(piece * np.float32(gain), -1.0, 1.0) for piece in pieces)
        restored = _Cut(pieces)
        given = _Cut(block.numpy() * np.float32(gain) for block in resampled(run.native(), from_hz, rate))
        for source, frames, span_s in zip(run.sources, run.lengths(rate), pairwise(bounds_s), strict=True):
            into = Into(source, next(coming), heard.part(*span_s), frames)
            file = writing.file(into, restored, given)
            done.append(replace(file, notes=(*file.notes, *(restorer.notes if restorer else ()))))
        left = restored.rest.shape[1] + sum(piece.shape[1] for piece in restored.pieces)  # it comes to its end
        assert left == 0, f"{left} samples too many"
    return done


@dataclass(frozen=True)
class Into:
    """One of the files that a run is written into."""

    source: SourceFile
    target: Target
    heard: Heard
    frames: int  # samples per channel of the file


@dataclass(frozen=True)
class _Writing:
    """How files are written."""

    options: Options
    rate: int  # Hz
    gain: float
    beside: Beside

    def file(self, into: Into, restored: _Cut, given: _Cut) -> RestoredFile:
        """Write a file of what was restored; `given` is what came, for what is wanted beside."""
        source, target, heard, frames = into.source, into.target, into.heard, into.frames
        info, beside, rate = source.info, self.beside, self.rate
        if beside.band is not None and Path(beside.band).resolve() == target.path.resolve():
            raise ValueError(f"the result and its made band would both be written to {target.path}; name another file")
        shape = (heard.channels, rate, frames)
        table = BandTable(rate) if beside.table else None
        with ExitStack() as files:
            writer = files.enter_context(audio.Writer(target, *shape, info.metadata))
            band = None
            if beside.band is not None:
                deep = Target.of(beside.band, like="FLOAT", overwrite=target.overwrite)
                band = files.enter_context(audio.Writer(deep, *shape, info.metadata))
            for piece in restored.take(frames):
                if band is not None or table is not None:
                    before = np.concatenate(list(given.take(piece.shape[1])), axis=1)
                if band is not None:
                    band.write(piece - before)
                if table is not None:
                    table.update(before, piece)
                writer.write(piece)
        track = heard.track.pairs
        lost = (target.depth_note(info.subtype), *writer.notes)
        none = NO_HOLES if self.options.repair and not heard.holed else None
        notes = (note_on_cutoff(track), *source.notes, *lost, none)
        return RestoredFile(
            path=target.path,
            sample_rate=rate,
            channels=heard.channels,
            samples=frames,
            subtype=target.subtype,
            cutoff_hz=heard.track.cutoff_hz,
            seconds=source.frames / info.sample_rate,
            gain=self.gain,
            lines_hz=heard.lines_hz,
            holes_hz=heard.holes_hz,
            notes=tuple(note for note in notes if note),
            cutoff_track=track,
            head=self.options.head,
            copied=replace(heard, peak=source.peak).why_copied(self.options),
            band=None if beside.band is None else Path(beside.band),
            bands=None if table is None else table.result(),
            account=source.account,
        )


@dataclass
class _Cut:
    """Pieces (C, n) of a stream, in other lengths."""

    pieces: Iterator[np.ndarray]
    rest: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))  # of the piece that was begun

    def take(self, count: int) -> Iterator[np.ndarray]:
        """The next `count` samples."""
        while count:
            piece = self.rest if self.rest.shape[1] else next(self.pieces)
            taken, self.rest = piece[:, :count], piece[:, count:]
            count -= taken.shape[1]
            if taken.shape[1]:
                yield taken


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
