"""The engine: a recording goes in, in blocks of any size, and comes out restored, window by window.

A window of diffusion makes latents, cross-faded with its neighbours'; a window of decoding makes them a wave and puts
the low band back, for each stretch that sounds in it (see `stretches`). Both run as soon as their context is there, so
that a whole file and a stream are the same thing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import chain as chained
from itertools import groupby
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from latentsr.config import AUDIO
from latentsr.restoring.chain import EDGE_SAMPLES, Chain
from latentsr.restoring.repair import RepairChain
from latentsr.restoring.stretches import Latents, Part, Stretches, lay_over
from latentsr.signal.chunks import Window, take, trapezoid, window_at
from latentsr.signal.level import StreamTurnDown, keep_silence, turn_down
from latentsr.signal.track import FULL_BAND_HZ, Track

T = TypeVar("T")
logger = logging.getLogger(__name__)

CORE = 64  # latent frames that one window answers for: 5.12 s at 8 mel frames each
SMALLEST_CORE = 8  # what is left of it where memory runs out
MARGIN = 8  # looked at on each side; the outer half is thrown away, the inner half cross-faded
FADE = 8
SEAM_SAMPLES = 480  # of cross-fade between decoded windows: normalisation layers see each window as a whole
REACH = SEAM_SAMPLES + StreamTurnDown.CONTEXT  # samples beside a decoded window's core that its result depends on
ENDLESS = 2**62  # latent frames of a stream that has not ended

# The last is oneDNN's, which has the same words for whatever stops it.
SHORTAGES = ("out of memory", "can't allocate memory", "not enough memory", "could not create a primitive")

OnProgress = Callable[[int, int], None]  # (samples diffused, samples decoded)


class TooLittleMemoryError(MemoryError):
    """Even the smallest windows do not fit."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: of a GPU, for which torch has a class, or of the machine, for which it has words."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return any(words in str(error).lower() for words in SHORTAGES)


