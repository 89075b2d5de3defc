"""Speed and quality of exported graphs, printed as tables.

    python benchmarks/onnx.py speed [--threads 2] [--seconds 30]     torch against onnxruntime, the Mamba-GAN
    python benchmarks/onnx.py quality REF_DIR [--limit N]            LSD of torch, float32, float16 and int8

Each figure of speed comes from a fresh process, its memory from the kernel's account of that process.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

# The folder of this file would come first, where `onnx` is this script.
HERE = Path(__file__).resolve().parent
sys.path[:] = [place for place in sys.path if Path(place or ".").resolve() != HERE]
sys.path.append(str(HERE.parent / "examples" / "onnx"))

DTYPES = ("float32", "float16", "int8")
FEATURES = 44  # of a frame of 5 ms of the low band
WINDOW_FRAMES = 656  # of a window in the middle of a recording: 5.12 s and its context
RATE = 48_000
EXPORT = """
import sys
from latentsr import Pipeline
from latentsr.export import export
export(Pipeline.from_pretrained(heads=["mamba-gan"]), sys.argv[1], dtype=sys.argv[2], check=False)
"""  # not the command, which does not offer int8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "quality", "one"])
    parser.add_argument("place", nargs="?", type=Path, help="recordings; of `one`, the exported model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=30, help="of mono audio for the whole path")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--limit", type=int, help="of recordings")
    parser.add_argument("--cutoffs", default="4000,8000", help="Hz, separated by commas")
    parser.add_argument("--systems", default=f"torch,{','.join(DTYPES)}", help="of the quality, separated by commas")
    parser.add_argument("--engine", choices=["torch", "onnx"])
    args = parser.parse_args()
    {"speed": speed, "quality": quality, "one": one}[args.what](args)


# --- speed -----------------------------------------------------------------------------------------------------------


def speed(args: argparse.Namespace) -> None:
    """Each engine and variant in a process of its own, twice, taking turns; the better of the two runs."""
    with tempfile.TemporaryDirectory() as folder:
        rows: list[tuple[str, str, Path]] = [("torch", "torch", Path("-"))]
        for dtype in DTYPES:
            target = Path(folder) / f"gan_{dtype}"
            words = ["-c", EXPORT, str(target), dtype]
            subprocess.run([sys.executable, *words], check=True, capture_output=True)
            rows.append((f"onnxruntime, {dtype}", "onnx", target))
        figures: dict[str, list[dict[str, float]]] = {}
        for _ in range(2):
            for name, engine, model in rows:
                words = [__file__, "one", str(model), "--engine", engine, "--threads", str(args.threads)]
                words += ["--seconds", str(args.seconds), "--repeats", str(args.repeats)]
                done = subprocess.run([sys.executable, *words], check=True, capture_output=True, text=True)
                figures.setdefault(name, []).append(json.loads(done.stdout))
        sizes = {name: sum(each.stat().st_size for each in model.glob("mamba-gan.onnx")) for name, _, model in rows}
    print(f"{args.threads} threads, {args.seconds:g} s of audio\n")
    print("| | network alone | whole path | file MB | import + load s | peak MB |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, runs in figures.items():
        best = {key: min(run[key] for run in runs) for key in runs[0]}
        size = f"{sizes[name] / 1e6:.1f}" if sizes[name] else "7.2"
        factors = f"{best['network']:.4f} | {best['whole']:.4f}"
        print(f"| {name} | {factors} | {size} | {best['load']:.1f} | {best['peak']:.0f} |")


def one(args: argparse.Namespace) -> None:
    """Figures of one engine, as JSON: real-time factors (seconds per second of audio), seconds, MB."""
    began = time.perf_counter()
    wave = programme(args.seconds)
    network, whole = (_torch if args.engine == "torch" else _onnxruntime)(args, wave)
    network()
    load = time.perf_counter() - began
    whole()
    figures = {
        "network": median_seconds(network, 3 * args.repeats) / (WINDOW_FRAMES / 100),
        "whole": median_seconds(whole, args.repeats) / args.seconds,
        "load": load,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3),
    }
    print(json.dumps(figures))


def _torch(args: argparse.Namespace, wave: np.ndarray) -> tuple[Callable[[], Any], Callable[[], Any]]:
    import torch

    from latentsr import Pipeline

    torch.set_num_threads(args.threads)
    pipe: Any = Pipeline.from_pretrained(heads=["mamba-gan"])
    pipe.set_progress_bar_config(disable=True)
    mel, cutoff, heard = torch.from_numpy(mel_like()), torch.tensor([4000.0]), torch.from_numpy(heard_like())

    @torch.inference_mode()
    def network() -> None:
        pipe.mamba_gan.amplitudes(heard, mel, cutoff)

    return network, lambda: pipe(wave, sample_rate=RATE, head="mamba-gan")


def _onnxruntime(args: argparse.Namespace, wave: np.ndarray) -> tuple[Callable[[], Any], Callable[[], Any]]:
    from restore import restore

    from heads import Model

    model = Model(args.place, args.threads)
    mel, cutoff, heard = mel_like(), np.float32([4000]), heard_like()

    def network() -> None:
        model.run("mamba-gan", heard=heard, mel=mel, cutoff_hz=cutoff)

    return network, lambda: restore(model, wave, RATE)


def median_seconds(work: Callable[[], Any], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def heard_like() -> np.ndarray:
    """What is heard of the low band in a window. (1, 2 L, F)"""
    return np.random.default_rng(1).standard_normal((1, 2 * WINDOW_FRAMES, FEATURES)).astype(np.float32)


def mel_like() -> np.ndarray:
    mel = np.random.default_rng(0).normal(-4, 1.5, (1, WINDOW_FRAMES, 256)).astype(np.float32)
    mel[..., 150:] = -11.5
    return mel


def programme(seconds: float) -> np.ndarray:
    """Noise that falls and ends at 4 kHz. (1, T)"""
    rng = np.random.default_rng(0)
    samples = round(seconds * RATE)
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    frequencies = np.fft.rfftfreq(samples, 1 / RATE)
    wave = np.fft.irfft(spectrum * (frequencies < 4000) / np.maximum(frequencies, 100), n=samples)
    return (0.3 * wave / np.abs(wave).max()).astype(np.float32)[None]


# --- quality ---------------------------------------------------------------------------------------------------------


def quality(args: argparse.Namespace) -> None:
    """LSD 2048/512 of every variant, and of torch, on recordings that are cut."""
    from restore import restore

    from heads import Model
    from latentsr import Pipeline
    from latentsr.evaluation import benchmark, report
    from latentsr.evaluation.conditions import Conditions

    pipe: Any = Pipeline.from_pretrained(heads=["mamba-gan"])
    pipe.set_progress_bar_config(disable=True)

    def by_torch(wave: np.ndarray, rate: int, cutoff_hz: float | None) -> tuple[np.ndarray, float | None]:
        made = pipe(wave.astype(np.float32), sample_rate=rate, head="mamba-gan", cutoff_hz=cutoff_hz)
        return made.audio[0].astype(np.float64), made.cutoff_hz

    def by_onnx(model: Model) -> benchmark.Restore:
        def run(wave: np.ndarray, rate: int, cutoff_hz: float | None) -> tuple[np.ndarray, float | None]:
            made, end_hz = restore(model, wave.astype(np.float32)[None], rate, cutoff_hz)
            return made[0].astype(np.float64), end_hz

        return run

    with tempfile.TemporaryDirectory() as folder:
        systems = []
        for dtype in args.systems.split(","):
            if dtype == "torch":
                systems.append(benchmark.restored(dtype, by_torch))
                continue
            target = Path(folder) / dtype
            words = ["-c", EXPORT, str(target), dtype]
            subprocess.run([sys.executable, *words], check=True, capture_output=True)
            systems.append(benchmark.restored(f"onnxruntime, {dtype}", by_onnx(Model(target, args.threads))))
        conditions = Conditions(cutoffs_hz=tuple(float(hz) for hz in args.cutoffs.split(",")), limit=args.limit)
        compared = benchmark.Comparison(benchmark.find_clips(args.place, args.limit), systems, conditions)
        records = benchmark.run(compared, visqol=False)
    print(report.format_table(report.summarise(records)))
    print(f"\n| cutoff | {' | '.join(system.name for system in systems)} |\n|---|{'---:|' * len(systems)}")
    for cutoff_hz in conditions.cutoffs_hz:
        means = [
            statistics.fmean(r["lsd"] for r in records if r["system"] == system.name and r["cutoff_hz"] == cutoff_hz)
            for system in systems
        ]
        print(f"| {cutoff_hz:g} Hz | {' | '.join(f'{mean:.4f}' for mean in means)} |")


if __name__ == "__main__":
    main()
