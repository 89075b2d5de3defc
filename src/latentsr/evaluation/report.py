"""What a benchmark leaves behind: a table to read, CSV and JSON to compute with, and spectrograms to look at."""

from __future__ import annotations

import csv
import io
import json
import math
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from latentsr.evaluation import intervals
from latentsr.evaluation.cases import CASES, HEARD_SHARE
from latentsr.evaluation.columns import COLUMNS, COST, Column, Record
from latentsr.evaluation.conditions import CEILING, UNPROCESSED, Conditions, describe_filter, noises_in_words
from latentsr.evaluation.resamplers import RESAMPLERS
from latentsr.wholefiles import replace_file

ANSWERED = ("lsd", "hf_energy_db", "zimtohrli", "seconds_per_second")  # least is best, of the level the nearest to 0
INPUT = ("cutoff_hz", "input_rate_hz", "noise", "input")  # fields of a record that say what systems were given
OVERALL = "(all)"  # the group of all clips
VERSIONS_OF = ("latentsr", "torch", "diffusers", "numpy", "scipy", "soxr", "visqol-python", "numba", "zimtohrli", "av")
RANGE_DB = 100.0  # of spectrogram colours
MAX_FRAMES = 2000  # of a spectrogram; the hop grows with the recording

Given = tuple[Any, ...]  # the values of INPUT


@dataclass(frozen=True)
class Scores:
    """What came out: the rows of `summarise`, the records of `benchmark.run` and the words of `describe`.

    Where they were asked for, the records of `harm` and `calibration` too.
    """

    summary: Sequence[Record]
    records: Sequence[Record]
    described: Mapping[str, Any]
    harm: Sequence[Record] = ()
    calibration: Sequence[Record] = ()


def summarise(
    records: Iterable[Record], *, overall: bool = False, baseline: str = UNPROCESSED, seed: int | None = None
) -> list[Record]:
    """One row per input (cutoff, rate, noise), group and system, in the order of their first record at each level.

    Args:
        records: as `benchmark.run` gives them.
        overall: add the group of all clips.
        baseline: the system whose row the paired differences are from.
        seed: of the bootstrap; None leaves intervals and differences out.
    """
    records = list(records)
    cells: dict[tuple[Given, str, str], list[Record]] = {}
    for record in [*records, *({**record, "group": OVERALL} for record in records if overall)]:
        given = tuple(record[key] for key in INPUT)
        cells.setdefault((given, record["group"], record["system"]), []).append(record)
    orders: list[list[Any]] = [list(dict.fromkeys(key[level] for key in cells)) for level in range(3)]
    ordered = sorted(cells, key=lambda key: [order.index(part) for order, part in zip(orders, key, strict=True)])
    rows = {key: _summary_row(*key, cells[key]) for key in ordered}
    for (given, group, system), row in rows.items():
        row["lsd_hf_change_percent"] = _change_percent(rows.get((given, group, UNPROCESSED)), row)
        if seed is not None:
            against = cells.get((given, group, baseline))
            row |= _intervals(cells[given, group, system], against, system == baseline, seed)
    return list(rows.values())


def _intervals(records: list[Record], baseline: list[Record] | None, is_baseline: bool, seed: int) -> Record:
    """KEY_low and KEY_high of a row, and the same of its paired difference from the baseline, KEY_vs_baseline."""
    found: Record = {}
    first, others = records[0], {record["clip"]: record for record in baseline or []}
    for key, median in ((column.key, column.median) for column in COLUMNS if column.interval):
        name = f"{first['input']} {first['group']} {first['system']} {key}"
        how: dict[str, Any] = {"median": median, "seed": seed, "name": name}
        values = [record[key] for record in records]
        against = [others.get(record["clip"], {}).get(key) for record in records]
        found |= _bounds(key, intervals.interval([value for value in values if value is not None], **how))
        centre, bounds = (None, None) if is_baseline else intervals.difference(values, against, **how)
        found |= {f"{key}_vs_baseline": centre} | _bounds(f"{key}_vs_baseline", bounds)
    return found


def _bounds(key: str, bounds: intervals.Interval | None) -> Record:
    low, high = bounds or (None, None)
    return {f"{key}_low": low, f"{key}_high": high}


