"""AudioSR's networks in its own program and in latentsr, on the same random weights: seconds and memory.

    python benchmarks/audiosr.py --work DIR [--runs 3] [--rows default,bf16,...] [--stages]

DIR gets an environment with audiosr 0.0.7 (peer/), a checkpoint of seeded random weights in the official layout
(pytorch_model.bin, 4.3 GB), our folders converted from it (4 GB), and one line of JSON per run (audiosr.jsonl). A round
runs the peer, then each row once, every run in a process of its own; loading the model is not in the seconds but is in
the peak memory. `--table` prints what DIR holds; delete audiosr.jsonl and model-* after a change of the code. Random
weights say nothing of quality. This process stays small and idle: it starts the others and looks at their memory.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

PEER = "audiosr==0.0.7"
# What its code imports, as it is today: the versions it pins do not install any more.
PEER_NEEDS = ["librosa", "soundfile", "transformers", "huggingface_hub", "einops"]
PEER_NEEDS += ["tqdm", "pyyaml", "matplotlib", "pillow", "requests"]
HERE = Path(__file__).parent
STAGE_FRAMES = 512  # mel frames = 5.12 s
Line = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One program on one clip. None is the program's own default."""

    program: str
    duration_s: float
    steps: int | None = None
    guidance_scale: float | None = None
    scheduler: str | None = None
    channels: int = 1
    dtype: str = "float32"
    vocoder: str | None = None


@dataclass(frozen=True)
class Row:
    """What the table compares. The peer takes one channel only, and memory as it goes: not every row has it."""

    what: str
    ours: Job
    peer: Job | None = None


def rows(peer_steps: int, our_steps: int | None) -> dict[str, Row]:
    """All rows by name."""
    peer = Job("audiosr 0.0.7", 5.12, peer_steps, guidance_scale=3.5)
    ours = Job("latentsr", 5.12, our_steps)
    long, long_peer = replace(ours, duration_s=10.24), replace(peer, duration_s=10.24)
    same = replace(ours, steps=peer_steps, guidance_scale=3.5, scheduler="ddim")
    small = replace(ours, vocoder="embedded")
    stereo = [replace(ours, duration_s=duration_s, channels=2) for duration_s in (10, 60)]
    return {
        "default": Row("5.12 s, defaults of each", ours, peer),
        "bf16": Row("5.12 s, defaults of each", in_bf16(ours), peer),
        "same-evaluations": Row("5.12 s, as many evaluations as the peer", same, peer),
        "small-vocoder": Row("5.12 s, the embedded vocoder", small, peer),
        "small-vocoder-bf16": Row("5.12 s, the embedded vocoder", in_bf16(small), peer),
        "10s": Row("10.24 s, defaults of each", long, long_peer),
        "10s-bf16": Row("10.24 s, defaults of each", in_bf16(long), long_peer),
        "stereo-10s": Row("10 s stereo", stereo[0]),
        "stereo-60s": Row("60 s stereo", stereo[1]),
        "stereo-10s-bf16": Row("10 s stereo", in_bf16(stereo[0])),
        "stereo-60s-bf16": Row("60 s stereo", in_bf16(stereo[1])),
    }


def in_bf16(job: Job) -> Job:
    return replace(job, dtype="bfloat16")


def main() -> None:
    options = parse()
    chosen, runs = choose(options), Runs(options)
    if not options.table:
        for _ in range(options.runs):
            one_round(runs, chosen, options)
        if options.stages:
            time_stages(runs, options)
    print_rows(runs.lines, chosen, options)
    print_stages(runs.lines, options)
    print_about(runs.lines, options)
    sys.exit(runs.failed)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for everything that is made")
    parser.add_argument("--rows", default="all", help=f"'all', 'none', or some of: {', '.join(rows(50, None))}")
    parser.add_argument("--runs", type=int, default=3, help="rounds; they add to those that DIR holds")
    parser.add_argument("--calls", type=int, default=1, help="calls in each process; all of them count")
    parser.add_argument("--stages", action="store_true", help="also time every network by itself")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads of each process")
    parser.add_argument("--peer-steps", type=int, default=50, help="fewer, to try the script out")
    parser.add_argument("--our-steps", type=int, help="another number than the model's default")
    parser.add_argument("--without-peer", action="store_true", help="run ours alone")
    parser.add_argument("--peer-venv", type=Path, help="the peer's environment; DIR/peer unless given")
    parser.add_argument("--table", action="store_true", help="run nothing, print what is there")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    options.work = options.work.resolve()
    options.peer_venv = (options.peer_venv or options.work / "peer").resolve()
    return options


