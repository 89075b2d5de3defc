"""CPU time of the default head beside N-GAN n8, 118,000 parameters for speech (ECAI 2025, doi 10.3233/FAIA250821).

    pip install --no-deps ngan==0.1.0
    python benchmarks/peer_ngan.py [--seconds 10] [--rounds 5]

Both take the same speech-like noise from 8 to 48 kHz, in turn, in one thread of one process. N-GAN's weights are drawn
at random: the released ones are not on PyPI, and its time does not depend on them.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from ngan import NGANSuperResolver

from latentsr import Pipeline

RATE = 8_000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    wave = speech_like(options.seconds)
    pipe = Pipeline.from_pretrained(heads=["mamba-gan"])
    pipe.set_progress_bar_config(disable=True)
    peer = NGANSuperResolver(n_channels=8)
    calls: dict[str, Callable[[], object]] = {
        "latentsr, whole": lambda: pipe(wave, sample_rate=RATE),
        "latentsr, cutoff given": lambda: pipe(wave, sample_rate=RATE, cutoff_hz=3_700.0),
        "N-GAN n8": lambda: peer.upsample(wave, input_sample_rate=RATE),
    }
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(options.rounds + 1):
        for name, call in calls.items():
            begun = time.process_time()
            call()
            if number:  # the first round warms up
                spent[name].append((time.process_time() - begun) / options.seconds)
    theirs = statistics.median(spent["N-GAN n8"])
    print(f"{'':24}CPU ms per second of audio, median (least)   against N-GAN")
    for name, values in spent.items():
        median = statistics.median(values)
        print(f"{name:24}{1e3 * median:8.1f} ({1e3 * min(values):.1f}){'':24}{median / theirs:8.2f} x")


def speech_like(seconds: float) -> np.ndarray:
    """(samples,) noise in syllables, as long as asked."""
    samples = round(seconds * RATE)
    syllables = np.sin(np.pi * 4 * np.arange(samples) / RATE) ** 2
    return (0.1 * syllables * np.random.default_rng(0).standard_normal(samples)).astype(np.float32)


if __name__ == "__main__":
    main()
