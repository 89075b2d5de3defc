"""Noise in the place of a wave whose spectrogram is smooth: the same loudness over time and frequency, no buzz.

A decoder that draws one spectrum every 10 ms and learnt from magnitudes alone repeats its phases from frame to frame,
and what should hiss buzzes at the rate of the frames. Nor do its phases know of other channels: those of unrelated ones
come out alike.
"""

from __future__ import annotations

import torch
from scipy.fft import next_fast_len
from torch import Tensor
from torch.nn import functional as F

from latentsr.signal.image import noise_mix

N_FFT, HOP = 256, 64  # samples: 5.3 ms, half of a mel frame, so that onsets stay sharp
SMOOTHED = (3, 9)  # bins x frames over which the envelope is averaged: 560 Hz, 12 ms, more than one mel frame
SILENT = 1e-20
SPREAD, SPREAD_TAPS = 480, 2048  # samples: 10 ms over which `spread` smears a click, and all of its filter
# How alike a vocoder's waves are by themselves, at channels that are not and at ones that are: its phases repeat. From
# half alike on they are let be (docs/stereo.md).
OWN_LIKENESS = (0.4, 0.2)


def as_noise(wave: Tensor, noise: Tensor, share: float = 1.0) -> Tensor:
    """Replace a share of a wave's power by noise under the wave's own envelope.

    Args:
        wave: (B, 1, T), T a multiple of 64.
        noise: (1, 1, T) or (B, 1, T) of unit variance.
        share: of the power; 0 gives the wave back.

    Returns:
        (B, 1, T)
    """
    window = torch.hann_window(N_FFT, device=wave.device)
    spectra, noises = (
        torch.stft(x[:, 0].float(), N_FFT, HOP, window=window, return_complex=True) for x in (wave, noise)
    )
    power = _smoothed(spectra.abs().square()) / float(window.square().sum())  # of noise of unit variance: 1
    made = torch.istft(noises * (power + SILENT).sqrt(), N_FFT, HOP, window=window, length=wave.shape[-1])
    return (1 - share) ** 0.5 * wave + share**0.5 * made[:, None].to(wave)


def _smoothed(power: Tensor) -> Tensor:
    padding = (SMOOTHED[0] // 2, SMOOTHED[1] // 2)
    return F.avg_pool2d(power[:, None], SMOOTHED, 1, padding, count_include_pad=False)[:, 0]


def spread(wave: Tensor, mix: Tensor) -> Tensor:
    """Turn phases that are more alike than the channels apart; levels stay, and a tone stays a tone.

    Each wave passes a fixed all-pass filter of its own. The first comes back as it is, and so do those that are the
    same as it.

    Args:
        wave: (C, 1, T), of a vocoder.
        mix: (C, K) of the channels' image, see `signal.image.noise_mix`.

    Returns:
        (C, 1, T); a sample depends on `SPREAD_TAPS` / 2 samples on either side.
    """
    samples = wave.shape[-1]
    length = next_fast_len(samples + SPREAD_TAPS, real=True)
    made = []
    for one, taps in zip(wave, _spreading_taps(mix), strict=True):
        if taps is not None:
            gain = torch.fft.rfft(taps.to(one.device), length)
            one = torch.fft.irfft(torch.fft.rfft(one.float(), length) * gain, length).to(wave)
            one = one[:, SPREAD_TAPS // 2 : SPREAD_TAPS // 2 + samples]
        made.append(one)
    return torch.stack(made)


def _spreading_taps(mix: Tensor) -> list[Tensor | None]:
    """A filter (SPREAD_TAPS,) for each row, its middle at time 0; None: as it is."""
    likeness = (mix @ mix.T).double()
    wanted = (likeness / (OWN_LIKENESS[0] + OWN_LIKENESS[1] * likeness.abs())).clamp(-1, 1)
    values, vectors = torch.linalg.eigh(wanted)  # the division may have left it with negative ones
    near = (vectors * values.clamp(min=0)) @ vectors.T
    scale = near.diagonal().rsqrt()
    rows = noise_mix((near * scale * scale[:, None]).tolist(), torch.ones(len(near))).double()
    generator = torch.Generator().manual_seed(0)
    bursts = torch.randn(len(rows), SPREAD, generator=generator) * torch.hann_window(SPREAD)
    spectra = torch.fft.rfft(bursts.double(), SPREAD_TAPS)
    first = rows[0].to(spectra) @ spectra
    filters: list[Tensor | None] = []
    for row in rows:
        turn = (row.to(spectra) @ spectra) * first.conj()
        taps = torch.fft.irfft(turn / turn.abs().clamp(min=1e-12), SPREAD_TAPS).roll(SPREAD_TAPS // 2)
        filters.append(None if torch.equal(row, rows[0]) else taps.float())
    return filters
