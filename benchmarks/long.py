"""A long stereo file through the command line: time, memory over time, and what is kept of it.

    python benchmarks/long.py RECORDINGS [--hours 3] [--heads mamba-gan,vocoder] [--out docs/images/long.png]

RECORDINGS is a folder of audio; as much of it as needed is cut at 4 kHz by a resampler, brought to the same peak and
put one after another, with fades, into one 44.1 kHz 16-bit file. Each head restores it in a process of its own; the
memory (resident, read from /proc every half second) is drawn over time. The kept band's error is that of the output
against the input resampled to 48 kHz, below 0.8 of the cutoff, in the worst minute. Linux only.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from itertools import cycle
from pathlib import Path

import numpy as np
import soundfile
import torch

from latentsr import audio
from latentsr.evaluation.metrics import kept_band_error_db
from latentsr.restoring.analysis import reblocked
from latentsr.restoring.source import resampled

RATE, CUT_RATE = 44_100, 8_000
FADE = 441
PEAK = 0.8

Curve = list[tuple[float, float, float]]  # (seconds, resident MB, its peak so far)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", type=Path)
    parser.add_argument("--hours", type=float, default=3.0)
    parser.add_argument("--heads", default="mamba-gan,vocoder")
    parser.add_argument("--out", type=Path, help="picture of the memory over time")
    parser.add_argument("--folder", type=Path, help="keep the files here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = options.folder or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        source = folder / f"{options.hours:g}h.wav"
        if not source.exists():
            write_long(source, options.recordings, options.hours)
        curves = {}
        print("| head | time | real-time factor | peak memory | after a minute | kept band, worst minute | missing |")
        print("|---|---:|---:|---:|---:|---:|---:|")
        for head in options.heads.split(","):
            target = folder / f"{options.hours:g}h.{head}.wav"
            curves[head] = run(source, target, head)
            print(row(head, source, target, curves[head], options.hours), flush=True)
    if options.out:
        draw(curves, options.out)


def write_long(path: Path, recordings: Path, hours: float) -> None:
    files = sorted(p for p in recordings.rglob("*") if p.suffix.lower() in (".flac", ".wav", ".ogg", ".mp3"))
    left = round(hours * 3600 * RATE)
    fade = np.hanning(2 * FADE)[:FADE]
    with soundfile.SoundFile(path, "w", RATE, 2, "PCM_16") as out:
        for file in cycle(files):
            recording = audio.read(file)
            low = audio.resample(recording.samples, recording.sample_rate, CUT_RATE)
            wave = audio.resample(np.concatenate([low, low])[:2], CUT_RATE, RATE)
            if wave.shape[1] < 4 * FADE:
                continue
            wave = wave * (PEAK / max(float(np.abs(wave).max()), 1e-3))
            wave[:, :FADE] *= fade
            wave[:, -FADE:] *= fade[::-1]
            # Steps at the ends would be clicks of full band: the fades are cut at 4 kHz again.
            wave = audio.resample(audio.resample(wave, RATE, CUT_RATE), CUT_RATE, RATE)[:, :left]
            out.write(wave.T)
            left -= wave.shape[1]
            if left <= 0:
                return


def run(source: Path, target: Path, head: str) -> Curve:
    """Memory of the command over time."""
    words = ["restore", source, "-o", target, "--head", head, "--overwrite", "--json"]
    process = subprocess.Popen([sys.executable, "-m", "latentsr", *map(str, words)], stdout=subprocess.DEVNULL)
    started, curve = time.perf_counter(), []
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
            kb = {line.split(":")[0]: int(line.split()[1]) for line in status.splitlines() if line.startswith("Vm")}
            curve.append((time.perf_counter() - started, kb["VmRSS"] / 1000, kb["VmHWM"] / 1000))
        except (OSError, KeyError):  # it has just ended
            break
        time.sleep(0.5)
    if process.wait() != 0:
        raise SystemExit(f"{head}: the command failed")
    return [*curve, (time.perf_counter() - started, *curve[-1][1:])]


def row(head: str, source: Path, target: Path, curve: Curve, hours: float) -> str:
    seconds, peak = curve[-1][0], curve[-1][2]
    early = max((peak for at, _, peak in curve if at < 60), default=0.0)
    before, after = audio.probe(source), audio.probe(target)
    missing = audio.output_length(before.frames or 0, before.sample_rate, 48_000) - (after.frames or 0)
    return (
        f"| {head} | {seconds / 60:.1f} min | {seconds / hours / 3600:.4f} | {peak:.0f} MB | {early:.0f} MB "
        f"| {worst_minute_db(source, target):.1f} dB | {missing} |"
    )


def worst_minute_db(source: Path, target: Path) -> float:
    minute = 60 * 48_000
    with audio.Reader(source, block_frames=60 * RATE) as before, audio.Reader(target, block_frames=minute) as after:
        low = reblocked(resampled(before, RATE), minute)
        errors = [
            float(kept_band_error_db(a, torch.from_numpy(b.copy()), 0.8 * CUT_RATE / 2).max())
            for a, b in zip(low, after, strict=True)
        ]
    return max(errors)


def draw(curves: dict[str, Curve], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 3.2), layout="constrained")
    for head, curve in curves.items():
        axes.plot([at / 60 for at, *_ in curve], [resident for _, resident, _ in curve], label=head)
    axes.set(xlabel="minutes", ylabel="resident memory, MB", ylim=(0, None))
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