class Restorer:
    """Restores one recording: `push` blocks (C, n) at 48 kHz, `finish`, and take what each yields.

    What comes out is in order, without gaps, and as long as what went in. The result does not depend on how the
    recording was cut into blocks.

    Args:
        chain: what is done to a window.
        on_progress: called when a window is done.
        threads: so many windows are decoded at once, where no latents are drawn, each in a thread of its own. Where
            torch itself takes one thread (`torch.set_num_threads(1)`), their number changes no bit of the result.
    """

    def __init__(self, chain: Chain, on_progress: OnProgress | None = None, threads: int = 1) -> None:
        self.chain, self.diffusion, self.on_progress = chain, chain.diffusion, on_progress
        self.hop, self.margin = chain.hop, chain.margin
        self.threads = threads if self.diffusion is None and chain.head.device.type == "cpu" else 1
        self.batch_size = 1 if self.diffusion is None else chain.options.batch_size
        self.cores = {"diffusion": CORE, "decoding": CORE}  # positions that a window answers for
        self._notes: list[str] = []
        repair = RepairChain(chain) if chain.heard.holed else None
        self.repaired = None if repair is None else Restorer(repair, threads=threads)  # what comes first
        self.shortage = ""  # the last error for want of memory
        self.apart = chain.heard.mid_side is not None  # mid and side are restored, and turned back
        track, denoise = chain.heard.mid_side or chain.heard.track, chain.options.denoise
        if chain.heard.holed and replace(chain.heard, holes_hz=()).why_copied(chain.options):  # nothing else is done
            track = Track.constant(FULL_BAND_HZ, chain.heard.channels, track.seconds)
        if chain.heard.mid_side is not None:
            self._notes.append(_note_on_side(chain.heard.mid_side))
        elif chain.options.mid_side:
            self._notes.append("its side does not end lower than its mid: left and right were restored")
        self.stretches = Stretches(track, self.hop, self.margin, REACH, full_band=denoise)
        self.wave = torch.zeros(0, 0)  # what is still needed of the recording
        self.offset = self.samples = 0  # samples before it that are gone; those that came in all
        self.total = ENDLESS  # positions of the recording
        self.diffused = self.decoded = 0  # positions that are done
        self.latents: dict[Part, Latents] = {}  # of the stretches that are being drawn or decoded
        self.tail: Tensor | None = None  # (C, SEAM_SAMPLES) of the last decoded window, past its end

    @property
    def latency_samples(self) -> int:
        """A sample that goes in comes out when so many more have gone in, at the latest."""
        positions = CORE + self.margin
        if self.diffusion is not None:
            windows = -(-(positions + FADE // 2) // CORE)
            last = window_at((windows - 1) * CORE, ENDLESS, CORE, MARGIN, self.diffusion.multiple)
            positions = max(positions, last.last)
        before = 0 if self.repaired is None else self.repaired.latency_samples
        return before + positions * self.hop + EDGE_SAMPLES

    @property
    def notes(self) -> list[str]:
        """What should be known of the result."""
        before = [] if self.repaired is None else self.repaired.notes
        return [*before, *filter(None, [self.chain.note]), *self._notes]

    def push(self, block: Tensor) -> Iterator[Tensor]:
        """Take in samples (C, n); yield what is ready."""
        for piece in [block] if self.repaired is None else self.repaired.push(block):
            yield from self._push(piece)

    def finish(self) -> Iterator[Tensor]:
        """Yield the rest."""
        for piece in () if self.repaired is None else self.repaired.finish():
            yield from self._push(piece)
        self.total = -(-self.samples // self.hop)
        yield from self._ready()

    def whole(self, wave: Tensor) -> tuple[np.ndarray, list[str]]:
        """A whole recording (C, T) restored, and what should be known of the result."""
        restored, at = np.empty(tuple(wave.shape), np.float32), 0
        for piece in chained(self.push(wave), self.finish()):
            restored[:, at : at + piece.shape[-1]] = piece.numpy()
            at += piece.shape[-1]
        return restored, self.notes

    def _push(self, block: Tensor) -> Iterator[Tensor]:
        self.wave = torch.cat([self.wave, block], dim=-1) if self.wave.numel() else block
        self.samples += block.shape[-1]
        yield from self._ready()

    def _ready(self) -> Iterator[Tensor]:
        """Run every window whose context is there."""
        while True:
            if windows := self._decoding_windows():
                if (decoded := self._within_memory(partial(self._decoded, windows))) is None:
                    self._decode_less()
                    continue
                for window, made in zip(windows, decoded, strict=True):
                    yield self._joined(window, made)
                self._forget()
            elif self.diffusion is not None and (group := self._diffusion_windows(self.diffusion.multiple)):
                if self._within_memory(partial(self._diffuse, group)) is None:
                    self._take_fewer_windows()
                    continue
            else:
                return
            if self.on_progress is not None:
                samples = [min(done * self.hop, self.samples) for done in (self.diffused, self.decoded)]
                self.on_progress(*samples)

    # --- when memory runs out -----------------------------------------------------------------------------------------

    def _within_memory(self, work: Callable[[], T]) -> T | None:
        """What `work` returns; None where memory did not suffice, with all that it held let go of."""
        try:
            return work()
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            self.shortage = " ".join(str(error).split()) or type(error).__name__
        if self.chain.head.device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    def _take_fewer_windows(self) -> None:
        if self.batch_size == 1:
            self._take_shorter_windows("diffusion")
            return
        self.batch_size //= 2
        self._say_less(f"diffusion goes on with {self.batch_size} windows at once")

    def _decode_less(self) -> None:
        if self.threads == 1:
            self._take_shorter_windows("decoding")
            return
        self.threads //= 2
        self._say_less(f"decoding goes on with {self.threads} windows at once")

    def _take_shorter_windows(self, what: str) -> None:
        core = self.cores[what] = self.cores[what] // 2
        seconds = core * self.hop / AUDIO.sample_rate
        if core < SMALLEST_CORE:
            raise TooLittleMemoryError(
                f"memory does not even suffice for windows of {2 * seconds:.2f} s; close other programs, or take a "
                f"smaller head (mamba-gan): {self.shortage}"
            )
        self._say_less(f"{what} goes on with windows of {seconds:.2f} s")

    def _say_less(self, text: str) -> None:
        self._notes.append(f"out of memory: {text}")
        logger.warning(self._notes[-1])

    # --- recording -> latents ---------------------------------------------------------------------------------------

    def _diffusion_windows(self, multiple: int) -> list[Window]:
        """The next windows of one length, as many as a batch takes, as far as the recording is there for them."""
        group: list[Window] = []
        start = self.diffused
        while len(group) < self.batch_size and start < self.total:
            window = window_at(start, self.total, self.cores["diffusion"], MARGIN, multiple)
            needed = window.last * self.hop + EDGE_SAMPLES
            other_length = bool(group) and window.last - window.first != group[0].last - group[0].first
            if (self.total == ENDLESS and needed > self.samples) or other_length:
                break
            group.append(window)
            start = window.stop
        return group

    def _diffuse(self, group: list[Window]) -> bool:
        rows = [(window, part) for window in group for part in self.stretches.drawn_in(window, FADE)]
        most = self.batch_size * len(self.wave)
        batches = [rows[at : at + most] for at in range(0, len(rows), most)]
        drawn: list[Tensor] = []
        for batch in batches:
            by_window = groupby(batch, key=lambda row: row[0])
            low = [self._low(window, [part for _, part in same]) for window, same in by_window]
            drawn += self.chain.draw(torch.cat(low), batch)
        for (window, part), latents in zip(rows, drawn, strict=True):
            last = min(window.last, self.total)
            inside = slice(0, last - window.first)
            faded = latents[:, inside] * trapezoid(window, self.total, FADE)[inside, None]
            self.latents.setdefault(part, Latents()).add(faded, window.first)
        self.diffused = group[-1].stop
        return True

    # --- latents -> recording ---------------------------------------------------------------------------------------

    def _decoding_windows(self) -> list[Window]:
        """The next windows, one for each thread, if latents and recording are there for them."""
        windows: list[Window] = []
        start = self.decoded
        while len(windows) < self.threads and start < self.total:
            window = window_at(start, self.total, self.cores["decoding"], self.margin)
            heard = self.total != ENDLESS or window.last * self.hop + EDGE_SAMPLES <= self.samples
            drawn = self.diffusion is None or self.diffused >= self.total or window.last <= self.diffused - FADE // 2
            if not heard or not drawn:
                return []
            windows.append(window)
            start = window.stop
        return windows

    def _decoded(self, windows: list[Window]) -> list[Tensor]:
        """Restored waves of windows, each from its first core sample on."""
        if len(windows) == 1:
            return [self._decode(windows[0])]
        with ThreadPoolExecutor(len(windows)) as pool:
            return list(pool.map(torch.inference_mode()(self._decode), windows))

    def _decode(self, window: Window) -> Tensor:
        """Restored wave (C, n) of a window: each stretch that sounds in it, laid over those before."""
        first = window.first * self.hop
        source = self._take(first, window.last * self.hop)
        made = source.clone()
        for place, parts in self.stretches.in_window(window):
            there = place.first * self.hop, place.last * self.hop
            kept = source[[part.channel for part in parts], there[0] - first : there[1] - first]
            if parts[0].made:
                drawn = None if self.diffusion is None else [self.latents[part].take(place) for part in parts]
                latents = None if drawn is None else torch.stack(drawn)
                beyond = max(there[1] - self.samples, 0)
                kept = self.chain.restore(place, parts, self._low(place, parts), kept[:, None], latents, beyond)
            lay_over(made, kept, parts, there, first)
        if self.apart:
            source, made = _turned(source), _turned(made)
        made = turn_down(source, made, ceiling=max(1.0, self.chain.heard.peak))
        given = take(self.wave, first - self.offset, window.last * self.hop - self.offset)
        made = keep_silence(given, made, self.chain.heard.peak, fade=not self.chain.options.denoise)
        return made[:, window.start * self.hop - first :]

    def _joined(self, window: Window, made: Tensor) -> Tensor:
        """What is ready of a window, faded into from the one before."""
        start, stop = window.start * self.hop, window.stop * self.hop
        if self.tail is not None:
            rise = torch.linspace(0, 1, SEAM_SAMPLES)
            made[:, :SEAM_SAMPLES] = torch.lerp(self.tail, made[:, :SEAM_SAMPLES], rise)
        self.tail = made[:, stop - start : stop - start + SEAM_SAMPLES] if window.stop < self.total else None
        self.decoded = window.stop
        return made[:, : min(stop, self.samples) - start]

    # --- what is kept of the recording --------------------------------------------------------------------------------

    def _take(self, first: int, last: int) -> Tensor:
        """Samples [first, last) of the recording, cleaned, mirrored beyond its ends. (C, last - first)"""
        start = max(first - self.offset, 0)
        heard = self.wave[:, start : last - self.offset]
        if self.chain.heard.lines_hz or self.chain.heard.floor:
            heard = self.chain.cleaned(heard)
        heard = _turned(heard) / 2 if self.apart else heard
        return take(heard, first - self.offset - start, last - self.offset - start)

    def _low(self, window: Window, parts: list[Part]) -> Tensor:
        """Low band of parts in a window as the networks get it. (B, 1, T)"""
        wave = self._take(window.first * self.hop - EDGE_SAMPLES, window.last * self.hop + EDGE_SAMPLES)
        return self.chain.low_band(wave, parts)

    def _forget(self) -> None:
        """Let go of samples, stretches and latents that no window will look at again."""
        self.stretches.forget(self.decoded)
        self.latents = {part: self.latents[part] for part in self.stretches.parts if part in self.latents}
        for latents in self.latents.values():
            latents.forget(self.decoded - self.margin)
        looked_at = [self.decoded - self.margin] + ([self.diffused - MARGIN] if self.diffusion is not None else [])
        gone = max(min(looked_at) * self.hop - EDGE_SAMPLES - self.offset, 0)
        self.wave, self.offset = self.wave[:, gone:], self.offset + gone


def _turned(wave: Tensor) -> Tensor:
    """Left and right (2, T) of mid and side; twice mid and side of left and right."""
    return torch.stack([wave[0] + wave[1], wave[0] - wave[1]])


def _note_on_side(track: Track) -> str:
    mid_hz, side_hz = (Track((channel,), track.seconds).cutoff_hz for channel in track.channels)
    return f"its side ends at {side_hz:.0f} Hz, its mid at {mid_hz:.0f}: restored as mid and side"
