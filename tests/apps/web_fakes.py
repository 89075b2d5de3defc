"""In place of a model: brings recordings to 48 kHz, and does on the way what the seed says."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

DIE, HANG, FAIL, WORK = 101, 102, 103, 104  # seeds


def made_band(samples, channels):
    """Quiet noise, the same for every recording."""
    return 0.01 * np.random.default_rng(0).standard_normal((samples, channels)).astype(np.float32)


@dataclass(frozen=True)
class FakeLoader:
    """Called in the process with the model."""

    name: str = "fake"

    def __call__(self):
        if self.name == "missing":
            raise ValueError("no such model")
        return FakePipeline()


class FakePipeline:
    """Has what the demo calls of a pipeline."""

    def restore_file(self, source, target, *, options, progress, write_band=None):
        from latentsr.restoring.files import RestoredFile

        seed, cutoff_hz = options.seed, options.cutoff_hz
        if seed == DIE:
            os.kill(os.getpid(), signal.SIGKILL)
        if seed == HANG:
            time.sleep(600)
        if seed == FAIL:
            raise RuntimeError(f"cannot open {source.path} in /a/secret/place")
        for tenth in range(600 if seed == WORK else 2):
            progress(tenth / 10, 60.0)
            time.sleep(0.1 if seed == WORK else 0.0)
        given = np.concatenate(list(source.native()), axis=1).T
        wave = soxr.resample(given, source.sample_rate, 48_000, quality="VHQ")
        band = made_band(*wave.shape)
        if write_band is not None:
            soundfile.write(write_band, band, 48_000, subtype="FLOAT")
        wave = np.clip(wave + band, -1, 1)
        soundfile.write(target, wave, 48_000, format=Path(target).suffix[1:])
        return RestoredFile(
            path=Path(target), sample_rate=48_000, channels=wave.shape[1], samples=len(wave), subtype="PCM_16",
            cutoff_hz=cutoff_hz or 4_000.0, seconds=len(wave) / 48_000, gain=1.0, head=options.head,
            notes=("a fake made this",),
        )  # fmt: skip
