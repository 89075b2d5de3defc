"""A thousand recordings, fifty of them bad, restored by `latentsr batch` over three kills; checked file by file.

    python scripts/batch_thousand.py WORK [--files 1000] [--bad 50] [--workers 2] [--engine local]

WORK/src is made (the same files each time), WORK/dest is what comes of it. Kills with SIGKILL: a worker at a fifth of
the files, the supervisor at two fifths (the next run resumes), a worker again at three fifths. Prints a table for
docs/batch.md; exit code 1 where anything was lost, done twice, half written, or named other than once.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from latentsr import audio
from latentsr.apps.batch.journal import NAME

RATES_HZ = (8_000, 11_025, 16_000, 22_050, 44_100)
SUFFIXES = ("wav", "flac", "ogg", "mp3")


def main() -> None:
    """Make, run, kill, resume, check, print."""
    args = parsed()
    src, dest = args.work / "src", args.work / "dest"
    shutil.rmtree(dest, ignore_errors=True)
    good, bad = make(src, args.files, args.bad)
    began = time.monotonic()
    logs = run_with_kills(args, src, dest)
    wall_s = time.monotonic() - began
    faults = check(src, dest, good, bad, logs)
    report(args, dest, faults, wall_s)
    sys.exit(1 if faults else 0)


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--files", type=int, default=1_000)
    parser.add_argument("--bad", type=int, default=50)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--engine", choices=("local", "ray"), default="local")
    return parser.parse_args()


# --- recordings ------------------------------------------------------------------------------------


def make(src: Path, files: int, bad: int) -> tuple[list[str], list[str]]:
    """Recordings of 0.3 to 1.5 s in sub-folders, and bad ones among them; their names relative to `src`."""
    shutil.rmtree(src, ignore_errors=True)
    generator = np.random.default_rng(0)
    kinds = list(BAD)
    names: tuple[list[str], list[str]] = ([], [])
    for index in range(files):
        is_bad = index * bad // files != (index + 1) * bad // files
        folder = f"box{index % 7}"
        (src / folder).mkdir(parents=True, exist_ok=True)
        if is_bad:
            name = BAD[kinds[len(names[1]) % len(kinds)]](src / folder, f"r{index:04}", generator)
        else:
            name = f"r{index:04}.{SUFFIXES[index % len(SUFFIXES)]}"
            write(src / folder / name, generator)
        names[is_bad].append(f"{folder}/{name}")
    return names


def write(path: Path, generator: np.random.Generator, *, channels: int | None = None, **how: str) -> Path:
    """A few partials that end at a third of the rate, at a random rate and length."""
    rate_hz = 16_000 if path.suffix == ".mp3" else int(generator.choice(RATES_HZ))
    time_s = np.arange(int(generator.uniform(0.3, 1.5) * rate_hz)) / rate_hz
    pitches_hz = generator.uniform(80, rate_hz / 3, 12)
    wave = sum(np.sin(2 * np.pi * pitch * time_s + generator.uniform(0, 6)) for pitch in pitches_hz) / 24
    wave = np.stack([wave] * (channels or int(generator.integers(1, 3))), axis=1)
    soundfile.write(path, wave, rate_hz, **how)
    return path


def _patched(path: Path, at: int, data: bytes) -> None:
    content = bytearray(path.read_bytes())
    content[at : at + len(data)] = data
    path.write_bytes(content)


def _zero_bytes(folder: Path, stem: str, generator: np.random.Generator) -> str:
    (folder / f"{stem}.wav").touch()
    return f"{stem}.wav"


def _text(folder: Path, stem: str, generator: np.random.Generator) -> str:
    (folder / f"{stem}.flac").write_text("404 Not Found\n" * 40)
    return f"{stem}.flac"


def _random(folder: Path, stem: str, generator: np.random.Generator) -> str:
    (folder / f"{stem}.mp3").write_bytes(b"\x13" + generator.bytes(5_000))
    return f"{stem}.mp3"


def _picture_as_mp3(folder: Path, stem: str, generator: np.random.Generator) -> str:
    (folder / f"{stem}.mp3").write_bytes(b"\x89PNG\r\n\x1a\n" + generator.bytes(2_000))
    return f"{stem}.mp3"


def _truncated_wav(folder: Path, stem: str, generator: np.random.Generator) -> str:
    path = write(folder / f"{stem}.wav", generator)
    path.write_bytes(path.read_bytes()[:-3_000])
    return path.name


def _truncated_flac(folder: Path, stem: str, generator: np.random.Generator) -> str:
    path = write(folder / f"{stem}.flac", generator)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path.name


def _header_alone(folder: Path, stem: str, generator: np.random.Generator) -> str:
    (folder / f"{stem}.wav").write_bytes(b"RIFF\x24\0\0\0WAVEfmt ")
    return f"{stem}.wav"


def _nan(folder: Path, stem: str, generator: np.random.Generator) -> str:
    samples = np.zeros((8_000, 1))
    samples[int(generator.integers(8_000))] = np.nan
    soundfile.write(folder / f"{stem}.wav", samples, 16_000, subtype="FLOAT")
    return f"{stem}.wav"


def _two_gigabytes_claimed(folder: Path, stem: str, generator: np.random.Generator) -> str:
    path = write(folder / f"{stem}.wav", generator)
    _patched(path, 40, (2_000_000_000).to_bytes(4, "little"))
    return path.name


def _no_rate(folder: Path, stem: str, generator: np.random.Generator) -> str:
    path = write(folder / f"{stem}.wav", generator)
    _patched(path, 24, bytes(4))
    return path.name


def _crowd(folder: Path, stem: str, generator: np.random.Generator) -> str:
    path = write(folder / f"{stem}.wav", generator)
    _patched(path, 22, (65_535).to_bytes(2, "little"))
    return path.name


BAD: dict[str, Callable[[Path, str, np.random.Generator], str]] = {
    "zero bytes": _zero_bytes,
    "text": _text,
    "random bytes": _random,
    "a picture": _picture_as_mp3,
    "a truncated WAV": _truncated_wav,
    "a truncated FLAC": _truncated_flac,
    "half a header": _header_alone,
    "a NaN": _nan,
    "2 GB claimed": _two_gigabytes_claimed,
    "0 Hz": _no_rate,
    "65,535 channels": _crowd,
}


# --- the run and its kills -------------------------------------------------------------------------


def run_with_kills(args: argparse.Namespace, src: Path, dest: Path) -> list[str]:
    """What the two runs printed on stderr."""
    process = start(args, src, dest, args.work / "1.log")
    wait_for(dest, args.files // 5, process)
    kill(worker(dest), "a worker")
    wait_for(dest, 2 * args.files // 5, process)
    kill(process.pid, "the supervisor")
    process.wait()
    process = start(args, src, dest, args.work / "2.log", "--resume")
    wait_for(dest, 3 * args.files // 5, process)
    kill(worker(dest), "a worker")
    process.wait()
    print(f"the last run ended with exit code {process.returncode}", flush=True)
    return [(args.work / name).read_text() for name in ("1.log", "2.log")]


def start(args: argparse.Namespace, src: Path, dest: Path, log: Path, *more: str) -> subprocess.Popen[bytes]:
    """`latentsr batch` in a process group of its own."""
    words = ["--engine", args.engine, "--workers", str(args.workers), "--format", "flac", "--head", "mamba-gan", *more]
    command = [sys.executable, "-m", "latentsr", "batch", str(src), str(dest), *words]
    with log.open("wb") as file:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=file, start_new_session=True)


def wait_for(dest: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    """Until so many files have an end in the journal."""
    while sum(entry["event"] in ("done", "failed") for entry in entries(dest)) < count:
        if process.poll() is not None:
            sys.exit(f"the batch ended with exit code {process.returncode} before {count} files were done; see the log")
        time.sleep(0.05)


def worker(dest: Path) -> int:
    """The process of the newest start."""
    return int([e["worker"] for e in entries(dest) if e["event"] == "start"][-1].rpartition(":")[2])


def kill(pid: int, what: str) -> None:
    """Without a warning."""
    print(f"kill -9 {what}", flush=True)
    os.kill(pid, signal.SIGKILL)


def entries(dest: Path) -> list[dict]:
    """The whole lines of the journal."""
    if not (dest / NAME).exists():
        return []
    found = []
    for line in (dest / NAME).read_bytes().splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            print(f"a torn line of {len(line)} bytes", flush=True)
    return found


# --- what came of it -------------------------------------------------------------------------------


def check(src: Path, dest: Path, good: list[str], bad: list[str], logs: list[str]) -> list[str]:
    """What is wrong, a line each."""
    faults = []
    done = Counter(entry["file"] for entry in entries(dest) if entry["event"] == "done")
    starts = Counter(entry["file"] for entry in entries(dest) if entry["event"] == "start")
    made = {path.relative_to(dest).as_posix() for path in dest.rglob("*") if path.is_file() and path.suffix == ".flac"}
    expected = {str(Path(name).with_suffix(".flac")): name for name in good}
    faults += [f"{name} was not made" for name in sorted(expected.keys() - made)]
    faults += [f"{name} should not be there" for name in sorted(made - expected.keys())]
    faults += [f"{name} was done {count} times" for name, count in done.items() if count != 1]
    faults += [f"{name} was restored {starts[name]} times" for name in good if starts[name] > 2]
    faults += [f"{path} is half written" for path in dest.rglob("*.part")]
    for target, name in expected.items():
        if target in made and not whole(src / name, dest / target):
            faults.append(f"{target} is not whole")
    for name in bad:
        stem = re.escape(Path(name).stem)
        if (count := len(re.findall(rf"^latentsr: failed: .*{stem}\.", logs[-1], re.MULTILINE))) != 1:
            faults.append(f"{name} was named {count} times")
    if (named := logs[-1].count("latentsr: failed: ")) != len(bad):
        faults.append(f"{named} failures were named, {len(bad)} were put in")
    return faults


def whole(source: Path, target: Path) -> bool:
    """Whether an output holds as many samples as its recording asks for, decoded to the end."""
    before, after = audio.read(source), audio.read(target)
    length = audio.output_length(before.samples.shape[1], before.sample_rate, 48_000)
    return after.samples.shape == (before.samples.shape[0], length) and after.sample_rate == 48_000


def report(args: argparse.Namespace, dest: Path, faults: list[str], wall_s: float) -> None:
    """The table of docs/batch.md."""
    log, events = entries(dest), Counter(entry["event"] for entry in entries(dest))
    starts = Counter(entry["file"] for entry in log if entry["event"] == "start")
    runs = [entry["run"] for entry in log if entry["event"] == "run"]
    done = Counter(entry["run"] for entry in log if entry["event"] == "done")
    ends = Counter(entry["file"] for entry in log if entry["event"] == "done")
    last = {entry["file"]: entry["event"] for entry in log if entry["event"] in ("done", "failed", "skipped")}
    begun_again = sum(count - 1 for name, count in starts.items() if last.get(name) == "done")
    rows = {
        "files / bad among them": f"{args.files} / {args.bad}, of {len(BAD)} kinds",
        "engine, workers": f"{args.engine}, {args.workers}",
        "kills (SIGKILL)": "a worker, the supervisor, a worker",
        "done before the supervisor was killed / after": " / ".join(str(done[run]) for run in runs),
        "outputs, each decoded and of the right length": sum(event == "done" for event in last.values()),
        "failures, each named once": sum(event == "failed" for event in last.values()),
        "files done twice": sum(count > 1 for count in ends.values()),
        "files begun again because they were in work at a kill": begun_again,
        "tries lost with a worker": events["lost"],
        "wall time with three kills, model loading included": f"{wall_s:.0f} s",
        "faults": len(faults),
    }
    for name, value in rows.items():
        print(f"| {name} | {value} |")
    for fault in faults:
        print(fault)


if __name__ == "__main__":
    main()
