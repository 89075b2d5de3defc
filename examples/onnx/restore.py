"""Restore a recording with numpy and onnxruntime alone: no torch, and no latentsr.

    latentsr export model_onnx                       # where latentsr is installed
    python restore.py model_onnx old.wav new.wav     # where it is not

Needs: pip install numpy scipy soundfile soxr onnxruntime
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import scipy.fft
import soundfile
from band import Band, bands_of
from dsp import Array, Processing, resample, take
from image import polarities_and_mix

from heads import HEADS, Model


def restore(
    model: Model, samples: Array, rate: int, cutoff_hz: float | None = None, seed: int = 0, steps: int | None = None
) -> tuple[Array, float]:
    """Restored samples (C, T) at 48 kHz of samples (C, T) at any rate, and the cutoff: the median of what was restored.

    It is what `latentsr restore` does with the same head, seed and steps, without `--denoise`, where each channel ends
    at one frequency from beginning to end.
    """
    with scipy.fft.set_workers(model.threads):
        return _restore(model, samples, rate, cutoff_hz, seed, steps)


def _restore(
    model: Model, samples: Array, rate: int, cutoff_hz: float | None, seed: int, steps: int | None
) -> tuple[Array, float]:
    p = Processing(model.about)
    wave = resample(samples, rate, p.rate, **model.about["resampling"])
    if cutoff_hz is None:
        band = bands_of(model, samples, rate)
    else:
        band = Band.at(np.full(len(samples), cutoff_hz, np.float32))
    dull = np.flatnonzero(band.cutoff_hz < p.rate / 2)  # channels; the others come back as they are
    peak = float(np.abs(wave).max())
    band = band.of(dull)
    median_hz = float(np.sort(band.cutoff_hz)[(dull.size - 1) // 2]) if dull.size else p.rate / 2
    if dull.size == 0 or peak == 0:
        return wave, median_hz
    level, windows = model.about["level"], model.about["windows"]
    gain = min(level["network_peak"] / peak, level["largest_gain"])
    hop, edge, seam = windows["stride"] * p.hop, windows["edge_samples"], windows["seam_samples"]
    margin = -(-windows["context_frames"] // windows["stride"]) + 1
    total, core = -(-wave.shape[1] // hop), windows["core"]
    options = {"steps": steps} if "diffusion" in model.about else {}
    head = HEADS[model.about["head"]](model, p, seed, **options)

    def low_of(first: int, last: int) -> Array:
        around = take(wave[dull], first * hop - edge, last * hop + edge) * np.float32(gain)
        return np.ascontiguousarray(p.cut_sharply(around, band.cutoff_hz)[:, edge:-edge])

    signs, mix = polarities_and_mix(wave, median_hz, p.rate, model.about["image"])
    signs, mix = signs[dull, None], mix[dull]  # what is made of a channel is turned round where the channel is
    head.prepare(low_of, total, band.cutoff_hz)
    out, tail = wave.copy(), None
    for start in range(0, total, core):
        stop, first = min(start + core, total), max(start - margin, 0)
        last = min(stop + margin, total)
        wide = signs * head.decode(signs * low_of(first, last), band.cutoff_hz, first, last, mix) / np.float32(gain)
        source = take(wave[dull], first * hop, last * hop)
        inside = min(last * hop, wave.shape[1]) - first * hop  # what lies behind is mirrored, and not merged
        merged = np.concatenate([p.merge(source[:, :inside], wide[:, :inside], band), source[:, inside:]], axis=1)
        merged = p.turn_down(source, merged, max(1.0, peak))
        made = merged[:, (start - first) * hop :]
        if tail is not None:  # normalisation layers see each window as a whole: a short cross-fade hides it
            made[:, :seam] = tail + np.linspace(0, 1, seam, dtype=np.float32) * (made[:, :seam] - tail)
        size = (stop - start) * hop
        tail = made[:, size : size + seam].copy()
        end = min(stop * hop, wave.shape[1])
        out[dull, start * hop : end] = made[:, : end - start * hop]
    return out, median_hz


def in_24_bits(samples: np.ndarray) -> np.ndarray:
    """The nearest steps: libsndfile 1.2.2 rounds floats down (findings/libsndfile_pcm_is_rounded_down.sh)."""
    steps = np.rint(np.clip(samples.astype(np.float64) * 2**23, -(2**23), 2**23 - 1))
    return steps.astype(np.int32) << 8


def main() -> None:
    parser = argparse.ArgumentParser(description="Restore a recording with onnxruntime.")
    parser.add_argument("model", type=Path, help="folder or .onnx file that latentsr export wrote")
    parser.add_argument("source", type=Path, help="recording: WAV, FLAC, OGG, MP3")
    parser.add_argument("target", type=Path, help="restored, at 48 kHz; the extension says the format")
    parser.add_argument("--cutoff", type=float, metavar="HZ", help="where the recording's band ends; else estimated")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="of the diffusion (vocoder head)")
    parser.add_argument("--threads", type=int, default=0, help="of onnxruntime; 0: one per core")
    args = parser.parse_args()
    if args.target.exists():
        raise SystemExit(f"{args.target} exists; choose another name")
    model = Model(args.model, args.threads)
    samples, rate = soundfile.read(args.source, dtype="float32", always_2d=True)
    began = time.perf_counter()
    restored, cutoff_hz = restore(model, np.ascontiguousarray(samples.T), rate, args.cutoff, args.seed, args.steps)
    seconds, duration = time.perf_counter() - began, len(samples) / rate
    soundfile.write(args.target, in_24_bits(restored.T), model.about["audio"]["sample_rate"], subtype="PCM_24")
    print(f"{args.source} -> {args.target}  ({duration:.1f} s in {seconds:.1f} s, cutoff {cutoff_hz:.0f} Hz)")


if __name__ == "__main__":
    main()
