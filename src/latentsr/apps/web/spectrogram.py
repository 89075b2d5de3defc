"""Spectrograms for the page: a column for every pixel, in bounded memory whatever the length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

N_FFT = 2048
WIDTH, HEIGHT = 1560, 400  # pixels: sharp up to twice the width of the page
RANGE_DB = 90.0  # of colours, below the loudest point of both pictures
FLOOR_DB = -140.0
# Stops of a scale from black over purple to white, even in brightness.
STOPS = ((0, 0, 4), (28, 16, 68), (79, 18, 123), (129, 37, 129), (181, 54, 122), (229, 80, 100), (251, 135, 97),
         (254, 194, 135), (252, 253, 191))  # fmt: skip


class Columns:
    """Levels of a recording at 48 kHz, `samples` per channel in blocks: one spectrum for each of `WIDTH` moments."""

    def __init__(self, samples: int) -> None:
        self._starts = np.round((np.arange(WIDTH) + 0.5) * samples / WIDTH).astype(int) - N_FFT // 2
        self._window = np.hanning(N_FFT + 1)[:-1]
        self._rest = np.zeros(N_FFT, np.float32)  # silence before the beginning
        self._at = -N_FFT  # of the first sample of the rest
        self._spectra: list[np.ndarray] = []
        self.peak = 0.0  # largest absolute sample of any channel

    def push(self, block: np.ndarray) -> None:
        """Samples (C, n)."""
        self.peak = max(self.peak, float(np.abs(block).max(initial=0.0)))
        self._take(np.concatenate([self._rest, block.mean(axis=0)]))

    def levels_db(self) -> np.ndarray:
        """dB of full scale, (N_FFT / 2 + 1, WIDTH), floored; complete when all samples have come."""
        while len(self._spectra) < WIDTH:
            self._take(np.concatenate([self._rest, np.zeros(N_FFT, np.float32)]))
        return np.array(self._spectra[:WIDTH]).T

    def _take(self, wave: np.ndarray) -> None:
        end = self._at + len(wave)
        while len(self._spectra) < WIDTH and (start := self._starts[len(self._spectra)]) + N_FFT <= end:
            frame = wave[start - self._at :][:N_FFT]
            magnitude = np.abs(np.fft.rfft(frame * self._window)) * (2 / self._window.sum())
            self._spectra.append(20 * np.log10(np.maximum(magnitude, 10 ** (FLOOR_DB / 20))))
        keep = N_FFT if len(self._spectra) == WIDTH else min(len(wave), end - self._starts[len(self._spectra)])
        self._rest, self._at = wave[len(wave) - max(keep, 0) :], end - max(keep, 0)


def draw(levels_db: np.ndarray, top_db: float, path: Path) -> None:
    """Write a spectrogram as PNG, high notes at the top; the page draws the scales.

    Args:
        levels_db: of `Columns`.
        top_db: the brightest colour; the same for pictures that are compared.
        path: of the picture.
    """
    rows = np.linspace(levels_db.shape[0] - 1, 0, HEIGHT).round().astype(int)
    scaled = np.clip((levels_db[rows] - top_db) / RANGE_DB + 1, 0, 1)
    picture = Image.fromarray((scaled * 255).astype(np.uint8), mode="P")
    picture.putpalette(_palette().tobytes())
    picture.save(path)


def _palette() -> np.ndarray:
    """(256, 3) bytes."""
    places = np.linspace(0, 255, len(STOPS))
    channels = [np.interp(np.arange(256), places, [stop[i] for stop in STOPS]) for i in range(3)]
    return np.stack(channels, axis=1).round().astype(np.uint8)
