"""What restoration makes of the image of a recording, as a Markdown table per head.

Stereo recordings, and images built of mono ones, are cut as `latentsr eval` cuts them and restored with every scheme.
In the band that was made, from the cutoff to the recording's own end, against the truth: correlation of the channels,
its error and that of their coherence and level difference, in third octaves, and LSD of mid and of side.

    python benchmarks/stereo.py MANIFEST.csv ... [--heads mamba-gan,...] [--cutoffs 4000,8000] [--limit N] [--built N]
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain, combinations
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from latentsr import Pipeline
from latentsr.audio import read, resample
from latentsr.bandwidth import BandEstimator
from latentsr.evaluation.conditions import Conditions
from latentsr.evaluation.inputs import Input
from latentsr.evaluation.metrics import lsd
from latentsr.options import Options
from latentsr.restoring.analysis import Heard, hear
from latentsr.restoring.engine import Restorer
from latentsr.signal.correlation import Correlation, CorrelationEstimator

RATE = 48_000
N_FFT = 2048
SECONDS = 5.12
SHORTEST_S = 4.0
FIGURES = ("correlation", "error", "coherence error", "level dB", "LSD mid", "LSD side")
Restore = Callable[[Tensor, Heard], Tensor]  # (C, T) -> (C, T)


# --- the images -------------------------------------------------------------------------------------------------------


def recordings(manifests: list[Path], limit: int | None, built_of: int) -> Iterator[tuple[str, Tensor, float]]:
    """Group, wave (C, T) and the end of its band: the stereo of all manifests, then what is built of the last."""
    for manifest in manifests:
        rows = [row for row in csv.DictReader(manifest.open()) if float(row["seconds"]) >= SHORTEST_S]
        stereo = [row for row in rows if row["channels"] == "2"]
        for row in stereo[:: -(-len(stereo) // limit) if limit else 1]:
            yield f"stereo, {manifest.parent.name}", wave_of(manifest, row), float(row["bandwidth_hz"])
    wide = [row for row in rows if float(row["bandwidth_hz"]) >= 16_000]
    for row in range(built_of):
        few = wide[row :: len(wide) // 6][:6]
        waves = torch.stack([wave_of(manifest, one).mean(dim=0)[: int(SHORTEST_S * RATE)] for one in few])
        for name, wave in built(waves, seed=row).items():
            yield name, wave, min(float(one["bandwidth_hz"]) for one in few)


def wave_of(manifest: Path, row: dict[str, str]) -> Tensor:
    """The first seconds at 48 kHz, (C, T)."""
    recording = read(manifest.parent / row["file"])
    samples = recording.samples[:, : int(SECONDS * recording.sample_rate)]
    return torch.from_numpy(resample(samples, recording.sample_rate, RATE))


def built(mono: Tensor, seed: int) -> dict[str, Tensor]:
    """Images of six mono recordings (6, T) at one level each."""
    mono = 0.05 * mono / mono.square().mean(dim=1, keepdim=True).sqrt().clamp(min=1e-6)
    mono = mono * min(1.0, 0.4 / float(mono.abs().max()))
    a, b = mono[0], mono[1]
    generator = torch.Generator().manual_seed(seed)
    gains = torch.rand(10, 6, generator=generator).square()
    return {
        "dual mono": torch.stack([a, a]),
        "hard pan": torch.stack([a, torch.zeros_like(a)]),
        "opposite": torch.stack([a, -a]),
        "two panned": torch.stack([0.9 * a + 0.3 * b, 0.2 * a + 0.8 * b]),
        "unrelated": torch.stack([a, b]),
        "6 channels": gains[:6] @ mono,
        "10 channels": gains @ mono,
    }


# --- the schemes ------------------------------------------------------------------------------------------------------


def measured(wave: Tensor, cutoff_hz: float) -> Correlation | None:
    estimator = CorrelationEstimator(RATE)
    estimator.update(wave)
    return estimator.result(cutoff_hz)


def schemes(low: Tensor, truth: Tensor, heard: Heard, restore: Restore) -> dict[str, Callable[[], Tensor]]:
    """Restored waves by the name of the scheme."""
    apart = tuple(tuple(float(i == j) for i in range(len(low))) for j in range(len(low)))
    middle_hz = 2 * heard.track.cutoff_hz  # "known": measured in the octave that is to be made

    def as_mid_and_side(image: Correlation | None) -> Tensor:
        mid_side = torch.stack([low[0] + low[1], low[0] - low[1]]) / 2
        mid, side = restore(mid_side, replace(heard, channel_correlation=image))
        return torch.stack([mid + side, mid - side])

    made = {
        "one noise": lambda: restore(low, heard),
        "a noise each": lambda: restore(low, replace(heard, channel_correlation=apart)),
        "as measured": lambda: restore(low, replace(heard, channel_correlation=measured(low, heard.track.cutoff_hz))),
        "as the truth": lambda: restore(low, replace(heard, channel_correlation=measured(truth, middle_hz))),
    }
    if len(low) == 2:
        made["mid/side, one noise"] = lambda: as_mid_and_side(None)
        made["mid/side, a noise each"] = lambda: as_mid_and_side(apart)
    return made


# --- the figures ------------------------------------------------------------------------------------------------------


def mean(values: np.ndarray) -> float:
    """Of what is a number; NaN where nothing is."""
    return float(np.mean(values[~np.isnan(values)])) if not np.isnan(values).all() else float("nan")


def figures(truth: Tensor, made: Tensor, low_hz: float, high_hz: float) -> dict[str, float]:
    """Means over the pairs of channels and the third octaves from `low_hz` to `high_hz`."""
    pairs = list(combinations(range(len(truth)), 2))
    images = [pair_images(wave, pairs, low_hz, high_hz) for wave in (truth, made)]
    (true, true_coherence, true_db), (got, coherence, db) = images
    first = [(wave[0] + wave[1]) / 2 for wave in (truth, made)], [(wave[0] - wave[1]) / 2 for wave in (truth, made)]
    distances = [float(lsd(*(w[None].double() for w in waves), low_hz=low_hz, high_hz=high_hz)) for waves in first]
    return {
        "correlation": mean(got),
        "error": mean(np.abs(got - true)),
        "coherence error": mean(np.abs(coherence - true_coherence)),
        "level dB": mean(np.abs(db - true_db)),
        "LSD mid": distances[0],
        "LSD side": distances[1],
    }


def pair_images(
    wave: Tensor, pairs: list[tuple[int, int]], low_hz: float, high_hz: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Correlation, coherence and level difference in dB, each (pairs, bands); NaN where a channel is silent."""
    spectra = torch.stft(
        wave.double(), N_FFT, N_FFT // 4, window=torch.hann_window(N_FFT).double(), return_complex=True
    )
    edges = low_hz * 2 ** (np.arange(0, np.log2(high_hz / low_hz), 1 / 3))
    edges = np.append(edges[:-1], high_hz) * N_FFT / RATE
    bands = [spectra[:, round(a) + 1 : round(b) + 1].flatten(1) for a, b in zip(edges[:-1], edges[1:], strict=True)]
    products = torch.stack([band @ band.mH for band in bands]).numpy()  # (bands, C, C)
    i, j = np.array(pairs).T
    power = np.real(np.diagonal(products, axis1=1, axis2=2))
    heard = power > 1e-7 * power.max(axis=1, keepdims=True)
    both = np.where(heard[:, i] & heard[:, j], 1.0, np.nan)
    cross = products[:, i, j] / np.sqrt(np.maximum(power[:, i] * power[:, j], 1e-30)) * both
    level = 10 * np.log10(np.maximum(power[:, i], 1e-30) / np.maximum(power[:, j], 1e-30)) * both
    return np.real(cross).T, np.abs(cross).T, level.T


