"""The process with the model: one job after another, each from an upload to a folder of results.

A folder holds the restored recording, `before.flac` and `after.flac` to listen to (16 bit, 48 kHz, as long, in one
scale), and `before.png` and `after.png` to look at; hidden from visitors, the made band for other gains (`remix`).
"""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import chain
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from latentsr import audio
from latentsr.apps.children import say
from latentsr.apps.restore import writable_extension
from latentsr.apps.web.look import look, sentence
from latentsr.config import AUDIO
from latentsr.options import Options

if TYPE_CHECKING:  # it imports torch
    from latentsr.restoring.flow import Restores

LISTEN_S = 300.0  # how much of a recording there is to listen to in the page
MOST_CHANNELS = 2  # of the same; more are averaged
RESTORING_SHARE = 0.8  # of the work, as progress has it
PROGRESS_S = 0.15  # between two messages
BAND = ".band.wav"  # the made band of a result, at an amount of 100 % and without a tilt
KEPT = ".kept.json"

Step = Callable[[float, str], None]  # (fraction done, what is being done)


class StoppedError(Exception):
    """Nobody wants the result any more."""


@dataclass(frozen=True)
class Order:
    """What is wanted, and where; it can be sent as JSON."""

    source: str
    name: str  # of the recording, as the page calls it
    folder: str
    max_seconds: float
    choices: dict[str, Any]  # of `Options`
    made: str | None = None  # a folder whose made band is taken instead of a new one

    @property
    def options(self) -> Options:
        """How to restore."""
        return Options(**self.choices)


@dataclass(frozen=True)
class Result:
    """What became of it."""

    name: str  # of the restored recording
    head: str
    cutoff_hz: float
    duration_s: float
    seconds: float  # of work
    sample_rate: int  # Hz, of the restored file
    channels: int
    samples: int
    subtype: str
    bytes: int
    gain: float
    source_rate: int  # Hz
    lines_hz: tuple[float, ...]
    notes: tuple[str, ...]
    copied: str | None = None  # why nothing was made


@dataclass(frozen=True)
class Kept:
    """What other gains take over from the first restoration, beside the band and what is shown of the recording."""

    result: Result
    peak: float  # the recording's largest absolute sample
    samples: int  # at 48 kHz, of the result
    top_db: float  # the brightest colour of the pictures
    scale: float  # of what is heard: FLAC ends at full scale

    @classmethod
    def of(cls, made: Path, folder: Path) -> Kept:
        """That of an earlier folder, whose files are this one's too."""
        for name in (BAND, KEPT, "before.png", "before.flac"):
            os.link(made / name, folder / name)
        words = json.loads((folder / KEPT).read_text())
        return cls(**words | {"result": Result(**words["result"])})


def restored(model: Restores, order: Order, step: Step) -> Result:
    """Do the work of an order; raises `AudioError` and whatever else a recording can die of."""
    from latentsr.apps.web.remix import remix  # it imports torch

    folder, options = Path(order.folder), order.options
    started = time.perf_counter()
    before = audio.SourceFile(Path(order.source), **options.reading)
    kept = None if order.made is None else Kept.of(Path(order.made), folder)
    first, peak = _restored_first(model, order, before, step) if kept is None else (kept.result, kept.peak)
    result = first
    if (folder / BAND).exists() and (kept is not None or options != _plain(options)):
        result = remix(order, first, peak, before, lambda: step(RESTORING_SHARE, "Mixing"))
    seconds = time.perf_counter() - started
    after = audio.SourceFile(folder / result.name)
    if kept is None:
        kept = _show_before(before, after, first, peak, folder, step)
        if (folder / BAND).exists():
            (folder / KEPT).write_text(json.dumps(asdict(kept)))
    _show_after(after, kept, folder, step)
    return replace(result, seconds=seconds)


def _plain(options: Options) -> Options:
    return options.but(amount=1.0, tilt=0.0)


def _restored_first(model: Restores, order: Order, before: audio.SourceFile, step: Step) -> tuple[Result, float]:
    """Its recording restored, and the recording's largest absolute sample; the made band is kept where it can be."""
    source, folder, options = Path(order.source), Path(order.folder), order.options
    step(0.0, "Reading")
    seen = look(source, order.max_seconds, options.salvage, lambda: step(0.0, "Reading"))
    target = folder / output_name(order.name)
    alone = options.amount == 0 or options.denoise or options.repair  # nothing is made; or more than a band is changed
    written = model.restore_file(
        before, target, options=options if alone else _plain(options), progress=_restoring(step),
        write_band=None if alone else folder / BAND,
    )  # fmt: skip
    step(RESTORING_SHARE, "Drawing")
    result = Result(
        name=target.name,
        head=str(written.head),
        cutoff_hz=float(written.cutoff_hz),
        duration_s=written.seconds,
        seconds=0.0,
        sample_rate=written.sample_rate,
        channels=written.channels,
        samples=written.samples,
        subtype=written.subtype,
        bytes=target.stat().st_size,
        gain=written.gain,
        source_rate=seen.sample_rate,
        lines_hz=tuple(round(hz, 1) for hz in written.lines_hz),
        notes=(*_format_note(order.name, target.name), *written.notes),
        copied=written.copied,
    )
    return result, before.peak


