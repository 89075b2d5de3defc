"""Degradation for training and benchmarks: a low-pass drawn from four families, then a tone or white noise.

A `Recipe` holds every value of one example, so that the example can be made again anywhere. All numbers come from CPU
generators: the same seed gives the same example on any device and in any batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator
from scipy import signal
from torch import Tensor

from latentsr.config import Config
from latentsr.signal.lowband import filter_frequencies, filter_zero_phase

Array = NDArray[np.float64]

PASS_RIPPLE_DB = 0.1
STOP_BAND_DB = 60.0
TAPS_PER_ORDER = 16


@dataclass(frozen=True)
class Recipe:
    """All values of one degraded example."""

    family: str  # key of FAMILIES
    order: int
    cutoff_hz: float  # the design's cutoff; where the response is 3 dB down is cutoff_3db_hz
    noise: str = "none"  # key of NOISES
    amplitude: float = 0.0  # peak of a tone, standard deviation of white noise; full scale is 1
    frequency_hz: float = 0.0  # of a tone
    phase: float = 0.0  # of a tone, radians
    seed: int = 0  # of white noise

    def __post_init__(self) -> None:
        _check_names("family", [self.family], FAMILIES)
        _check_names("noise", [self.noise], NOISES)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        unknown = values.keys() - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"a recipe has no {sorted(unknown)}; its values are {[f.name for f in fields(cls)]}")
        return cls(**values)


# --- low-pass families: squared magnitude |H|^2 as a function of cos(2 pi f / rate) ---------------------------------


def _biquads(design: Callable[[int, float, int], Array]) -> Callable[[Recipe, Array, int], Array]:
    """|H|^2 of a cascade of second-order sections."""

    def squared(recipe: Recipe, cos: Array, sample_rate: int) -> Array:
        power = np.ones_like(cos)
        for b0, b1, b2, a0, a1, a2 in design(recipe.order, recipe.cutoff_hz, sample_rate):
            power *= _squared_quadratic(b0, b1, b2, cos) / _squared_quadratic(a0, a1, a2, cos)
        return power

    return squared


def _squared_quadratic(c0: float, c1: float, c2: float, cos: Array) -> Array:
    """|c0 + c1 z^-1 + c2 z^-2|^2 on the unit circle; rounding may not make it negative."""
    constant, linear, square = (c0 - c2) ** 2 + c1**2, 2 * c1 * (c0 + c2), 4 * c0 * c2
    return np.maximum((square * cos + linear) * cos + constant, 0.0)


def _boxcar(recipe: Recipe, cos: Array, sample_rate: int) -> Array:
    """|H|^2 of an ideal low-pass cut by a rectangular window: cos(k w) is the Chebyshev polynomial T_k(cos w)."""
    taps = TAPS_PER_ORDER * recipe.order + 1
    half = signal.firwin(taps, recipe.cutoff_hz, window="boxcar", fs=sample_rate)[taps // 2 :]
    return np.polynomial.chebyshev.chebval(cos, np.concatenate([half[:1], 2 * half[1:]])) ** 2


FAMILIES: dict[str, Callable[[Recipe, Array, int], Array]] = {
    "cheby1": _biquads(lambda n, hz, fs: signal.cheby1(n, PASS_RIPPLE_DB, hz, output="sos", fs=fs)),
    "ellip": _biquads(lambda n, hz, fs: signal.ellip(n, PASS_RIPPLE_DB, STOP_BAND_DB, hz, output="sos", fs=fs)),
    "butter": _biquads(lambda n, hz, fs: signal.butter(n, hz, output="sos", fs=fs)),
    "boxcar": _boxcar,
}


# --- additive noise: (recipe, samples, sample_rate) -> (T,) on the CPU ----------------------------------------------


def _no_noise(recipe: Recipe, samples: int, sample_rate: int) -> Tensor | None:
    return None


def _tone(recipe: Recipe, samples: int, sample_rate: int) -> Tensor:
    cycles = torch.arange(samples, dtype=torch.float64) * (recipe.frequency_hz / sample_rate)
    return (recipe.amplitude * torch.sin(2 * math.pi * cycles + recipe.phase)).float()


def _white(recipe: Recipe, samples: int, sample_rate: int) -> Tensor:
    return recipe.amplitude * torch.randn(samples, generator=torch.Generator().manual_seed(recipe.seed))


NOISES: dict[str, Callable[[Recipe, int, int], Tensor | None]] = {"none": _no_noise, "tone": _tone, "white": _white}


# --- drawing --------------------------------------------------------------------------------------------------------


class DegradeConfig(Config):
    """Ranges are inclusive (low, high); weights need not sum to 1, and a name that is left out is never drawn."""

    families: dict[str, float] = Field(default_factory=lambda: dict.fromkeys(FAMILIES, 1.0))
    order: tuple[int, int] = (2, 10)
    cutoff_hz: tuple[float, float] = (2_000.0, 16_000.0)
    cutoff_scale: Literal["linear", "log"] = "linear"  # log: as many examples in each octave, the lowest is the hardest
    noises: dict[str, float] = Field(default_factory=lambda: {"none": 2.0, "tone": 1.0, "white": 1.0})
    tone_amplitude: tuple[float, float] = (0.001, 0.2)
    tone_frequency_hz: tuple[float, float] = (100.0, 15_000.0)
    white_amplitude: tuple[float, float] = (0.001, 0.1)

    @field_validator("families", "noises")
    @classmethod
    def _weights(cls, value: dict[str, float], info: Any) -> dict[str, float]:
        _check_names(info.field_name, value, FAMILIES if info.field_name == "families" else NOISES)
        if min(value.values(), default=0) < 0 or sum(value.values()) <= 0:
            raise ValueError("weights must be 0 or more, and one of them above 0")
        return value

    @field_validator("order", "cutoff_hz", "tone_amplitude", "tone_frequency_hz", "white_amplitude")
    @classmethod
    def _range(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 < value[0] <= value[1]:
            raise ValueError("a range is (low, high) with 0 < low <= high")
        return value


def draw_recipes(config: DegradeConfig, count: int, generator: torch.Generator) -> list[Recipe]:
    """Draw `count` recipes one after another, each from the same number of draws of the CPU generator.

    >>> recipes = draw_recipes(DegradeConfig(), 3, torch.Generator().manual_seed(0))
    >>> recipes[:2] == draw_recipes(DegradeConfig(), 2, torch.Generator().manual_seed(0))
    True
    """
    return [_draw(config, generator) for _ in range(count)]


def _draw(config: DegradeConfig, generator: torch.Generator) -> Recipe:
    u = torch.rand(7, generator=generator, dtype=torch.float64).tolist()
    noise = _pick(config.noises, u[3])
    amplitude = {"tone": config.tone_amplitude, "white": config.white_amplitude}.get(noise)
    tone = noise == "tone"
    return Recipe(
        family=_pick(config.families, u[0]),
        order=min(int(_between((config.order[0], config.order[1] + 1), u[1])), config.order[1]),
        cutoff_hz=_cutoff_hz(config, u[2]),
        noise=noise,
        amplitude=_between(amplitude, u[4]) if amplitude else 0.0,
        frequency_hz=_between(config.tone_frequency_hz, u[5]) if tone else 0.0,
        phase=2 * math.pi * u[6] if tone else 0.0,
        seed=int(u[6] * 2**31) if noise == "white" else 0,
    )


def _cutoff_hz(config: DegradeConfig, u: float) -> float:
    if config.cutoff_scale == "linear":
        return _between(config.cutoff_hz, u)
    low_hz, high_hz = config.cutoff_hz
    return float(low_hz * (high_hz / low_hz) ** u)


def _between(bounds: tuple[float, float], u: float) -> float:
    return bounds[0] + (bounds[1] - bounds[0]) * u


def _pick(weights: Mapping[str, float], u: float) -> str:
    names = [name for name, weight in weights.items() if weight > 0]
    edges = np.cumsum([weights[name] for name in names])
    return names[int(np.searchsorted(edges[:-1], u * edges[-1], side="right"))]


# --- applying -------------------------------------------------------------------------------------------------------


def response(recipe: Recipe, freqs_hz: Array, sample_rate: int = 48_000) -> Array:
    """Amplitude gain |H|^2 of the filter run forwards and backwards, at any frequencies. (F,) Hz -> (F,) float64"""
    if not 0 < recipe.cutoff_hz < sample_rate / 2:
        raise ValueError(f"cutoff {recipe.cutoff_hz:g} Hz must lie between 0 and half the rate of {sample_rate} Hz")
    cos = np.cos(2 * math.pi / sample_rate * np.asarray(freqs_hz, dtype=np.float64))
    return FAMILIES[recipe.family](recipe, cos, sample_rate)


def cutoff_3db_hz(recipe: Recipe, sample_rate: int = 48_000) -> float:
    """Where the total response first falls 3 dB: the truth that the cutoff estimator is measured against."""
    low_hz, high_hz = 0.2 * recipe.cutoff_hz, min(3 * recipe.cutoff_hz, sample_rate / 2)
    for _ in range(3):  # each pass looks closer at the step in which the gain crosses -3 dB
        freqs_hz = np.linspace(low_hz, high_hz, 129)
        gain_db = 20 * np.log10(np.maximum(response(recipe, freqs_hz, sample_rate), 1e-12))
        below = int(np.argmax(gain_db < -3))
        if gain_db[below] >= -3 or below == 0:
            raise ValueError(f"{recipe} has no -3 dB point below {sample_rate / 2:g} Hz")
        low_hz, high_hz = float(freqs_hz[below - 1]), float(freqs_hz[below])
    return (low_hz + high_hz) / 2


def lowpass(wave: Tensor, recipes: Sequence[Recipe], sample_rate: int) -> Tensor:
    """Low-pass each wave of the batch by its recipe, with zero phase. (B, 1, T) -> (B, 1, T)"""
    _check_count(wave, recipes)
    freqs_hz = filter_frequencies(wave.shape[-1], sample_rate).numpy()
    gain = np.stack([response(recipe, freqs_hz, sample_rate).astype(np.float32) for recipe in recipes])
    return filter_zero_phase(wave, torch.from_numpy(gain), sample_rate)


def add_noise(wave: Tensor, recipes: Sequence[Recipe], sample_rate: int) -> Tensor:
    """Add each recipe's tone or white noise, over the full band. (B, 1, T) -> (B, 1, T)"""
    _check_count(wave, recipes)
    silence = torch.zeros(wave.shape[-1])
    noises = [NOISES[recipe.noise](recipe, wave.shape[-1], sample_rate) for recipe in recipes]
    return wave + torch.stack([silence if n is None else n for n in noises])[:, None].to(wave)


def degrade(wave: Tensor, recipes: Sequence[Recipe], sample_rate: int) -> Tensor:
    """Low-pass, then tone or white noise: one degraded example per recipe.

    Args:
        wave: (B, 1, T) in [-1, 1].
        recipes: B recipes.
        sample_rate: Hz.

    Returns:
        (B, 1, T), not clipped.

    >>> recipe = Recipe("cheby1", order=8, cutoff_hz=4_000.0)
    >>> degrade(torch.ones(1, 1, 4_800), [recipe], 48_000).shape
    torch.Size([1, 1, 4800])
    """
    return add_noise(lowpass(wave, recipes, sample_rate), recipes, sample_rate)


def _check_count(wave: Tensor, recipes: Sequence[Recipe]) -> None:
    if wave.ndim != 3 or wave.shape[1] != 1 or wave.shape[0] != len(recipes):
        raise ValueError(f"{len(recipes)} recipes need waves of shape ({len(recipes)}, 1, T), got {tuple(wave.shape)}")


def _check_names(what: str, names: Any, table: Mapping[str, Any]) -> None:
    unknown = sorted(set(names) - table.keys())
    if unknown:
        raise ValueError(f"{what}: unknown {unknown}; known are {sorted(table)}")
