"""The waves of audiosr 0.0.7, for its faithful mode: what happens before the first network and after the last.

Written from measured facts, number by number, oddities included; nothing here is meant to be good. Where audiosr
0.0.7 fails, so does this, with a line that says so: the default mode of latentsr has none of these limits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy import signal
from torch import Tensor, nn

from latentsr.config import AUDIO

PAD_SECONDS = 5.12  # recordings are padded to multiples of this
FRAME_MULTIPLE = 64  # mel frames that the UNet can halve and join again
LOWEST_CUTOFF_HZ = 1000.0
ENERGY_SHARE = 0.985  # of the summed magnitudes lies below the "cutoff"
SINC_ZEROS, SINC_ROLLOFF = 6, 0.99  # of the resampler: torchaudio's defaults
KERNEL_TAPS = 2**22  # of the resampler, at a time
MERGE_N_FFT, MERGE_HOP = 2048, 512  # librosa's defaults

_ORDER = 8
_DESIGNS: dict[str, Callable[[float], Any]] = {  # share of Nyquist -> second-order sections
    "butter": lambda w: signal.butter(_ORDER, w, output="sos"),
    "cheby1": lambda w: signal.cheby1(_ORDER, 0.1, w, output="sos"),
    "ellip": lambda w: signal.ellip(_ORDER, 0.1, 60, w, output="sos"),
    "bessel": lambda w: signal.bessel(_ORDER, w, output="sos"),
}
FILTERS = tuple(_DESIGNS)


def fails(why: str) -> ValueError:
    """The error of a recording or setting that audiosr 0.0.7 crashes on."""
    return ValueError(f"audiosr 0.0.7 fails here, and so does its faithful mode: {why}; the default mode does not")


def resample(wave: Tensor, from_hz: int, to_hz: int) -> Tensor:
    """Windowed-sinc resampling as torchaudio does it: cos^2 window, 6 zero crossings, 0.99 of the band. (T,) -> (T',)

    T' = ceil(T to_hz / from_hz). In float32 throughout, as there: kernels in float64 move bands of the log-mel that
    are next to the floor by 2e-3.
    """
    common = math.gcd(from_hz, to_hz)
    up, down = to_hz // common, from_hz // common
    if up == down:
        return wave
    lowest = min(up, down) * SINC_ROLLOFF  # half-cycles of the sinc in `common`-th parts of a second
    width = math.ceil(SINC_ZEROS * down / lowest)
    taps = torch.arange(-width, width + down, dtype=torch.float32) / down
    blocks = wave.shape[-1] // down + 1
    padded = nn.functional.pad(wave, (width, width + down))[None]
    out = wave.new_empty(blocks, up)
    # Rates without a common divisor have tens of thousands of phases: a few at a time.
    for phases in torch.arange(up).split(max(1, KERNEL_TAPS // len(taps))):
        t = ((-phases.float()[:, None] / up + taps) * lowest).clamp(-SINC_ZEROS, SINC_ZEROS)
        window = torch.cos(t * math.pi / SINC_ZEROS / 2) ** 2
        t = t * math.pi
        kernel = torch.where(t == 0, torch.ones(()), t.sin() / t) * (window * (lowest / down))
        out[:, phases] = nn.functional.conv1d(padded, kernel[:, None], stride=down).T
    return out.reshape(-1)[: math.ceil(up * wave.shape[-1] / down)]


def padded_frames(samples: int, sample_rate: int) -> int:
    """Mel frames of a recording after padding; raise `ValueError` where the peer's rounding breaks its networks."""
    duration_s = samples / sample_rate
    left_s = duration_s % PAD_SECONDS
    padded_s = duration_s + (PAD_SECONDS - left_s) if left_s != 0 else duration_s
    frames = int(padded_s * 100)
    if frames == 0 or frames % FRAME_MULTIPLE or int(AUDIO.sample_rate * padded_s) != frames * AUDIO.hop_length:
        raise fails(f"{samples} samples at {sample_rate} Hz are padded to {padded_s!r} s, which is {frames} mel frames")
    return frames


def front_end(wave: np.ndarray, sample_rate: int) -> Tensor:
    """What the peer makes of a recording (C, T): channel 0 at 48 kHz, its peak at 0.5, padded. (1, 1, 480 L)"""
    frames = padded_frames(wave.shape[-1], sample_rate)
    mono = resample(torch.from_numpy(wave[0].astype(np.float32)), sample_rate, AUDIO.sample_rate).numpy()
    mono = mono - mono.mean()
    mono = mono / (np.abs(mono).max() + 1e-8) * 0.5
    padded = np.zeros(frames * AUDIO.hop_length, dtype=np.float32)
    padded[: len(mono)] = mono
    return torch.from_numpy(padded)[None, None]


def energy_index(magnitude: Tensor) -> int:
    """Largest row i >= 1 of (rows, L) below which less than 98.5 % of the summed magnitudes lies; 0 if none."""
    total = np.cumsum(magnitude.sum(dim=1).cpu().numpy())
    below = np.flatnonzero(total < ENERGY_SHARE * total[-1])
    return int(below[-1]) if len(below) else 0


def find_cutoff_hz(magnitude: Tensor) -> float:
    """Where the peer sees the end of the band, of an STFT (n_fft / 2 + 1, L) whose last row it drops."""
    rows = magnitude.shape[0] - 1
    return energy_index(magnitude[:rows]) / rows * (AUDIO.sample_rate / 2)


def low_pass(wave: Tensor, cutoff_hz: float, filter: str) -> Tensor:
    """Filter forwards and backwards, resample down and up again, and filter once more. (1, 1, T) -> (1, 1, T)"""
    if filter not in _DESIGNS:
        raise ValueError(f"unknown filter {filter!r}; choose one of {', '.join(FILTERS)}")
    if cutoff_hz < LOWEST_CUTOFF_HZ:
        raise fails(f"{ENERGY_SHARE:.1%} of the magnitude lies below {cutoff_hz:.0f} Hz, it needs 1000 Hz or more")
    nyquist_hz, cutoff_hz = AUDIO.sample_rate / 2, int(cutoff_hz)
    sections = _DESIGNS[filter](cutoff_hz / nyquist_hz)
    x = signal.sosfiltfilt(sections, wave[0, 0].cpu().double().numpy())
    low_hz = int(cutoff_hz / nyquist_hz * AUDIO.sample_rate)
    x = signal.resample_poly(signal.resample_poly(x, low_hz, AUDIO.sample_rate), AUDIO.sample_rate, low_hz)
    x = np.pad(x, (0, max(0, wave.shape[-1] - len(x))))[: wave.shape[-1]]
    return torch.from_numpy(signal.sosfiltfilt(sections, x).astype(np.float32))[None, None]


def replace_low_band(low: Tensor, wide: Tensor) -> Tensor:
    """Put the STFT of the low-passed input (1, 1, T) below its 98.5 % bin into `wide` (1, 1, T + 16).

    The input's level is brought to the generated one by the ratio of the two in that single bin.
    """
    window = torch.hann_window(MERGE_N_FFT)

    def spectrum(wave: Tensor) -> Tensor:
        return torch.stft(
            wave[0], MERGE_N_FFT, MERGE_HOP, window=window, center=True, pad_mode="constant", return_complex=True
        )[0]

    kept, made = spectrum(low), spectrum(wide)
    end = energy_index(kept.abs())
    ratio = float(kept[end].abs().sum() / made[end].abs().sum())
    made[:end] = kept[:end] / min(max(ratio, 0.8), 1.2)
    return torch.istft(made[None], MERGE_N_FFT, MERGE_HOP, window=window, center=True, length=wide.shape[-1])[None]


def normalise(wave: Tensor) -> Tensor:
    """Peak to 0.5, then the mean away, in this order: the peak is not exactly 0.5, and the input's level is lost."""
    halved = wave / wave.abs().max() * 0.5
    return halved - halved.mean()
