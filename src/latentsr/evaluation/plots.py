"""Intervals as pictures: a panel for each input and group, a line for each system, on one scale for a figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from latentsr.evaluation.columns import Column, Record

WIDTH, LEFT, RIGHT = 340, 128, 14  # pixels of a panel's viewBox
MOST_TICKS = 6


@dataclass(frozen=True)
class Plot:
    """One figure of the table: the rows of each panel, and the scale that all panels share."""

    column: Column
    panels: dict[tuple[str, str], list[Record]]  # by input and group
    ticks: Sequence[float]

    @property
    def digits(self) -> int:
        """That it takes to tell the ticks apart."""
        return max(0, -math.floor(math.log10(self.ticks[1] - self.ticks[0]) + 1e-9))

    def x(self, value: float) -> str:
        """Where a value lies, pixels."""
        place = (value - self.ticks[0]) / (self.ticks[-1] - self.ticks[0])
        return f"{LEFT + (WIDTH - LEFT - RIGHT) * place:.1f}"


def plot(summary: Sequence[Record], column: Column) -> Plot | None:
    """The panels of a figure; None where no row has it."""
    panels: dict[tuple[str, str], list[Record]] = {}
    for row in summary:
        if row[column.key] is not None:
            panels.setdefault((row["input"], row["group"]), []).append(row)
    keys = column.key, f"{column.key}_low", f"{column.key}_high"
    ends = [row[key] for rows in panels.values() for row in rows for key in keys if row.get(key) is not None]
    return Plot(column, panels, ticks(min(ends), max(ends))) if panels else None


def ticks(low: float, high: float) -> list[float]:
    """A scale of few round numbers that holds all."""
    span = max(high - low, 1e-3 * max(abs(high), 1e-3))
    size = 10.0 ** math.floor(math.log10(span / MOST_TICKS))
    for step in (size, 2 * size, 5 * size, 10 * size, 20 * size):
        first, last = math.floor(low / step), math.ceil(high / step)
        if last - first <= MOST_TICKS:
            break
    return [step * i for i in range(first, max(last, first + 1) + 1)]
