"""What else befalls a recording: noises, clicks, clipping, telephone lines and codecs, each a named entry.

An `Effect` holds every value of one occurrence; all of its random numbers come from its seed, on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from latentsr.signal.codecs import CODECS, round_trip, telephone

HARMONICS = 24  # of the hum
HUM_DECAY = 1.2  # harmonic k has the amplitude k ** -HUM_DECAY, give or take
CLICK_S, CRACKLE_S = 2e-3, 2e-4  # a pulse's longest decay time
PULSES_PER_S = {"clicks": (0.5, 10.0), "crackle": (50.0, 500.0)}


@dataclass(frozen=True)
class Effect:
    """One occurrence of an entry of EFFECTS."""

    name: str
    amount: float = 0.0  # in the unit of its entry
    frequency_hz: float = 0.0  # of a tone, of hum; pulses per second of clicks and crackle
    phase: float = 0.0  # of a tone, radians
    seed: int = 0

    def __post_init__(self) -> None:
        if self.name not in EFFECTS:
            raise ValueError(f"effect: unknown {self.name!r}; known are {sorted(EFFECTS)}")


@dataclass(frozen=True)
class Kind:
    """An entry of the table. Effects of a mixture are applied in the order of the table."""

    apply: Callable[[Tensor, Effect, int], Tensor]  # (wave (T,), effect, sample_rate) -> (T,)
    unit: str  # of `amount`
    before_lowpass: bool = False
    full_band: bool = False  # it ends the band itself


def _clipping(wave: Tensor, effect: Effect, sample_rate: int) -> Tensor:
    """Cut off what passes `amount` dB below the peak."""
    if not wave.numel():
        return wave
    ceiling = wave.abs().max() * 10 ** (-effect.amount / 20)
    return wave.clamp(-ceiling, ceiling)


def _tone(wave: Tensor, effect: Effect, sample_rate: int) -> Tensor:
    cycles = torch.arange(wave.shape[-1], dtype=torch.float64) * (effect.frequency_hz / sample_rate)
    return wave + (effect.amount * torch.sin(2 * math.pi * cycles + effect.phase)).to(wave)


def _white(wave: Tensor, effect: Effect, sample_rate: int) -> Tensor:
    noise = torch.randn(wave.shape[-1], generator=torch.Generator().manual_seed(effect.seed))
    return wave + (effect.amount * noise).to(wave)


def _hum(wave: Tensor, effect: Effect, sample_rate: int) -> Tensor:
    """Mains hum: harmonics with random phases and levels; odd ones are the stronger."""
    rng = np.random.default_rng(effect.seed)
    k = np.arange(1, HARMONICS + 1)
    levels = k**-HUM_DECAY * rng.lognormal(0, 0.7, HARMONICS) * np.where(k % 2, 1.0, 0.5)
    phases = rng.uniform(0, 2 * math.pi, HARMONICS)
    times = np.arange(wave.shape[-1]) / sample_rate
    fundamental = np.exp(2j * math.pi * effect.frequency_hz * times)
    hum, power = np.zeros(len(times)), np.ones(len(times), dtype=complex)
    for level, phase in zip(levels / levels[0], phases, strict=True):
        power *= fundamental
        hum += level * (power * np.exp(1j * phase)).real
    return wave + torch.from_numpy(effect.amount * hum).to(wave)


def _pulses(longest_s: float) -> Callable[[Tensor, Effect, int], Tensor]:
    """Short decaying pulses at random places, `amount` the amplitude of the largest."""

    def apply(wave: Tensor, effect: Effect, sample_rate: int) -> Tensor:
        rng = np.random.default_rng(effect.seed)
        samples = wave.shape[-1]
        count = rng.poisson(effect.frequency_hz * samples / sample_rate)
        length = max(round(4 * longest_s * sample_rate), 2)
        pulses = np.zeros(samples + length)
        for place in rng.integers(0, samples, count):
            decay = np.exp(-np.arange(length) / (sample_rate * longest_s * rng.uniform(0.1, 1)))
            turns = np.cos(rng.uniform(0, 0.5) * math.pi * np.arange(length))  # up to a quarter of the rate
            pulses[place : place + length] += rng.choice((-1, 1)) * rng.power(0.5) * decay * turns
        return wave + torch.from_numpy(effect.amount * pulses[:samples]).to(wave)

    return apply


def _telephone(wave: Tensor, effect: Effect, sample_rate: int) -> Tensor:
    return torch.from_numpy(telephone(wave.cpu().float().numpy(), sample_rate)).to(wave)


def _codec(wave: Tensor, effect: Effect, sample_rate: int) -> Tensor:
    coded = round_trip(wave.cpu().float().numpy(), effect.name, effect.amount, sample_rate)
    return torch.from_numpy(coded).to(wave)


EFFECTS: dict[str, Kind] = {
    "clipping": Kind(_clipping, "dB below the peak", before_lowpass=True),
    "hum": Kind(_hum, "amplitude of the fundamental"),
    "crackle": Kind(_pulses(CRACKLE_S), "peak"),
    "clicks": Kind(_pulses(CLICK_S), "peak"),
    "tone": Kind(_tone, "peak"),
    "white": Kind(_white, "standard deviation"),
    "telephone": Kind(_telephone, "none", full_band=True),
} | {name: Kind(_codec, "kb/s", full_band=True) for name in CODECS}


def apply_effects(wave: Tensor, effects: tuple[Effect, ...], sample_rate: int, *, before_lowpass: bool) -> Tensor:
    """Apply, in the order of the table, those effects that come before the low-pass, or those after it. (T,) -> (T,)"""
    order = list(EFFECTS)
    for effect in sorted(effects, key=lambda each: order.index(each.name)):
        kind = EFFECTS[effect.name]
        if kind.before_lowpass == before_lowpass:
            wave = kind.apply(wave, effect, sample_rate)
    return wave