def output_name(name: str) -> str:
    """What the restored `name` is called: in its own format where that can be written.

    >>> output_name("old.mp3"), output_name("voice memo.m4a")
    ('old.48k.mp3', 'voice memo.48k.flac')
    """
    return f"{Path(name).stem}.{AUDIO.sample_rate // 1000}k.{writable_extension(Path(name))}"


def _format_note(name: str, target: str) -> tuple[str, ...]:
    before, after = Path(name).suffix.lower().removeprefix("."), Path(target).suffix.removeprefix(".")
    return () if before == after.lower() else (f"{before or 'a name without an extension'} came back as {after}",)


def answer(model: Restores, fields: dict[str, Any], pipe: Connection) -> dict[str, Any]:
    """Do the work of an order in a `children.Child`; what comes over the pipe meanwhile stops it."""
    order = Order(**fields)
    try:
        return {"result": asdict(restored(model, order, _reporter(pipe)))}
    except StoppedError:
        return {"stopped": True}
    except Exception as error:
        text = sentence(error, Path(order.source), order.name)
        if text is not None:
            return {"error": text}
        return {
            "error": f"{order.name} could not be restored; the server's log says why",
            "log": traceback.format_exc(),
        }


def _reporter(pipe: Connection) -> Step:
    said, fraction_said, what_said = 0.0, 0.0, ""

    def step(fraction: float, what: str) -> None:
        nonlocal said, fraction_said, what_said
        if pipe.poll():  # whatever comes in mid-work means: stop
            pipe.recv_bytes()
            raise StoppedError
        if time.monotonic() - said > PROGRESS_S or what != what_said:
            said, fraction_said, what_said = time.monotonic(), max(fraction, fraction_said), what
            say(pipe, working=[fraction_said, what])

    return step


def _restoring(step: Step) -> Callable[[float, float], None]:
    def progress(done_s: float, total_s: float) -> None:
        step(RESTORING_SHARE * done_s / max(total_s, 1e-9), f"Restoring: {done_s:.1f} of {total_s:.1f} s")

    return progress


# --- to be listened to and looked at ----------------------------------------------------------------------------------


def _show_before(
    before: audio.SourceFile, after: audio.SourceFile, first: Result, peak: float, folder: Path, step: Step
) -> Kept:
    """Picture and listening copy of a recording, as long as its result; the scale of both is that of the result too."""
    from latentsr.apps.web import spectrogram

    samples = sum(block.shape[1] for block in _blocks(after, step))
    columns = spectrogram.Columns(samples)
    for block in _blocks(before, step, first.gain):
        columns.push(block)
    levels_db = columns.levels_db()
    kept = Kept(first, peak, samples, float(levels_db.max()), 1.0 / max(1.0, columns.peak))
    spectrogram.draw(levels_db, kept.top_db, folder / "before.png")
    _copy(_blocks(before, step, kept.scale * first.gain), folder / "before.flac", samples)
    return kept


def _show_after(after: audio.SourceFile, kept: Kept, folder: Path, step: Step) -> None:
    from latentsr.apps.web import spectrogram

    columns = spectrogram.Columns(kept.samples)

    def looked_at() -> Iterator[np.ndarray]:
        for block in _blocks(after, step):
            columns.push(block)
            yield block * np.float32(kept.scale)

    _copy(looked_at(), folder / "after.flac", kept.samples)
    spectrogram.draw(columns.levels_db(), kept.top_db, folder / "after.png")


def _blocks(source: audio.SourceFile, step: Step, gain: float = 1.0) -> Iterator[np.ndarray]:
    from latentsr.restoring.source import resampled  # it imports torch

    for block in resampled(source.native(), source.sample_rate):
        step(RESTORING_SHARE, "Drawing")
        yield block.numpy() * np.float32(gain)


def _copy(blocks: Iterator[np.ndarray], path: Path, samples: int) -> None:
    """The beginning of a recording, `samples` at most, for a browser; all of it is gone through."""
    left = min(samples, round(LISTEN_S * AUDIO.sample_rate))
    first = _folded(next(blocks))  # a recording without samples was refused before
    target = audio.Target.of(path, subtype="PCM_16")
    with audio.Writer(target, first.shape[0], AUDIO.sample_rate, left) as writer:
        for block in chain([first], map(_folded, blocks)):
            writer.write(np.clip(block[:, :left], -1, 1))
            left -= min(block.shape[1], left)


def _folded(block: np.ndarray) -> np.ndarray:
    return block if block.shape[0] <= MOST_CHANNELS else block.mean(axis=0, keepdims=True)
