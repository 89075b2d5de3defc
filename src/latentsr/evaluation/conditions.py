"""The conditions of a benchmark: how references are degraded, and everything needed to run it again."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, field_validator, model_validator
from scipy import signal

from latentsr.config import AUDIO, Config
from latentsr.evaluation import noises
from latentsr.evaluation.noises import KEPT_SHARE, NOISES, Range, Wave
from latentsr.evaluation.resamplers import (
    RESAMPLERS,
    check_installed,
    cut_edge_hz,
    cut_with,
    lower_rate,
    rate_edge_hz,
    resample_with,
)
from latentsr.signal.audio import LOWEST_RATE_HZ
from latentsr.signal.degrade import (
    FAMILIES,
    PASS_RIPPLE_DB,
    RESAMPLER_TRANSITION,
    STOP_BAND_DB,
    TAPS_PER_ORDER,
    Recipe,
    cutoff_3db_hz,
)
from latentsr.signal.effects import apply_effects

UNPROCESSED = "unprocessed"  # the row of the input itself
FILTERS = tuple(name for name in FAMILIES if name != "none")
VERSIONS_OF = ("latentsr", "torch", "diffusers", "numpy", "scipy", "soxr", "visqol-python", "numba", "zimtohrli", "av")


@dataclass(frozen=True)
class Input:
    """One way in which the systems get a reference: low-passed at our rate, or at a lower rate, or through a codec."""

    cutoff_hz: float  # the low-pass's design; for a lower rate `resampling_edge_hz`; else where codec or telephone end
    sample_rate: int = AUDIO.sample_rate  # Hz
    noise: str = "none"  # key of NOISES
    operator: str = ""  # key of FILTERS or RESAMPLERS, where several are asked for; else the one that there is

    @property
    def folder(self) -> str:
        """Its files lie there, below the folder of another system."""
        if self.sample_rate != AUDIO.sample_rate:
            return "-".join([f"rate-{self.sample_rate}", *self._operator])
        return "-".join(self._parts)

    @property
    def label(self) -> str:
        """How tables name it."""
        if self.sample_rate != AUDIO.sample_rate:
            return " ".join([f"{self.sample_rate / 1000:g} kHz input", *self._operator])
        return " ".join(self._parts)

    @property
    def _operator(self) -> list[str]:
        return [self.operator] if self.operator else []

    @property
    def _parts(self) -> list[str]:
        if noises.ends_band(self.noise):
            return [self.noise]
        return [f"{self.cutoff_hz:g}", *self._operator, *([] if self.noise == "none" else [self.noise])]


class Conditions(Config):
    """What is done to the references and asked of the systems."""

    cutoffs_hz: tuple[float, ...] = (4000.0, 8000.0)
    rates_hz: tuple[int, ...] = ()  # inputs at lower rates, beside the low-passed ones
    filter: str = "cheby1"  # names of FILTERS or RESAMPLERS, separated by commas: each cutoff with each of them
    order: int = Field(8, ge=1, le=20)  # of the filters; a resampler has none
    resampler: str = "soxr"  # names of RESAMPLERS, separated by commas: each lower rate made by each of them
    noise: tuple[str, ...] = Field(("none",), validate_default=True)  # names of NOISES, each with each cutoff
    noise_amplitude: Range | None = None  # (low, high), drawn per clip; None: those of NOISES
    noise_snr_db: float | None = Field(None, ge=-60, le=100)  # in the kept band, in place of an amplitude
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
    def _below_our_rate(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not all(LOWEST_RATE_HZ <= hz < AUDIO.sample_rate for hz in value):
            raise ValueError(f"rates lie from {LOWEST_RATE_HZ} to {AUDIO.sample_rate - 1} Hz")
        if len(set(value)) < len(value):
            raise ValueError("a rate is named twice")
        return value

    @field_validator("filter")
    @classmethod
    def _known_filter(cls, value: str) -> str:
        return _known_operators(value, (*FILTERS, *RESAMPLERS))

    @model_validator(mode="after")
    def _cutoffs_that_a_resampler_makes(self) -> Conditions:
        if any(name in RESAMPLERS for name in self.filters):
            for hz in self.cutoffs_hz:
                lower_rate(hz)
        return self

    @field_validator("resampler")
    @classmethod
    def _known_resampler(cls, value: str) -> str:
        return _known_operators(value, tuple(RESAMPLERS))

    @field_validator("noise", mode="before")
    @classmethod
    def _as_names(cls, value: Any) -> Any:
        return [word.strip() for word in value.split(",")] if isinstance(value, str) else value

    @field_validator("noise")
    @classmethod
    def _known_noises(cls, value: tuple[str, ...], info: Any) -> tuple[str, ...]:
        if unknown := [name for name in value if name not in NOISES]:
            raise ValueError(f"unknown {', '.join(unknown)}; known are {', '.join(NOISES)}")
        if len(set(value)) < len(value) or not value:
            raise ValueError("name at least one noise, or none, and each once")
        added = [name for name in value if name != "none" and not noises.ends_band(name)]
        if added and info.data.get("rates_hz"):
            raise ValueError("noise is added to low-passed inputs only; score the rates in a run without it")
        if added and info.data.get("cutoffs_hz") == ():
            raise ValueError(f"{', '.join(added)} goes with a low-pass; name cutoffs, or leave it out")
        alone = len(value) > len(added) + ("none" in value)
        if not alone and info.data.get("cutoffs_hz") == info.data.get("rates_hz") == ():
            top_hz = AUDIO.sample_rate // 2
            raise ValueError(f"nothing to score; name cutoffs between 0 and {top_hz} Hz, or rates, or codecs as noise")
        return value

    @field_validator("noise_amplitude", mode="before")
    @classmethod
    def _as_range(cls, value: Any) -> Any:
        """0.02 and '0.02' are a range of one value, '0.05-0.2' is one of two."""
        words = re.split(r"(?<![eE])-", value) if isinstance(value, str) else value
        if isinstance(words, int | float):
            words = [words]
        return [words[0], words[0]] if isinstance(words, list) and len(words) == 1 else words

    @field_validator("noise_amplitude")
    @classmethod
    def _amplitudes(cls, value: Range | None, info: Any) -> Range | None:
        if value is not None and not any(map(noises.takes_amplitude, info.data.get("noise", noises.ADDED))):
            raise ValueError(f"applies to {', '.join(noises.ADDED)}; name one of them, or leave it out")
        if value is not None and not 0 < value[0] <= value[1] <= 1:
            raise ValueError("an amplitude, or a range low-high of them, lies above 0 and up to 1")
        return value

    @field_validator("noise_snr_db")
    @classmethod
    def _level_in_place_of_amplitude(cls, value: float | None, info: Any) -> float | None:
        if value is not None and not any(map(noises.takes_snr, info.data.get("noise", noises.ADDED))):
            raise ValueError(f"applies to {', '.join(noises.ADDED)} and mixture; name one of them, or leave it out")
        if value is not None and info.data.get("noise_amplitude") is not None:
            raise ValueError("sets the amplitude itself; leave noise_amplitude out")
        return value

    @property
    def filters(self) -> tuple[str, ...]:
        """The operators that cut."""
        return tuple(self.filter.split(","))

    @property
    def resamplers(self) -> tuple[str, ...]:
        """The operators that make inputs at lower rates."""
        return tuple(self.resampler.split(","))

    @property
    def inputs(self) -> list[Input]:
        """All that is scored of one reference: each cutoff with each filter and each noise, each rate with each
        resampler, then what ends the band itself.

        A cutoff stands alone where no noise is named that goes with one.
        """
        with_cut = [name for name in self.noise if not noises.ends_band(name)] or ["none"]
        cuts, rates = (names if len(names) > 1 else ("",) for names in (self.filters, self.resamplers))
        return [
            *(Input(hz, noise=name, operator=cut) for hz in self.cutoffs_hz for cut in cuts for name in with_cut),
            *(
                Input(resampling_edge_hz(hz, each or self.resampler), hz, operator=each)
                for hz in self.rates_hz
                for each in rates
            ),
            *(Input(noises.band_end_hz(name), noise=name) for name in self.noise if noises.ends_band(name)),
        ]

    def operator(self, given: Input) -> str | None:
        """Which filter or resampler makes an input; None where a codec or a telephone line ends the band."""
        if noises.ends_band(given.noise):
            return None
        return given.operator or (self.filter if given.sample_rate == AUDIO.sample_rate else self.resampler)

    def edge_hz(self, given: Input, recipe: Recipe) -> float:
        """Where an input at our rate is 3 dB down."""
        operator = self.operator(given)
        return cut_edge_hz(operator, given.cutoff_hz) if operator in RESAMPLERS else cutoff_3db_hz(recipe)

    def recipe(self, clip_name: str, given: Input, wave: Wave) -> Recipe:
        """The recipe of one clip: its noise depends on the seed, its name and where asked its level, not its place."""
        rng = np.random.default_rng([self.seed, zlib.crc32(clip_name.encode())])
        kept_hz, by_level = (
            KEPT_SHARE * given.cutoff_hz,
            self.noise_snr_db is not None and noises.takes_snr(given.noise),
        )
        low_hz, high_hz = noises.TONE_HZ
        tone_hz = (min(low_hz, 0.5 * kept_hz), min(high_hz, kept_hz)) if by_level else noises.TONE_HZ
        effects = noises.draw(given.noise, self.noise_amplitude, tone_hz, rng)
        if noises.ends_band(given.noise):
            return Recipe("none", 1, AUDIO.sample_rate / 2, effects)
        operator = self.operator(given)
        recipe = Recipe("none", 1, AUDIO.sample_rate / 2, effects)
        if operator in FILTERS:
            recipe = Recipe(str(operator), self.order, given.cutoff_hz, effects)
        if self.noise_snr_db is not None and by_level:
            programme = self._cut(wave, recipe, given)
            return replace(recipe, effects=noises.at_snr(effects, programme, kept_hz, self.noise_snr_db))
        return recipe

    def degrade(self, wave: Wave, recipe: Recipe, given: Input | None = None) -> Wave:
        """Low-pass with scipy, apart from the code that training uses; the effects before and after; round. (T,)

        Where a resampler cuts, which one is said by `given` and not by the recipe.
        """
        before = apply_effects(_tensor(wave), recipe.effects, AUDIO.sample_rate, before_lowpass=True)
        low = _tensor(self._cut(before.numpy(), recipe, given))
        return self._rounded(apply_effects(low, recipe.effects, AUDIO.sample_rate, before_lowpass=False).numpy())

    def _cut(self, wave: Wave, recipe: Recipe, given: Input | None) -> Wave:
        operator = None if given is None else self.operator(given)
        if given is not None and operator is not None and operator in RESAMPLERS:
            return cut_with(operator, wave, given.cutoff_hz)
        return lowpass(wave, recipe)

    def at_rate(self, wave: Wave, rate: int, operator: str = "soxr") -> Wave:
        """Resample by a named operator, by default soxr VHQ; round. (T,) at our rate -> (T x rate / ours,)"""
        return self._rounded(resample_with(operator, wave, AUDIO.sample_rate, rate))

    def _rounded(self, wave: Wave) -> Wave:
        return wave if self.bits is None else round_to_16_bit(wave)


def _tensor(wave: Wave) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(wave, dtype=np.float64))


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
        case "resampler":
            edge_samples = min(len(wave) - 1, sample_rate // 10)
            longer = np.pad(wave, edge_samples, mode="reflect", reflect_type="odd")
            share = np.fft.rfftfreq(len(longer), 1 / sample_rate) / recipe.cutoff_hz
            place = np.clip(1 + (share - 1) * recipe.order / RESAMPLER_TRANSITION, 0, 1)
            filtered = np.fft.irfft(np.fft.rfft(longer) * np.cos(np.pi / 2 * place) ** 2, len(longer))
            return filtered[edge_samples : edge_samples + len(wave)]
        case "none":
            return wave
    raise ValueError(f"the benchmark has no filter {recipe.family!r}")


def resampling_edge_hz(rate: int, operator: str = "soxr") -> float:
    """Where a resampler, down to `rate` and back by soxr VHQ, is 3 dB down, to 1 Hz.

    With soxr VHQ both ways: 0.945 of half the rate (0.950 one way).
    """
    return rate_edge_hz(operator, rate)


def round_to_16_bit(wave: Wave) -> Wave:
    """What a 16-bit file keeps of a wave: steps of 1/32768, clipped at full scale."""
    return np.clip(np.round(wave * 32_768), -32_768, 32_767) / 32_768


def describe_filter(conditions: Conditions) -> str:
    """The operators in words, for reports."""
    return " | ".join(_filter_in_words(name, conditions.order) for name in conditions.filters)


def describe_resampler(conditions: Conditions) -> str:
    """What made the inputs at lower rates, in words."""
    return " | ".join(RESAMPLERS[name].words for name in conditions.resamplers)


def _filter_in_words(name: str, order: int) -> str:
    if name in RESAMPLERS:
        return f"{RESAMPLERS[name].words}, down to twice the cutoff and back"
    details = {
        "cheby1": f"Chebyshev I, {PASS_RIPPLE_DB} dB, sosfiltfilt",
        "ellip": f"elliptic, {PASS_RIPPLE_DB}/{STOP_BAND_DB:g} dB, sosfiltfilt",
        "butter": "Butterworth, sosfiltfilt",
        "boxcar": f"ideal low-pass cut by a rectangular window of {TAPS_PER_ORDER * order + 1} taps, twice",
        "resampler": f"windowed sinc, flat up to {1 - RESAMPLER_TRANSITION / order:.2f} of the cutoff",
    }
    return f"{details.get(name, name)}, order {order}"


def _known_operators(value: str, known: tuple[str, ...]) -> str:
    names = [word.strip() for word in value.split(",")]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"unknown {', '.join(unknown)}; known are {', '.join(known)}")
    if len(set(names)) < len(names):
        raise ValueError("an operator is named twice")
    for name in names:
        if name in RESAMPLERS:
            check_installed(name)
    return ",".join(names)


def noises_in_words(conditions: Conditions) -> str | None:
    """The noises and how much of each, for reports; None without any."""
    asked = conditions.noise_amplitude, conditions.noise_snr_db
    return ", ".join(noises.in_words(name, *asked) for name in conditions.noise if name != "none") or None


def versions() -> dict[str, str | None]:
    """Versions of the packages that can change a figure; None where one is not installed."""
    return {name: _version(name) for name in VERSIONS_OF}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
