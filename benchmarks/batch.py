"""Throughput of `latentsr batch` by engine and workers: python benchmarks/batch.py [--files 40] [--seconds 20]

The same recordings each time, every worker single-threaded. A rate is seconds of audio restored per second, between
the moment when the last worker has done its first file (so that loading and warming up do not count) and the moment
when the first worker has done its last one. Run it on a quiet machine with as many free cores as workers.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from datetime import datetime
from pathlib import Path

import numpy as np
import soundfile

from latentsr.apps.batch.journal import NAME

RATE_HZ = 16_000


def main() -> None:
    """Make recordings, run each engine, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each recording")
    parser.add_argument("--workers", type=int, default=2, help="to compare with one")
    parser.add_argument("--head", default="mamba-gan")
    parser.add_argument("--engines", default="serial,local,ray")
    args = parser.parse_args()
    print(f"{args.files} recordings of {args.seconds:g} s, head {args.head}, {os.cpu_count()} processors")
    print("| engine | workers | audio s per s | against one | wall s in all |\n|---|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder) / "src", args.files, args.seconds)
        for engine in args.engines.split(","):
            alone = None
            for workers in [1] if engine == "serial" else [1, args.workers]:
                dest = Path(folder) / f"{engine}{workers}"
                wall_s = run(args, engine, workers, Path(folder) / "src", dest)
                speed = rate(dest)
                alone = alone or speed
                print(f"| {engine} | {workers} | {speed:.1f} | {speed / alone:.2f} | {wall_s:.0f} |", flush=True)


def make(src: Path, files: int, seconds: float) -> None:
    """Noise under a slow envelope, at 16 kHz."""
    src.mkdir()
    envelope = 0.1 + 0.1 * np.sin(np.arange(round(seconds * RATE_HZ)) / 5_000)
    for index in range(files):
        noise = np.random.default_rng(index).standard_normal(len(envelope))
        soundfile.write(src / f"{index:03}.wav", np.clip(envelope * noise, -1, 1), RATE_HZ)


def run(args: argparse.Namespace, engine: str, workers: int, src: Path, dest: Path) -> float:
    """Wall time of one batch."""
    words = ["--engine", engine, "--workers", str(workers), "--head", args.head, "--device", "cpu"]
    began = time.monotonic()
    command = [sys.executable, "-m", "latentsr", "batch", str(src), str(dest), *words]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
    return time.monotonic() - began


def rate(dest: Path) -> float:
    """Seconds of audio per second while all workers were at it."""
    workers: dict[str, str] = {}
    ends: dict[str, list[float]] = defaultdict(list)
    done: list[tuple[float, float]] = []
    for entry in map(json.loads, (dest / NAME).read_text().splitlines()):
        if entry["event"] == "start":
            workers[entry["file"]] = entry["worker"]
        elif entry["event"] == "done":
            at_s = datetime.fromisoformat(entry["time"]).timestamp()
            ends[workers[entry["file"]]].append(at_s)
            done.append((at_s, entry["record"]["duration_s"]))
    first, last = max(map(min, ends.values())), min(map(max, ends.values()))
    return sum(duration_s for at_s, duration_s in done if first < at_s <= last) / (last - first)


if __name__ == "__main__":
    main()