def answer(records: Iterable[Record], seed: int | None) -> list[Record]:
    """One row per system, over all clips and inputs, the nearest to the truth first; `best` names its best figures.

    Clips are what an interval is over: each counts with the mean over its inputs. The input itself and the ceiling
    have their place and no rank.
    """
    systems: dict[str, list[Record]] = {}
    for record in records:
        systems.setdefault(record["system"], []).append(record)
    rows = [_answer_row(system, found, seed) for system, found in systems.items()]
    rows.sort(key=lambda row: math.inf if row["lsd"] is None else row["lsd"])
    ranked = [row for row in rows if row["system"] != UNPROCESSED and not row["system"].endswith(CEILING)]
    for rank, row in enumerate(ranked, start=1):
        row["rank"] = rank
    for key in ANSWERED:
        worth = {row["system"]: abs(row[key]) for row in ranked if row[key] is not None}
        for row in ranked if len(worth) > 1 else ():
            row["best"] += [key] if worth.get(row["system"]) == min(worth.values()) else []
    return rows


def _answer_row(system: str, records: list[Record], seed: int | None) -> Record:
    clips: dict[str, list[float]] = {}
    for record in records:
        if record["lsd"] is not None:
            clips.setdefault(record["clip"], []).append(record["lsd"])
    values = [statistics.fmean(found) for found in clips.values()]
    row = _summary_row(("",) * len(INPUT), OVERALL, system, records) | {"rank": None, "best": [], "clips": len(clips)}
    row["lsd"] = statistics.fmean(values) if values else None
    bounds = None if seed is None else intervals.interval(values, seed=seed, name=f"answer {system}")
    return row | _bounds("lsd", bounds)


def _summary_row(given: Given, group: str, system: str, records: list[Record]) -> Record:
    row: Record = dict(zip(INPUT, given, strict=True)) | {"group": group, "system": system}
    row["operator"] = records[0].get("operator")
    row["clips"] = len(records)
    row |= {column.key: column.of(records) for column in COLUMNS}
    seconds = [record["seconds"] for record in records]
    timed = None not in seconds
    row["seconds_per_second"] = sum(seconds) / sum(record["duration_s"] for record in records) if timed else None
    return row


def _change_percent(unprocessed: Record | None, row: Record) -> float | None:
    """By how much a row's LSD-HF differs from the input's: None for the input itself, and where it has none."""
    if unprocessed is None or unprocessed is row or not unprocessed["lsd_hf"] or row["lsd_hf"] is None:
        return None
    return float(100 * (row["lsd_hf"] / unprocessed["lsd_hf"] - 1))


def format_table(summary: Sequence[Record]) -> str:
    """The summary as an aligned Markdown table; what is not defined or not installed is n/a."""
    columns = [column for column in (*COLUMNS, *COST) if _printed(column, summary)]
    lines = [["cutoff", "group", "system", "clips", *(column.heading for column in columns)]]
    for row in summary:
        figures = (_text(row.get(column.key), column.digits) for column in columns)
        lines.append([row["input"], row["group"], row["system"], str(row["clips"]), *figures])
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    left = {1, 2}  # group and system; figures stand on the right
    lines = [
        [c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))]
        for line in lines
    ]
    rule = ["-" * w if i in left else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [lines[0], rule, *lines[1:]])


def _printed(column: Column, summary: Sequence[Record]) -> bool:
    if column.key == "peak_memory_mb":
        return any(row.get(column.key) is not None for row in summary)
    return not column.noisy_only or any(row["noise"] != "none" and row[column.key] is not None for row in summary)


def _text(value: float | None, digits: int) -> str:
    return "n/a" if value is None else f"{value:.{digits}f}"


def left_out(records: Iterable[Record], conditions: Conditions, clips: int) -> str | None:
    """How many of so many clips do not count for which case, in words; None where all do."""
    counted: dict[str, set[str]] = {name: set() for name in conditions.cases}
    for record in records:
        if record["input"] in counted:
            counted[record["input"]].add(record["clip"])
    missing = {name: clips - len(found) for name, found in counted.items() if len(found) < clips}
    if not missing:
        return None
    which = ", ".join(f"{number} of {name}" for name, number in missing.items())
    return f"{which}: clips whose own band ends below {HEARD_SHARE:g} x the cut"


