"""Where recordings come from: files that are decoded at the start, shards read as they are needed, or pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from pydantic import Field

from latentsr.config import Config
from latentsr.data.decode import Recording, decode
from latentsr.data.layouts import exclude_clips, find_clips, guess_layout
from latentsr.data.manifest import Clip, DataError, check_present
from latentsr.data.pairs import open_pairs
from latentsr.data.shards import open_shards

T = TypeVar("T")


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
