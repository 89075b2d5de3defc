"""The engine: a recording goes in, in blocks of any size, and comes out restored, window by window.

A window of diffusion makes latents, cross-faded with its neighbours'; a window of decoding makes them a wave and puts
the low band back. Both run as soon as their context is there, so that a whole file and a stream are the same thing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from latentsr.config import AUDIO
from latentsr.diffusion import Diffusion
from latentsr.heads import Head
from latentsr.memory import TooLittleMemoryError, is_out_of_memory
from latentsr.signal.chunks import Window, take, trapezoid, window_at
from latentsr.signal.denoise import filter_by_mel
from latentsr.signal.floor import subtract_floors
from latentsr.signal.image import Image, noise_mix, polarities
from latentsr.signal.level import network_gain, turn_down
from latentsr.signal.lines import remove_lines
from latentsr.signal.lowband import cut_sharply, merge
from latentsr.signal.mel import MelSpectrogram

T = TypeVar("T")
logger = logging.getLogger(__name__)

CORE = 64  # latent frames that one window answers for: 5.12 s at 8 mel frames each
SMALLEST_CORE = 8  # what is left of it where memory runs out
MARGIN = 8  # looked at on each side; the outer half is thrown away, the inner half cross-faded
FADE = 8
SEAM_SAMPLES = 480  # of cross-fade between decoded windows: normalisation layers see each window as a whole
EDGE_SAMPLES = 9600  # 0.2 s of wave around every window, for the filters and the STFT
GROUPED_CHANNELS = 4
WAVE_STRIDE = 8  # mel frames per position where there are no latents
ENDLESS = 2**62  # latent frames of a stream that has not ended

OnProgress = Callable[[int, int], None]  # (samples diffused, samples decoded)


@dataclass(frozen=True)
class Setting:
    """What holds for the whole recording: where its band ends, its largest absolute sample, the seed, and so on."""

    cutoff_hz: float
    peak: float
    seed: int = 0
    denoise: bool = False
    steps: int | None = None  # of a head that samples the wave itself
    lines_hz: tuple[float, ...] = ()  # steady lines that are taken out
    floor: float = 0.0  # standard deviation of steady hiss, where it is to be taken out
    image: Image | None = None  # how alike the channels are, and so their noises; None: they share one


class Restorer:
    """Restores one recording: `push` blocks (C, n) at 48 kHz, `finish`, and take what each yields.

    What comes out is in order, without gaps, and as long as what went in. The result does not depend on how the
    recording was cut into blocks.
    """

    def __init__(
        self,
        head: Head,
        diffusion: Diffusion | None,
        setting: Setting,
        on_progress: OnProgress | None = None,
    ) -> None:
        self.head, self.diffusion, self.setting = head, diffusion, setting
        self.on_progress = on_progress
        self.batch_size = 1 if diffusion is None else diffusion.batch_size
        self.cores = {"diffusion": CORE, "decoding": CORE}  # positions that a window answers for
        self.notes: list[str] = []  # what should be known of the result
        self.shortage = ""  # the last error for want of memory
        self.gain = network_gain(setting.peak)
        self.mel = MelSpectrogram(AUDIO)
        self.signs = torch.ones(1) if setting.image is None else polarities(setting.image)
        self.mix = None if setting.image is None else noise_mix(setting.image, self.signs)
        self.stride = WAVE_STRIDE if diffusion is None else diffusion.stride
        self.hop = self.stride * AUDIO.hop_length  # samples per position
        self.margin = -(-head.context_frames // self.stride) + 1  # positions on each side of a decoded window
        self.wave = torch.zeros(0, 0)  # what is still needed of the recording
        self.offset = 0  # samples before it that are gone
        self.total = ENDLESS  # positions of the recording
        self.diffused = self.decoded = 0  # positions that are done
        self.latents: Tensor | None = None  # (C, Z, l, m) from position `first_latent` on
        self.first_latent = 0
        self.tail: Tensor | None = None  # (C, SEAM_SAMPLES) of the last decoded window, past its end

    @property
    def latency_samples(self) -> int:
        """A sample that goes in comes out when so many more have gone in, at the latest."""
        positions = CORE + self.margin
        if self.diffusion is not None:
            windows = -(-(positions + FADE // 2) // CORE)
            last = window_at((windows - 1) * CORE, ENDLESS, CORE, MARGIN, self.diffusion.multiple)
            positions = max(positions, last.last)
        return positions * self.hop + EDGE_SAMPLES

    def push(self, block: Tensor) -> Iterator[Tensor]:
        """Take in samples (C, n); yield what is ready."""
        self.wave = torch.cat([self.wave, block], dim=-1) if self.wave.numel() else block
        yield from self._ready()

    def finish(self) -> Iterator[Tensor]:
        """Yield the rest."""
        self.total = -(-self._samples // self.hop)
        yield from self._ready()

    @property
    def _samples(self) -> int:
        return self.offset + self.wave.shape[-1]

    def _ready(self) -> Iterator[Tensor]:
        """Run every window whose context is there."""
        while True:
            if (window := self._decoding_window()) is not None:
                if (made := self._within_memory(partial(self._decode, window))) is None:
                    self._take_shorter_windows("decoding")
                    continue
                yield made
                self._forget()
            elif self.diffusion is not None and (group := self._diffusion_windows(self.diffusion)):
                if self._within_memory(partial(self._diffuse, self.diffusion, group)) is None:
                    self._take_fewer_windows()
                    continue
            else:
                return
            if self.on_progress is not None:
                samples = [min(done * self.hop, self._samples) for done in (self.diffused, self.decoded)]
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
        if self.head.device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    def _take_fewer_windows(self) -> None:
        if self.batch_size == 1:
            self._take_shorter_windows("diffusion")
            return
        self.batch_size //= 2
        self._say_less(f"diffusion goes on with {self.batch_size} windows at once")

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
        self.notes.append(f"out of memory: {text}")
        logger.warning(self.notes[-1])

    # --- recording -> latents ---------------------------------------------------------------------------------------

    def _diffusion_windows(self, diffusion: Diffusion) -> list[Window]:
        """The next windows of one length, as many as a batch takes, as far as the recording is there for them."""
        group: list[Window] = []
        start = self.diffused
        while len(group) < self.batch_size and start < self.total:
            window = window_at(start, self.total, self.cores["diffusion"], MARGIN, diffusion.multiple)
            needed = window.last * self.hop + EDGE_SAMPLES
            other_length = bool(group) and window.last - window.first != group[0].last - group[0].first
            if (self.total == ENDLESS and needed > self._samples) or other_length:
                break
            group.append(window)
            start = window.stop
        return group

    def _diffuse(self, diffusion: Diffusion, group: list[Window]) -> bool:
        parts = diffusion([self._low(window) for window in group], group, self.setting.seed, self.setting.cutoff_hz)
        for window, part in zip(group, parts, strict=True):
            first, last = max(window.first, 0), min(window.last, self.total)
            inside = slice(first - window.first, last - window.first)
            faded = part[:, :, inside] * trapezoid(window, self.total, FADE)[inside, None]
            latents = part.new_zeros(*part.shape[:2], 0, part.shape[3]) if self.latents is None else self.latents
            grown = part.new_zeros(*part.shape[:2], last - self.first_latent, part.shape[3])
            grown[:, :, : latents.shape[2]] = latents
            grown[:, :, first - self.first_latent :] += faded
            self.latents, self.diffused = grown, window.stop
        return True

    # --- latents -> recording ---------------------------------------------------------------------------------------

    def _decoding_window(self) -> Window | None:
        """The next window, if latents and recording are there for it."""
        if self.decoded >= self.total:
            return None
        window = window_at(self.decoded, self.total, self.cores["decoding"], self.margin)
        heard = self.total != ENDLESS or window.last * self.hop + EDGE_SAMPLES <= self._samples
        drawn = self.diffusion is None or self.diffused >= self.total or window.last <= self.diffused - FADE // 2
        return window if heard and drawn else None

    def _decode(self, window: Window) -> Tensor:
        """Restored wave (C, n) of a window: the head's band above the cutoff, the recording itself below."""
        head, setting = self.head, self.setting
        signs = self.signs[:, None, None]
        # In fp32: the rounding of bf16 would drown the quiet bands of its mel.
        low = (signs * self._low(window)).to(head.device)
        ends = torch.full((low.shape[0],), setting.cutoff_hz)
        latents = None if self.latents is None else self._take_latents(self.latents, window).to(head.device, head.dtype)
        generator = torch.Generator().manual_seed(setting.seed)
        ignored = (window.start - window.first) * self.stride, (window.last - window.stop) * self.stride
        wide, clean = head.decode(
            low, ends.to(low.device), latents, steps=setting.steps, generator=generator,
            keep_known=not setting.denoise, ignored=ignored, first_frame=window.first * self.stride, noise_mix=self.mix,
        )  # fmt: skip
        wide = signs * wide.float().cpu() / self.gain
        source = self._take(window.first * self.hop, window.last * self.hop)
        kept = source[:, None]
        if setting.denoise:
            assert clean is not None, "heads that cannot denoise are refused before"
            kept = filter_by_mel(kept * self.gain, clean.float().cpu(), self.mel) / self.gain
        merged = _in_groups(partial(merge, sample_rate=AUDIO.sample_rate), kept, wide, ends)[:, 0]
        merged = turn_down(source, merged, ceiling=max(1.0, setting.peak))
        first, start, stop = (at * self.hop for at in (window.first, window.start, window.stop))
        made = merged[:, start - first :]
        if self.tail is not None:
            rise = torch.linspace(0, 1, SEAM_SAMPLES)
            made[:, :SEAM_SAMPLES] = torch.lerp(self.tail, made[:, :SEAM_SAMPLES], rise)
        self.tail = made[:, stop - start : stop - start + SEAM_SAMPLES] if window.stop < self.total else None
        self.decoded = window.stop
        return made[:, : min(stop, self._samples) - start]

    # --- what is kept of the recording --------------------------------------------------------------------------------

    def _take(self, first: int, last: int) -> Tensor:
        """Samples [first, last) of the recording, less lines and floor, mirrored beyond its ends. (C, last - first)"""
        lines_hz, floor = self.setting.lines_hz, self.setting.floor
        if not lines_hz and not floor:
            return take(self.wave, first - self.offset, last - self.offset)
        start = max(first - self.offset, 0)
        heard = self.wave[:, start : last - self.offset]
        heard = remove_lines(heard, lines_hz, AUDIO.sample_rate) if lines_hz else heard
        heard = subtract_floors(heard[:, None], torch.full((len(heard),), floor), self.mel)[:, 0]
        return take(heard, first - self.offset - start, last - self.offset - start)

    def _low(self, window: Window) -> Tensor:
        """Low band of a window as the networks get it. (C, 1, T)"""
        wave = self._take(window.first * self.hop - EDGE_SAMPLES, window.last * self.hop + EDGE_SAMPLES)
        ends = torch.full((wave.shape[0],), self.setting.cutoff_hz)
        cut = partial(cut_sharply, sample_rate=AUDIO.sample_rate)
        return _in_groups(cut, wave[:, None] * self.gain, ends)[..., EDGE_SAMPLES:-EDGE_SAMPLES]

    def _take_latents(self, latents: Tensor, window: Window) -> Tensor:
        """Latents of a window, mirrored beyond the ends as the wave is. (C, Z, l, m)"""
        channels, depth, frames, rows = latents.shape
        flat = latents.permute(0, 1, 3, 2).reshape(-1, frames)
        taken = take(flat, window.first - self.first_latent, window.last - self.first_latent)
        return taken.view(channels, depth, rows, -1).permute(0, 1, 3, 2)

    def _forget(self) -> None:
        """Let go of samples and latents that no window will look at again."""
        if self.latents is not None:
            gone = max(self.decoded - self.margin - self.first_latent, 0)
            self.latents, self.first_latent = self.latents[:, :, gone:], self.first_latent + gone
        looked_at = [self.decoded - self.margin] + ([self.diffused - MARGIN] if self.diffusion is not None else [])
        gone = max(min(looked_at) * self.hop - EDGE_SAMPLES - self.offset, 0)
        self.wave, self.offset = self.wave[:, gone:], self.offset + gone


def _in_groups(work: Callable[..., Tensor], *of_channels: Tensor) -> Tensor:
    """Work on a few channels at a time, where they do not meet: their spectra are larger than they are."""
    parts = zip(*(each.split(GROUPED_CHANNELS) for each in of_channels), strict=True)
    return torch.cat([work(*part) for part in parts])
