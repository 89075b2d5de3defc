"""Degradation for training and benchmarks: a low-pass of one of several families, and what else befalls a recording.

A `Recipe` holds every value of one example, so that the example can be made again anywhere: the same recipe gives the
same example on any device and in any batch. `signal/recipes.py` draws them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import signal
from torch import Tensor

from latentsr.signal.codecs import CODECS, TELEPHONE_BAND_HZ, codec_edge_hz
from latentsr.signal.effects import Effect, apply_effects
from latentsr.signal.lowband import filter_zero_phase

Array = NDArray[np.float64]

PASS_RIPPLE_DB = 0.1
STOP_BAND_DB = 60.0
TAPS_PER_ORDER = 16
RESAMPLER_TRANSITION = 0.4  # of the cutoff, over the order


@dataclass(frozen=True)
class Recipe:
    """All values of one degraded example."""

    family: str  # key of FAMILIES
    order: int
    cutoff_hz: float  # the design's cutoff; where the response is 3 dB down is cutoff_3db_hz
    effects: tuple[Effect, ...] = ()

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ValueError(f"family: unknown {self.family!r}; known are {sorted(FAMILIES)}")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        unknown = values.keys() - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"a recipe has no {sorted(unknown)}; its values are {[f.name for f in fields(cls)]}")
        effects = tuple(Effect(**effect) for effect in values.get("effects", ()))
        return cls(**{**values, "effects": effects})


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
    return boxcar_gain(recipe.order, np.array(recipe.cutoff_hz), cos, sample_rate)


def boxcar_gain(order: int, cutoff_hz: Array, cos: Array, sample_rate: int) -> Array:
    """|H|^2 of ideal low-passes cut by a rectangular window: cos(k w) is the Chebyshev polynomial T_k(cos w).

    Args:
        order: taps are `TAPS_PER_ORDER` x order + 1.
        cutoff_hz: of any shape that broadcasts with that of `cos`: a single one, or (N, 1).
        cos: cosines of the frequencies w.
        sample_rate: Hz.
    """
    k = np.arange(TAPS_PER_ORDER * order // 2 + 1).reshape(-1, *[1] * cutoff_hz.ndim)
    series = np.sinc(2 * cutoff_hz / sample_rate * k) * np.where(k, 2, 1)  # sums to the gain at 0 Hz
    return np.polynomial.chebyshev.chebval(cos, series / series.sum(0), tensor=False) ** 2


def _resampler(recipe: Recipe, cos: Array, sample_rate: int) -> Array:
    """A resampler's windowed sinc: flat, then half a cosine down to nothing at the cutoff. Longer ones fall later."""
    freqs_hz = np.arccos(np.clip(cos, -1, 1)) * (sample_rate / (2 * math.pi))
    width = RESAMPLER_TRANSITION / recipe.order
    place = np.clip((freqs_hz / recipe.cutoff_hz - (1 - width)) / width, 0, 1)
    return 0.5 + 0.5 * np.cos(math.pi * place)


def _all_pass(recipe: Recipe, cos: Array, sample_rate: int) -> Array:
    return np.ones_like(cos)


FAMILIES: dict[str, Callable[[Recipe, Array, int], Array]] = {
    "cheby1": _biquads(lambda n, hz, fs: signal.cheby1(n, PASS_RIPPLE_DB, hz, output="sos", fs=fs)),
    "ellip": _biquads(lambda n, hz, fs: signal.ellip(n, PASS_RIPPLE_DB, STOP_BAND_DB, hz, output="sos", fs=fs)),
    "butter": _biquads(lambda n, hz, fs: signal.butter(n, hz, output="sos", fs=fs)),
    "boxcar": _boxcar,
    "resampler": _resampler,
    "none": _all_pass,  # what ends the band is a codec, or nothing; its cutoff and order mean nothing
}


# --- applying -------------------------------------------------------------------------------------------------------


def response(recipe: Recipe, freqs_hz: Array, sample_rate: int = 48_000) -> Array:
    """Amplitude gain |H|^2 of the filter run forwards and backwards, at any frequencies. (F,) Hz -> (F,) float64"""
    return _gain(recipe, cosines(freqs_hz, sample_rate), sample_rate)


def cosines(freqs_hz: Array, sample_rate: int) -> Array:
    return np.cos(2 * math.pi / sample_rate * np.asarray(freqs_hz, dtype=np.float64))


def _gain(recipe: Recipe, cos: Array, sample_rate: int) -> Array:
    if recipe.family != "none" and not 0 < recipe.cutoff_hz < sample_rate / 2:
        raise ValueError(f"cutoff {recipe.cutoff_hz:g} Hz must lie between 0 and half the rate of {sample_rate} Hz")
    return FAMILIES[recipe.family](recipe, cos, sample_rate)


