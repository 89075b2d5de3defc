"""Intervals as inline SVG: a panel for each input and group, a line for each system; the page's CSS colours them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from latentsr.evaluation.report import Column

WIDTH, LEFT, RIGHT, TOP, LINE = 340, 128, 14, 22, 19  # pixels of a panel's viewBox
MOST_TICKS = 6
LONGEST_NAME = 18  # characters that fit on the left

Row = dict[str, Any]


def panels(summary: Sequence[Row], column: Column) -> str:
    """All panels of one figure, on one common scale."""
    shown = [row for row in summary if row[column.key] is not None]
    if not shown:
        return ""
    systems = list(dict.fromkeys(row["system"] for row in summary))
    ends = [row[key] for row in shown for key in _keys(column) if row.get(key) is not None]
    ticks = _ticks(min(ends), max(ends))
    cells = dict.fromkeys((row["input"], row["group"]) for row in shown)
    drawn = [_panel([r for r in shown if (r["input"], r["group"]) == cell], column, systems, ticks) for cell in cells]
    return "\n".join(drawn)


def _keys(column: Column) -> tuple[str, str, str]:
    return column.key, f"{column.key}_low", f"{column.key}_high"


def _panel(rows: Sequence[Row], column: Column, systems: Sequence[str], ticks: Sequence[float]) -> str:
    height = TOP + LINE * len(rows) + 24
    title = f"{rows[0]['input']}, {rows[0]['group']}"
    label = f"{column.name}: {title}"
    parts = [
        f'<svg class="panel" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label, quote=True)}">',
        f'<text class="panel-title" x="0" y="13">{escape(title)}</text>',
        *_axis(ticks, TOP, height - 20),
    ]
    for i, row in enumerate(rows):
        parts += _line(row, column, systems.index(row["system"]), TOP + LINE * i + LINE / 2, ticks[0], ticks[-1])
    return "".join([*parts, "</svg>"])


def _axis(ticks: Sequence[float], top: float, bottom: float) -> list[str]:
    digits = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
    parts = []
    for value in ticks:
        x = _x(value, ticks[0], ticks[-1])
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom:.0f}"/>')
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{bottom + 13:.0f}" text-anchor="middle">{value:.{digits}f}</text>'
        )
    return parts


def _line(row: Row, column: Column, index: int, y: float, low: float, high: float) -> list[str]:
    value, first, last = row[column.key], *(row.get(key) for key in _keys(column)[1:])
    name = row["system"] if len(row["system"]) <= LONGEST_NAME else row["system"][: LONGEST_NAME - 1] + "…"
    text = f"{row['system']}: {value:.{column.digits}f}"
    parts = [f'<text class="row-name" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(name)}</text>']
    x = _x(value, low, high)
    if first is not None and last is not None:
        text += f" ({first:.{column.digits}f} to {last:.{column.digits}f})"
        ends = f'x1="{_x(first, low, high):.1f}" x2="{_x(last, low, high):.1f}"'
        parts.append(f'<line class="whisker s{index % 8}" {ends} y1="{y:.1f}" y2="{y:.1f}"/>')
    tip = f"<title>{escape(text)}</title>"
    parts.append(f'<circle class="dot s{index % 8}" cx="{x:.1f}" cy="{y:.1f}" r="4.5">{tip}</circle>')
    return parts


def _x(value: float, low: float, high: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (value - low) / (high - low)


def _ticks(low: float, high: float) -> list[float]:
    """A scale of few round numbers that holds all."""
    span = max(high - low, 1e-3 * max(abs(high), 1e-3))
    size = 10.0 ** math.floor(math.log10(span / MOST_TICKS))
    for step in (size, 2 * size, 5 * size, 10 * size, 20 * size):
        first, last = math.floor(low / step), math.ceil(high / step)
        if last - first <= MOST_TICKS:
            break
    return [step * i for i in range(first, max(last, first + 1) + 1)]
