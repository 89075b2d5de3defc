"""Speed and memory of `restore`, printed as a table: python benchmarks/speed.py [--head H] [--steps N,M] [--minutes 10]

Each figure comes from a fresh process, its memory from the kernel's account of that process (getrusage). This process
stays small on purpose: Linux counts the parent's memory at the fork towards the child's peak.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes per unit of ru_maxrss
TARGETS = {"real-time factor": "<= 0.5", "import + load": "<= 5 s", "peak memory": "<= 1.5 GB"}


def main() -> None:
    options = parse()
    if options.task:
        return TASKS[options.task](options)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        short, long = Path(folder) / "short.wav", Path(folder) / "long.wav"
        own(options, "make", file=short, seconds=options.seconds, channels=1)
        _, seconds, peak = own(options, "load")
        rows.append(("import + load", f"{seconds:.1f} s", f"{peak:.2f} GB"))
        for steps in options.steps.split(","):
            printed, _, peak = own(options, "restore", file=short, steps=steps)
            factor = json.loads(printed)["seconds"] / options.seconds
            rows.append(("real-time factor", f"{factor:.3f} ({steps} steps)", f"{peak:.2f} GB"))
        if options.minutes:
            own(options, "make", file=long, seconds=60 * options.minutes, channels=2)
            steps = options.steps.split(",")[0]
            words = [*restore_words(options, steps), str(long), "-o", str(Path(folder) / "out.wav")]
            _, seconds, peak = measure([sys.executable, "-m", "latentsr", *words], options)
            rows.append(
                ("peak memory", f"{peak:.2f} GB ({options.minutes:g} min stereo, {seconds:.0f} s)", f"{peak:.2f} GB")
            )
    print_table(options, rows)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--head", default="vocoder")
    parser.add_argument(
        "--steps", default="default", help="diffusion steps, separated by commas; 'default' is the model's"
    )
    parser.add_argument("--model", help="folder or hub id; the embedded model unless given")
    parser.add_argument("--seconds", type=float, default=30, help="of mono audio for the real-time factor")
    parser.add_argument(
        "--minutes", type=float, default=10, help="of stereo audio for the peak memory; 0 leaves it out"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads of each process")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--channels", type=int, default=1, help=argparse.SUPPRESS)
    return parser.parse_args()


def restore_words(options: argparse.Namespace, steps: str) -> list[str]:
    words = ["restore", "--head", options.head]
    words += [] if steps == "default" else ["--steps", steps]
    return words + ([] if options.model is None else ["--model", options.model])


def own(options: argparse.Namespace, task: str, **changes: Any) -> tuple[str, float, float]:
    """Run one task of this file in a process of its own."""
    values = {"head": options.head, "model": options.model, "steps": options.steps, "task": task} | changes
    words = [word for key, value in values.items() if value is not None for word in (f"--{key}", str(value))]
    return measure([sys.executable, __file__, *words], options)


def measure(command: list[str], options: argparse.Namespace) -> tuple[str, float, float]:
    """What a command printed, its wall-clock seconds from start to exit, and its peak memory in GB."""
    env = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    with tempfile.TemporaryFile("w+") as printed:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=printed, env=env)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(f"speed.py: {' '.join(command)} left with {process.returncode}")
        printed.seek(0)
        return printed.read(), seconds, usage.ru_maxrss * RSS_UNIT / 1e9


def print_table(options: argparse.Namespace, rows: list[tuple[str, str, str]]) -> None:
    lines = [("what", "measured", "reach", "peak of the process")]
    lines += [(what, figure, TARGETS[what], peak) for what, figure, peak in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(4)]
    lines.insert(1, tuple("-" * width for width in widths))
    for line in lines:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |")
    about = f"model {Path(options.model).name if options.model else 'embedded'}, head {options.head}"
    print(f"\n{about}, {options.threads} threads, {platform.machine()}, Python {platform.python_version()}")


# --- tasks, each in a process of its own -----------------------------------------------------------------------------


def make(options: argparse.Namespace) -> None:
    """Write dull noise in bursts, cut at 4 kHz, in blocks of 10 s."""
    import numpy as np
    import soundfile
    from scipy import signal

    rate, rng = 48_000, np.random.default_rng(0)
    burst = np.exp(-5 * (np.arange(10 * rate) / rate % 0.5))[:, None]
    noise = 0.1 * burst * rng.normal(size=(10 * rate, options.channels))
    block = signal.sosfiltfilt(signal.cheby1(8, 0.1, 4000, fs=rate, output="sos"), noise, axis=0)
    left = round(options.seconds * rate)
    with soundfile.SoundFile(options.file, "w", rate, options.channels, "PCM_16") as file:
        while left > 0:
            file.write(block[:left])
            left -= len(block)


def load(options: argparse.Namespace) -> None:
    """Import the package and load what the head needs."""
    load_pipeline(options)


def restore(options: argparse.Namespace) -> None:
    """Print the seconds that one call takes once the model is loaded and warm."""
    import soundfile

    samples, rate = soundfile.read(options.file, dtype="float32")
    pipe = load_pipeline(options)
    steps = None if options.steps == "default" else int(options.steps)
    pipe(samples[: 2 * rate], sample_rate=rate, head=options.head, steps=steps, seed=0)
    started = time.perf_counter()
    pipe(samples, sample_rate=rate, head=options.head, steps=steps, seed=0)
    print(json.dumps({"seconds": time.perf_counter() - started}))


def load_pipeline(options: argparse.Namespace) -> Any:
    from latentsr import Pipeline

    pipe = Pipeline.from_pretrained(options.model, heads=[options.head])
    pipe.set_progress_bar_config(disable=True)
    return pipe


TASKS = {"make": make, "load": load, "restore": restore}

if __name__ == "__main__":
    main()
