"""Drawing degradations: which cut, which effects, and all their values, from one CPU generator per example."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field, field_validator

from latentsr.config import AUDIO, Config
from latentsr.signal.codecs import CODECS
from latentsr.signal.degrade import FAMILIES, Recipe
from latentsr.signal.effects import EFFECTS, PULSES_PER_S, Effect

MOST_EFFECTS = 3  # of one example
MAINS_HZ = (50.0, 60.0)
BASE = ("cheby1", "ellip", "butter", "boxcar")
Range = tuple[float, float]


class DegradeConfig(Config):
    """Ranges are inclusive (low, high); weights need not sum to 1, and a name that is left out is never drawn."""

    families: dict[str, float] = Field(default_factory=lambda: dict.fromkeys(BASE, 1.0))
    order: tuple[int, int] = (2, 10)
    cutoff_hz: Range = (2_000.0, 16_000.0)
    cutoff_scale: Literal["linear", "log"] = "linear"  # log: as many examples in each octave, the lowest is the hardest
    effects: dict[str, float] = Field(default_factory=lambda: {"none": 2.0, "tone": 1.0, "white": 1.0})
    mixture: float = Field(default=0.0, ge=0, le=1)  # probability of another effect on top, and of a third one on both
    amplitude_scale: Literal["linear", "log"] = "linear"  # of all amplitudes; log: as many faint ones as loud ones
    tone_amplitude: Range = (0.001, 0.2)
    tone_frequency_hz: Range = (100.0, 15_000.0)
    white_amplitude: Range = (0.001, 0.1)
    hum_amplitude: Range = (0.001, 0.1)
    clicks_amplitude: Range = (0.01, 0.5)
    crackle_amplitude: Range = (0.003, 0.1)
    clipping_db: Range = (1.0, 15.0)
    codec_alone: float = Field(default=0.7, ge=0, le=1)  # of the examples with a codec: nothing else ends the band

    @field_validator("families", "effects")
    @classmethod
    def _weights(cls, value: dict[str, float], info: Any) -> dict[str, float]:
        known = set(FAMILIES) if info.field_name == "families" else {"none", *EFFECTS}
        if unknown := sorted(value.keys() - known):
            raise ValueError(f"unknown {unknown}; known are {sorted(known)}")
        if min(value.values(), default=0) < 0 or sum(value.values()) <= 0:
            raise ValueError("weights must be 0 or more, and one of them above 0")
        return value

    @field_validator("order", "cutoff_hz", "clipping_db", "tone_frequency_hz", *(
        f"{name}_amplitude" for name in ("tone", "white", "hum", "clicks", "crackle")
    ))  # fmt: skip
    @classmethod
    def _range(cls, value: Range) -> Range:
        if not 0 < value[0] <= value[1]:
            raise ValueError("a range is (low, high) with 0 < low <= high")
        return value


def draw_recipe(config: DegradeConfig, generator: torch.Generator) -> Recipe:
    """Draw one example's recipe from a CPU generator.

    >>> config = DegradeConfig()
    >>> draw_recipe(config, torch.Generator().manual_seed(0)) == draw_recipe(config, torch.Generator().manual_seed(0))
    True
    """
    draw = _Dice(generator)
    family = draw.pick(config.families)
    order = draw.whole(config.order)
    cutoff_hz = draw.between(config.cutoff_hz, config.cutoff_scale)
    effects = tuple(_draw_effect(config, name, draw) for name in _draw_names(config, draw))
    alone = draw.uniform() < config.codec_alone
    names = {effect.name for effect in effects}
    if "telephone" in names or (alone and names & CODECS.keys()):
        family, order, cutoff_hz = "none", 1, AUDIO.sample_rate / 2
    return Recipe(family, order, cutoff_hz, effects)


def _draw_names(config: DegradeConfig, draw: _Dice) -> list[str]:
    """The effects of one example, none twice, and one at most that ends the band."""
    first = draw.pick(config.effects)
    names = [] if first == "none" else [first]
    while names and len(names) < MOST_EFFECTS and draw.uniform() < config.mixture:
        ended = any(EFFECTS[name].full_band for name in names)
        left = {
            name: weight
            for name, weight in config.effects.items()
            if name != "none" and name not in names and not (ended and EFFECTS[name].full_band)
        }
        if sum(left.values()) <= 0:
            break
        names.append(draw.pick(left))
    return names


def _draw_effect(config: DegradeConfig, name: str, draw: _Dice) -> Effect:
    seed = draw.seed()
    if name in CODECS:
        rates = CODECS[name].rates_kbps
        return Effect(name, float(rates[draw.whole((0, len(rates) - 1))]))
    if name == "telephone":
        return Effect(name)
    if name == "clipping":
        return Effect(name, draw.between(config.clipping_db))
    amount = draw.between(getattr(config, f"{name}_amplitude"), config.amplitude_scale)
    match name:
        case "tone":
            phase = draw.between((0.0, 2 * math.pi))
            return Effect(name, amount, draw.between(config.tone_frequency_hz), phase)
        case "hum":
            mains_hz = MAINS_HZ[draw.whole((0, 1))]
            return Effect(name, amount, mains_hz * draw.between((0.99, 1.01)), seed=seed)
        case "clicks" | "crackle":
            return Effect(name, amount, draw.between(PULSES_PER_S[name], "log"), seed=seed)
    return Effect(name, amount, seed=seed)


class _Dice:
    """Draws of one example."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def uniform(self) -> float:
        return float(torch.rand((), generator=self.generator, dtype=torch.float64))

    def seed(self) -> int:
        return int(torch.randint(0, 2**31, (), generator=self.generator))

    def between(self, bounds: Range, scale: str = "linear") -> float:
        low, high = bounds
        if scale == "log":
            return float(low * (high / low) ** self.uniform())
        return low + (high - low) * self.uniform()

    def whole(self, bounds: tuple[int, int]) -> int:
        """Inclusive."""
        return int(torch.randint(bounds[0], bounds[1] + 1, (), generator=self.generator))

    def pick(self, weights: Mapping[str, float]) -> str:
        names = [name for name, weight in weights.items() if weight > 0]
        chances = torch.tensor([weights[name] for name in names], dtype=torch.float64)
        return names[int(torch.multinomial(chances, 1, generator=self.generator))]
