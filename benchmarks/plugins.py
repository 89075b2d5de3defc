"""What restoring costs behind a generator, as a Markdown table: the wrapper against the pipeline alone.

The generator is a function that returns the same noise at 16 kHz each time, so that only what comes behind it counts.

    python benchmarks/plugins.py [--heads mamba-gan,...] [--items 1,8] [--seconds 5] [--threads N] [--runs 5]
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from latentsr import Pipeline
from latentsr.plugins import upscale

RATE = 16_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heads", default="mamba-gan,diffwave-mamba,vocoder")
    parser.add_argument("--items", default="1,8", help="in a batch")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each item")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runs", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    print("| head | items x s | real-time factor, pipeline | wrapper | wrapper's share |")
    print("|---|---|--:|--:|--:|")
    for head in asked.heads.split(","):
        pipe = Pipeline.from_pretrained(heads=[head]).to(asked.device)
        for items in map(int, asked.items.split(",")):
            row(pipe, head, items, asked.seconds, asked.runs)
    print(f"\nMedian of {asked.runs} runs, {asked.device}, {asked.threads} threads, {platform.machine()}.")


def row(pipe: Pipeline, head: str, items: int, seconds: float, runs: int) -> None:
    batch = 0.1 * np.random.default_rng(0).standard_normal((items, round(seconds * RATE))).astype(np.float32)
    wrapped = upscale(lambda: batch, pipe, sample_rate=RATE, layout="BT", head=head)

    def alone() -> None:
        pipe(list(batch), RATE, head=head, progress=lambda done_s, total_s: None)

    plain_s, wrapped_s = medians_s([alone, wrapped], runs)
    audio_s = items * seconds
    share = (wrapped_s - plain_s) / wrapped_s
    print(f"| {head} | {items} x {seconds:g} | {plain_s / audio_s:.4f} | {wrapped_s / audio_s:.4f} | {share:.1%} |")


def medians_s(works: list[Callable[[], object]], runs: int) -> list[float]:
    """Median of each, run in turns: what else the machine does then falls on all alike."""
    taken: list[list[float]] = [[] for _ in works]
    for _ in range(1 + runs):  # the first loads, and warms caches
        for work, seconds in zip(works, taken, strict=True):
            start = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - start)
    return [statistics.median(seconds[1:]) for seconds in taken]


if __name__ == "__main__":
    main()
