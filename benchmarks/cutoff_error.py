"""Error of the cutoff estimate on real recordings, as a table: python benchmarks/cutoff_error.py DATA_DIR

Every recording below DATA_DIR is cut once per family, cutoff and noise, with an order drawn from 2 to 10, and rounded
to 16 bit. White noise lies 10 to 30 dB below the programme between 0.7 and 0.95 of the cutoff; the tone is drawn as in
training. Telephone and codecs, at each of their rates, get no low-pass. Cuts at which the programme stands less than
10 dB above the noise of rounding do not count: nothing there shows where it ended. The truth is the -3 dB point of the
total response; a codec's is that on white noise. An entry is `median error % / share within 10 % (clips)`.
"""

from __future__ import annotations

import argparse
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from latentsr.signal.audio import AudioError, read, resample
from latentsr.signal.bandwidth import estimate_cutoff_hz
from latentsr.signal.codecs import CODECS
from latentsr.signal.degrade import FAMILIES, Recipe, cutoff_3db_hz, degrade, lowpass
from latentsr.signal.effects import Effect

RATE = 48_000
DUST_POWER = (2 / 2**16) ** 2 / 12  # rounding to 16 bit
CUTS = [family for family in FAMILIES if family != "none"]
NOISES = ("none", "tone", "white")
ENDS = [Effect("telephone")] + [Effect(name, kbps) for name, codec in CODECS.items() for kbps in codec.rates_kbps]
STANDARD = "cheby1, order 8"  # the cut of `latentsr eval`
HEARD_DB = 10.0


def programme_power(clean: Tensor, truth_hz: float) -> float:
    """Power density just below the cutoff, as the variance of the white noise that has the same. (1, 1, T)"""
    power = torch.fft.rfft(clean[0, 0].double()).abs().square() / clean.shape[-1]
    freqs_hz = torch.fft.rfftfreq(clean.shape[-1], 1 / RATE)
    inside = power[(freqs_hz > 0.7 * truth_hz) & (freqs_hz < 0.95 * truth_hz)]
    return inside.mean().item()


def draw(family: str, order: int, cutoff_hz: float, noise: str, rng: random.Random) -> Recipe:
    match noise:
        case "tone":
            tone = Effect(noise, rng.uniform(0.001, 0.2), rng.uniform(100, 15_000), rng.uniform(0, 6))
            return Recipe(family, order, cutoff_hz, (tone,))
        case "white":
            return Recipe(family, order, cutoff_hz, (Effect(noise, 1.0, seed=rng.randrange(2**31)),))
    return Recipe(family, order, cutoff_hz)


def relative_errors(wave: Tensor, recipes: Sequence[Recipe], rng: random.Random) -> list[float | None]:
    """Signed error of each cut, None where the programme is lost in dust. `wave`: (1, 1, T)"""
    clean = lowpass(wave.expand(len(recipes), -1, -1), recipes, RATE)
    truths_hz = [cutoff_3db_hz(recipe, RATE) for recipe in recipes]
    powers = [programme_power(clean[i : i + 1], hz) for i, hz in enumerate(truths_hz)]
    levelled = [_levelled(recipe, power, rng) for recipe, power in zip(recipes, powers, strict=True)]
    rounded = (degrade(wave.expand(len(recipes), -1, -1), levelled, RATE) * 2**15).round() / 2**15
    estimates_hz = estimate_cutoff_hz(rounded, RATE).tolist()
    return [
        estimate / truth - 1 if power > DUST_POWER * 10 ** (HEARD_DB / 10) else None
        for estimate, truth, power in zip(estimates_hz, truths_hz, powers, strict=True)
    ]


def _levelled(recipe: Recipe, power: float, rng: random.Random) -> Recipe:
    """White noise 10 to 30 dB below the programme; anything else as it is."""
    effects = [
        replace(effect, amount=(power / 10 ** rng.uniform(1, 3)) ** 0.5) if effect.name == "white" else effect
        for effect in recipe.effects
    ]
    return replace(recipe, effects=tuple(effects))


def name_of(effect: Effect) -> str:
    return f"{effect.name}-{effect.amount:g}" if effect.name in CODECS else effect.name


def entry(errors: list[float]) -> str:
    if not errors:
        return "-"
    size = np.abs(errors)
    return f"{100 * np.median(size):.1f} / {100 * np.mean(size <= 0.1):.0f} ({len(size)})"


def print_table(title: str, rows: dict[str, dict[str, list[float]]]) -> None:
    columns = sorted({column for row in rows.values() for column in row}, key=lambda name: (name == "order 7-10", name))
    print(f"\n{title}\n\n| | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for name, row in rows.items():
        print(f"| {name} | {' | '.join(entry(row.get(column, [])) for column in columns)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--cutoffs", default="4000,8000", help="Hz, separated by commas")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each recording, from its start")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    cutoffs_hz = [float(hz) for hz in args.cutoffs.split(",")]
    rng = random.Random(args.seed)
    by_family: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    by_order: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    standard: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    by_end: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    files = sorted(path for path in args.data_dir.rglob("*") if path.suffix in {".flac", ".wav", ".ogg", ".mp3"})
    for path in files:
        try:
            audio = read(path)
        except AudioError as problem:
            raise SystemExit(str(problem)) from None
        mono = audio.samples.mean(0)[: int(args.seconds * audio.sample_rate)]
        wave = torch.from_numpy(resample(mono, audio.sample_rate, RATE)).float()[None, None]
        kind = path.relative_to(args.data_dir).parts[0]
        cuts = [(hz, family, noise) for hz in cutoffs_hz for family in CUTS for noise in NOISES]
        recipes = [draw(family, rng.randint(2, 10), hz, noise, rng) for hz, family, noise in cuts]
        recipes += [Recipe("cheby1", 8, hz) for hz in cutoffs_hz]
        for i, error in enumerate(relative_errors(wave, recipes, rng)):
            if error is None:
                continue
            if i >= len(cuts):
                standard[f"{STANDARD}, {cutoffs_hz[i - len(cuts)] / 1000:g} kHz"][kind].append(error)
                continue
            hz, family, noise = cuts[i]
            order = recipes[i].order
            by_family[f"{family}, {hz / 1000:g} kHz"][noise].append(error)
            by_order[family]["order 2-3" if order < 4 else "order 4-6" if order < 7 else "order 7-10"].append(error)
        ends = [Recipe("none", 1, RATE / 2, (effect,)) for effect in ENDS]
        for i, error in enumerate(relative_errors(wave, ends, rng)):
            if error is not None:
                by_end[f"{name_of(ENDS[i])} ({cutoff_3db_hz(ends[i], RATE):.0f} Hz)"][kind].append(error)
    if not files:
        raise SystemExit(f"no recordings below {args.data_dir}; pass a folder of flac, wav, ogg or mp3 files")
    print("median error % / share within 10 % (clips)")
    print_table("Orders 2 to 10", by_family)
    print_table("The same by order", by_order)
    print_table("Telephone and codecs", by_end)
    print_table("The cut of `latentsr eval`", standard)
    for name, row in standard.items():
        errors = np.array([error for kind in row.values() for error in kind])
        print(f"\n{name}: within 3 %: {100 * np.mean(abs(errors) <= 0.03):.0f} % of {len(errors)}", end="")
        print(f"; more than 3 % too high: {100 * np.mean(errors > 0.03):.0f} %", end="")
        print(f"; more than 10 % too high: {100 * np.mean(errors > 0.1):.0f} %")


if __name__ == "__main__":
    main()
