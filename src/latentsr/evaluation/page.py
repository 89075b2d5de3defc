"""A benchmark as one HTML file that needs nothing else: tables, intervals, pictures, players, a blind listening test.

The page's own text, style and programs lie in `page_files/`. Everything from outside (names of files, groups, systems
and models) goes through `html.escape`, or into a JSON block in which no `<` is left. A content security policy
lets run what this file put in, by its hash, and lets the page load nothing at all.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from latentsr.evaluation import listening, page_parts, picture
from latentsr.evaluation.benchmark import Clip, System
from latentsr.evaluation.conditions import Conditions
from latentsr.evaluation.listening import Material
from latentsr.evaluation.report import replace_file

MAX_BYTES = 30 * 10**6
SCRIPTS = ("tables.js", "player.js", "blind.js")

Record = dict[str, Any]


def write(
    path: Path,
    summary: Sequence[Record],
    records: Sequence[Record],
    described: Mapping[str, Any],
    clips: Sequence[Clip],
    systems: Sequence[System],
    conditions: Conditions,
    *,
    count: int = 6,
    baseline: str,
    max_bytes: int = MAX_BYTES,
) -> str:
    """Write the page, whole or not at all.

    Args:
        path: HTML file to write; replaced if it is there.
        summary: as `report.summarise` gives it.
        records: as `benchmark.run` gives them.
        described: as `report.describe` gives it.
        clips: the references.
        systems: the rows; they restore the clips to be heard once more.
        conditions: how references are degraded.
        count: clips to listen to; fewer where the page would pass `max_bytes`, which the page then says.
        baseline: the row that differences are from.
        max_bytes: of the file.

    Returns:
        One line: how large the page is, and how many clips it holds.
    """
    chosen = listening.choose(clips, records, count, baseline)
    heard: list[Material] = []
    spent = 0
    for each in chosen:
        one = listening.material(each, systems, conditions, records)
        cost = sum(4 * (len(track.flac) + len(track.png)) // 3 for track in one.tracks)
        if spent + cost > 0.96 * max_bytes:  # the rest is for what is not sound or pictures
            break
        heard.append(one)
        spent += cost
    while True:
        text = render(summary, described, heard, baseline=baseline, wanted=len(chosen), max_bytes=max_bytes)
        content = text.encode()
        if len(content) <= max_bytes or not heard:
            break
        heard.pop()
    replace_file(path, content)
    fewer = "" if len(heard) == len(chosen) else f" of {len(chosen)}, to stay below {max_bytes / 1e6:g} MB"
    return f"{path}: {len(content) / 1e6:.1f} MB, {len(heard)} clips to listen to{fewer}"


def render(
    summary: Sequence[Record],
    described: Mapping[str, Any],
    heard: Sequence[Material],
    *,
    baseline: str,
    wanted: int,
    max_bytes: int = MAX_BYTES,
) -> str:
    """The text of the page."""
    style = _file("page.css")
    scripts = [_file(name) for name in SCRIPTS]
    title = f"latentsr eval: {described.get('references', 'references')}"
    data = page_parts.data_of(heard, described)
    return Template(_file("page.html")).substitute(
        title=escape(title),
        policy=escape(_policy(style, scripts), quote=True),
        style=style,
        made=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        headline=page_parts.headline(summary, described, baseline),
        filters=page_parts.filters(summary),
        table=page_parts.table(summary),
        baseline=escape(baseline),
        plots=page_parts.plots(summary),
        clips_note=page_parts.clips_note(heard, wanted, max_bytes),
        stripe=data_uri(picture.stripe(), "image/png"),
        clips="\n".join(page_parts.clip_card(i, each, data_uri) for i, each in enumerate(heard)),
        definitions=page_parts.definitions(),
        command=escape(str(described.get("command", ""))),
        conditions=page_parts.conditions(described),
        data=json.dumps(data).replace("<", "\\u003c"),
        scripts="\n".join(f"<script>{script}</script>" for script in scripts),
    )


def data_uri(content: bytes, kind: str) -> str:
    """Bytes as an address that holds them."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _file(name: str) -> str:
    return (files("latentsr.evaluation") / "page_files" / name).read_text(encoding="utf-8")


def _policy(style: str, scripts: Sequence[str]) -> str:
    """Nothing is loaded from anywhere, and no program or style runs but these."""
    programs = " ".join(_hash(script) for script in scripts)
    return (
        f"default-src 'none'; img-src data:; media-src data:; style-src {_hash(style)}; script-src {programs}; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
