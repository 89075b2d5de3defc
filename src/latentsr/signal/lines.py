"""Steady lines: whistles, whines and hum that stand through a whole recording at one frequency and one level.

Nothing that is played or spoken does that: notes decay, waver or end. A line is looked for in the whole recording, and
taken out by a notch as narrow as it is: its slowly varying amplitude and phase are measured and subtracted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

BLOCK = 32_768  # samples of the analysis: 0.68 s at 48 kHz, bins of 1.46 Hz
HOP = BLOCK // 4
MOST_BLOCKS = 200  # spread over the recording
FEWEST_BLOCKS = 4  # 1.2 s: in less, a line cannot be told from a note
AROUND_BINS = 40  # on either side; their median is what a line is measured against
ABOVE_DB = 15.0
FAINTEST = 3e-5  # amplitude: one step of 16 bit
LOBE_BINS = 2  # of the line's own, on either side of its peak
STEADY_DB, STEADY_BINS = 1.5, 0.3  # how far a block's level and frequency may lie from the line's
STEADY_SHARE = 0.85  # of the blocks that must be so near: what is louder at times hides the line
LOWEST_HZ = 30.0
SMALL = 1e-12
REFINED_S = 60  # of the recording are listened to for a line's exact frequency
STEP = 480  # samples over which the envelope of a line is averaged before it is smoothed
SMOOTHED = 69  # such steps, Hann: what is 2.9 Hz away from the line stays


def find_lines(wave: Tensor, sample_rate: int = 48_000) -> tuple[float, ...]:
    """Frequencies in Hz, from low to high, of the steady lines of a recording (C, T); none where it is under 1.2 s.

    >>> seconds = torch.arange(96_000) / 48_000
    >>> round(find_lines(0.1 * torch.sin(2 * math.pi * 1000 * seconds)[None])[0])
    1000
    """
    blocks = [wave[:, start : start + BLOCK] for start in line_starts(wave.shape[-1])]
    return lines_in(blocks, wave[:, : REFINED_S * sample_rate], sample_rate)


def line_starts(samples: int) -> list[int]:
    """Where in a recording of so many samples the blocks of `BLOCK` samples begin that `lines_in` wants to hear."""
    blocks = (samples - BLOCK) // HOP + 1
    if blocks < FEWEST_BLOCKS:
        return []
    return (torch.linspace(0, blocks - 1, min(blocks, MOST_BLOCKS)).round().long() * HOP).tolist()


def lines_in(blocks: Iterable[Tensor], beginning: Tensor, sample_rate: int = 48_000) -> tuple[float, ...]:
    """`find_lines` of a recording that is not in memory.

    Args:
        blocks: those (C, BLOCK) at `line_starts`.
        beginning: (C, T) the first `REFINED_S` seconds of the recording.
        sample_rate: Hz.
    """
    window = torch.hann_window(BLOCK, periodic=False)
    powers = [torch.fft.rfft(block * window).abs().square().sum(dim=0) for block in blocks]
    if not powers:
        return ()
    return tuple(_refined(beginning, hz, sample_rate) for hz in steady_hz(torch.stack(powers), sample_rate))


def steady_hz(power: Tensor, sample_rate: int) -> list[float]:
    """Frequencies in Hz of the lines that stand through all of a spectrogram, to a tenth of its bins.

    Args:
        power: (blocks, F) of `FEWEST_BLOCKS` or more Hann windows over 2 (F - 1) samples, squared magnitudes.
        sample_rate: Hz.
    """
    from scipy.ndimage import median_filter  # half a second, for `denoise` alone

    power, length = power.double(), 2 * (power.shape[1] - 1)
    typical = power.clamp(min=SMALL).log10().median(dim=0).values * 10  # dB
    around = torch.from_numpy(median_filter(typical.numpy(), 2 * AROUND_BINS + 1, mode="nearest"))
    peak = (typical >= typical.roll(1)) & (typical > typical.roll(-1)) & (typical - around > ABOVE_DB)
    peak &= typical > 20 * math.log10(FAINTEST * length / 4)  # a sine's power under the window
    bin_hz = sample_rate / length
    inside = range(math.ceil(LOWEST_HZ / bin_hz), len(typical) - LOBE_BINS - 1)
    found = (_steady_bin(power, k) for k in peak.nonzero()[:, 0].tolist() if k in inside)
    return [k * bin_hz for k in found if k is not None]


def _refined(wave: Tensor, hz: float, sample_rate: int) -> float:
    """A line's frequency by how its phase advances: to a few mHz, so that a notch fits at the ends too."""
    turning = _turning(hz, wave.shape[-1], sample_rate)
    real, imaginary = (_smooth(_averaged(part), _kernel()) for part in _demodulated(wave.double(), turning))
    envelope = torch.complex(real, imaginary)
    apart = min(SMOOTHED, envelope.shape[-1] - 1)  # steps
    advance = (envelope[:, apart:] * envelope[:, :-apart].conj()).sum(dim=0)
    return hz + float(advance.angle().median()) / (2 * math.pi * apart * STEP / sample_rate)


