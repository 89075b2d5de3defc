"""The conditions of a benchmark: how references are degraded, and everything needed to run it again."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator
from scipy import signal

from latentsr.config import AUDIO, Config
from latentsr.signal.audio import LOWEST_RATE_HZ, resample
from latentsr.signal.degrade import FAMILIES, PASS_RIPPLE_DB, STOP_BAND_DB, TAPS_PER_ORDER, Recipe
from latentsr.signal.effects import EFFECTS, Effect, apply_effects

Wave = NDArray[np.float64]  # (T,), mono, at AUDIO.sample_rate

VERSIONS_OF = ("latentsr", "torch", "diffusers", "numpy", "scipy", "soxr", "visqol-python")


@dataclass(frozen=True)
class Input:
    """One way in which the systems get a reference: low-passed at our rate, or at a lower rate."""

    cutoff_hz: float  # the low-pass's design; for a lower rate `resampling_edge_hz`
    sample_rate: int = AUDIO.sample_rate  # Hz

    @property
    def folder(self) -> str:
        """Its files lie there, below the folder of another system."""
        return f"{self.cutoff_hz:g}" if self.sample_rate == AUDIO.sample_rate else f"rate-{self.sample_rate}"


class Conditions(Config):
    """What is done to the references and asked of the systems."""

    cutoffs_hz: tuple[float, ...] = (4000.0, 8000.0)
    rates_hz: tuple[int, ...] = Field((), validate_default=True)  # inputs at lower rates, beside the low-passed ones
    filter: str = "cheby1"
    order: int = Field(8, ge=1, le=20)
    noise: str = "none"  # added after the low-pass, over the full band
    noise_amplitude: float = Field(0.02, gt=0, le=1)  # peak of a tone, standard deviation of white noise
    bits: Literal[16] | None = 16  # the degraded input is rounded as a 16-bit file would round it; None: not rounded
    seed: int = Field(0, ge=0)
    known_cutoff: bool = False  # systems are told where the low-pass is 3 dB down, instead of estimating it
    limit: int | None = Field(None, ge=1)  # clips of each group

    @field_validator("cutoffs_hz")
    @classmethod
    def _inside_the_band(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 < hz < AUDIO.sample_rate / 2 for hz in value):
            raise ValueError(f"cutoffs lie between 0 and {AUDIO.sample_rate // 2} Hz")
        if len(set(value)) < len(value):
            raise ValueError("a cutoff is named twice")
        return value

    @field_validator("rates_hz")
    @classmethod
    def _below_our_rate(cls, value: tuple[int, ...], info: Any) -> tuple[int, ...]:
        if not value and info.data.get("cutoffs_hz") == ():
            raise ValueError(f"nothing to score; name cutoffs between 0 and {AUDIO.sample_rate // 2} Hz, or rates")
        if not all(LOWEST_RATE_HZ <= hz < AUDIO.sample_rate for hz in value):
            raise ValueError(f"rates lie from {LOWEST_RATE_HZ} to {AUDIO.sample_rate - 1} Hz")
        if len(set(value)) < len(value):
            raise ValueError("a rate is named twice")
        return value

    @field_validator("filter", "noise")
    @classmethod
    def _known(cls, value: str, info: Any) -> str:
        known = FAMILIES if info.field_name == "filter" else NOISES
        if value not in known:
            raise ValueError(f"known are {', '.join(known)}")
        if info.field_name == "noise" and value != "none" and info.data.get("rates_hz"):
            raise ValueError("noise is added to low-passed inputs only; score the rates in a run without it")
        return value

    @property
    def inputs(self) -> list[Input]:
        """All that is scored of one reference: the cutoffs, then the rates."""
        return [Input(hz) for hz in self.cutoffs_hz] + [Input(resampling_edge_hz(hz), hz) for hz in self.rates_hz]

    def recipe(self, clip_name: str, cutoff_hz: float) -> Recipe:
        """The recipe of one clip: its noise depends on the seed and its name, not on its place in the list."""
        rng = np.random.default_rng([self.seed, zlib.crc32(clip_name.encode())])
        values: dict[str, Any] = {"family": self.filter, "order": self.order, "cutoff_hz": cutoff_hz}
        if self.noise != "none":
            values |= {"noise": self.noise, "amplitude": self.noise_amplitude, "seed": int(rng.integers(2**31))}
        if self.noise == "tone":
            values |= {"frequency_hz": float(rng.uniform(100, 15_000)), "phase": float(rng.uniform(0, 2 * np.pi))}
        return Recipe(**values)

    def degrade(self, wave: Wave, recipe: Recipe) -> Wave:
        """Low-pass with scipy, apart from the code that training uses; add noise; round. (T,) -> (T,)"""
        low = np.ascontiguousarray(lowpass(wave, recipe))
        if recipe.noise != "none":
            low = add_noise(torch.from_numpy(low)[None, None], [recipe], AUDIO.sample_rate)[0, 0].numpy()
        return self._rounded(low)

    def at_rate(self, wave: Wave, rate: int) -> Wave:
        """Resample with soxr VHQ; round. (T,) at our rate -> (T x rate / ours,)"""
        return self._rounded(resample(wave, AUDIO.sample_rate, rate))

    def _rounded(self, wave: Wave) -> Wave:
        return wave if self.bits is None else round_to_16_bit(wave)


def lowpass(wave: Wave, recipe: Recipe, sample_rate: int = AUDIO.sample_rate) -> Wave:
    """The recipe's filter forwards and backwards: `sosfiltfilt`, or the boxcar's taps applied twice. (T,) -> (T,)"""
    edge: dict[str, Any] = {"N": recipe.order, "Wn": recipe.cutoff_hz, "fs": sample_rate, "output": "sos"}
    match recipe.family:
        case "cheby1":
            return signal.sosfiltfilt(signal.cheby1(rp=PASS_RIPPLE_DB, **edge), wave)
        case "ellip":
            return signal.sosfiltfilt(signal.ellip(rp=PASS_RIPPLE_DB, rs=STOP_BAND_DB, **edge), wave)
        case "butter":
            return signal.sosfiltfilt(signal.butter(**edge), wave)
        case "boxcar":
            taps = signal.firwin(TAPS_PER_ORDER * recipe.order + 1, recipe.cutoff_hz, window="boxcar", fs=sample_rate)
            return signal.oaconvolve(signal.oaconvolve(wave, taps, mode="same"), taps, mode="same")
    raise ValueError(f"the benchmark has no filter {recipe.family!r}")


@lru_cache(maxsize=8)
def resampling_edge_hz(rate: int) -> float:
    """Where soxr VHQ, down to `rate` and back, is 3 dB down, to 1 Hz: 0.945 of half the rate (0.950 one way)."""
    impulse = np.zeros(AUDIO.sample_rate)  # 1 s: bins of 1 Hz
    impulse[len(impulse) // 2] = 1
    there = resample(impulse, AUDIO.sample_rate, rate)
    gain = np.abs(np.fft.rfft(resample(there, rate, AUDIO.sample_rate)))
    return float(np.argmax(gain < 10 ** (-3 / 20)))


def round_to_16_bit(wave: Wave) -> Wave:
    """What a 16-bit file keeps of a wave: steps of 1/32768, clipped at full scale."""
    return np.clip(np.round(wave * 32_768), -32_768, 32_767) / 32_768


def describe_filter(conditions: Conditions) -> str:
    """The operator in words, for reports."""
    details = {
        "cheby1": f"Chebyshev I, {PASS_RIPPLE_DB} dB, sosfiltfilt",
        "ellip": f"elliptic, {PASS_RIPPLE_DB}/{STOP_BAND_DB:g} dB, sosfiltfilt",
        "butter": "Butterworth, sosfiltfilt",
        "boxcar": f"ideal low-pass cut by a rectangular window of {TAPS_PER_ORDER * conditions.order + 1} taps, twice",
    }
    return f"{details.get(conditions.filter, conditions.filter)}, order {conditions.order}"


def versions() -> dict[str, str | None]:
    """Versions of the packages that can change a figure; None where one is not installed."""
    return {name: _version(name) for name in VERSIONS_OF}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
