"""The listener's hand on what was made: amount, tilt, sibilance and ceiling, each a gain on the made band alone.

The made band is all that differs from the recording, raised skirts included. Tilt and ceiling are one zero-phase FIR,
sibilance a gain over time whose frames stand at fixed places of the recording: how it is cut into windows and blocks
changes nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from latentsr.config import AUDIO
from latentsr.options import Options
from latentsr.signal.transforms import filter_symmetric

REACH = 1024  # samples on each side that the FIR looks at
GRID = 8192  # on which its gain is drawn
KAISER_BETA = 12.0  # 118 dB of stopband
EDGE_HZ = 100.0  # below the ceiling the gain is a half; at the ceiling the stopband begins
FRAME, HOP, LONGEST = 1920, 480, 4096  # samples: voicing is heard in 40 ms, every 10 ms; of its transform
HEARD_HZ = (200.0, 4_000.0)  # where voicing is listened for, as far as the recording goes
PITCH_HZ = (75.0, 400.0)
VOICED, UNVOICED = 0.55, 0.35  # periodicity from which on, and up to which, there is a voice and there is none


@dataclass(frozen=True)
class Control:
    """Gains of the made band.

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
