"""Where recordings come from: files that are decoded at the start, shards read as they are needed, or pairs.

Pairs are the user's: low/NAME degraded and high/NAME clean, equal in time. Nothing is shifted in silence.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import scipy.fft
from pydantic import Field

from latentsr.config import AUDIO, Config
from latentsr.data.decode import Recording, decode
from latentsr.data.layouts import exclude_clips, find_clips, guess_layout, is_audio
from latentsr.data.manifest import Clip, DataError, check_present
from latentsr.data.shards import open_shards

T = TypeVar("T")
log = logging.getLogger(__name__)
LENGTH_TOLERANCE_S = 0.1  # the longer file of a pair may be so much longer, and is trimmed
SEARCHED_S, LONGEST_S = 0.25, 20.0  # lags up to the first are looked for, in so much of the middle of a pair
LOW_BAND_HZ = (80.0, 3_000.0)  # what both files of any pair should hold: even a telephone passes most of it
UNLIKE = 0.1  # correlation below which two files are not the same recording


class SourceConfig(Config):
    """Which recordings there are, and what to do with those that cannot be used."""

    layout: str = "auto"
    exclude: list[str] = []  # glob patterns of clips to leave out: of their names, or of their paths within the data
    on_bad: Literal["error", "skip"] = "error"  # what to do with a file that cannot be read
    cache: str | None = None  # folder for decoded samples; None: in memory only
    pair_lag: int = Field(default=1, ge=0)  # samples at 48 kHz by which the two files of a pair may be apart


@dataclass(frozen=True)
class Found:
    """Recordings in a fixed order, and how many files of the data were left out, by reason."""

    recordings: list[Recording]
    left_out: dict[str, int]


def open_recordings(data: str | Path, config: SourceConfig) -> Found:
    """The recordings of `data`; test sets stay out."""
    layout = guess_layout(Path(data)) if config.layout == "auto" else config.layout
    if layout == "shards":
        there = open_shards(data, on_bad=config.on_bad)
        found = [r.clip for r in there]
    else:
        found = find_clips(data, layout, "all")
    not_test = _not_empty(data, [clip for clip in found if clip.split != "test"])
    clips = exclude_clips(not_test, config.exclude, Path(data, "high") if layout == "pairs" else data)
    if layout == "shards":
        paths = {clip.path for clip in clips}
        recordings = [r for r in there if r.clip.path in paths]
    else:
        recordings = _decoded(clips, layout, data, config)
    files = [len({clip.path for clip in some}) for some in (found, not_test, clips, [r.clip for r in recordings])]
    reasons = ("of the test set", "excluded", "unreadable")
    return Found(recordings, {why: a - b for why, (a, b) in zip(reasons, pairwise(files), strict=True) if a > b})


def _decoded(clips: list[Clip], layout: str, data: str | Path, config: SourceConfig) -> list[Recording]:
    if config.on_bad == "error":
        check_present(clips)
    if layout == "pairs":
        return open_pairs(clips, Path(data), max_lag=config.pair_lag, on_bad=config.on_bad, cache=config.cache)
    return decode(clips, on_bad=config.on_bad, cache=config.cache)


def split_recordings(recordings: Sequence[Recording], share: float) -> tuple[list[Recording], list[Recording]]:
    """Training and validation recordings.

    A split that the layout or manifest has is kept. Else `share` of each kind's files, rounded up, is
    held out: those with the smallest digests, so that neither names nor order nor a seed matter.
    Copies of one file have one digest and stay on one side.
    """
    if not 0 <= share < 1:
        raise DataError(f"validation_share must be in [0, 1), got {share}")
    if any(r.clip.split == "validation" for r in recordings):
        held_out = {r.digest for r in recordings if r.clip.split == "validation"}
    else:
        held_out = set()
        for kind in {r.clip.kind for r in recordings}:
            digests = sorted({r.digest for r in recordings if r.clip.kind == kind})
            held_out |= set(digests[: min(int(np.ceil(share * len(digests))), len(digests) - 1)])
    train = [r for r in recordings if r.digest not in held_out]
    return train, [r for r in recordings if r.digest in held_out]


def _not_empty(data: str | Path, found: list[T]) -> list[T]:
    if not found:
        raise DataError(f"{data} holds a test set only; pass the folder that holds the training set too")
    return found


def open_pairs(
    high: list[Clip], data: Path, *, max_lag: int = 1, on_bad: str = "error", cache: str | Path | None = None
) -> list[Recording]:
    """Decode the clean clips `high` of `data`, each with its degraded partner as `low`.

    Args:
        high: files below data/high.
        data: the folder of low/ and high/.
        max_lag: samples at 48 kHz by which the two may be apart.
        on_bad: 'error' stops at a pair that cannot be used, 'skip' leaves it out and logs it; a lacking partner stops.
        cache: a folder for decoded samples.
    """
    partners = _partners(high, data)
    low = decode(list(partners.values()), on_bad=on_bad, cache=cache)
    by_path = {r.clip.path: r for r in low}
    pairs, bad = [], []
    for recording in decode(high, on_bad=on_bad, cache=cache):
        partner = by_path.get(partners[recording.clip.path].path)
        if partner is None:
            continue  # unreadable, which has been said
        try:
            pairs.append(_joined(recording, partner, max_lag))
        except DataError as error:
            if on_bad == "error":
                raise DataError(f"{error}; or set on_bad=skip") from None
            bad.append(str(error))
    if not pairs:
        raise DataError(
            f"none of the {len(high)} pairs of {data} can be used; the first: {(bad or ['see the log'])[0]}"
        )
    if bad:
        log.warning("left out %d of %d pairs: %s", len(bad), len(high), "; ".join(bad))
    return pairs


def _partners(high: list[Clip], data: Path) -> dict[Path, Clip]:
    """Path of a clean file -> its degraded clip: the same path within low/, whatever the suffix."""
    found = _by_name((p for p in (data / "low").rglob("*") if is_audio(p, data)), data / "low")
    names = _by_name((clip.path for clip in high), data / "high")
    lacking = [str(path) for name, path in names.items() if name not in found]
    if lacking:
        raise DataError(f"{len(lacking)} files have no partner in {data / 'low'}, the first is {lacking[0]}; add it or remove the file")  # fmt: skip  # noqa: E501
    # The bandwidth of a degraded file is measured example by example; any number saves measuring it here.
    return {path: Clip(found[name], "low", AUDIO.sample_rate / 2) for name, path in names.items()}


def _by_name(paths: Iterable[Path], root: Path) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for path in sorted(paths):
        name = path.relative_to(root).with_suffix("").as_posix()
        if name in named:
            raise DataError(f"{path} and {named[name].name} differ in their suffix alone; remove one of them")
        named[name] = path
    return named


def _joined(high: Recording, low: Recording, max_lag: int) -> Recording:
    """`high` with its partner, both as long as the shorter one; `DataError` names the file that does not fit."""
    difference_s = low.seconds - high.seconds
    if abs(difference_s) > LENGTH_TOLERANCE_S:
        raise DataError(
            f"{low.clip.path} is {abs(difference_s):.2f} s {'longer' if difference_s > 0 else 'shorter'} than "
            f"{high.clip.path}; cut both to the same time"
        )
    length = min(len(high.samples), len(low.samples))
    high, low = (replace(r, samples=r.samples[:length]) for r in (high, low))
    lag, likeness = alignment(high, low)
    if abs(likeness) < UNLIKE:
        raise DataError(f"{low.clip.path} is nothing like {high.clip.path} (correlation {likeness:.2f}); pair it anew")
    if abs(lag) > max_lag:
        raise DataError(
            f"{low.clip.path} lies {abs(lag)} samples (at 48 kHz) {'after' if lag > 0 else 'before'} {high.clip.path}; "
            f"shift it, or allow it with pair_lag={abs(lag)}"
        )
    if likeness < 0:
        raise DataError(f"{low.clip.path} is {high.clip.path} upside down; turn one of them over")
    return replace(high, low=low)


def alignment(high: Recording, low: Recording) -> tuple[int, float]:
    """Samples by which `low` comes later, and the correlation of the two low bands there; (0, 1) for silence."""
    length = min(len(high.samples), round(LONGEST_S * AUDIO.sample_rate))
    first = (len(high.samples) - length) // 2
    reach = min(round(SEARCHED_S * AUDIO.sample_rate), length - 1)
    size = scipy.fft.next_fast_len(length + reach, real=True)
    hz = np.fft.rfftfreq(size, 1 / AUDIO.sample_rate)
    band = (hz >= LOW_BAND_HZ[0]) & (hz <= LOW_BAND_HZ[1])
    a, b = (scipy.fft.rfft(r.wave(first, first + length), size) * band for r in (high, low))
    energy = math.sqrt(float(np.vdot(a, a).real) * float(np.vdot(b, b).real))
    if energy == 0:
        return 0, 1.0
    around = scipy.fft.irfft(b * a.conj(), size)
    correlation = np.concatenate([around[size - reach :], around[: reach + 1]]) * (size / 2) / energy
    best = int(np.argmax(np.abs(correlation)))
    return best - reach, float(correlation[best])
