"""The chain on one window: low band, head, merge, control. Nothing here knows of blocks, memory or files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from latentsr.config import AUDIO
from latentsr.heads.base import Head, LowBand
from latentsr.options import Options
from latentsr.restoring.analysis import Heard
from latentsr.restoring.control import Control
from latentsr.restoring.stretches import Part
from latentsr.signal.chunks import Window
from latentsr.signal.correlation import noise_mix, polarities
from latentsr.signal.denoise import filter_by_mel
from latentsr.signal.floor import subtract_floors
from latentsr.signal.level import network_gain
from latentsr.signal.lines import remove_lines
from latentsr.signal.lowband import cut_sharply, merge
from latentsr.signal.mel import MelSpectrogram

if TYPE_CHECKING:  # it imports diffusers
    from latentsr.diffusion.drawing import Diffusion

EDGE_SAMPLES = 9600  # 0.2 s of wave around every window, for the filters and the STFT
WAVE_STRIDE = 8  # mel frames per position where there are no latents
GROUPED_CHANNELS = 4  # cut and merged at a time: their spectra are larger than they are


class Chain:
    """What is done to every window of one recording.

    Args:
        head: makes the wave.
        diffusion: makes the latents that the head decodes, if it does.
        heard: what was found out about the recording.
        options: what is wanted.
    """

    def __init__(self, head: Head, diffusion: Diffusion | None, heard: Heard, options: Options) -> None:
        self.head, self.diffusion, self.heard, self.options = head, diffusion, heard, options
        self.gain = network_gain(heard.peak)
        self.mel = MelSpectrogram(AUDIO) if options.denoise else None
        self.control = Control.of(options)
        alike = heard.channel_correlation
        self.signs = torch.ones(1) if alike is None else polarities(alike)
        self.mix = None if alike is None else noise_mix(alike, self.signs)
        self.stride = WAVE_STRIDE if diffusion is None else diffusion.stride
        self.hop = self.stride * AUDIO.hop_length  # samples per position
        self.margin = -(-head.context_frames // self.stride) + 1  # positions on each side of a decoded window
        # Heads draw from what a generator of this seed draws first.
        self.seed = int(torch.randint(2**62, (), generator=torch.Generator().manual_seed(options.seed)))

    @property
    def note(self) -> str | None:
        """What should be known of what was done so far, in one line."""
        return None

    def cleaned(self, wave: Tensor) -> Tensor:
        """Samples (C, n) less the steady lines and hiss that are to be taken out."""
        lines_hz, floor = self.heard.lines_hz, self.heard.floor
        wave = remove_lines(wave, lines_hz, AUDIO.sample_rate) if lines_hz else wave
        assert self.mel is not None, "noise is looked for where it is to be taken out"
        return subtract_floors(wave[:, None], torch.full((len(wave),), floor), self.mel)[:, 0]

    def low_band(self, wave: Tensor, parts: Sequence[Part]) -> Tensor:
        """The low band of parts as the networks get it, (B, 1, T), of samples (C, T + 2 EDGE_SAMPLES)."""
        rows = wave[[part.channel for part in parts], None] * self.gain
        groups = zip(rows.split(GROUPED_CHANNELS), _ends(parts).split(GROUPED_CHANNELS), strict=True)
        cut = [cut_sharply(some, ends, AUDIO.sample_rate) for some, ends in groups]
        return torch.cat(cut)[..., EDGE_SAMPLES:-EDGE_SAMPLES]

    def draw(self, low: Tensor, rows: Sequence[tuple[Window, Part]]) -> Tensor:
        """Latents (B, Z, l, m) of low bands (B, 1, T), each of a part in a window."""
        assert self.diffusion is not None, "only heads that decode latents ask for them"
        return self.diffusion(low, [window for window, _ in rows], self.options.seed, _ends([part for _, part in rows]))

    def restore(
        self, window: Window, parts: Sequence[Part], low: Tensor, kept: Tensor, latents: Tensor | None, beyond: int = 0
    ) -> Tensor:
        """Restored waves (B, n) of parts in a window: the head's band above the cutoff, the recording's below.

        Args:
            window: which positions.
            parts: whose waves.
            low: (B, 1, n) their low bands.
            kept: (B, 1, n) their own waves.
            latents: (B, Z, l, m) of them, for a head that decodes latents.
            beyond: samples at the end of the window that lie behind the recording's end.
        """
        head, denoise, ends = self.head, self.options.denoise, _ends(parts)
        channels = [part.channel for part in parts]
        signs = self.signs.expand(self.heard.channels)[channels, None, None]
        given = LowBand(
            # In fp32: the rounding of bf16 would drown the quiet bands of its mel.
            wave=(signs * low).to(head.device),
            cutoff_hz=ends.to(head.device),
            latents=None if latents is None else latents.to(head.device, head.dtype),
            seed=self.seed,
            first_frame=window.first * self.stride,
            noise_mix=None if self.mix is None else self.mix[channels],
            steps=self.options.steps,
            keep_known=not denoise,
            ignored=((window.start - window.first) * self.stride, (window.last - window.stop) * self.stride),
        )
        wide, clean = head.decode(given)
        wide = signs * wide.float().cpu() / self.gain
        if self.mel is not None:
            assert clean is not None, "heads that cannot denoise are refused before"
            kept = filter_by_mel(kept * self.gain, clean.float().cpu(), self.mel) / self.gain
        inside, merged = kept.shape[-1] - beyond, []
        for at in range(0, len(parts), GROUPED_CHANNELS):
            some = slice(at, at + GROUPED_CHANNELS)
            merged.append(self.merged(kept[some, ..., :inside], wide[some, ..., :inside], parts[some]))
        return torch.cat([torch.cat(merged), kept[..., inside:]], dim=-1)[:, 0]

    def merged(self, own: Tensor, made: Tensor, parts: Sequence[Part]) -> Tensor:
        """What becomes of the waves (B, 1, n) of parts and of what the head made of them."""
        ends = _ends(parts)
        both = merge(own, made, ends, AUDIO.sample_rate, [part.skirt for part in parts])
        return both if self.control is None else self.control(own, both, ends)


def _ends(parts: Sequence[Part]) -> Tensor:
    return torch.tensor([part.cutoff_hz for part in parts])
