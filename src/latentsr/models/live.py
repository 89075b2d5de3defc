"""A causal generator for sound as it is played: 5 ms in, 5 ms of the made band out, two hops late.

Each frame of 10 ms says how loud it is in bands; a recurrent network that has heard one frame more answers with how
loud each of the excitations (`models/excitation.py`) is to be. What was heard is never taken away: the made band is
added to it, and the network sees what is there already. All levels are relative to the frame's own low band, so that
nobody has to know how loud the recording will become. Spectra are pairs of real numbers, (..., BINS, 2), for ONNX.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentsr.models import excitation
from latentsr.models.excitation import BINS, FEATURE_KNOTS, FRAME, HOP, OVERSAMPLED, SAMPLE_RATE
from latentsr.models.network import Network

DELAY = 2 * HOP  # samples by which the made band is behind: a frame, of which half is the hop that is looked ahead
PARTS = 4  # of a hop, whose powers are told: where in it an attack lies
KINDS = len(excitation.NAMES)
FEATURES = 2 * FEATURE_KNOTS + PARTS + 2
SILENT = 1e-12  # mean power of a frame that is silence
LOWEST, LOWEST_ABOVE = -9.0, -4.6  # nats below the low band; 40 dB: what a filter left above the cutoff says nothing
LEVEL_MEAN, LEVEL_STD = -5.0, 3.0  # nats
BEGINS_AT = -3.0  # nats: the made band against the low band, before training
LOUDEST = 2.0  # nats, likewise
ROOT_BIN_POWER = (FRAME / 2) ** 0.5  # of white noise of unit variance, under the square root of a Hann window

State: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]


class Band(NamedTuple):
    """What follows from the cutoffs of n frames; where B or n is 1, it holds for all channels or frames."""

    below: Tensor  # (B, n, BINS) share of each bin that lies below the cutoff
    above: Tensor  # (B, n, BINS) share of what is made
    known: Tensor  # (B, n, knots + 1) share of each knot below, and where the cutoff lies
    lowest: Tensor  # (B, n, knots) nats against the low band; less is not heard
    source: Tensor  # (B, n, BINS) of which bin each one is a copy


class LiveGenerator(Network):
    """Generator with a streaming state.

    Args:
        hidden: width.
        layers: of the recurrent network.
    """

    def __init__(self, hidden: int = 256, layers: int = 2) -> None:
        super().__init__()
        self.embed = nn.Linear(FEATURES, hidden)
        self.memory = nn.GRU(hidden, hidden, layers, batch_first=True)
        self.norm = nn.LayerNorm(hidden)
        self.gains = nn.Linear(hidden, (1 + KINDS) * FEATURE_KNOTS)
        nn.init.zeros_(self.gains.weight)
        nn.init.zeros_(self.gains.bias)
        knots, window = excitation.bins_of_knots(), excitation.window()
        sign = torch.tensor([1.0, -1.0], device="cpu").repeat(FRAME // 2)  # mirrors a spectrum
        self.register_buffer("window", window.clone(), persistent=False)
        self.register_buffer("turned", sign, persistent=False)
        self.register_buffer("bins", knots.clone(), persistent=False)
        self.register_buffer("bands", (knots / knots.sum(dim=1, keepdim=True)).T.contiguous(), persistent=False)
        self.window: Tensor
        self.turned: Tensor
        self.bins: Tensor
        self.bands: Tensor

    def start(self, channels: int) -> State:
        """The state before the first sample: the last hop of wave and noise (2, B, HOP), the network's memory
        (layers, B, hidden), the excitations of the last frame (K, B, 1, BINS, 2), and what of it is still to be
        given (B, HOP)."""
        memory = self.memory
        return (
            torch.zeros(2, channels, HOP, device=self.device),
            torch.zeros(memory.num_layers, channels, memory.hidden_size, device=self.device),
            torch.zeros(KINDS, channels, 1, BINS, 2, device=self.device),
            torch.zeros(channels, HOP, device=self.device),
        )

    def forward(self, wave: Tensor, noise: Tensor, band: Band, state: State) -> tuple[Tensor, State]:
        """Go on from `state` by n hops.

        Args:
            wave: (B, n HOP) at 48 kHz.
            noise: (B, n HOP) of unit variance.
            band: `band_of` the cutoff in each hop.
            state: of `start`, or of the call before.

        Returns:
            The made band (B, n HOP), `DELAY` samples behind the wave, and the state behind it.
        """
        tails, memory, held, overlap = state
        both = torch.cat([tails, torch.stack([wave, noise])], dim=-1)
        hops = both.unflatten(-1, (-1, HOP))
        frames = torch.cat([hops[:, :, :-1], hops[:, :, 1:]], dim=-1)  # (2, B, n, FRAME)
        spectra = rfft(frames * self.window)
        level, heard = self._heard(frames[0], spectra[0], band)
        x = F.gelu(self.embed(heard))
        y, memory = self.memory(x, memory)
        said = self.gains(self.norm(x + y)).unflatten(-1, (1 + KINDS, FEATURE_KNOTS))
        made = self._excitations(spectra[0], frames[1], spectra[1], level, band)
        held = torch.cat([held, made], dim=2)
        total = (held[:, :, :-1] * self._amplitudes(said)[..., None]).sum(0)
        parts = irfft(total, FRAME) * self.window
        halves = torch.cat([overlap[:, None], parts[..., HOP:]], dim=1)
        out = (parts[..., :HOP] + halves[:, :-1]).flatten(1)
        return out, (both[..., -HOP:], memory, held[:, :, -1:], halves[:, -1])

    def _heard(self, frames: Tensor, spectra: Tensor, band: Band) -> tuple[Tensor, Tensor]:
        """Level of the low band, log amplitude (B, n, 1), and the features (B, n, FEATURES) of frames (B, n, FRAME)."""
        power = spectra.square().sum(-1) / (FRAME / 2)
        low = (power * band.below).sum(-1, keepdim=True) / band.below.sum(-1, keepdim=True)
        parts = frames[..., HOP:].unflatten(-1, (PARTS, HOP // PARTS)).square().mean(-1)
        logs = 0.5 * (torch.cat([power @ self.bands, parts, low], dim=-1) + SILENT).log()
        level = logs[..., -1:]
        against = torch.maximum(logs[..., :-1] - level, band.lowest) / LEVEL_STD
        known = band.known + 0 * level  # for all channels and frames
        return level, torch.cat([against, (level - LEVEL_MEAN) / LEVEL_STD, known], dim=-1)

    def _excitations(self, spectra: Tensor, noise: Tensor, noise_spectra: Tensor, level: Tensor, band: Band) -> Tensor:
        """Whitened, as loud as the low band, above the cutoff alone. (K, B, n, BINS, 2)"""
        low = spectra * band.below[..., None]
        twice = irfft(low, OVERSAMPLED * FRAME)  # each frame at twice the rate
        rectified = rfft(twice.abs())[..., :BINS, :]
        envelope = excitation.envelope(OVERSAMPLED * twice[..., ::OVERSAMPLED].flatten(0, 1)).view_as(noise)
        modulated = rfft(noise * self.turned * envelope)
        copied = low.gather(2, band.source[..., None].expand_as(low))
        made = torch.stack([noise_spectra, modulated, rectified, copied])
        power = made.square().sum(-1)
        wide = excitation.WHITENED_BINS
        smooth = F.avg_pool1d(power.flatten(0, 2)[:, None], wide, 1, wide // 2, count_include_pad=False).view_as(power)
        loud = level.exp() * (level > 0.49 * math.log(SILENT))  # silence stays silence
        return made * ((smooth + excitation.SILENT).rsqrt() * (loud * band.above))[..., None]

    def _amplitudes(self, said: Tensor) -> Tensor:
        """Of each excitation, against the low band: (B, n, 1 + K, knots) -> (K, B, n, BINS)."""
        level = ((said[:, :, :1] + BEGINS_AT).clamp(max=LOUDEST) @ self.bins).exp() * ROOT_BIN_POWER
        return (level * (said[:, :, 1:].softmax(dim=2).sqrt() @ self.bins)).permute(2, 0, 1, 3)


def band_of(cutoff_hz: Tensor) -> Band:
    """What follows from cutoffs (B, n) in Hz; from 24000 Hz on nothing is made."""
    bins_hz = torch.arange(BINS, device=cutoff_hz.device) * (SAMPLE_RATE / FRAME)
    hz = cutoff_hz[..., None]
    below = ((hz - bins_hz) / 200 + 0.5).clamp(0, 1)  # from 100 Hz below the cutoff to 100 Hz above it
    place = ((bins_hz / hz - 0.9) / 0.1).clamp(0, 1)  # as `signal.lowband.merge` has it
    above = (0.5 - 0.5 * torch.cos(place * math.pi)) * (hz < SAMPLE_RATE / 2)
    known = ((hz - excitation.knots_hz().to(hz)) / 1_000 + 0.5).clamp(0, 1)
    lowest = LOWEST_ABOVE + (LOWEST - LOWEST_ABOVE) * known
    lowest = F.pad(lowest, (0, PARTS), value=LOWEST)
    known = torch.cat([known, torch.log2(hz / 4_000)], dim=-1)
    return Band(below, above, known, lowest, excitation.copied_bins(cutoff_hz))


def rfft(wave: Tensor) -> Tensor:
    """(..., N) -> (..., N / 2 + 1, 2). torch's exporter to ONNX has no Fourier transform: there it is a product."""
    if not torch.onnx.is_in_onnx_export():
        return torch.view_as_real(torch.fft.rfft(wave))
    matrix = np.fft.rfft(np.eye(int(wave.shape[-1])))
    flat = np.stack([matrix.real, matrix.imag], axis=-1).reshape(len(matrix), -1)
    return (wave @ torch.from_numpy(flat).to(wave)).unflatten(-1, (-1, 2))


def irfft(spectrum: Tensor, size: int) -> Tensor:
    """(..., F, 2) -> (..., size)"""
    if not torch.onnx.is_in_onnx_export():
        return torch.fft.irfft(torch.view_as_complex(spectrum), n=size)
    unit = np.eye(2 * int(spectrum.shape[-2])).reshape(-1, int(spectrum.shape[-2]), 2)
    matrix = np.fft.irfft(unit[..., 0] + 1j * unit[..., 1], n=size)
    return spectrum.flatten(-2) @ torch.from_numpy(matrix).to(spectrum)
