"""Time and memory of the scans, printed as a table: python benchmarks/scan.py [--threads 2] [--repeats 5]

Each line comes from a fresh process. Its first forward and backward give the memory, inputs and gradients included, as
the peak over what the imports take; seconds are the median of the repeats that follow. This process imports no torch:
Linux counts the parent's memory at the fork towards the child's peak.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes per unit of ru_maxrss
SCANS = ("reference", "chunked")
LONG, TRAINING, MORE_STATES = (1, 20_000, 256, 16), (8, 192, 512, 16), (1, 20_000, 256, 64)  # B, L, D, N


def main() -> None:
    options = parse()
    if options.scan:
        print(json.dumps(measure(options)))
        return
    lines = [("scan", "B, L, D, N", "forward", "backward", "ratio", "peak memory")]
    for shape in (LONG, MORE_STATES, TRAINING):
        for scan in SCANS:
            repeats = 0 if (scan, shape) == ("reference", MORE_STATES) else options.repeats  # its memory says enough
            lines.append((scan, ", ".join(map(str, shape)), *own(options, scan, shape, repeats)))
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    lines.insert(1, tuple("-" * width for width in widths))
    for line in lines:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |")
    print(f"\n{options.threads} threads, {platform.machine()}, Python {platform.python_version()}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads of each process")
    parser.add_argument("--repeats", type=int, default=5, help="of which the median is taken")
    parser.add_argument("--scan", help=argparse.SUPPRESS)
    parser.add_argument("--shape", help=argparse.SUPPRESS)
    return parser.parse_args()


def own(options: argparse.Namespace, scan: str, shape: tuple[int, ...], repeats: int) -> tuple[str, ...]:
    """Cells of one line, measured by this file in a process of its own."""
    command = [sys.executable, __file__, "--scan", scan, "--shape", ",".join(map(str, shape))]
    env = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    process = subprocess.run([*command, "--repeats", str(repeats)], env=env, check=True, stdout=subprocess.PIPE)
    peak, seconds = json.loads(process.stdout)
    memory = f"{peak / 1e6:.0f} MB"
    if not seconds:
        return "", "", "", memory
    forward, backward = (1e3 * statistics.median(column) for column in zip(*seconds, strict=True))
    return f"{forward:.1f} ms", f"{backward:.1f} ms", f"{backward / forward:.1f}", memory


# --- in the process of a line ----------------------------------------------------------------------------------------


def measure(options: argparse.Namespace) -> tuple[int, list[tuple[float, float]]]:
    """Peak in bytes, and for each repeat the seconds of forward and of backward."""
    import latentsr.models.ssm  # noqa: F401

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run = prepare(options)
    run()
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * RSS_UNIT
    return peak, [run() for _ in range(options.repeats)]


def prepare(options: argparse.Namespace) -> Any:
    """A function that runs forward and backward once and returns the seconds of each."""
    import torch

    from latentsr.models.ssm import selective_scan

    batch, length, channels, states = map(int, options.shape.split(","))
    g = torch.Generator().manual_seed(0)
    sizes = channels, states, states, channels
    u, B, C, by_output = (torch.randn(batch, length, size, generator=g) for size in sizes)
    delta = 0.1 * torch.rand(batch, length, channels, generator=g)
    A = -torch.arange(1.0, 1 + states).repeat(channels, 1)
    inputs = [x.requires_grad_() for x in (u, delta, A, B, C)]

    def run() -> tuple[float, float]:
        started = time.perf_counter()
        y = selective_scan(*inputs, backend=options.scan)
        between = time.perf_counter()
        torch.autograd.grad(y, inputs, by_output)
        return between - started, time.perf_counter() - between

    return run


if __name__ == "__main__":
    main()