def cutoff_3db_hz(recipe: Recipe, sample_rate: int = 48_000) -> float:
    """Where the band ends: where the total response first falls 3 dB, or sooner where a codec or telephone cuts it.

    It is the truth that the cutoff estimator is measured against; half the rate where nothing ends the band.
    """
    ends = [sample_rate / 2 if recipe.family == "none" else _lowpass_3db_hz(recipe, sample_rate)]
    for effect in recipe.effects:
        if effect.name == "telephone":
            ends.append(TELEPHONE_BAND_HZ[1])
        elif effect.name in CODECS:
            ends.append(codec_edge_hz(effect.name, effect.amount, sample_rate))
    return min(ends)


def _lowpass_3db_hz(recipe: Recipe, sample_rate: int) -> float:
    end_hz = ends_hz(lambda freqs: response(recipe, freqs, sample_rate), np.array([recipe.cutoff_hz]), sample_rate)
    if np.isnan(end_hz[0]):
        raise ValueError(f"{recipe} has no -3 dB point below {sample_rate / 2:g} Hz")
    return float(end_hz[0])


def ends_hz(gain: Callable[[Array], Array], cutoff_hz: Array, sample_rate: int) -> Array:
    """Where low-passes of the given design cutoffs first fall 3 dB; NaN where one does not. (N,) Hz -> (N,) Hz

    `gain` takes a row of frequencies for each filter, (N, F) Hz, and gives their gains.
    """
    low_hz, high_hz = 0.2 * cutoff_hz, np.minimum(3 * cutoff_hz, sample_rate / 2)
    found, rows = np.full(len(cutoff_hz), True), np.arange(len(cutoff_hz))
    for _ in range(3):  # each pass looks closer at the step in which the gain crosses -3 dB
        freqs_hz = np.linspace(low_hz, high_hz, 129, axis=-1)
        gain_db = 20 * np.log10(np.maximum(gain(freqs_hz), 1e-12))
        below = np.argmax(gain_db < -3, axis=-1)
        found &= (gain_db[rows, below] < -3) & (below > 0)
        low_hz, high_hz = freqs_hz[rows, below - 1], freqs_hz[rows, below]
    return np.where(found, (low_hz + high_hz) / 2, np.nan)


def lowpass(wave: Tensor, recipes: Sequence[Recipe], sample_rate: int) -> Tensor:
    """Low-pass each wave of the batch by its recipe, with zero phase. (B, 1, T) -> (B, 1, T)"""
    _check_count(wave, recipes)

    def gain_at(freqs_hz: Tensor) -> Tensor:
        cos = cosines(freqs_hz.numpy(), sample_rate)
        gain = np.stack([_gain(recipe, cos, sample_rate).astype(np.float32) for recipe in recipes])
        return torch.from_numpy(gain)

    return filter_zero_phase(wave, gain_at, sample_rate)


def degrade(wave: Tensor, recipes: Sequence[Recipe], sample_rate: int) -> Tensor:
    """One degraded example per recipe: its low-pass, and its effects before and after that.

    The low-pass runs on the whole batch; effects run on their examples one by one, codecs on the CPU.

    Args:
        wave: (B, 1, T) in [-1, 1].
        recipes: B recipes.
        sample_rate: Hz.

    Returns:
        (B, 1, T), not clipped.

    >>> recipe = Recipe("cheby1", order=8, cutoff_hz=4_000.0, effects=(Effect("hum", 0.01, frequency_hz=50.0),))
    >>> degrade(torch.ones(1, 1, 4_800), [recipe], 48_000).shape
    torch.Size([1, 1, 4800])
    """
    _check_count(wave, recipes)
    wave = _with_effects(wave, recipes, sample_rate, before_lowpass=True)
    # A batch is transformed with other roundings than one wave, and a codec makes something else of the least of them.
    alone = [any(effect.name in CODECS for effect in recipe.effects) for recipe in recipes]
    narrow = lowpass(wave, recipes, sample_rate)
    for i, recipe in enumerate(recipes):
        if alone[i]:
            narrow[i : i + 1] = lowpass(wave[i : i + 1], [recipe], sample_rate)
    return _with_effects(narrow, recipes, sample_rate, before_lowpass=False)


def _with_effects(wave: Tensor, recipes: Sequence[Recipe], sample_rate: int, *, before_lowpass: bool) -> Tensor:
    if not any(recipe.effects for recipe in recipes):
        return wave
    rows = [
        apply_effects(one[0], recipe.effects, sample_rate, before_lowpass=before_lowpass)
        for one, recipe in zip(wave, recipes, strict=True)
    ]
    return torch.stack(rows)[:, None]


def _check_count(wave: Tensor, recipes: Sequence[Recipe]) -> None:
    if wave.ndim != 3 or wave.shape[1] != 1 or wave.shape[0] != len(recipes):
        raise ValueError(f"{len(recipes)} recipes need waves of shape ({len(recipes)}, 1, T), got {tuple(wave.shape)}")
