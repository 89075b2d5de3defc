"""The conditions of a benchmark: how references are degraded, and everything needed to run it again."""

from __future__ import annotations

import re
import zlib
from dataclasses import replace
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
import torch
from pydantic import AfterValidator, Field, field_validator, model_validator

from latentsr.audio import LOWEST_RATE_HZ
from latentsr.config import AUDIO, Config
from latentsr.evaluation import noises
from latentsr.evaluation.cases import CASES, named
from latentsr.evaluation.filters import FILTERS, filter_in_words, lowpass, round_to_16_bit
from latentsr.evaluation.inputs import Input
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
from latentsr.signal.degrade import Recipe, cutoff_3db_hz
from latentsr.signal.effects import apply_effects

T = TypeVar("T")
UNPROCESSED = "unprocessed"  # the row of the input itself
CEILING = "ceiling (VAE + vocoder)"


def _once(what: str, values: tuple[T, ...]) -> tuple[T, ...]:
    if len(set(values)) < len(values):
        raise ValueError(f"{what} is named twice")
    return values


def _operators(*known: str) -> AfterValidator:
    """Of names separated by commas: each is known and installed, and none comes twice."""

    def check(value: str) -> str:
        names = _once("an operator", tuple(word.strip() for word in value.split(",")))
        if unknown := [name for name in names if name not in known]:
            raise ValueError(f"unknown {', '.join(unknown)}; known are {', '.join(known)}")
        for name in RESAMPLERS.keys() & names:
            check_installed(name)
        return ",".join(names)

    return AfterValidator(check)


class Conditions(Config):
    """What is done to the references and asked of the systems."""

    cutoffs_hz: tuple[float, ...] = (4000.0, 8000.0)
    rates_hz: tuple[int, ...] = ()  # inputs at lower rates, beside the low-passed ones
    # Names of FILTERS or RESAMPLERS, separated by commas: each cutoff with each of them.
    filter: Annotated[str, _operators(*FILTERS, *RESAMPLERS)] = "cheby1"
    order: int = Field(8, ge=1, le=20)  # of the filters; a resampler has none
    # Names of RESAMPLERS, separated by commas: each lower rate made by each of them.
    resampler: Annotated[str, _operators(*RESAMPLERS)] = "soxr"
    cases: Annotated[tuple[str, ...], AfterValidator(named)] = ()  # of CASES: files at their own rate, depth and level
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
        return _once("a cutoff", value)

    @field_validator("rates_hz")
    @classmethod
    def _below_our_rate(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not all(LOWEST_RATE_HZ <= hz < AUDIO.sample_rate for hz in value):
            raise ValueError(f"rates lie from {LOWEST_RATE_HZ} to {AUDIO.sample_rate - 1} Hz")
        return _once("a rate", value)

    @model_validator(mode="after")
    def _cutoffs_that_a_resampler_makes(self) -> Conditions:
        if any(name in RESAMPLERS for name in self.filters):
            for hz in self.cutoffs_hz:
                lower_rate(hz)
        return self

    @field_validator("cases", "noise", mode="before")
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
            raise ValueError("noise is added to low-passed inputs only; score the rates in a run without noise")
        if added and info.data.get("cutoffs_hz") == ():
            raise ValueError(f"{', '.join(added)} goes with a low-pass; name cutoffs, or leave that noise out")
        alone = len(value) > len(added) + ("none" in value)
        if not alone and not any(info.data.get(key, True) for key in ("cutoffs_hz", "rates_hz", "cases")):
            top_hz = AUDIO.sample_rate // 2
            raise ValueError(f"nothing to score; name cutoffs between 0 and {top_hz} Hz, or rates, cases, or codecs")
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
        if value is not None and not {*noises.ADDED} & {*info.data.get("noise", noises.ADDED)}:
            raise ValueError(
                f"applies to {', '.join(noises.ADDED)}; name one of these noises, or leave this option out"
            )
        if value is not None and not 0 < value[0] <= value[1] <= 1:
            raise ValueError("an amplitude, or a range low-high of them, lies above 0 and up to 1")
        return value

    @field_validator("noise_snr_db")
    @classmethod
    def _level_in_place_of_amplitude(cls, value: float | None, info: Any) -> float | None:
        if value is not None and not any(map(noises.takes_snr, info.data.get("noise", noises.ADDED))):
            raise ValueError(
                f"applies to {', '.join(noises.ADDED)} and mixture; name one of these noises, or leave this option out"
            )
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
        resampler, then what ends the band itself, then the cases.

        A cutoff stands alone where no noise is named that goes with one.
        """
        with_cut = [name for name in self.noise if not noises.ends_band(name)] or ["none"]
        cuts, rates = (names if len(names) > 1 else ("",) for names in (self.filters, self.resamplers))
        return [
            *(Input(hz, noise=name, operator=cut) for hz in self.cutoffs_hz for cut in cuts for name in with_cut),
            *(
                Input(rate_edge_hz(each or self.resampler, hz), hz, operator=each)
                for hz in self.rates_hz
                for each in rates
            ),
            *(Input(noises.band_end_hz(name), noise=name) for name in self.noise if noises.ends_band(name)),
            *map(Input.of_case, self.cases),
        ]

    def operator(self, given: Input) -> str | None:
        """Which filter or resampler makes an input, or what a case is; None where a codec or a telephone line
        ends the band.
        """
        if given.case:
            return CASES[given.case].in_words()
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
        kept_hz, (low_hz, high_hz) = KEPT_SHARE * given.cutoff_hz, noises.TONE_HZ
        by_level = self.noise_snr_db is not None and noises.takes_snr(given.noise)
        tone_hz = (min(low_hz, 0.5 * kept_hz), min(high_hz, kept_hz)) if by_level else noises.TONE_HZ
        effects = noises.draw(given.noise, self.noise_amplitude, tone_hz, rng)
        operator = self.operator(given)
        recipe = Recipe("none", 1, AUDIO.sample_rate / 2, effects)
        if operator is not None and operator in FILTERS:
            recipe = Recipe(operator, self.order, given.cutoff_hz, effects)
        if self.noise_snr_db is None or not by_level:
            return recipe
        effects = noises.at_snr(effects, self._cut(wave, recipe, given), kept_hz, self.noise_snr_db)
        return replace(recipe, effects=effects)

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


def describe_filter(conditions: Conditions) -> str:
    """The operators in words, for reports."""
    return " | ".join(filter_in_words(name, conditions.order) for name in conditions.filters)


def noises_in_words(conditions: Conditions) -> str | None:
    """The noises and how much of each, for reports; None without any."""
    asked = conditions.noise_amplitude, conditions.noise_snr_db
    return ", ".join(noises.in_words(name, *asked) for name in conditions.noise if name != "none") or None
