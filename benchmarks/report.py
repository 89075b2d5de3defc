"""How long the benchmark report takes, and what of it is what: python benchmarks/report.py REF_DIR [--runs 1]

Runs the command that the numbers are stated for, in a fresh process,

    latentsr eval REF_DIR --cutoffs 4000,8000,12000 --heads mamba-gan,vocoder --html report.html

and prints wall and CPU seconds (of it and its workers), the size of the page, and the same with `--no-visqol`. Then the
price of ViSQOL for one clip of 5 s: the plain call, and the one that remembers the reference, whose figures are equal.
Nothing is asserted; quote the machine beside the figures.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

OPTIONS = ["--cutoffs", "4000,8000,12000", "--heads", "mamba-gan,vocoder"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("references", type=Path, help="folder of references")
    parser.add_argument("--runs", type=int, default=1, help="of each timing")
    options = parser.parse_args()
    print("| report | wall s | CPU s | MB |\n| --- | --: | --: | --: |")
    for name, more in (("with ViSQOL", []), ("without", ["--no-visqol"])):
        walls, cpus, sizes = zip(*(timed(options.references, more) for _ in range(options.runs)), strict=True)
        print(f"| {name} | {statistics.median(walls):.0f} | {statistics.median(cpus):.0f} | {max(sizes) / 1e6:.1f} |")
    visqol_price()
    print(f"\n{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")


def timed(references: Path, more: list[str]) -> tuple[float, float, int]:
    """Wall seconds, CPU seconds and bytes of one report."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        command = [sys.executable, "-m", "latentsr", "eval", str(references), *OPTIONS, *more, "--html", str(page)]
        before, started = spent(), time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - started, spent() - before, page.stat().st_size


def spent() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def visqol_price() -> None:
    """Seconds of one call on 5 s, with the reference new to it and known to it."""
    from visqol import VisqolApi

    from latentsr.evaluation.perceptual import visqol_api

    rng = np.random.default_rng(0)
    truth = rng.normal(0, 0.1, 240_000)
    others = [truth + 0.01 * rng.normal(0, 1, len(truth)) for _ in range(4)]
    plain = VisqolApi()
    plain.create(mode="audio")
    for name, api in (("plain", plain), ("remembering", visqol_api())):
        seconds, figures = [], []
        for other in others:
            started = time.perf_counter()
            figures.append(api.measure_from_arrays(truth, other, 48_000).moslqo)
            seconds.append(time.perf_counter() - started)
        print(f"ViSQOL on 5 s, {name}: {statistics.median(seconds[1:]):.2f} s a row, figures {figures}")


if __name__ == "__main__":
    main()
