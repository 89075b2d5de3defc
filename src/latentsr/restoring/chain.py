"""The chain on one window: low band, head, merge, control. Nothing here knows of blocks, memory or files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from latentsr.config import AUDIO
from latentsr.heads.base import Head, LowBand
from latentsr.options import Options
from latentsr.restoring.analysis import Heard
from latentsr.restoring.stretches import Part
from latentsr.signal.chunks import Window
from latentsr.signal.correlation import noise_mix, polarities
from latentsr.signal.denoise import filter_by_mel
from latentsr.signal.floor import subtract_floors
from latentsr.signal.level import network_gain
from latentsr.signal.lines import remove_lines
from latentsr.signal.lowband import cut_sharply, merge
from latentsr.signal.mel import MelSpectrogram
from latentsr.signal.noise import absolute_noise, noises
from latentsr.signal.transforms import filter_symmetric

if TYPE_CHECKING:  # it imports diffusers
    from latentsr.diffusion.drawing import Diffusion

FLOOR_SOURCE = 32  # the noise of the floor is independent of what heads draw
EDGE_SAMPLES = 9600  # 0.2 s of wave around every window, for the filters and the STFT
WAVE_STRIDE = 8  # mel frames per position where there are no latents
GROUPED_CHANNELS = 4  # cut and merged at a time: their spectra are larger than they are
REACH = 1024  # samples on each side that the FIR looks at
GRID = 8192  # on which its gain is drawn
KAISER_BETA = 12.0  # 118 dB of stopband
EDGE_HZ = 100.0  # below the ceiling the gain is a half; at the ceiling the stopband begins
FRAME, HOP, LONGEST = 1920, 480, 4096  # samples: voicing is heard in 40 ms, every 10 ms; of its transform
HEARD_HZ = (200.0, 4_000.0)  # where voicing is listened for, as far as the recording goes
PITCH_HZ = (75.0, 400.0)
VOICED, UNVOICED = 0.55, 0.35  # periodicity from which on, and up to which, there is a voice and there is none


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
        self.floors = torch.tensor(heard.floors) if any(heard.floors) else None
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
        wide = wide.float().cpu() / self.gain
        if self.floors is not None:
            wide = wide + self.floors[channels, None, None] * self._white(given)
        wide = signs * wide
        if self.mel is not None:
            assert clean is not None, "heads that cannot denoise are refused before"
            kept = filter_by_mel(kept * self.gain, clean.float().cpu(), self.mel) / self.gain
        inside, merged = kept.shape[-1] - beyond, []
        for at in range(0, len(parts), GROUPED_CHANNELS):
            some = slice(at, at + GROUPED_CHANNELS)
            merged.append(self.merged(kept[some, ..., :inside], wide[some, ..., :inside], parts[some]))
        return torch.cat([torch.cat(merged), kept[..., inside:]], dim=-1)[:, 0]

    def _white(self, low: LowBand) -> Tensor:
        """Noise of unit variance for each wave, as alike as the recording's channels are. (B, 1, T)"""
        frames = low.wave.shape[-1] // AUDIO.hop_length

        def draw(source: int) -> Tensor:
            return absolute_noise(low.seed, low.first_frame, frames, 1, AUDIO.hop_length, FLOOR_SOURCE + source)

        return torch.stack([noise.flatten(1) for noise in noises(low.noise_mix, len(low.wave), draw)])

    def merged(self, own: Tensor, made: Tensor, parts: Sequence[Part]) -> Tensor:
        """What becomes of the waves (B, 1, n) of parts and of what the head made of them."""
        ends = _ends(parts)
        both = merge(own, made, ends, AUDIO.sample_rate, [part.skirt for part in parts])
        return both if self.control is None else self.control(own, both, ends)


def _ends(parts: Sequence[Part]) -> Tensor:
    return torch.tensor([part.cutoff_hz for part in parts])


