"""What a benchmark leaves behind: a table to read, CSV and JSON to compute with, and spectrograms to look at."""

from __future__ import annotations

import csv
import io
import json
import platform
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from latentsr.evaluation import intervals
from latentsr.evaluation.conditions import (
    UNPROCESSED,
    Conditions,
    describe_filter,
    describe_resampler,
    noises_in_words,
    versions,
)

Record = dict[str, Any]
Values = Sequence[float]
Given = tuple[Any, ...]  # the values of INPUT

INPUT = ("cutoff_hz", "input_rate_hz", "noise", "input")  # fields of a record that say what systems were given

OVERALL = "(all)"  # the group of all clips
MISS_PERCENT = 10.0  # a cutoff estimate further off than this is a miss
RANGE_DB = 100.0  # of spectrogram colours
MAX_FRAMES = 2000  # of a spectrogram; the hop grows with the recording


def _worst(values: Values) -> float:
    return max(values, key=abs)


def _misses(errors_percent: Values) -> float:
    return sum(abs(error) > MISS_PERCENT for error in errors_percent)


def _median_size(values: Values) -> float:
    return statistics.median(abs(value) for value in values)


@dataclass(frozen=True)
class Column:
    """One figure of the table: what it is pooled from, how, and how it is printed."""

    key: str
    heading: str
    digits: int
    pool: Callable[[Values], float] = statistics.fmean
    source: str = ""  # key of the records; the same as `key` unless given
    pooled: bool = True  # False: made of other rows
    noisy_only: bool = False  # printed only where noise was added, and it is defined
    interval: bool = False  # has a confidence interval, and a difference from the baseline
    lower_is_better: bool | None = None  # None: nearer to a target

    title: str = ""  # where the heading alone does not say it

    @property
    def name(self) -> str:
        """The heading where no other column stands to its left."""
        return self.title or self.heading

    @property
    def median(self) -> bool:
        return self.pool is statistics.median

    def of(self, records: Iterable[Record]) -> float | None:
        if not self.pooled:
            return None
        values = [record[self.source or self.key] for record in records]
        known = [value for value in values if value is not None]
        return self.pool(known) if known else None


COLUMNS = (
    Column("lsd", "LSD", 2, interval=True, lower_is_better=True),
    Column("lsd_full", "(full)", 2, interval=True, lower_is_better=True, title="LSD (full)"),
    Column("ssr_eval", "ssr_eval", 2, interval=True, lower_is_better=True),
    Column("ssr_eval_full", "(full)", 2, interval=True, lower_is_better=True, title="ssr_eval (full)"),
    Column("lsd_hf", "LSD-HF", 2, interval=True, lower_is_better=True),
    Column("lsd_hf_change_percent", "HF %", 0, pooled=False),
    Column("lsd_lf", "LSD-LF", 2, interval=True, lower_is_better=True),
    Column("hf_energy_db", "HF dB", 1, statistics.median, interval=True),
    Column("hf_spread", "HF spread", 2, statistics.median, interval=True),
    Column("level_error_db", "level dB", 3, _worst),
    Column("kept_error_db", "kept dB", 1, max),
    Column("si_sdr_db", "SI-SDR dB", 1, noisy_only=True, interval=True, lower_is_better=False),
    Column("snr_db", "SNR dB", 1, noisy_only=True),
    Column("si_sdr_kept_db", "kept SI-SDR", 1, noisy_only=True, interval=True, lower_is_better=False),
    Column("si_sdr_gain_db", "gain dB", 1, noisy_only=True, interval=True, lower_is_better=False),
    Column("tone_db", "tone dB", 1, noisy_only=True),
    Column("tone_vs_clean_db", "vs clean dB", 1, noisy_only=True),
    Column("tone_left", "left", 0, sum, noisy_only=True),
    Column("visqol", "ViSQOL", 2, interval=True, lower_is_better=False),
    Column("zimtohrli", "Zimtohrli", 4, interval=True, lower_is_better=True),
    Column("zimtohrli_mos", "Z-MOS", 2, interval=True, lower_is_better=False),
    Column("cutoff_error_percent", "cutoff err %", 1, _median_size),
    Column("cutoff_misses", "misses", 0, _misses, source="cutoff_error_percent"),
)


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
    for (given, group, _), row in rows.items():
        row["lsd_hf_change_percent"] = _change_percent(rows.get((given, group, UNPROCESSED)), row)
    if seed is not None:
        for (given, group, system), row in rows.items():
            row |= _intervals(
                cells[given, group, system], cells.get((given, group, baseline)), system == baseline, seed
            )
    return list(rows.values())


