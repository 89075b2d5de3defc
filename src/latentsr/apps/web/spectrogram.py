"""Spectrograms for the page: a column for every pixel, in bounded memory whatever the length."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from latentsr.config import AUDIO

N_FFT = 2048
WIDTH, HEIGHT = 780, 450  # pixels of the plot
LEFT, BOTTOM, TOP = 68, 40, 12  # margins with the scales
RANGE_DB = 90.0  # of colours, below the loudest point of both pictures
FONT_PX = 25
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
        return np.stack(self._spectra[:WIDTH], axis=1)

    def _take(self, wave: np.ndarray) -> None:
        end = self._at + len(wave)
        while len(self._spectra) < WIDTH and (start := self._starts[len(self._spectra)]) + N_FFT <= end:
            frame = wave[start - self._at :][:N_FFT]
            magnitude = np.abs(np.fft.rfft(frame * self._window)) * (2 / self._window.sum())
            self._spectra.append(20 * np.log10(np.maximum(magnitude, 10 ** (FLOOR_DB / 20))))
        keep = N_FFT if len(self._spectra) == WIDTH else min(len(wave), end - self._starts[len(self._spectra)])
        self._rest, self._at = wave[len(wave) - max(keep, 0) :], end - max(keep, 0)


def draw(levels_db: np.ndarray, top_db: float, seconds: float, cutoff_hz: float, path: Path) -> None:
    """Write a spectrogram as PNG, with scales and a line at the cutoff.

    Args:
        levels_db: of `Columns`.
        top_db: the brightest colour; the same for pictures that are compared.
        seconds: duration of the recording.
        cutoff_hz: where its known band ends; half of 48 kHz draws no line.
        path: of the picture.
    """
    rows = np.linspace(levels_db.shape[0] - 1, 0, HEIGHT).round().astype(int)  # high notes are at the top
    scaled = np.clip((levels_db[rows] - top_db) / RANGE_DB + 1, 0, 1)
    picture = Image.new("RGB", (LEFT + WIDTH + 2, TOP + HEIGHT + BOTTOM), (16, 15, 24))
    picture.paste(Image.fromarray(_palette()[(scaled * 255).astype(np.uint8)]), (LEFT, TOP))
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(FONT_PX)
    ink, nyquist_hz = (214, 211, 226), AUDIO.sample_rate / 2
    for khz in range(0, 25, 4):
        y = TOP + HEIGHT - round(khz * 1000 / nyquist_hz * HEIGHT)
        pen.line((LEFT - 5, y, LEFT - 1, y), ink)
        pen.text((LEFT - 9, y), f"{khz}k" if khz else "0", ink, font, anchor="rm")
    step = _step(seconds)
    for number in range(int(seconds / step) + 1):
        x = LEFT + round(number * step / seconds * (WIDTH - 1))
        pen.line((x, TOP + HEIGHT, x, TOP + HEIGHT + 4), ink)
        unit = " s" if number == 0 else ""
        anchor = "la" if number == 0 else "ra" if x > LEFT + WIDTH - 24 else "ma"
        pen.text((x, TOP + HEIGHT + 7), f"{number * step:g}{unit}", ink, font, anchor=anchor)
    if cutoff_hz < nyquist_hz:
        _mark(pen, font, TOP + HEIGHT - round(cutoff_hz / nyquist_hz * HEIGHT), cutoff_hz)
    picture.save(path, optimize=True)


def levels_of(blocks: Iterable[np.ndarray], samples: int) -> Columns:
    """Columns of a whole recording: blocks (C, n) at 48 kHz, `samples` in all."""
    columns = Columns(samples)
    for block in blocks:
        columns.push(block)
    return columns


def _mark(
    pen: ImageDraw.ImageDraw, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, y: int, cutoff_hz: float
) -> None:
    colour = (94, 234, 212)
    for x in range(LEFT, LEFT + WIDTH, 14):
        pen.line((x, y, x + 7, y), colour, width=2)
    text = f"ends at {cutoff_hz / 1000:.1f} kHz"
    right, middle = LEFT + WIDTH - 10, y - 20 if y > TOP + 40 else y + 20
    box = pen.textbbox((right, middle), text, font, anchor="rm")
    pen.rectangle((box[0] - 6, box[1] - 4, box[2] + 6, box[3] + 4), fill=(16, 15, 24))
    pen.text((right, middle), text, colour, font, anchor="rm")


def _step(seconds: float) -> float:
    """Distance of the ticks of time, s: a round number, and four to nine of them."""
    for step in (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600):
        if seconds / step <= 9:
            return step
    return 1800.0


def _palette() -> np.ndarray:
    """(256, 3) bytes."""
    places = np.linspace(0, 255, len(STOPS))
    channels = [np.interp(np.arange(256), places, [stop[i] for stop in STOPS]) for i in range(3)]
    return np.stack(channels, axis=1).round().astype(np.uint8)