@dataclass(frozen=True)
class Control:
    """The listener's hand on what was made: amount, tilt, sibilance and ceiling, each a gain on the made band alone.

    The made band is all that differs from the recording, raised skirts included. Tilt and ceiling are one zero-phase
    FIR, sibilance a gain over time whose frames stand at fixed places of the recording: how it is cut into windows and
    blocks changes nothing.

    Attributes:
        amount: gain in amplitude, 1: as it was made.
        tilt: dB per octave above the cutoff.
        sibilance: dB, where the recording has no pitch.
        ceiling_hz: above it nothing is made; None: up to the end.
    """

    amount: float = 1.0
    tilt: float = 0.0
    sibilance: float = 0.0
    ceiling_hz: float | None = None

    @classmethod
    def of(cls, options: Options) -> Control | None:
        """What is asked for; None where everything stays as it is made."""
        asked = cls(float(options.amount), options.tilt, options.sibilance, options.ceiling_hz)
        return None if asked == cls() else asked

    def __call__(self, kept: Tensor, merged: Tensor, cutoff_hz: Tensor) -> Tensor:
        """The recording and its made band, at the gains asked for.

        Args:
            kept: (B, 1, T) the recording at 48 kHz, from a multiple of `HOP` samples of it on.
            merged: (B, 1, T) the same with what was made.
            cutoff_hz: (B,) where each ends.

        Returns:
            (B, 1, T)
        """
        made = self.amount * (merged - kept)
        if self.tilt or self.ceiling_hz is not None:
            made = filter_symmetric(made, torch.stack([self._taps(float(hz)) for hz in cutoff_hz]))
        if self.sibilance:
            made = made * torch.pow(10, self.sibilance / 20 * unvoiced(kept, cutoff_hz))
        return kept + made

    def _taps(self, cutoff_hz: float) -> Tensor:
        """Of a symmetric FIR, the middle one first. (REACH + 1,)"""
        hz = torch.linspace(0, AUDIO.sample_rate / 2, GRID // 2 + 1, dtype=torch.float64)
        gain = torch.pow(10, self.tilt / 20 * (hz / cutoff_hz).clamp(min=1).log2())
        if self.ceiling_hz is not None:
            gain = gain * (hz < self.ceiling_hz - EDGE_HZ)
        window = torch.kaiser_window(2 * REACH + 1, periodic=False, beta=KAISER_BETA, dtype=torch.float64)
        return torch.fft.irfft(gain)[: REACH + 1] * window[REACH:]


def unvoiced(wave: Tensor, cutoff_hz: Tensor) -> Tensor:
    """How far recordings have no pitch, 0 to 1, at each sample; (B, 1, T) and (B,) Hz -> (B, 1, T).

    It is 1 minus the height of the autocorrelation at the lags of a voice, stretched; between frames it glides.
    """
    samples = wave.shape[-1]
    frames = samples // HOP + 2
    padded = F.pad(wave[:, 0], (FRAME // 2, (frames - 1) * HOP + FRAME // 2 - samples))
    window, shape = _frame_window()
    spectra = torch.fft.rfft(padded.unfold(-1, FRAME, HOP) * window, n=LONGEST)
    hz = torch.arange(LONGEST // 2 + 1) * (AUDIO.sample_rate / LONGEST)
    top_hz = cutoff_hz.to(hz).clamp(max=HEARD_HZ[1])[:, None]
    heard = (hz >= HEARD_HZ[0]) & (hz <= top_hz)
    alike = torch.fft.irfft(spectra.abs().square() * heard[:, None])
    lags = slice(round(AUDIO.sample_rate / PITCH_HZ[1]), round(AUDIO.sample_rate / PITCH_HZ[0]))
    pitch = (alike[..., lags] / shape[lags]).amax(dim=-1) / alike[..., 0].clamp(min=1e-20)  # (B, frames)
    share = ((VOICED - pitch) / (VOICED - UNVOICED)).clamp(0, 1)
    glide = 0.5 - 0.5 * torch.cos(torch.arange(HOP) * (math.pi / HOP))
    between = torch.lerp(share[:, :-1, None], share[:, 1:, None], glide)
    return between.flatten(1)[:, None, :samples]


@lru_cache(maxsize=1)
def _frame_window() -> tuple[Tensor, Tensor]:
    """The window of a frame, and how its own autocorrelation falls with the lag."""
    window = torch.hann_window(FRAME)
    alike = torch.fft.irfft(torch.fft.rfft(window, n=LONGEST).abs().square())
    return window, alike / alike[0]
