"""More than one file of a recording: its made band, several draws, or of these the nearest to the mean of all.

Importing this imports no torch.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from latentsr.apps.restore import Job, Progress, Record, check_container, restore_file
from latentsr.audio import SourceFile
from latentsr.errors import AudioError, UsageError
from latentsr.head_kinds import HEADS
from latentsr.options import Options
from latentsr.wholefiles import flush, publish

if TYPE_CHECKING:  # it imports torch
    from latentsr.restoring.bands import Bands
    from latentsr.restoring.flow import Restores


def seeds_of(options: Options, count: int) -> tuple[int, ...]:
    """The seeds of so many draws, from that of the options on; `UsageError` where they would all be the same."""
    assert options.head is not None, "with_head decides"
    if not options.kind.draws:
        able = ", ".join(name for name, kind in HEADS.items() if kind.draws)
        raise UsageError(f"the {options.head} head draws nothing: all draws would be the same; choose one of {able}")
    if options.amount == 0 and not (options.denoise or options.repair):
        raise UsageError("--amount 0% makes nothing: all draws would be the same; leave out one or the other")
    return tuple(options.but(seed=options.seed + number).seed for number in range(count))


def with_seeds(jobs: Sequence[Job], seeds: tuple[int, ...], best: bool) -> list[Job]:
    """The best of these draws of each, or each draw in a file of its own: <stem>.seed<k>.<ext>."""
    if best:
        return [replace(job, seeds=seeds) for job in jobs]
    named = [(job, seed, f"{job.target.stem}.seed{seed}") for job in jobs for seed in seeds]
    return [replace(job, target=job.target.with_stem(stem), seeds=(seed,)) for job, seed, stem in named]


def with_band(jobs: Sequence[Job], band: Path) -> list[Job]:
    """The one job, with a file for its made band."""
    if len(jobs) > 1:
        raise UsageError(f"--write-band names one file, but there are {len(jobs)} inputs; restore one at a time")
    check_container(band)
    return [replace(job, band=band) for job in jobs]


def restore_best(
    model: Restores,
    source: SourceFile,
    target: Path,
    options: Options,
    seeds: Sequence[int],
    progress: Progress | None = None,
) -> Record:
    """Restore one file with each seed, and keep the draw that is nearest to the mean of all.

    Returns:
        The record of the kept one; `draws` says how far each was.
    """
    folder = Path(tempfile.mkdtemp(prefix=".latentsr-", dir=target.parent))
    try:
        records = []
        for number, seed in enumerate(seeds):
            told = None if progress is None else _share_of(progress, number, len(seeds))
            part = folder / f"{seed}{target.suffix}"
            asked = replace(options, seed=seed, overwrite=False)
            records.append(restore_file(model, source, part, asked, told, {"bands": True}))
            if records[-1].error is not None:
                return records[-1]
        tables = [record.written.bands for record in records if record.written is not None]
        distances_db = distances_from_mean([table for table in tables if table is not None])
        best = int(np.argmin(distances_db))
        kept, written = records[best], records[best].written
        assert written is not None
        try:
            flush(written.path)
            publish(written.path, target, replace=options.overwrite)
        except FileExistsError:
            raise AudioError(f"cannot write {target}: it has come into being meanwhile; name another file") from None
        notes = kept.notes if any(distances_db) else (*kept.notes, "nothing was drawn: all draws are the same")
        asked = replace(kept.options, overwrite=options.overwrite)
        draws = {"seeds": list(seeds), "distances_db": [round(each, 3) for each in distances_db]}
        return replace(
            kept, output=str(target), written=replace(written, path=target), draws=draws, options=asked,
            seconds=sum(record.seconds for record in records), notes=notes,
        )  # fmt: skip
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def distances_from_mean(tables: Sequence[Bands]) -> list[float]:
    """Of each draw from the mean of all, dB: root mean square over the bands and seconds in which anything was made."""
    levels_db = np.stack([table.level_db for table in tables])
    made = ~np.isnan(np.stack([table.made_db for table in tables])).all(axis=0)
    if not made.any():
        return [0.0] * len(tables)
    differences = (levels_db - levels_db.mean(axis=0))[:, made]
    return [float(each) for each in np.sqrt(np.square(differences).mean(axis=1))]


def _share_of(progress: Progress, number: int, count: int) -> Progress:
    def tell(done_s: float, total_s: float) -> None:
        progress(number * total_s + done_s, count * total_s)

    return tell
