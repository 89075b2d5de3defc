"""The parts of the page that come from figures: each a function to HTML, in which every name is escaped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from latentsr.evaluation import plots as svg
from latentsr.evaluation.listening import EXCERPT_S, Material, Track
from latentsr.evaluation.report import COLUMNS, Column, flatten

Record = dict[str, Any]
Uri = Callable[[bytes, str], str]

PLOTTED = ("lsd", "lsd_hf", "visqol", "zimtohrli_mos", "hf_energy_db")
COST = (
    Column("seconds_per_second", "s/s", 3, lower_is_better=True),
    Column("peak_memory_mb", "MB", 0, lower_is_better=True),
)
# What each heading means, and which way is better, for those who did not write the tables.
MEANINGS = {
    "lsd": (
        "Log-spectral distance to the original (window 2048, hop 512), from 0 Hz to where the original ends",
        "lower",
    ),
    "lsd_full": ("The same up to 24 kHz, whatever the original holds there", "lower"),
    "ssr_eval": ("The same idea in the definition of NVSR and AudioSR; figures of the two do not compare", "lower"),
    "ssr_eval_full": ("The same up to 24 kHz", "lower"),
    "lsd_hf": ("Distance above the cutoff only: what was invented", "lower"),
    "lsd_hf_change_percent": ("LSD-HF against that of the unprocessed input", "lower"),
    "lsd_lf": ("Distance at and below the cutoff: what was given", "lower"),
    "hf_energy_db": ("Energy above the cutoff against the original's; median", "0"),
    "hf_spread": ("How lively the band above the cutoff is over time, against the original; below 1 is a blur", "1"),
    "level_error_db": ("By how much the given band's level was moved; the worst clip", "0"),
    "kept_error_db": ("What was changed in the given band, against that band; the worst clip", "lower"),
    "si_sdr_db": ("Scale-invariant distance of the waves; for noise, not for bandwidth", "higher"),
    "snr_db": ("Distance of the waves", "higher"),
    "si_sdr_kept_db": ("SI-SDR of the given band", "higher"),
    "si_sdr_gain_db": ("The same, less the unprocessed input's", "higher"),
    "tone_db": ("Level at the added tone's frequency against the input's", "lower"),
    "tone_vs_clean_db": ("The same against the original's", "0"),
    "tone_left": ("Clips on which the tone is still there", "lower"),
    "visqol": ("ViSQOL v3, audio mode: opinion predicted by a model of hearing, 1 to 4.73", "higher"),
    "zimtohrli": ("Zimtohrli: distance by another model of hearing", "lower"),
    "zimtohrli_mos": ("The same as an opinion, 1 to 5", "higher"),
    "cutoff_error_percent": ("How far off the estimated cutoff was; median", "0"),
    "cutoff_misses": ("Clips on which it was more than 10 % off", "lower"),
    "seconds_per_second": ("Seconds of computing per second of sound, model loaded", "lower"),
    "peak_memory_mb": ("Highest memory of a fresh process that loads the model and restores one clip", "lower"),
}


# --- tables ----------------------------------------------------------------------------------------------------------


def shown_columns(summary: Sequence[Record]) -> list[Column]:
    """Those columns that have a figure anywhere, and those that a reader would miss: they say n/a."""
    always = {"lsd", "lsd_hf", "visqol", "zimtohrli_mos", "seconds_per_second"}
    return [
        column
        for column in (*COLUMNS, *COST)
        if column.key in always or any(row.get(column.key) is not None for row in summary)
    ]


def table(summary: Sequence[Record]) -> str:
    """The summary: each cell with its interval, and with its difference from the baseline."""
    columns = shown_columns(summary)
    heads = ['<th class="name" data-key="system">system</th>', '<th data-key="input">input</th>']
    heads += ['<th data-key="group">group</th>', '<th class="number">clips</th>']
    heads += [
        f'<th class="number" title="{escape(MEANINGS[c.key][0], quote=True)}; {MEANINGS[c.key][1]} is better">'
        f"{escape(c.name)}</th>"
        for c in columns
    ]
    systems = list(dict.fromkeys(row["system"] for row in summary))
    body = [_table_row(row, columns, systems.index(row["system"])) for row in summary]
    return f"<thead><tr>{''.join(heads)}</tr></thead>\n<tbody>\n{chr(10).join(body)}\n</tbody>"


def _table_row(row: Record, columns: Sequence[Column], index: int) -> str:
    names = "".join(f' data-{key}="{escape(str(row[key]), quote=True)}"' for key in ("input", "group", "system"))
    cells = [f'<th class="name" scope="row"><i class="chip s{index % 8}"></i>{escape(row["system"])}</th>']
    cells += [f"<td>{escape(str(row[key]))}</td>" for key in ("input", "group")]
    cells += [f'<td class="number" data-value="{row["clips"]}">{row["clips"]}</td>']
    cells += [_cell(row, column) for column in columns]
    return f"<tr{names}>{''.join(cells)}</tr>"


def _cell(row: Record, column: Column) -> str:
    value = row.get(column.key)
    if value is None:
        return '<td class="number none">n/a</td>'
    own = f'<span class="own">{_number(value, column)}{_bounds(row, column, column.key)}</span>'
    key = f"{column.key}_vs_baseline"
    against = row.get(key)
    if against is None:
        difference = '<span class="versus">–</span>'
    else:
        difference = (
            f'<span class="versus {_verdict(row, column)}">{_number(against, column, "+")}'
            f"{_bounds(row, column, key, '+')}</span>"
        )
    values = f'data-value="{value!r}"' + ("" if against is None else f' data-versus="{against!r}"')
    return f'<td class="number" {values}>{own}{difference}</td>'


def _number(value: float, column: Column, sign: str = "") -> str:
    return f"{value:{sign}.{column.digits}f}".replace("-", "−")


def _bounds(row: Record, column: Column, key: str, sign: str = "") -> str:
    low, high = row.get(f"{key}_low"), row.get(f"{key}_high")
    if low is None or high is None:
        return ""
    return f"<small>{_number(low, column, sign)} … {_number(high, column, sign)}</small>"


def _verdict(row: Record, column: Column) -> str:
    """'better' or 'worse' than the baseline, where the interval of the difference leaves out 0."""
    low, high = row.get(f"{column.key}_vs_baseline_low"), row.get(f"{column.key}_vs_baseline_high")
    if low is None or high is None or column.lower_is_better is None or low <= 0 <= high:
        return ""
    return "better" if (high < 0) == column.lower_is_better else "worse"


def filters(summary: Sequence[Record]) -> str:
    """A choice for each of input, group and system, where there is one."""
    parts = []
    for key in ("input", "group", "system"):
        names = list(dict.fromkeys(str(row[key]) for row in summary))
        if len(names) > 1:
            options = "".join(f'<option value="{escape(name, quote=True)}">{escape(name)}</option>' for name in names)
            parts.append(
                f'<label>{key} <select data-filter="{key}"><option value="">all</option>{options}</select></label>'
            )
    return "".join(parts)


def headline(summary: Sequence[Record], described: Mapping[str, Any], baseline: str) -> str:
    """What this is about, in a line."""
    clips = sum({(row["group"]): row["clips"] for row in summary if row["group"] != "(all)"}.values())
    inputs = list(dict.fromkeys(str(row["input"]) for row in summary))
    rows = list(dict.fromkeys(str(row["system"]) for row in summary))
    words = (
        f"{clips} clips of {described.get('references')}, {len(inputs)} input{'s' * (len(inputs) != 1)} "
        f"({', '.join(inputs)}), {len(rows)} row{'s' * (len(rows) != 1)} each: {', '.join(rows)}."
    )
    return f"<p>{escape(words)}</p>"


# --- plots -----------------------------------------------------------------------------------------------------------


def plots(summary: Sequence[Record]) -> str:
    """A section of panels for each plotted figure that there is; the page shows one at a time."""
    parts = []
    for column in (column for column in COLUMNS if column.key in PLOTTED):
        drawn = svg.panels(summary, column)
        if drawn:
            better = MEANINGS[column.key][1]
            parts.append(
                f'<section class="plot" data-plot="{escape(column.name, quote=True)}"><h3>{escape(column.name)} '
                f'<small>{better} is better</small></h3><div class="panels">{drawn}</div></section>'
            )
    return "\n".join(parts)


# --- clips -----------------------------------------------------------------------------------------------------------


def clips_note(heard: Sequence[Material], wanted: int, max_bytes: int) -> str:
    """How clips were chosen and how they sound, and what is missing."""
    words = [
        "Of each group the clip with the median change of LSD from the baseline (mean over inputs and rows), then the "
        f"worst, then the best. Excerpts are the {EXCERPT_S:g} s with the most energy, 16-bit FLAC at 48 kHz.",
        "Levels are matched: each track is scaled so that the band below 0.8 × cutoff, which every system was given, "
        "is as loud as in the original (least squares; by energy where the waves are no copies). Pictures and figures "
        "are of the waves as they are.",
    ]
    if len(heard) < wanted:
        words.append(
            f"{wanted - len(heard)} of {wanted} clips were left out to keep this file below {max_bytes / 1e6:g} MB."
        )
    if differing := sum(each.differing for each in heard):
        words.append(f"{differing} tracks came out otherwise here than when they were scored.")
    return "".join(f"<p>{escape(text)}</p>" for text in words)


def clip_card(index: int, heard: Material, uri: Uri) -> str:
    """One clip: what does not depend on the input first, then the tracks of each input."""
    clip = heard.chosen.clip
    where = f"{heard.chosen.why}; {heard.seconds:.1f} s from {heard.start_s:.1f} s"
    inputs = list(heard.by_input)
    tabs = "".join(
        f'<button type="button" class="tab" data-input="{i}" aria-pressed="{"true" if i == 0 else "false"}">'
        f"{escape(name)}</button>"
        for i, name in enumerate(inputs)
    )
    tracks = [_track(f"m{index}-{i}", track, uri) for i, track in enumerate(heard.always)]
    number = len(heard.always)
    for i, name in enumerate(inputs):
        for track in heard.by_input[name]:
            tracks.append(_track(f"m{index}-{number}", track, uri, i))
            number += 1
    return (
        f'<article class="clip" data-clip="{index}"><h3>{escape(clip.name)}</h3><p class="why">{escape(where)}</p>'
        f'<div class="bar"><button type="button" class="play" aria-label="play or pause">▶</button>'
        f'<input class="seek" type="range" min="0" max="1" step="any" value="0" aria-label="position">'
        f'<output class="clock">0.0 / {heard.seconds:.1f} s</output></div>'
        f'<div class="tabs" role="group" aria-label="input">{tabs}</div>'
        f'<ol class="tracks">{"".join(tracks)}</ol></article>'
    )


def _track(name: str, track: Track, uri: Uri, of_input: int | None = None) -> str:
    gain_db = f", level matched by {_db(track.gain)} dB" if abs(_db_of(track.gain)) >= 0.05 else ""
    about = ("the original" if track.lsd == 0.0 else "" if track.lsd is None else f"LSD {track.lsd:.2f}") + gain_db
    which = "" if of_input is None else f' data-input="{of_input}"'
    return (
        f'<li class="track"{which} data-media="{name}"><button type="button" class="pick" aria-pressed="false">'
        f"<b>{escape(track.system)}</b><small>{escape(about)}</small></button>"
        f'<div class="picture"><img src="{uri(track.png, "image/png")}" loading="lazy" '
        f'alt="spectrogram of {escape(track.system, quote=True)}, 0 to 24 kHz"><i class="head"></i></div>'
        f'<audio id="{name}" controls preload="none" src="{uri(track.flac, "audio/flac")}"></audio></li>'
    )


def _db_of(gain: float) -> float:
    import math

    return 20 * math.log10(gain)


def _db(gain: float) -> str:
    return f"{_db_of(gain):+.1f}".replace("-", "−")


def data_of(heard: Sequence[Material], described: Mapping[str, Any]) -> dict[str, Any]:
    """What the page's programs need: names, and which <audio> holds which track."""
    clips = []
    for index, each in enumerate(heard):
        number = len(each.always)
        always = [{"system": track.system, "media": f"m{index}-{i}"} for i, track in enumerate(each.always)]
        inputs = []
        for name, tracks in each.by_input.items():
            own = [{"system": track.system, "media": f"m{index}-{number + i}"} for i, track in enumerate(tracks)]
            number += len(tracks)
            inputs.append({"label": name, "tracks": [*always, *own]})
        clips.append({"name": each.chosen.clip.name, "seconds": each.seconds, "inputs": inputs})
    digest = hashlib.sha256(json.dumps([described, clips], sort_keys=True, default=str).encode()).hexdigest()[:12]
    return {"report": digest, "references": str(described.get("references", "")), "clips": clips}


# --- words -----------------------------------------------------------------------------------------------------------


def definitions() -> str:
    """What each column means."""
    return "".join(
        f"<tr><th>{escape(column.name)}</th><td>{escape(MEANINGS[column.key][0])}</td><td>{MEANINGS[column.key][1]}</td></tr>"
        for column in (*COLUMNS, *COST)
    )


def conditions(described: Mapping[str, Any]) -> str:
    """Everything that it takes to run this again."""
    flat = {key: value for key, value in flatten(described).items() if value not in (None, []) and key != "command"}
    rows = []
    for key, value in flat.items():
        text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        rows.append(f"<tr><th>{escape(key)}</th><td>{escape(text)}</td></tr>")
    return "".join(rows)
