"""Small spectrogram pictures for a page: PNG with a palette, one scale of decibels for all that are to be compared."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from latentsr.evaluation.noises import Wave
from latentsr.evaluation.report import RANGE_DB, MissingExtraError, spectrogram_db
from latentsr.evaluation.resamplers import with_length

COLOURS = 48
COLUMNS, ROWS = 480, 128  # pixels
TOP_KHZ = 24


def levels_db(wave: Wave) -> NDArray[np.float64]:
    """What a picture shows: dB of full scale, high frequencies first. (T,) at 48 kHz -> (ROWS, at most COLUMNS)"""
    level = spectrogram_db(with_length(wave, max(4096, len(wave))), 2000 * TOP_KHZ)[:1024]
    rows = level.reshape(ROWS, -1, level.shape[1]).mean(1)
    edges = np.linspace(0, rows.shape[1], min(COLUMNS, rows.shape[1]) + 1).astype(int)[:-1]
    return np.maximum.reduceat(rows, edges, axis=1)[::-1]


def png(level: NDArray[np.float64], top_db: float) -> bytes:
    """The picture of such levels; `top_db` is the brightest colour, `RANGE_DB` below it the darkest."""
    from matplotlib import colormaps
    from PIL import Image

    place = np.clip((level - top_db + RANGE_DB) / RANGE_DB, 0, 1)
    image = Image.fromarray(np.round(place * (COLOURS - 1)).astype(np.uint8), mode="P")
    palette = np.asarray(colormaps["magma"](np.linspace(0, 1, COLOURS)))[:, :3]
    image.putpalette(bytes(np.round(255 * palette).astype(np.uint8).ravel()))
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True, bits=6)
    return file.getvalue()


def stripe() -> bytes:
    """The scale of colours, dark to bright, for the legend."""
    return png(np.tile(np.linspace(-RANGE_DB, 0, COLUMNS), (8, 1)), 0.0)


def check_installed() -> None:
    """Raise `MissingExtraError` before hours of scoring, where the page or its pictures cannot be made."""
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
        import PIL  # noqa: F401
    except ModuleNotFoundError:
        needed = "the page needs jinja2 and matplotlib; install them with: pip install 'latentsr[eval]'"
        raise MissingExtraError(needed) from None