def choose(options: argparse.Namespace) -> dict[str, Row]:
    table = rows(options.peer_steps, options.our_steps)
    names = {"all": list(table), "none": []}.get(options.rows, options.rows.split(","))
    if unknown := [name for name in names if name not in table]:
        sys.exit(f"audiosr.py: no row {', '.join(unknown)}; choose from {', '.join(table)}")
    return {name: table[name] for name in names}


# --- running ---------------------------------------------------------------------------------------------------------


class Runs:
    """Runs tasks in processes of their own, and keeps what they answer in DIR/audiosr.jsonl."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.file, self.log = options.work / "audiosr.jsonl", options.work / "audiosr.log"
        self.threads, self.failed = options.threads, 0
        text = self.file.read_text(encoding="utf-8") if self.file.is_file() else ""
        self.lines: list[Line] = [json.loads(line) for line in text.splitlines()]

    def ours(self, task: Line, **about: Any) -> None:
        self._run([sys.executable, HERE / "audiosr_ours.py"], task, about)

    def peer(self, options: argparse.Namespace, task: Line, **about: Any) -> None:
        python = peer_python(options)
        self._run([python, "-I", HERE / "audiosr_peer.py"], task, about)  # -I: `import audiosr` is not our script

    def _run(self, command: list[Any], task: Line, about: Line) -> None:
        """Run a task; its answer, its memory and `about` make a line."""
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.threads)}
        load = os.getloadavg()[0]
        with self.log.open("a", encoding="utf-8") as log, tempfile.TemporaryFile("w+", encoding="utf-8") as answer:
            print(f"--- {json.dumps(task)}", file=log, flush=True)
            process = subprocess.Popen([*command, json.dumps(task)], stdout=answer, stderr=log, env=environment)
            try:
                memory = watch_memory(process)
            finally:
                process.kill()  # where this one is interrupted; nothing where it has ended
            answer.seek(0)
            printed = answer.read()
        if process.returncode:
            self.failed = 1
            *_, last = self.log.read_text(encoding="utf-8").splitlines()
            print(f"audiosr.py: {task} left with {process.returncode}: {last} (more in {self.log})", file=sys.stderr)
            return
        self.lines.append({**about, "load": load, **memory, **json.loads(printed)})
        with self.file.open("a", encoding="utf-8") as file:
            print(json.dumps(self.lines[-1]), file=file)


def watch_memory(process: subprocess.Popen[Any], every_s: float = 0.05) -> dict[str, float]:
    """Until the process ends: most resident memory, which counts files mapped, and most anonymous memory, GiB."""
    kib = {"VmHWM": 0, "RssAnon": 0}
    while process.poll() is None:
        for line in read_lines(Path(f"/proc/{process.pid}/status")):
            name, _, value = line.partition(":")
            if name in kib:
                kib[name] = max(kib[name], int(value.split()[0]))
        time.sleep(every_s)
    return {"peak_gib": kib["VmHWM"] / 2**20, "anonymous_gib": kib["RssAnon"] / 2**20}


def read_lines(file: Path) -> list[str]:
    """Of a file of the kernel's; none where there is no such file, as after the end of a process."""
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def groups(chosen: dict[str, Row]) -> Iterator[tuple[Job | None, dict[str, Row]]]:
    """Each peer's job that the rows ask for, with the rows that do."""
    for peer in dict.fromkeys(row.peer for row in chosen.values()):
        yield peer, {name: row for name, row in chosen.items() if row.peer == peer}