def _intervals(records: list[Record], baseline: list[Record] | None, is_baseline: bool, seed: int) -> Record:
    """KEY_low and KEY_high of a row, and the same of its paired difference from the baseline, KEY_vs_baseline."""
    found: Record = {}
    first = records[0]
    others = {record["clip"]: record for record in baseline or []}
    for column in (column for column in COLUMNS if column.interval):
        key = column.source or column.key
        name = " ".join([str(first["input"]), str(first["group"]), str(first["system"]), key])
        values = [record[key] for record in records]
        known = [value for value in values if value is not None]
        found |= _bounds(column.key, intervals.interval(known, median=column.median, seed=seed, name=name))
        against = [others[record["clip"]][key] if record["clip"] in others else None for record in records]
        centre, bounds = None, None
        if not is_baseline:
            centre, bounds = intervals.difference(values, against, median=column.median, seed=seed, name=name)
        found |= {f"{column.key}_vs_baseline": centre} | _bounds(f"{column.key}_vs_baseline", bounds)
    return found


def _bounds(key: str, bounds: intervals.Interval | None) -> Record:
    low, high = bounds or (None, None)
    return {f"{key}_low": low, f"{key}_high": high}


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
    noisy = [row for row in summary if row["noise"] != "none"]
    measured = any(row.get("peak_memory_mb") is not None for row in summary)
    columns = [
        column for column in COLUMNS if not column.noisy_only or any(row[column.key] is not None for row in noisy)
    ]
    lines = [["cutoff", "group", "system", "clips", *(column.heading for column in columns), "s/s"]]
    lines[0] += ["MB"] * measured
    for row in summary:
        figures = [_text(row[column.key], column.digits) for column in columns]
        about = [row["input"], row["group"], row["system"], str(row["clips"])]
        memory = [_text(row.get("peak_memory_mb"), 0)] * measured
        lines.append([*about, *figures, _text(row["seconds_per_second"], 3), *memory])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    left = {1, 2}  # group and system; figures stand on the right
    padded = [
        [c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))]
        for line in lines
    ]
    rule = ["-" * w if i in left else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [padded[0], rule, *padded[1:]])


def _text(value: float | None, digits: int) -> str:
    return "n/a" if value is None else f"{value:.{digits}f}"


def describe(conditions: Conditions, more: Mapping[str, Any]) -> Record:
    """Everything that it takes to run a benchmark again."""
    return {
        **conditions.model_dump(mode="json"),
        "operator": describe_filter(conditions) if conditions.cutoffs_hz else None,
        "noises": noises_in_words(conditions),
        "resampler": describe_resampler(conditions) if conditions.rates_hz else None,
        "channels": "mean",
        "scored_hz": "0 to the reference's own bandwidth; '(full)' to 24000",
        **more,
        "versions": versions(),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
    }


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


def write_json(path: Path, summary: Sequence[Record], records: Sequence[Record], conditions: Mapping[str, Any]) -> None:
    """Conditions, the table, and every clip's figures; undefined figures are null."""
    document = {"conditions": conditions, "summary": summary, "clips": records}
    replace_file(path, (json.dumps(document, indent=1, allow_nan=False) + "\n").encode())


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{'a': {'b': 1}} -> {'a.b': 1}"""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat


def _flat(value: Any) -> Any:
    return " ".join(str(part) for part in value) if isinstance(value, list | tuple) else value


def replace_file(path: Path, content: bytes) -> None:
    """Write under a temporary name, then rename: a reader never sees half a file."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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
    for axis, (name, wave), level in zip(axes, pairs, levels, strict=True):
        seconds = np.asarray(wave).shape[-1] / sample_rate
        extent = (0.0, seconds, 0.0, sample_rate / 2000)
        limits = {"vmin": top_db - RANGE_DB, "vmax": top_db}
        image = axis.imshow(level, origin="lower", aspect="auto", extent=extent, cmap="magma", **limits)
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
