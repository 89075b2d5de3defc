"""A benchmark as one HTML file that needs nothing else: tables, intervals, pictures, players, a blind listening test.

The page's own text, style and programs lie in `page_files/`. The template escapes everything from outside (names of
files, groups, systems and models). A content security policy lets run what this file put in, by its hash, and lets the
page load nothing at all.

Intervals are pictures: a panel for each input and group, a line for each system, on one scale for a figure.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.resources import files
from pathlib import Path
from typing import Any

from latentsr.evaluation import listening, metrics, spectrogram
from latentsr.evaluation.benchmark import Comparison
from latentsr.evaluation.columns import COLUMNS, COST, Column, Record
from latentsr.evaluation.intervals import MIN_CLIPS
from latentsr.evaluation.listening import Material, Track
from latentsr.evaluation.report import OVERALL, Scores, answer, flatten
from latentsr.wholefiles import replace_file

MAX_BYTES = 30 * 10**6
SCRIPTS = ("tables.js", "player.js", "blind.js")
PLOTTED = ("lsd", "lsd_hf", "visqol", "zimtohrli_mos", "hf_energy_db")
MISSED = (
    "lsd",
    "lsd_hf",
    "visqol",
    "zimtohrli_mos",
    "seconds_per_second",
)  # a reader would look for them: they say n/a
WIDTH, LEFT, RIGHT = 340, 128, 14  # pixels of a panel's viewBox
MOST_TICKS = 6


def write(
    path: Path,
    compared: Comparison,
    scores: Scores,
    *,
    count: int = 6,
    baseline: str,
    max_bytes: int = MAX_BYTES,
) -> str:
    """Write the page, whole or not at all.

    Args:
        path: HTML file to write; replaced if it is there.
        compared: what was compared; its systems restore the clips to be heard once more.
        scores: the figures.
        count: clips to listen to; fewer where the page would pass `max_bytes`, which the page then says.
        baseline: the row that differences are from.
        max_bytes: of the file.

    Returns:
        One line: how large the page is, and how many clips it holds.
    """
    spectrogram.check_installed()
    chosen = listening.choose(compared.clips, scores.records, count, baseline)
    heard: list[Material] = []
    spent = 0
    for each in chosen:
        one = listening.material(each, compared, scores.records)
        cost = sum(4 * (len(track.flac) + len(track.png)) // 3 for track in one.tracks)
        if spent + cost > 0.96 * max_bytes:  # the rest is for what is not sound or pictures
            break
        heard.append(one)
        spent += cost
    while True:
        text = render(scores, heard, baseline=baseline, wanted=len(chosen), max_bytes=max_bytes)
        content = text.encode()
        if len(content) <= max_bytes or not heard:
            break
        heard.pop()
    replace_file(path, content)
    fewer = "" if len(heard) == len(chosen) else f" of {len(chosen)}, to stay below {max_bytes / 1e6:g} MB"
    return f"{path}: {len(content) / 1e6:.1f} MB, {len(heard)} clips to listen to{fewer}"


def render(scores: Scores, heard: Sequence[Material], *, baseline: str, wanted: int, max_bytes: int = MAX_BYTES) -> str:
    """The text of the page."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    jinja = Environment(
        loader=PackageLoader("latentsr.evaluation", "page_files"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    jinja.filters |= {"figure": _figure, "data_uri": data_uri, "in_hz": in_hz, "changed": _changed}
    jinja.filters |= {"decibels": lambda gain: 20 * math.log10(gain)}
    style, *scripts = (
        (files("latentsr.evaluation") / "page_files" / name).read_text("utf-8") for name in ("page.css", *SCRIPTS)
    )
    summary, described = scores.summary, scores.described
    columns = [*COLUMNS, *COST]
    plots = [plot(summary, column) for column in COLUMNS if column.key in PLOTTED]
    cards = [Card(f"m{number}", each) for number, each in enumerate(heard)]
    return jinja.get_template("page.html").render(
        answer=answer(scores.records, described.get("seed")),
        harm=scores.harm,
        calibration=scores.calibration,
        few=MIN_CLIPS,
        summary=summary,
        names={key: list(dict.fromkeys(str(row[key]) for row in summary)) for key in ("input", "group", "system")},
        clips=sum({row["group"]: row["clips"] for row in summary if row["group"] != OVERALL}.values()),
        columns=columns,
        shown=[c for c in columns if c.key in MISSED or any(row.get(c.key) is not None for row in summary)],
        verdict=_verdict,
        plots=[each for each in plots if each],
        cards=cards,
        data=_data(cards, described),
        stripe=spectrogram.stripe(),
        excerpt_s=listening.EXCERPT_S,
        described={"references": "references", "command": "", **described},
        facts={k: v for k, v in flatten(described).items() if v not in (None, []) and k != "command"},
        baseline=baseline,
        wanted=wanted,
        max_bytes=max_bytes,
        made=datetime.now(timezone.utc),
        style=style,
        scripts=scripts,
        hashes=[_hash(text) for text in (style, *scripts)],
    )


@dataclass(frozen=True)
class Card:
    """A clip of the page, and the ids of its sounds."""

    prefix: str
    heard: Material

    @property
    def sounds(self) -> list[tuple[str, int | None, Track]]:
        """(id, number of its input, track); those that do not depend on the input come first, with None."""
        always: list[tuple[int | None, Track]] = [(None, track) for track in self.heard.always]
        own = [(i, track) for i, tracks in enumerate(self.heard.by_input.values()) for track in tracks]
        return [(f"{self.prefix}-{number}", *each) for number, each in enumerate([*always, *own])]

    def data(self) -> dict[str, Any]:
        """What the page's programs need of it."""
        inputs = [
            {
                "label": label,
                "tracks": [{"system": t.system, "media": name} for name, of, t in self.sounds if of in (None, number)],
            }
            for number, label in enumerate(self.heard.by_input)
        ]
        return {"name": self.heard.chosen.clip.name, "seconds": self.heard.seconds, "inputs": inputs}


def _data(cards: Sequence[Card], described: Mapping[str, Any]) -> dict[str, Any]:
    """Names, and which <audio> holds which track; the report is known again by its digest."""
    clips = [card.data() for card in cards]
    digest = hashlib.sha256(json.dumps([described, clips], sort_keys=True, default=str).encode()).hexdigest()[:12]
    return {"report": digest, "references": str(described.get("references", "")), "clips": clips}


def _figure(value: float, digits: int, sign: str = "") -> str:
    """A number with a minus that a reader sees."""
    return f"{value:{sign}.{digits}f}".replace("-", "−")


def in_hz(label: str) -> str:
    """The label of an input as a reader says it.

    >>> in_hz("4000 white"), in_hz("mp3-64")
    ('4000 Hz white', 'mp3-64')
    """
    first, space, rest = label.partition(" ")
    return f"{first} Hz{space}{rest}" if first.replace(".", "", 1).isdigit() and not rest.startswith("kHz") else label


def _changed(db: float | None) -> str:
    """A figure of `harm`."""
    return "n/a" if db is None else "unchanged" if db <= -metrics.LIMIT_DB else f"{_figure(db, 0)} dB"


def _verdict(row: Record, column: Column) -> str:
    """'better' or 'worse' than the baseline, where the interval of the difference leaves out 0."""
    low, high = row.get(f"{column.key}_vs_baseline_low"), row.get(f"{column.key}_vs_baseline_high")
    if low is None or high is None or column.better not in ("lower", "higher") or low <= 0 <= high:
        return ""
    return "better" if (high < 0) == (column.better == "lower") else "worse"


def data_uri(content: bytes, kind: str) -> str:
    """Bytes as an address that holds them."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


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
