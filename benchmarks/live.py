"""The live head for minutes on end, in blocks of 10 ms: python benchmarks/live.py [FILE ...] [--minutes 10]

Blocks are fed one after the other, without waiting for the time that they last. Of each one the wall-clock time and the
CPU time is kept, of every minute the memory. Last, blocks of 1 to 4800 samples are compared with a single call.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
import soundfile
import torch

from latentsr import Live, Pipeline

RATE, BLOCK = 48_000, 480
EDGES_MS = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 50)
SIZES, COMPARED_S = (1, 7, 160, 480, 1000, 4800), 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, help="at 48 kHz, played in turn; noise in bursts if none")
    parser.add_argument("--minutes", type=float, default=10)
    options = parser.parse_args()
    torch.set_num_threads(1)
    audio, pipe = played(options.files), Pipeline.from_pretrained(heads=["live"])
    soak(Live(pipe, RATE, 1), audio, options.minutes)
    for cutoff_hz in (None, 4_000.0):
        part = audio[:, : COMPARED_S * RATE]
        whole = restored(Live(pipe, RATE, 1, cutoff_hz=cutoff_hz), part, part.shape[1])
        for size in SIZES:
            away = np.abs(restored(Live(pipe, RATE, 1, cutoff_hz=cutoff_hz), part, size) - whole).max()
            print(f"| blocks of {size}, cutoff {cutoff_hz or 'heard'}: largest difference | {away:.1e} |", flush=True)


def played(files: list[Path]) -> np.ndarray:
    """(1, T), cut at 4 kHz."""
    rng = np.random.default_rng(0)
    waves = [soundfile.read(file, dtype="float32", always_2d=True)[0].mean(axis=1) for file in files]
    burst = 0.1 * rng.normal(size=10 * RATE) * np.exp(-5 * (np.arange(10 * RATE) / RATE % 0.5))
    wave = np.concatenate(waves or [burst])
    spectrum = np.fft.rfft(wave)
    spectrum[np.fft.rfftfreq(len(wave), 1 / RATE) > 4_000] = 0
    return np.fft.irfft(spectrum, len(wave)).astype(np.float32)[None]


def soak(live: Live, audio: np.ndarray, minutes: float) -> None:
    count, blocks = int(minutes * 60 * RATE / BLOCK), audio.shape[1] // BLOCK
    wall_ms, cpu_ms = np.zeros(count), np.zeros(count)
    for i in range(count):
        at = i % blocks * BLOCK
        if i % (60 * RATE // BLOCK) == 0:
            print(f"| minute {i * BLOCK // RATE // 60}: memory | {resident_mib():.1f} MiB |", flush=True)
        wall, cpu = time.perf_counter(), time.process_time()
        live.process(audio[:, at : at + BLOCK])
        wall_ms[i], cpu_ms[i] = 1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)
    print(f"| minute {minutes:g}: memory | {resident_mib():.1f} MiB |")
    print(f"| CPU seconds per second of audio | {cpu_ms.mean() * RATE / BLOCK / 1e3:.3f} |")
    for name, ms in (("wall", wall_ms), ("CPU", cpu_ms)):
        shares = ", ".join(f"{p} %: {np.percentile(ms, p):.2f}" for p in (50, 90, 99, 99.9, 100))
        print(f"| a block of 10 ms, {name} ms | {shares} |")
        counts = np.histogram(ms, (0, *EDGES_MS, np.inf))[0]
        said = (f"< {edge}: {n}" for edge, n in zip((*EDGES_MS, "more"), counts, strict=True))
        print(f"| {name} ms, blocks | {', '.join(said)} |", flush=True)


def restored(live: Live, audio: np.ndarray, size: int) -> np.ndarray:
    pieces = [live.process(audio[:, at : at + size]) for at in range(0, audio.shape[1], size)]
    return np.concatenate([*pieces, live.flush()], axis=1)


def resident_mib() -> float:
    """Memory of this process now, where /proc says it."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        sys.exit("live.py: needs /proc, which this system does not have")
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    main()