# --- the table --------------------------------------------------------------------------------------------------------


def degraded(truth: Tensor, cutoff_hz: float) -> Tensor:
    conditions = Conditions(cutoffs_hz=(cutoff_hz,))
    recipe = conditions.recipe("", Input(cutoff_hz), truth[0].numpy())
    return torch.stack([torch.from_numpy(conditions.degrade(one.numpy(), recipe)).float() for one in truth])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", type=Path, nargs="+", help="with file, seconds, channels and bandwidth_hz")
    parser.add_argument("--model", help="folder; the embedded default if none")
    parser.add_argument("--heads", default="mamba-gan,vocoder,diffwave-mamba")
    parser.add_argument("--cutoffs", default="4000,8000", help="Hz, separated by commas")
    parser.add_argument("--limit", type=int, help="recordings of each group")
    parser.add_argument("--built", type=int, default=3, help="recordings of each built image")
    args = parser.parse_args()
    pipe = Pipeline.from_pretrained(args.model, heads=[])
    for head in args.heads.split(","):
        chains = pipe.chains(Options(head=head))

        @torch.inference_mode()
        def restore(wave: Tensor, heard: Heard) -> Tensor:
            restorer = Restorer(chains(heard))  # noqa: B023
            return torch.cat(list(chain(restorer.push(wave), restorer.finish())), dim=-1)

        rows: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
        for group, truth, end_hz in recordings(args.manifests, args.limit, args.built):
            for cutoff_hz in map(float, args.cutoffs.split(",")):
                low = degraded(truth, cutoff_hz)
                band = BandEstimator(RATE)
                band.update(low)
                heard = hear(lambda: [low], [low], band, Options())  # noqa: B023
                if not heard.track.full_band:
                    heard = replace(heard, channel_correlation=None)
                    for scheme, make in schemes(low, truth, heard, restore).items():
                        rows[group, scheme].append(figures(truth, make(), 1.05 * cutoff_hz, end_hz))
        print_table(head, rows)


def print_table(head: str, rows: dict[tuple[str, str], list[dict[str, float]]]) -> None:
    print(f"\n`{head}`\n\n| image (cuts) | scheme | {' | '.join(FIGURES)} |\n|---|---|{'---|' * len(FIGURES)}")
    for (group, scheme), made in rows.items():
        means = [mean(np.array([one[name] for one in made])) for name in FIGURES]
        entries = ["-" if np.isnan(value) else f"{value:.2f}" for value in means]
        print(f"| {group} ({len(made)}) | {scheme} | {' | '.join(entries)} |", flush=True)


if __name__ == "__main__":
    main()