def one_round(runs: Runs, chosen: dict[str, Row], options: argparse.Namespace) -> None:
    """The peer, then each row against it: so both meet the machine in the same state."""
    number = 1 + max((line.get("round", 0) for line in runs.lines), default=0)
    for peer, against in groups(chosen):
        for job in [peer, *(row.ours for row in against.values())]:
            if job is None or (job == peer and options.without_peer):
                continue
            task = {"do": "restore", "file": clip(runs, job), "threads": options.threads, "calls": options.calls}
            task |= {"steps": job.steps, "guidance_scale": job.guidance_scale}
            about = {"round": number, "job": asdict(job), "threads": options.threads}
            if job == peer:
                runs.peer(options, {**task, "checkpoint": checkpoint(runs, options)}, **about)
            else:
                task |= {"model": folder(runs, job.dtype, options), "dtype": job.dtype}
                runs.ours({**task, "scheduler": job.scheduler, "vocoder": job.vocoder}, **about)


def time_stages(runs: Runs, options: argparse.Namespace) -> None:
    task = {"do": "stages", "frames": STAGE_FRAMES, "repeats": max(options.runs, 1), "threads": options.threads}
    if not options.without_peer:
        task_of_peer = {**task, "checkpoint": checkpoint(runs, options)}
        runs.peer(options, task_of_peer, program="audiosr 0.0.7", threads=options.threads)
    for dtype in ("float32", "bfloat16"):
        task |= {"model": folder(runs, dtype, options), "dtype": dtype}
        runs.ours(task, program=f"latentsr {dtype}", threads=options.threads)


# --- what the runs need, made once -----------------------------------------------------------------------------------


