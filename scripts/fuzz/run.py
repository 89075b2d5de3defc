"""Fuzz every reader in turn: `python scripts/fuzz/run.py --minutes 10`. Needs the extra `fuzz`, on Linux.

Each target runs in a process of its own with limits of time and memory, since a decoder or a kernel may crash it. What
crashes is kept beside the log; run `python scripts/fuzz/one.py TARGET CORPUS FILE` to see it again.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

from targets import SCRATCH, TARGETS

HERE = Path(__file__).parent
ONE_INPUT_S, MEMORY_MB = 20, 3000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="in all, without start-up")
    parser.add_argument("--slice", type=float, default=30.0, help="seconds of a target at a time")
    parser.add_argument("--out", type=Path, default=Path("out/fuzz"), help="corpora, crashes and the log")
    parser.add_argument("--targets", default=",".join(TARGETS), help="which, separated by commas")
    arguments = parser.parse_args()
    names = arguments.targets.split(",")
    rounds = max(1, round(arguments.minutes * 60 / arguments.slice / len(names)))
    seconds = arguments.minutes * 60 / rounds / len(names)
    arguments.out.mkdir(parents=True, exist_ok=True)
    total = {name: [0, 0.0, 0, 0] for name in names}  # executions, seconds, coverage, crashes
    with (arguments.out / "log.txt").open("a", encoding="utf-8") as log:
        for _ in range(rounds):
            for name in names:
                _add(total[name], _run(name, seconds, arguments.out, log))
        lines = [f"{'target':14} {'executions':>10} {'CPU s':>7} {'covered':>7} {'crashes':>7}  what"]
        lines += [f"{n:14} {t[0]:10} {t[1]:7.0f} {t[2]:7} {t[3]:7}  {TARGETS[n].covers}" for n, t in total.items()]
        lines.append(f"{'all':14} {sum(t[0] for t in total.values()):10} {sum(t[1] for t in total.values()):7.0f} "
                     f"{'':7} {sum(t[3] for t in total.values()):7}")  # fmt: skip
        log.write("\n".join(lines) + "\n")
    print("\n".join(lines))
    SCRATCH.rmdir()
    return 1 if any(t[3] for t in total.values()) else 0


def _run(name: str, seconds: float, out: Path, log) -> tuple[int, float, int, int]:
    """One slice of a target: (executions, CPU seconds, edges covered, crashes)."""
    crashes = out / "crashes"
    crashes.mkdir(exist_ok=True)
    before = set(crashes.iterdir())
    options = {"max_total_time": round(seconds), "timeout": ONE_INPUT_S, "rss_limit_mb": MEMORY_MB, "max_len": 65_536,
               "artifact_prefix": f"{crashes}/{name}-", "print_final_stats": 1}  # fmt: skip
    words = [sys.executable, str(HERE / "one.py"), name, str(out / "corpus" / name)]
    words += [f"-{key}={value}" for key, value in options.items()]
    began = _cpu_seconds()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    try:
        done = subprocess.run(words, env=environment, capture_output=True, timeout=seconds + 180)
        text, failed = (done.stderr + done.stdout).decode("utf-8", "replace"), done.returncode != 0
    except subprocess.TimeoutExpired as error:
        text, failed = f"killed after {error.timeout:.0f} s", True
    counts = re.findall(r"^(?:stat::number_of_executed_units:\s+|#)(\d+)", text, re.MULTILINE)
    executions = max(map(int, counts), default=0)
    covered = max(map(int, re.findall(r"cov: (\d+)", text)), default=0)
    kept = sorted(str(path) for path in set(crashes.iterdir()) - before)
    log.write(f"{name}: {executions} executions in {_cpu_seconds() - began:.0f} s, {covered} edges, crashes: {kept}\n")
    if failed:
        log.write(text[max(text.find("=== Uncaught"), 0) :][-4000:] + "\n")
    log.flush()
    return executions, _cpu_seconds() - began, covered, int(failed)


def _cpu_seconds() -> float:
    """Of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _add(total: list, found: tuple[int, float, int, int]) -> None:
    total[0] += found[0]
    total[1] += found[1]
    total[2] = max(total[2], found[2])
    total[3] += found[3]


if __name__ == "__main__":
    raise SystemExit(main())
