"""What else is done to references, beside the cut: each a named row, whose values a clip's name and a seed decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from latentsr.config import AUDIO
from latentsr.signal.codecs import CODECS
from latentsr.signal.degrade import Recipe, cutoff_3db_hz
from latentsr.signal.effects import EFFECTS, Effect, apply_effects

Wave = NDArray[np.float64]  # (T,)
Range = tuple[float, float]

KEPT_SHARE = 0.8  # of the cutoff: the band below it is given, and must be kept
TONE_HZ = (100.0, 15_000.0)  # drawn evenly
MAINS_HZ = (50.0, 60.0)  # either
ADDED = ("tone", "white", "hum", "clicks", "crackle")  # they have an amplitude, and add to what is there

# What each name does, with the amounts that hold unless others are asked for. Pulses per second are in `frequency_hz`.
NOISES: dict[str, tuple[Effect, ...]] = {
    "none": (),
    "tone": (Effect("tone", 0.02),),
    "white": (Effect("white", 0.02),),
    "hum": (Effect("hum", 0.02),),
    "clicks": (Effect("clicks", 0.2, frequency_hz=3.0),),
    "crackle": (Effect("crackle", 0.05, frequency_hz=150.0),),
    "mixture": (Effect("hum", 0.02), Effect("crackle", 0.05, frequency_hz=150.0), Effect("white", 0.005)),
    "clipping": (Effect("clipping", 6.0),),
    "telephone": (Effect("telephone"),),
} | {f"{name}-{kbps}": (Effect(name, float(kbps)),) for name, codec in CODECS.items() for kbps in codec.rates_kbps}


def ends_band(noise: str) -> bool:
    """Telephone and codecs: they end the band themselves, so they are scored without a low-pass."""
    return any(EFFECTS[effect.name].full_band for effect in NOISES[noise])


def band_end_hz(noise: str) -> float:
    """Where a noise that ends the band ends it, Hz."""
    return cutoff_3db_hz(Recipe("none", 1, AUDIO.sample_rate / 2, NOISES[noise]), AUDIO.sample_rate)


def takes_snr(noise: str) -> bool:
    return bool(NOISES[noise]) and all(effect.name in ADDED for effect in NOISES[noise])


def draw(noise: str, amplitude: Range | None, tone_hz: Range, rng: np.random.Generator) -> tuple[Effect, ...]:
    """All values of one clip's noise; `amplitude` (low, high) is drawn from evenly."""
    effects = []
    for effect in NOISES[noise]:
        values: dict[str, Any] = {"seed": int(rng.integers(2**31))}
        if effect.name == "tone":
            values |= {"frequency_hz": float(rng.uniform(*tone_hz)), "phase": float(rng.uniform(0, 2 * np.pi))}
        elif effect.name == "hum":
            values["frequency_hz"] = float(rng.choice(MAINS_HZ))
        if amplitude is not None and noise in ADDED:
            values["amount"] = float(rng.uniform(*amplitude))
        effects.append(replace(effect, **values))
    return tuple(effects)


def at_snr(effects: Sequence[Effect], wave: Wave, kept_hz: float, snr_db: float) -> tuple[Effect, ...]:
    """Scale added noises together, so that the wave's energy below `kept_hz` is `snr_db` above theirs.

    Silent waves get no noise, and so do clips on which no pulse falls.
    """
    silence = torch.zeros(len(wave), dtype=torch.float64)
    noise = apply_effects(silence, tuple(effects), AUDIO.sample_rate, before_lowpass=False).numpy()
    programme_energy, noise_energy = (_energy_below(each, kept_hz) for each in (wave, noise))
    gain = (programme_energy / (noise_energy * 10 ** (snr_db / 10))) ** 0.5 if noise_energy else 0.0
    return tuple(replace(effect, amount=effect.amount * gain) for effect in effects)


def _energy_below(wave: Wave, high_hz: float) -> float:
    """The whole clip's, cut at `high_hz` without a skirt."""
    power = np.square(np.abs(np.fft.rfft(wave)))
    return float(power[np.fft.rfftfreq(len(wave), 1 / AUDIO.sample_rate) <= high_hz].sum())


def in_words(noise: str, amplitude: Range | None, snr_db: float | None) -> str:
    """Which effects a name stands for, and how much of each: `white 0.02 standard deviation`."""
    words = [_effect_in_words(effect, amplitude if noise in ADDED else None) for effect in NOISES[noise]]
    if snr_db is not None and takes_snr(noise):
        words.append(f"scaled together to {snr_db:g} dB below the programme, under {KEPT_SHARE:g} x cutoff")
    return f"{noise} = " + " + ".join(words) if len(words) > 1 else words[0]


def _effect_in_words(effect: Effect, amplitude: Range | None) -> str:
    if effect.name == "telephone":
        return effect.name
    low, high = amplitude or (effect.amount, effect.amount)
    amount = f"{low:g}" if low == high else f"{low:g} to {high:g}"
    pulses = f", {effect.frequency_hz:g} a second" if effect.name in ("clicks", "crackle") else ""
    return f"{effect.name} {amount} {EFFECTS[effect.name].unit}{pulses}"