def describe(conditions: Conditions, more: Mapping[str, Any]) -> Record:
    """Everything that it takes to run a benchmark again."""
    resamplers = " | ".join(RESAMPLERS[name].words for name in conditions.resamplers)
    return {
        **conditions.model_dump(mode="json"),
        "operator": describe_filter(conditions) if conditions.cutoffs_hz else None,
        "noises": noises_in_words(conditions),
        "case_files": " | ".join(f"{name} = {CASES[name].in_words()}" for name in conditions.cases) or None,
        "resampler": resamplers if conditions.rates_hz else None,
        "channels": "mean",
        "scored_hz": "0 to the reference's own bandwidth; '(full)' to 24000",
        **more,
        "versions": {name: _version(name) for name in VERSIONS_OF},
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def format_conditions(described: Mapping[str, Any]) -> str:
    """One line under the table."""
    shown = {key: _flat(value) for key, value in described.items() if value not in (None, []) and key != "versions"}
    packages = [f"{name} {number}" for name, number in described["versions"].items() if number]
    return "Conditions: " + "; ".join(f"{key} {value}" for key, value in shown.items()) + "; " + ", ".join(packages)


def write_csv(path: Path, summary: Sequence[Record], conditions: Mapping[str, Any]) -> None:
    """One line per row of the table, the conditions repeated in columns of their own; undefined figures are n/a."""
    constant = {key: _flat(value) for key, value in flatten(conditions).items()}
    rows = [{**row, **{f"condition.{key}": value for key, value in constant.items()}} for row in summary]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: "n/a" if value is None else value for key, value in row.items()} for row in rows)
    replace_file(path, text.getvalue().encode())


def write_json(
    path: Path,
    summary: Sequence[Record],
    records: Sequence[Record],
    conditions: Mapping[str, Any],
    more: Mapping[str, Any] | None = None,
) -> None:
    """Conditions, the table, every clip's figures, and what else there is; undefined figures are null."""
    document = {"conditions": conditions, "summary": summary, "clips": records, **(more or {})}
    replace_file(path, (json.dumps(document, indent=1, allow_nan=False) + "\n").encode())


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{'a': {'b': 1}} -> {'a.b': 1}"""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat


def _flat(value: Any) -> Any:
    return " ".join(str(part) for part in value) if isinstance(value, list | tuple) else value


# --- spectrograms ----------------------------------------------------------------------------------------------------


class MissingExtraError(ImportError):
    """A package that is optional is needed now; the message names the extra."""


def spectrogram_png(
    waves: Mapping[str, ArrayLike] | Sequence[tuple[str, ArrayLike]], path: str | Path, sample_rate: int = 48_000
) -> None:
    """Draw spectrograms one above the other, in one colour scale: before and after.

    Args:
        waves: heading -> (T,) or (C, T) audio, or pairs of them; channels are averaged.
        path: PNG file to write; replaced if it is there.
        sample_rate: Hz, of all waves.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise MissingExtraError("spectrograms need matplotlib; install it with: pip install 'latentsr[eval]'") from None
    pairs = list(waves.items() if isinstance(waves, Mapping) else waves)
    levels = [spectrogram_db(np.atleast_2d(np.asarray(wave)).mean(0), sample_rate) for _, wave in pairs]
    top_db = max(float(level.max()) for level in levels)
    figure = Figure(figsize=(8, 2.4 * len(levels)), layout="constrained")
    axes = figure.subplots(len(levels), 1, squeeze=False)[:, 0]
    how = {"origin": "lower", "aspect": "auto", "cmap": "magma", "vmin": top_db - RANGE_DB, "vmax": top_db}
    for axis, (name, wave), level in zip(axes, pairs, levels, strict=True):
        extent = (0.0, np.asarray(wave).shape[-1] / sample_rate, 0.0, sample_rate / 2000)
        image = axis.imshow(level, extent=extent, **how)
        axis.set_title(name, parse_math=False)  # a file may have dollars in its name
        axis.set_ylabel("kHz")
    axes[-1].set_xlabel("seconds")
    figure.colorbar(image, ax=list(axes), label="dB")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=100)
    replace_file(Path(path), picture.getvalue())


def spectrogram_db(wave: NDArray[Any], sample_rate: int) -> NDArray[np.float64]:
    """Hann power spectrogram, dB of full scale, floored at -140. (T,) -> (n_fft / 2 + 1, L)"""
    n_fft = min(2048, len(wave))
    if n_fft < 16:
        raise ValueError(f"got {len(wave)} samples, too few for a spectrogram")
    hop_length = max(n_fft // 4, len(wave) // MAX_FRAMES)
    window = np.hanning(n_fft + 1)[:-1]
    frames = np.lib.stride_tricks.sliding_window_view(wave, n_fft)[::hop_length]
    magnitudes = np.abs(np.fft.rfft(frames * window)).T * (2 / window.sum())  # a sine of amplitude 1 reads 0 dB
    return 20 * np.log10(np.maximum(magnitudes, 1e-7))
