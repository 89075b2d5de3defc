"""`latentsr inspect`: what a recording is, what probably cut it, and what restoring would do.

`--plot` draws a row for each recording: its spectrogram and its long-term spectrum.
"""

from __future__ import annotations

import io
import json
import sys
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from latentsr.apps.restore import FILE_ERRORS, failed_record
from latentsr.apps.terminal import FAILED, INTERRUPTED, SOME_FAILED, fail, printable, warn
from latentsr.errors import UsageError
from latentsr.inspection import Inspection, Picture
from latentsr.inspection.wording import suggestion, troubles
from latentsr.wholefiles import replace_file

if TYPE_CHECKING:
    from latentsr.inspection import Inspection

MOST_PICTURES = 24  # recordings in one picture
WIDEST_NAME = 48  # of the table
RANGE_DB = 100.0  # from the loudest to the darkest colour
LEAST_TOP_DB = -80.0  # of silence
LOWEST_HZ = 30.0
SMOOTHED = 1 / 24  # octave, of the long-term spectra
LINE_COLOURS = ("#4dd2ff", "#7dff7d", "#ffffff", "#ffd24d")  # channels, on the spectrogram
TITLE_LENGTHS = 92, 58  # letters that fit above the left and the right picture


def inspect_command(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Recordings, or folders of them.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per recording, a line each.")] = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Draw spectrograms with the band, and long-term spectra.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the PNG if it is there.")] = False,
    salvage: Annotated[
        bool, typer.Option("--salvage", help="Hear what can be decoded of a damaged recording.")
    ] = False,
    on_nonfinite: Annotated[
        str, typer.Option(help="Samples that are NaN or infinite: error, or zero puts zeros in their place.")
    ] = "error",
) -> None:
    """Say what recordings are, what probably cut their band, and what restoring would do."""
    if on_nonfinite not in ("error", "zero"):
        raise UsageError(f"--on-nonfinite is error or zero, got {on_nonfinite!r}")
    recordings = found(files)
    if plot is not None:
        _check_picture(plot, len(recordings), overwrite)
    words = {"picture": plot is not None, "salvage": salvage, "on_nonfinite": on_nonfinite}
    try:
        heard, failed = _inspect_all(recordings, words, as_json, table=len(recordings) > 1 or files[0].is_dir())
        if plot is not None and heard:
            draw(heard, plot)
    except KeyboardInterrupt:
        fail("interrupted", INTERRUPTED)
    if failed:
        if len(recordings) > 1:
            warn(f"{failed} of {len(recordings)} files failed")
        raise typer.Exit(FAILED if failed == len(recordings) else SOME_FAILED)


def found(places: Iterable[Path]) -> list[Path]:
    """The recordings: files as they are named, and those in folders, with their sub-folders, by their names."""
    from latentsr.data.layouts import is_audio

    recordings: list[Path] = []
    for place in places:
        if not place.is_dir():
            recordings.append(place)
            continue
        inside = sorted(path for path in place.rglob("*") if is_audio(path, place))
        if not inside:
            raise UsageError(f"{place} holds no recordings; name a file or another folder")
        recordings += inside
    return recordings


def _inspect_all(
    recordings: list[Path], words: dict[str, Any], as_json: bool, *, table: bool
) -> tuple[list[Inspection], int]:
    """Print what is found as it is found; those that are to be drawn, and how many failed."""
    from latentsr.inspection import inspect
    from latentsr.inspection.wording import report, table_head, table_line

    width = min(max(len(str(path)) for path in recordings), WIDEST_NAME)
    heard, failed, headed = [], 0, not table or as_json
    for path in recordings:
        try:
            one = inspect(path, **words)
        except FILE_ERRORS as error:
            failed += 1
            record = failed_record(path, error)
            if as_json:
                print(
                    json.dumps({"path": record.input, "error": record.error, "error_type": record.error_type}),
                    flush=True,
                )
            warn(record.error or "")
            continue
        heard += [one] if words["picture"] else []
        if not headed:
            _say(table_head(width))
            headed = True
        if as_json:
            print(json.dumps(one.to_dict(), allow_nan=False), flush=True)
        else:
            _say(table_line(one, _shortened(str(path), width), width) if table else report(one))
    return heard, failed


def _check_picture(path: Path, recordings: int, overwrite: bool) -> None:
    """End before anything is heard where the picture could not be drawn or written."""
    from latentsr.evaluation.report import MissingExtraError

    if path.is_dir() or (path.exists() and not overwrite):
        raise UsageError(f"{path} is there already; pass --overwrite to replace it, or name another picture")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}; make it, or name another picture")
    if recordings > MOST_PICTURES:
        raise UsageError(f"--plot draws at most {MOST_PICTURES} recordings, got {recordings}; name fewer")
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        raise MissingExtraError("--plot needs matplotlib; install it with: pip install 'latentsr[eval]'") from None


def _shortened(name: str, width: int) -> str:
    return name if len(name) <= width else f"…{name[1 - width :]}"


def _say(text: str) -> None:
    print(printable(text, sys.stdout.encoding), flush=True)


