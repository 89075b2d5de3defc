"""What a restoration kept, raised and made, per band and second: measured on what is written, beside the recording."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

EDGES_HZ = (0, 500, 1_000, 2_000, 3_000, 4_000, 6_000, 8_000, 10_000, 12_000, 14_000, 16_000, 18_000, 20_000, 22_000,
            24_000)  # fmt: skip
FRAME = 2_048  # samples, Hann, half overlapping, within a second
QUIET = 1e-12  # mean square below this is nothing
UNLIKE, UNTOUCHED = 1e-3, 1e-6  # of a band's energy: less of the recording is chance, less of the made rounding

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Bands:
    """Levels of bands by seconds, all (seconds, bands), dB of mean square against full scale; NaN: there is nothing.

    Attributes:
        edges_hz: of the bands, one more than there are bands.
        kept_db: what is there of the recording, raised or not.
        raised_db: by how much that was raised; 0 where it is untouched.
        made_db: what is not the recording's.
        level_db: all that is there.
    """

    edges_hz: tuple[float, ...]
    kept_db: Array
    raised_db: Array
    made_db: Array
    level_db: Array

    def to_dict(self) -> dict[str, object]:
        """For JSON, to a tenth of a dB, None for nothing."""
        tables = {name: getattr(self, name) for name in ("kept_db", "raised_db", "made_db")}
        return {
            "edges_hz": list(self.edges_hz),
            **{
                name: [[None if np.isnan(value) else round(float(value), 1) + 0.0 for value in row] for row in table]
                for name, table in tables.items()
            },
        }


class BandTable:
    """Fills a table from blocks of any size.

    Args:
        sample_rate: Hz, of the blocks.
    """

    def __init__(self, sample_rate: int) -> None:
        self.rate = sample_rate
        self.edges_hz = (*(hz for hz in EDGES_HZ if hz < sample_rate / 2), min(sample_rate / 2, EDGES_HZ[-1]))
        self.edges_hz = tuple(dict.fromkeys(map(float, self.edges_hz)))
        hz = np.fft.rfftfreq(FRAME, 1 / sample_rate)
        self._starts = np.searchsorted(hz, self.edges_hz[:-1])
        self._stop = int(np.searchsorted(hz, self.edges_hz[-1], side="right"))
        self._window = np.hanning(FRAME + 1)[:-1]
        self._held: list[np.ndarray] = []  # (2, C, n) of the second that is being filled
        self._have = 0
        self._rows: list[Array] = []  # (4, bands) of each second

    def update(self, given: np.ndarray, restored: np.ndarray) -> None:
        """Take in a block (C, n) of the recording and the same restored, at the rate of what is written."""
        block = np.stack([given, restored])
        while self._have + block.shape[-1] >= self.rate:
            room = self.rate - self._have
            self._end_second([*self._held, block[..., :room]])
            block = block[..., room:]
        self._held.append(block)
        self._have += block.shape[-1]

    def result(self) -> Bands:
        """The table; what is left of the last second is a second too."""
        if self._have:
            self._end_second(self._held)
        rows = np.stack(self._rows) if self._rows else np.zeros((0, 4, len(self._starts)))
        return Bands(self.edges_hz, *(rows[:, index] for index in range(4)))

    def _end_second(self, parts: list[np.ndarray]) -> None:
        both = np.concatenate(parts, axis=-1).astype(np.float64)
        self._held, self._have = [], 0
        missing = max(FRAME - both.shape[-1], -(both.shape[-1] - FRAME) % (FRAME // 2))
        frames = np.lib.stride_tricks.sliding_window_view(np.pad(both, ((0, 0), (0, 0), (0, missing))), FRAME, axis=-1)
        given, restored = np.fft.rfft(frames[:, :, :: FRAME // 2] * self._window)[..., : self._stop]
        scale = 2 / (FRAME * np.square(self._window).sum() * np.prod(given.shape[:2]))

        def in_bands(products: np.ndarray) -> Array:
            return np.asarray(np.add.reduceat(products.sum(axis=(0, 1)) * scale, self._starts))

        heard, level = in_bands(np.abs(given) ** 2), in_bands(np.abs(restored) ** 2)
        alike = np.maximum(in_bands((given.conj() * restored).real), 0)
        gain = alike / np.maximum(heard, 1e-30)  # least squares: the recording's share in what is there
        kept = gain**2 * heard
        there = (kept > QUIET) & (kept > level * UNLIKE)
        made = level - np.where(there, kept, 0)
        drawn = (made > QUIET) & (made > level * UNTOUCHED)
        with np.errstate(divide="ignore"):
            self._rows.append(
                np.stack([
                    np.where(there, 10 * np.log10(kept), np.nan),
                    np.where(there, 20 * np.log10(gain), 0.0),
                    np.where(drawn, 10 * np.log10(np.maximum(made, 0)), np.nan),
                    10 * np.log10(np.maximum(level, QUIET)),
                ])
            )  # fmt: skip
