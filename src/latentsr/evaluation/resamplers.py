"""Resampling operators by name, as conditions: which one cut a band decides how its edge looks, and with it the scores.

As an entry of `--filter` one takes a reference down to twice the cutoff and back up to our rate; with `--resampler` one
makes the inputs at lower rates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from math import gcd

import numpy as np
from scipy import signal

from latentsr.audio import LOWEST_RATE_HZ, output_length, resample
from latentsr.config import AUDIO
from latentsr.evaluation.noises import Wave
from latentsr.signal.cuts import soxr_at

EDGE_DB = -3.0
IMPULSES = range(0, 16 * 37, 37)  # samples: a prime apart, so that they stand differently at any lower rate


@dataclass(frozen=True)
class Resampler:
    """One operator: what reports call it, and what it needs to be installed."""

    words: str
    run: Callable[[Wave, int, int], Wave]  # (T,), from_hz, to_hz -> about T x to / from samples
    package: str | None = None  # of the extra of that name


def _polyphase(wave: Wave, from_hz: int, to_hz: int) -> Wave:
    common = gcd(from_hz, to_hz)
    return signal.resample_poly(wave, to_hz // common, from_hz // common)


def _swr(wave: Wave, from_hz: int, to_hz: int) -> Wave:
    import av

    converter = av.AudioResampler(format="dblp", layout="mono", rate=to_hz)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave[None]), format="dblp", layout="mono")
    frame.sample_rate = from_hz
    frames = [*converter.resample(frame), *converter.resample(None)]
    return np.concatenate([each.to_ndarray()[0] for each in frames])


RESAMPLERS: dict[str, Resampler] = {
    "soxr": Resampler("soxr VHQ", resample),
    **{f"soxr-{name.lower()}": Resampler(f"soxr {name}", soxr_at(name)) for name in ("HQ", "MQ", "LQ", "QQ")},
    "scipy-poly": Resampler("scipy.signal.resample_poly, Kaiser 5.0", _polyphase),
    "scipy-fft": Resampler(
        "scipy.signal.resample, cut in the Fourier domain",
        lambda wave, a, b: signal.resample(wave, output_length(len(wave), a, b)),
    ),
    "swr": Resampler("libswresample's default", _swr, "av"),
}


def with_length(wave: Wave, samples: int) -> Wave:
    """Cut, or filled up with zeros, at the end."""
    return np.pad(wave, (0, max(0, samples - len(wave))))[:samples]


def check_installed(name: str) -> None:
    """Raise `ValueError` that names the extra where an operator's library is missing."""
    operator = RESAMPLERS[name]
    if operator.package is not None and find_spec(operator.package) is None:
        raise ValueError(
            f"{name} needs {operator.package}; install it with: pip install 'latentsr[{operator.package}]'"
        )


def resample_with(name: str, wave: Wave, from_hz: int, to_hz: int) -> Wave:
    """Resample by a named operator, to the length that `output_length` says. (T,) -> (T x to / from,)"""
    return with_length(RESAMPLERS[name].run(wave, from_hz, to_hz), output_length(len(wave), from_hz, to_hz))


def cut_with(name: str, wave: Wave, cutoff_hz: float) -> Wave:
    """Down to twice the cutoff and back by the same operator. (T,) -> (T,), at our rate"""
    rate = lower_rate(cutoff_hz)
    back = resample_with(name, resample_with(name, wave, AUDIO.sample_rate, rate), rate, AUDIO.sample_rate)
    return with_length(back, len(wave))


def lower_rate(cutoff_hz: float) -> int:
    """The whole rate whose half is the cutoff."""
    rate = round(2 * cutoff_hz)
    if not LOWEST_RATE_HZ <= rate < AUDIO.sample_rate:
        raise ValueError(f"a resampler cuts from {LOWEST_RATE_HZ // 2} Hz on, got a cutoff of {cutoff_hz:g} Hz")
    return rate


@lru_cache(maxsize=64)
def cut_edge_hz(name: str, cutoff_hz: float) -> float:
    """Where `cut_with` is 3 dB down, measured on an impulse, to 1 Hz."""
    return impulse_edge_hz(lambda impulse: cut_with(name, impulse, cutoff_hz))


@lru_cache(maxsize=64)
def rate_edge_hz(name: str, rate: int) -> float:
    """Where an input at a lower rate, raised to ours by soxr VHQ, is 3 dB down, to 1 Hz."""

    def there_and_back(impulse: Wave) -> Wave:
        return resample(resample_with(name, impulse, AUDIO.sample_rate, rate), rate, AUDIO.sample_rate)

    return impulse_edge_hz(there_and_back)


def impulse_edge_hz(operator: Callable[[Wave], Wave]) -> float:
    """The first frequency, in bins of 1 Hz, at which a linear operator is 3 dB down, as a tone there would be.

    What a resampler folds back depends on where an impulse stands between the samples of the lower rate, and is no part
    of a tone's own gain: the mean over several places, brought back to one, leaves it out.
    """
    samples = AUDIO.sample_rate
    turn = 2j * np.pi / samples * np.arange(samples // 2 + 1)
    total = np.zeros(samples // 2 + 1, dtype=complex)
    for place in IMPULSES:
        impulse = np.zeros(samples)
        impulse[samples // 2 + place] = 1
        total += np.fft.rfft(operator(impulse)) * np.exp(turn * place)
    return float(np.argmax(np.abs(total) / len(IMPULSES) < 10 ** (EDGE_DB / 20)))
