"""Steady hiss: how loud it is, and a recording without it (power spectral subtraction, Berouti et al. 1979).

A white floor is flat over all bands and does not move; the bands in which a recording is quietest, at its quieter
moments, show it. What the low-pass took away is where it is seen best.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from latentsr.signal.mel import MelSpectrogram, mel_edges_hz

SEGMENT = 128  # frames listened to at once
MOST_SEGMENTS = 60  # spread over the recording
FROM_HZ = 1_000.0  # narrower bands below move too much by themselves
CALM_FRAMES = 9  # averaged before the quiet moments are looked for
QUIET_SHARE, LOWEST_SHARE = 0.2, 0.1  # of the moments, of the bands
# Where these lie for noise of unit variance, measured.
BIAS = 0.68
SMOOTHED = (5, 3)  # frames x bands of the power that a gain is computed from: single ones would ring
LOWEST_POWER_GAIN = 1e-4
SMALL = 1e-20
DUST = 2e-5  # twice the standard deviation of rounding to 16 bit: a floor below it is none
OVER_TO_SEE = 2.0  # times the floor is taken away, at power 1, where a cutoff is looked for and nobody listens


def find_floors(wave: Tensor, mel: MelSpectrogram) -> Tensor:
    """Standard deviation (C,) of the steady white noise in each channel of a recording (C, T).

    About 0 where there is none, and where the recording is shorter than 1.3 s.
    """
    length = segment_samples(mel)
    segments = [wave[:, start : start + length] for start in segment_starts(wave.shape[-1], mel)]
    return floors_in(segments, mel) if segments else wave.new_zeros(wave.shape[0])


def segment_samples(mel: MelSpectrogram) -> int:
    return SEGMENT * mel.config.hop_length


def segment_starts(samples: int, mel: MelSpectrogram) -> list[int]:
    """Where in a recording of so many samples the segments begin that `floors_in` wants to hear."""
    length = segment_samples(mel)
    if samples < length:
        return []
    return torch.linspace(0, samples - length, min(samples // length, MOST_SEGMENTS)).long().tolist()


def floors_in(segments: Iterable[Tensor], mel: MelSpectrogram) -> Tensor:
    """`find_floors` of a recording of which only the segments (C, n) at `segment_starts` are heard."""
    bands = mel_edges_hz(mel.config)[1:-1] > FROM_HZ
    heard = []
    for segment in segments:
        power = band_power(mel.complex(segment[:, None]), mel)[..., bands]
        heard.append(F.avg_pool1d(power.transpose(1, 2), CALM_FRAMES, CALM_FRAMES // 2))  # (C, bands, moments)
    quiet = torch.cat(heard, dim=-1).quantile(QUIET_SHARE, dim=-1)
    floors = (quiet.quantile(LOWEST_SHARE, dim=-1) / BIAS).sqrt()
    return torch.where(floors > DUST, floors, 0.0)


def band_power(spectrum: Tensor, mel: MelSpectrogram) -> Tensor:
    """Power in each mel band over that of white noise of unit variance. (B, F, L) complex -> (B, L, M)"""
    unit = mel.filterbank.sum(dim=1) * mel.window.square().sum()
    return (mel.filterbank @ spectrum.abs().square()).transpose(1, 2) / unit


def subtract_floors(
    wave: Tensor, floors: Tensor, mel: MelSpectrogram, over: float = 1.0, power: float = 0.75
) -> Tensor:
    """Turn every band and frame down to the share of it that is not floor.

    Args:
        wave: (B, 1, T). What is not longer than the mel's padding comes back as it is, and so does what has no floor.
        floors: (B,) standard deviations.
        mel: whose frames and bands they are.
        over: times the floor is taken away.
        power: exponent of the power gain; 0.5 takes just the floor's power away, 1 is twice as hard.

    Returns:
        (B, 1, T)
    """
    samples = wave.shape[-1]
    if samples <= mel.config.padding or not bool((floors > 0).any()):
        return wave
    spectrum = mel.complex(F.pad(wave, (0, -samples % mel.config.hop_length)))
    padding = (SMOOTHED[0] // 2, SMOOTHED[1] // 2)
    heard = band_power(spectrum, mel)[:, None]
    calm = F.avg_pool2d(heard, SMOOTHED, 1, padding, count_include_pad=False)[:, 0]
    level = over * floors.to(calm).square()[:, None, None]
    gain = (1 - level / calm.clamp(min=SMALL)).clamp(min=LOWEST_POWER_GAIN) ** power
    made = mel.inverse(spectrum * mel.gain_of_bins(gain), samples)
    return torch.where((floors > 0).to(wave.device)[:, None, None], made.to(wave), wave)
