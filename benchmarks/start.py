"""CPU seconds and peak memory of the command line, beside those of another tree of this project, in turn:

    python benchmarks/start.py --against OLD_TREE [--rounds 5] [--head mamba-gan] [--busy]

`restore` of 10 s is a whole process; "a second of audio" is what 50 s more of it take; --busy asks for the wall-clock
time of 60 s on one thread and on two while another process keeps a core busy. Each figure is a median over rounds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import speed

HERE = Path(__file__).resolve().parents[1]
SHORT_S, LONG_S = 10, 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="root of the other tree, with its own weights")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--head", default="mamba-gan")
    parser.add_argument("--busy", action="store_true", help="measure two threads beside a busy core too")
    options = parser.parse_args()
    trees = {"this": HERE} | ({"other": options.against} if options.against else {})
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        files = {seconds: Path(folder) / f"{seconds}.wav" for seconds in (SHORT_S, LONG_S)}
        for seconds, file in files.items():
            speed.make(argparse.Namespace(file=file, seconds=seconds, channels=1))
        for _ in range(options.rounds):
            for name, tree in trees.items():
                for what, figure in figures(tree, files, options).items():
                    found[what, name].append(figure)
    for what in dict.fromkeys(what for what, _ in found):
        medians = [statistics.median(found[what, name]) for name in trees]
        print(
            "| "
            + " | ".join([what, *(f"{value:.3g}" for value in medians), f"{medians[0] / medians[-1]:.2f} x"])
            + " |"
        )


def figures(tree: Path, files: dict[int, Path], options: argparse.Namespace) -> dict[str, float]:
    """One round of one tree."""

    def restore(seconds: int, threads: int = 1) -> tuple[float, float, float]:
        words = ["restore", str(files[seconds]), "-o", str(files[seconds].with_name("out.wav"))]
        return run(tree, [*words, "--overwrite", "--head", options.head], threads)

    short, long, info = restore(SHORT_S), restore(LONG_S), run(tree, ["info"], 1)
    found = {
        f"`restore` of {SHORT_S} s, one thread: CPU s": short[0],
        f"`restore` of {SHORT_S} s, one thread: peak MiB": short[2],
        "`info`: CPU s": info[0],
        "a second of audio, one thread: CPU ms": 1e3 * (long[0] - short[0]) / (LONG_S - SHORT_S),
        f"`restore` of {LONG_S} s, one thread: wall s": long[1],
        f"`restore` of {LONG_S} s, two threads: wall s": restore(LONG_S, 2)[1],
    }
    if options.busy:
        other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        try:
            found[f"`restore` of {LONG_S} s, two threads, a core busy: wall s"] = restore(LONG_S, 2)[1]
        finally:
            other.kill()
            other.wait()
    return found


def run(tree: Path, words: list[str], threads: int) -> tuple[float, float, float]:
    """CPU seconds, wall-clock seconds and peak memory in MiB of a command of a tree."""
    env = {**os.environ, "PYTHONPATH": str(tree / "src"), "OMP_NUM_THREADS": str(threads)}
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "latentsr", *words], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"start.py: latentsr {' '.join(words)} of {tree} left with {process.returncode}")
    return usage.ru_utime + usage.ru_stime, time.perf_counter() - started, usage.ru_maxrss * speed.RSS_UNIT / 2**20


if __name__ == "__main__":
    main()