def _steady_bin(power: Tensor, near: int) -> float | None:
    """The fractional bin of a line about bin `near` of (blocks, F), or None where it wavers."""
    level = power[:, near - LOBE_BINS : near + LOBE_BINS + 1].sum(dim=1).clamp(min=SMALL).log10() * 10
    top = near - 1 + power[:, near - 1 : near + 2].argmax(dim=1)
    below, at, above = (power.gather(1, (top + d)[:, None])[:, 0].clamp(min=SMALL).log() for d in (-1, 0, 1))
    place = top + 0.5 * (below - above) / (below - 2 * at + above).clamp(max=-SMALL)
    steady = (level - level.median()).abs() < STEADY_DB
    steady &= (place - place.median()).abs() < STEADY_BINS
    return float(place.median()) if float(steady.double().mean()) >= STEADY_SHARE else None


def remove_lines(wave: Tensor, lines_hz: Sequence[float], sample_rate: int = 48_000) -> Tensor:
    """Subtract each line as it stands in the wave, following its level and phase over two thirds of a second.

    Args:
        wave: (C, T).
        lines_hz: from `find_lines`, of this recording or of the whole that it is a part of.
        sample_rate: Hz.

    Returns:
        (C, T)
    """
    samples, kernel = wave.shape[-1], _kernel()
    weight = _smooth(_averaged(torch.ones(1, samples, dtype=torch.float64)), kernel)
    cleaned = wave.double()
    for hz in lines_hz:
        turning = _turning(hz, samples, sample_rate)
        parts = [_smooth(_averaged(part), kernel) / weight for part in _demodulated(cleaned, turning)]
        real, imaginary = (_at_samples(part, samples) for part in parts)
        cleaned = cleaned - 2 * (real * turning.real - imaginary * turning.imag)
    return cleaned.to(wave)


def _turning(hz: float, samples: int, sample_rate: int) -> Tensor:
    seconds = torch.arange(samples, dtype=torch.float64) / sample_rate
    return torch.polar(torch.ones_like(seconds), 2 * math.pi * hz * seconds)


def _demodulated(wave: Tensor, turning: Tensor) -> tuple[Tensor, Tensor]:
    around_0 = wave * turning.conj()
    return around_0.real, around_0.imag


def _kernel() -> Tensor:
    return torch.hann_window(SMOOTHED + 2, periodic=False, dtype=torch.float64)[None, None, 1:-1]


def _averaged(part: Tensor) -> Tensor:
    """Sums over steps. (C, T) -> (C, steps); the last step is filled up with zeros"""
    return F.pad(part, (0, -part.shape[-1] % STEP)).unflatten(-1, (-1, STEP)).sum(dim=-1)


def _smooth(steps: Tensor, kernel: Tensor) -> Tensor:
    return F.conv1d(steps[:, None], kernel, padding=kernel.shape[-1] // 2)[:, 0]


def _at_samples(steps: Tensor, samples: int) -> Tensor:
    """Between the middles of the steps, linearly. (C, steps) -> (C, T)"""
    if steps.shape[-1] == 1:
        return steps.expand(-1, samples)
    full = F.interpolate(steps[:, None], scale_factor=float(STEP), mode="linear", align_corners=False)[:, 0]
    return full[:, :samples]
