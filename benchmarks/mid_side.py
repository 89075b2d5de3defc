"""Stereo whose side is duller than its mid, restored as left and right and as mid and side, as a Markdown table.

Mid and side of wide recordings are cut apart (Chebyshev I, order 8, 16 bit), as joint stereo and generators leave them.
From the side's end to the recording's own: LSD of left and right and of the side, and levels between the two ends,
against the truth.

    python benchmarks/mid_side.py MANIFEST.csv [--limit N]
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import scipy.signal
import torch
from stereo import RATE, wave_of
from torch import Tensor

from latentsr import Pipeline, estimate_cutoff
from latentsr.evaluation.metrics import band_energy_ratio_db, lsd

ENDS_HZ = ((8_000, 4_000), (12_000, 6_000))  # of mid and side
FIGURES = ("LSD left/right", "LSD mid", "LSD side", "left/right dB", "side dB", "off by, dB")
LEAST_SIDE = 1e-3  # of the mid's power; below, there is no image


def turned(wave: Tensor) -> Tensor:
    """Mid and side (2, T) of left and right; twice gives half of what came."""
    return torch.stack([wave[0] + wave[1], wave[0] - wave[1]])


def cut(wave: Tensor, hz: float) -> Tensor:
    sections = scipy.signal.cheby1(8, 0.1, hz, fs=RATE, output="sos")
    return torch.from_numpy(scipy.signal.sosfiltfilt(sections, wave.double().numpy()).copy())


def figures(truth: Tensor, made: Tensor, ends_hz: tuple[int, int], top_hz: float) -> list[float]:
    (mid_hz, side_hz), both = ends_hz, (turned(truth) / 2, turned(made) / 2)
    middle, side = (pair := [x[at : at + 1] for x in both] for at in range(2))
    levels = [band_energy_ratio_db(*pair, side_hz, mid_hz) for pair in ((truth, made), side)]
    distances = [lsd(truth, made, low_hz=side_hz, high_hz=top_hz), lsd(*middle, low_hz=mid_hz, high_hz=top_hz)]
    distances.append(lsd(*side, low_hz=side_hz, high_hz=top_hz))
    return [float(x.mean()) for x in (*distances, *levels)] + [float(levels[1].abs().mean())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--limit", type=int, default=10)
    args = parser.parse_args()
    torch.set_num_threads(1)
    pipe = Pipeline.from_pretrained(heads=["mamba-gan"])
    pipe.set_progress_bar_config(disable=True)
    rows = [row for row in csv.DictReader(args.manifest.open()) if row["channels"] == "2"]
    found: dict[tuple[int, str], list[list[float]]] = {}
    for row in [row for row in rows if float(row["bandwidth_hz"]) >= 16_000][: args.limit]:
        truth = wave_of(args.manifest, row)
        mid, side = turned(truth) / 2
        if side.square().mean() < LEAST_SIDE * mid.square().mean():
            continue
        for ends_hz in ENDS_HZ:
            given = turned(torch.stack([cut(wave, hz) for wave, hz in zip((mid, side), ends_hz, strict=True)]))
            given = ((given * 2**15).round() / 2**15).float()
            known_hz = estimate_cutoff(given, RATE)  # where it is given, left and right are restored
            as_it_is = torch.from_numpy(pipe(given, sample_rate=RATE, cutoff_hz=known_hz).audio)
            apart = torch.from_numpy(pipe(turned(given) / 2, sample_rate=RATE).audio)
            softer = torch.stack([apart[0], (apart[1] + (turned(given) / 2)[1]) / 2])
            schemes = {"cut": given, "left/right": as_it_is, "mid/side": turned(apart), "side at -6 dB": turned(softer)}
            for name, made in schemes.items():
                top_hz = min(float(row["bandwidth_hz"]), 20_000.0)
                found.setdefault((ends_hz[0], name), []).append(figures(truth, made, ends_hz, top_hz))
    print(f"| mid to, Hz | restored as | clips | {' | '.join(FIGURES)} |\n|{'---|' * (len(FIGURES) + 3)}")
    for (mid_hz, name), each in found.items():
        values = " | ".join(f"{value:.2f}" for value in np.mean(each, axis=0))
        print(f"| {mid_hz} | {name} | {len(each)} | {values} |", flush=True)


if __name__ == "__main__":
    main()
