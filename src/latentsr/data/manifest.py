"""A manifest: one CSV line per recording, paths relative to the CSV.

Needed columns are `file` and `type`; `bandwidth_hz`, `seconds`, `split` and `licence` are read when they are
there. Any other column is an annotation and is left alone, except one that looks like a misspelt
name of a column that is read: a lost `bandwidth_hz` would train on codec cliffs without a word.
"""

from __future__ import annotations

import csv
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

NEEDED = ("file", "type")
OPTIONAL = ("bandwidth_hz", "seconds", "split")
SPLITS = ("train", "validation", "test")


class DataError(ValueError):
    """Training data that cannot be used; the message names the file and the remedy."""


@dataclass(frozen=True)
class Clip:
    """One recording: where it lies, what it is, where its own content ends (None: to be measured)."""

    path: Path
    kind: str  # 'music' | 'effects' | 'speech' | ...
    bandwidth_hz: float | None = None
    seconds: float | None = None
    split: str = "train"  # 'train' | 'validation' | 'test'
    licence: str | None = None  # as somebody wrote it down; goes along into shards


def read_manifest(csv_path: str | Path) -> list[Clip]:
    """Read the clips of a manifest, in its order; `DataError` names the line that cannot be used."""
    csv_path = Path(csv_path)
    try:
        with csv_path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            _check_header(csv_path, list(reader.fieldnames or []))
            clips = [_clip(csv_path, reader.line_num, row) for row in reader]
    except OSError as error:
        raise DataError(f"cannot read manifest {csv_path}: {error.strerror}") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{csv_path} is not a UTF-8 CSV file: {error}") from None
    if not clips:
        raise DataError(f"{csv_path} lists no files; add one line per recording")
    _check_unique(csv_path, clips)
    return clips


def check_present(clips: list[Clip]) -> None:
    """Raise `DataError` for files that are not there, before hours go into decoding the others."""
    missing = [str(clip.path) for clip in clips if not clip.path.exists()]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(clips)} files are missing, the first is {missing[0]}; "
            "put them there, take them out of the list, or set on_bad=skip"
        )


def _check_header(csv_path: Path, names: list[str]) -> None:
    missing = [name for name in NEEDED if name not in names]
    if missing:
        raise DataError(f"{csv_path} line 1: column {missing[0]!r} is missing; found {', '.join(names) or 'nothing'}")
    absent = [name for name in OPTIONAL if name not in names]
    for name in names:
        near = difflib.get_close_matches(name.lower(), absent, n=1, cutoff=0.8)
        if near:
            raise DataError(f"{csv_path} line 1: unknown column {name!r}; did you mean {near[0]!r}?")


def _clip(csv_path: Path, line: int, row: Mapping[str | None, str | None]) -> Clip:
    where = f"{csv_path} line {line}"
    if None in row or None in row.values():
        raise DataError(f"{where}: the number of fields differs from the header's; quote fields that hold a comma")
    kind = (row["type"] or "").strip()
    if not kind:
        raise DataError(f"{where}: 'type' is empty; write music, effects, speech or a name of your own")
    split = (row.get("split") or "train").strip()
    if split not in SPLITS:
        raise DataError(f"{where}: split {split!r} is not one of {', '.join(SPLITS)}")
    return Clip(
        path=csv_path.parent / relative_path(where, row["file"] or ""),
        kind=kind,
        bandwidth_hz=_positive(where, "bandwidth_hz", row.get("bandwidth_hz")),
        seconds=_positive(where, "seconds", row.get("seconds")),
        split=split,
        licence=row.get("licence") or row.get("license") or None,
    )


def relative_path(where: str, name: str) -> Path:
    """The path as written, refused when it would lead out of the manifest's folder on any system."""
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    if not name.strip():
        raise DataError(f"{where}: 'file' is empty")
    if posix.is_absolute() or windows.anchor or ".." in posix.parts or ".." in windows.parts:
        raise DataError(f"{where}: {name!r} leads out of the manifest's folder; write a path relative to the manifest")
    return Path(name)


def _positive(where: str, column: str, text: str | None) -> float | None:
    if text is None or not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise DataError(f"{where}: {column} must be a positive number or empty, got {text!r}")
    return value


def _check_unique(csv_path: Path, clips: list[Clip]) -> None:
    seen: set[Path] = set()
    for clip in clips:
        if clip.path in seen:
            raise DataError(f"{csv_path} lists {clip.path.name} twice; remove one of the two lines")
        seen.add(clip.path)