def draw(heard: Sequence[Inspection], path: Path) -> None:
    """Write the picture of recordings that were inspected with `picture=True`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 2.9 * len(heard)), layout="constrained")
    axes = figure.subplots(len(heard), 2, squeeze=False, width_ratios=(3, 2))
    for (left, right), one in zip(axes, heard, strict=True):
        assert one.picture is not None
        left.set_title(_title(one), fontsize=9, loc="left", parse_math=False)
        image = _spectrogram(left, one, one.picture)
        if image is not None:
            figure.colorbar(image, ax=left, label="dB", pad=0.01)
        _spectrum(right, one, one.picture)
    axes[-1, 0].set_xlabel("seconds")
    axes[-1, 1].set_xlabel("Hz")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=100)
    replace_file(path, picture.getvalue())


def _title(one: Inspection) -> str:
    text = f"{Path(one.path).name}: {one.cause.sentence}; {', '.join(troubles(one)) or 'no trouble'}"
    return _wrapped(text, TITLE_LENGTHS[0])


def _wrapped(text: str, width: int) -> str:
    """Two lines at most."""
    return "\n".join(textwrap.wrap(text, width, max_lines=2, placeholder=" …"))


def _spectrogram(axis: Any, one: Inspection, picture: Picture) -> Any:
    """The mean of the channels, with each channel's end drawn over it."""
    axis.set_ylabel("kHz")
    if not len(picture.rows_db):
        axis.text(0.5, 0.5, "too short to draw", ha="center", va="center", transform=axis.transAxes)
        return None
    top_db = max(float(picture.rows_db.max()), LEAST_TOP_DB)
    half_khz = one.sample_rate / 2000
    image = axis.imshow(
        picture.rows_db.T, origin="lower", aspect="auto", extent=(0.0, one.seconds, 0.0, half_khz), cmap="magma",
        vmin=top_db - RANGE_DB, vmax=top_db,
    )  # fmt: skip
    for number, stretches in enumerate(one.track.channels):
        starts = [*(stretch.start_s for stretch in stretches), one.seconds]
        ends = [min(stretch.cutoff_hz / 1000, half_khz) for stretch in stretches]
        colour, style = LINE_COLOURS[number % len(LINE_COLOURS)], ("-", "--")[number % 2]
        axis.stairs(ends, starts, baseline=None, label=f"channel {number + 1}", color=colour, linestyle=style, lw=1.6)
    if one.channels > 1:
        axis.legend(loc="upper right", fontsize=7, ncols=min(one.channels, 4), facecolor="black", labelcolor="white")
    axis.set_ylim(0, half_khz)
    return image


def _spectrum(axis: Any, one: Inspection, picture: Picture) -> None:
    """Mean and floor over frequency; where the band ends, and what stands still."""
    hz = np.arange(len(picture.mean_db)) * picture.bin_hz
    shown = hz >= LOWEST_HZ
    axis.semilogx(hz[shown], _smooth(picture.mean_db)[shown], color="#c2410c", linewidth=1.2, label="mean")
    axis.semilogx(hz[shown], picture.floor_db[shown], color="#475569", linewidth=1.0, label="quietest moments")
    ends = {stretch.cutoff_hz for stretches in one.track.channels for stretch in stretches if not stretch.full_band}
    for number, end in enumerate(sorted(ends)):
        axis.axvline(end, color="#0284c7", linewidth=1, linestyle=":", label=None if number else "band ends")
    tones = [*(one.hum.harmonics_hz if one.hum else ()), *(line.hz for line in one.lines)]
    for number, tone in enumerate(tones):
        axis.plot(tone, 0.96, "v", color="#b91c1c", markersize=5, transform=axis.get_xaxis_transform(), clip_on=False,
                  label=None if number else "hum, lines")  # fmt: skip
    lowest = min(float(picture.mean_db[shown].min(initial=0.0)), float(picture.floor_db[shown].min(initial=0.0)))
    axis.set_ylim(max(lowest - 5, -170), max(float(picture.mean_db.max()), LEAST_TOP_DB) + 8)
    axis.set_xlim(LOWEST_HZ, one.sample_rate / 2)
    axis.set_xticks([hz for hz in (50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000) if hz < one.sample_rate / 2])
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}" if value < 1000 else f"{value / 1000:g}k")
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7, loc="lower left")
    axis.set_title(_wrapped(suggestion(one), TITLE_LENGTHS[1]), fontsize=9, loc="left", parse_math=False)
    axis.set_ylabel("dB")


def _smooth(level_db: np.ndarray) -> np.ndarray:
    """Mean power over `SMOOTHED` octaves around each bin. (F,) -> (F,)"""
    power = np.concatenate([[0.0], np.cumsum(10 ** (level_db / 10))])
    bins = np.arange(len(level_db))
    first = np.floor(bins * 2 ** (-SMOOTHED / 2)).astype(int)
    last = np.minimum(np.ceil(bins * 2 ** (SMOOTHED / 2)).astype(int), len(level_db) - 1)
    return 10 * np.log10(np.maximum(power[last + 1] - power[first], 1e-20) / (last + 1 - first))