def peer_python(options: argparse.Namespace) -> Path:
    """The interpreter of the peer's environment, which is made now unless it is there."""
    python: Path = options.peer_venv / "bin" / "python"
    ready = options.peer_venv / "ready"
    if ready.is_file():
        return python
    venv.create(options.peer_venv, with_pip=True, clear=True)
    pip = [python, "-m", "pip", "install", "-q"]
    packages = options.peer_venv / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    (packages / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")  # the same torch
    subprocess.run([*pip, *PEER_NEEDS], check=True)
    subprocess.run([*pip, "--no-deps", PEER, "torchaudio"], check=True)
    ready.touch()
    return python


def checkpoint(runs: Runs, options: argparse.Namespace) -> str:
    """Random weights in the official layout, as the peer's own initialisation draws them."""
    file = options.work / "pytorch_model.bin"
    if not file.is_file():
        runs.peer(options, {"do": "write_checkpoint", "file": str(file)}, made=file.name)
    return made(file)


def folder(runs: Runs, dtype: str, options: argparse.Namespace) -> str:
    """The same weights as a folder of ours."""
    folder = options.work / f"model-{dtype}"
    if not folder.is_dir():
        source = checkpoint(runs, options)
        runs.ours({"do": "convert", "checkpoint": source, "folder": str(folder), "dtype": dtype}, made=folder.name)
    return made(folder)


def clip(runs: Runs, job: Job) -> str:
    """Noise at 16 kHz."""
    file = runs.file.with_name(f"clip-{job.duration_s:g}s-{job.channels}.wav")
    if not file.is_file():
        task = {"do": "make_clip", "file": str(file), "duration_s": job.duration_s, "channels": job.channels}
        runs.ours(task, made=file.name)
    return made(file)


def made(path: Path) -> str:
    if not path.exists():
        sys.exit(f"audiosr.py: nothing can run without {path}")
    return str(path)


# --- tables ----------------------------------------------------------------------------------------------------------

HEAD = ["row", "what", "program", "dtype", "steps", "runs", "least s", "median s", "CPU s", "s per s of audio"]
HEAD += ["peak GiB", "anonymous GiB", "faster", "in rounds"]


def print_rows(lines: list[Line], chosen: dict[str, Row], options: argparse.Namespace) -> None:
    """A line for every job that has run. 'faster': the peer's seconds over ours, by the least and by the rounds."""
    table = [HEAD]
    for peer, against in groups(chosen):
        theirs = [] if peer is None else of_job(lines, peer, options)
        if peer is not None and theirs:
            table.append(["peer", f"{peer.duration_s:g} s", *figures(peer, theirs), "", ""])
        for name, row in against.items():
            if ours := of_job(lines, row.ours, options):
                table.append([name, row.what, *figures(row.ours, ours), *faster(theirs, ours)])
    print_markdown(table)


def of_job(lines: list[Line], job: Job, options: argparse.Namespace) -> list[Line]:
    return [line for line in lines if line.get("job") == asdict(job) and line["threads"] == options.threads]


def figures(job: Job, lines: list[Line]) -> list[str]:
    """From the program to the memory; the seconds are of all calls of all runs, CPU s the least of all threads' sum."""
    seconds = [value for line in lines for value in line["seconds"]]
    cpu = min(value for line in lines for value in line["cpu_seconds"])
    times = [min(seconds), median(seconds), cpu, min(seconds) / job.duration_s]
    memory = [max(line[key] for line in lines) for key in ("peak_gib", "anonymous_gib")]
    about = [job.program, job.dtype, str(lines[-1]["steps"]), str(len(lines))]
    return [*about, *(f"{value:.2f}" for value in (*times, *memory))]


def faster(theirs: list[Line], ours: list[Line]) -> list[str]:
    """The peer's least seconds over ours, and the median of this over the rounds that have both."""
    if not theirs:
        return ["", ""]
    least = [{line["round"]: min(line["seconds"]) for line in lines} for lines in (theirs, ours)]
    pairs = [least[0][number] / least[1][number] for number in least[0].keys() & least[1].keys()]
    return [f"{min(least[0].values()) / min(least[1].values()):.2f}", f"{median(pairs):.2f}" if pairs else ""]


def print_stages(lines: list[Line], options: argparse.Namespace) -> None:
    """The last timing of each program: least seconds of each network on one clip."""
    timed = [line for line in lines if "stages" in line and line["threads"] == options.threads]
    columns = {line["program"]: line["stages"] for line in timed}
    if columns:
        names = next(iter(columns.values()))
        seconds = ([name, *(f"{column[name]:.3f}" for column in columns.values())] for name in names)
        print_markdown([[f"s for {STAGE_FRAMES} frames", *columns], *seconds])


def print_about(lines: list[Line], options: argparse.Namespace) -> None:
    """Where and how the figures were taken."""
    for line in lines:
        if str(line.get("made")).startswith("model-"):
            print(f"{line['made']}: converted in {line['seconds']:.0f} s, {line['anonymous_gib']:.2f} GiB anonymous")
    if built := [line["built_gib"] for line in lines if "built_gib" in line]:
        print(f"audiosr 0.0.7: {max(built):.2f} GiB once built, before the checkpoint is read (CLAP left out)")
    cpuinfo = read_lines(Path("/proc/cpuinfo"))
    cpu = next((line.split(": ")[1] for line in cpuinfo if line.startswith("model name")), platform.machine())
    bf16 = sorted({word for line in cpuinfo if line.startswith("flags") for word in line.split() if "bf16" in word})
    load = max((line["load"] for line in lines if "job" in line), default=0.0)
    print(f"{options.threads} threads, {cpu} ({', '.join(bf16) or 'no bf16'}), load at most {load:.1f} before a run")
    print(f"torch {metadata.version('torch')}, Python {platform.python_version()}")


def print_markdown(table: list[list[str]]) -> None:
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    for line in [table[0], ["-" * width for width in widths], *table[1:]]:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |")
    print()


if __name__ == "__main__":
    main()
