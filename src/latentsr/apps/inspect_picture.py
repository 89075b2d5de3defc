"""The picture of `latentsr inspect --plot`: a row for each recording, its spectrogram and its long-term spectrum."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from latentsr.inspection import Inspection, Picture
from latentsr.inspection.wording import suggestion, troubles
from latentsr.wholefiles import replace_file

RANGE_DB = 100.0  # from the loudest to the darkest colour
LEAST_TOP_DB = -80.0  # of silence
LOWEST_HZ = 30.0
SMOOTHED = 1 / 24  # octave, of the long-term spectra
LINE_COLOURS = ("#4dd2ff", "#7dff7d", "#ffffff", "#ffd24d")  # channels, on the spectrogram
TITLE_LENGTHS = 92, 58  # letters that fit above the left and the right picture


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
