"""Folders known by name: where each data set keeps its recordings, and which split each belongs to.

    manifest     a folder that holds manifest.csv, or the CSV itself
    musdb18-hq   train/ and test/ with a folder per track that holds mixture.wav
    musdb18      train/ and test/ with *.stem.mp4 (read through PyAV, extra `av`; stream 0 is the mixture)
    vctk         VCTK 0.92: wav48_silence_trimmed/pXXX/*_mic1.flac, test speakers from p360 on
    esc-50       ESC-50: audio/FOLD-*.wav, fold 5 is the test set
    pairs        low/ and high/ with degraded and clean recordings of equal names; a clip is the clean one
    shards       what latentsr shard makes: *.tar in a folder, or a brace pattern; it holds no files to be found
    folder       any other folder, searched recursively; the first subfolder is the kind

MUSDB18's 100 training tracks are divided as in the study, 90 for training and 10 for validation: the
last tenth in byte order of the names, which needs no seed and is the same for both packagings.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from latentsr.data.manifest import SPLITS, Clip, DataError, read_manifest

AUDIO_SUFFIXES = frozenset(
    {".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".caf", ".w64", ".rf64", ".au"}
    | {".m4a", ".mp4", ".aac", ".wma", ".mka", ".webm"}
)
VCTK_FIRST_TEST_SPEAKER = "p360"
ESC50_TEST_FOLD = "5"
MUSDB_VALIDATION_SHARE = 0.1


def find_clips(data: str | Path, layout: str = "auto", split: str = "train") -> list[Clip]:
    """Find the recordings of `data`.

    Args:
        data: a folder, or a manifest's CSV file.
        layout: 'auto' (what the folder looks like) or a name of `LAYOUTS`.
        split: 'train', 'validation', 'test', or 'all'.

    Returns:
        The clips of the split in a fixed order; their `bandwidth_hz` is None where nobody wrote it down.
    """
    data = Path(data)
    if split not in (*SPLITS, "all"):
        raise DataError(f"split {split!r} is not one of {', '.join(SPLITS)}, all")
    if layout != "auto" and layout not in LAYOUTS:
        raise DataError(f"unknown layout {layout!r}; known: auto, {', '.join(LAYOUTS)}")
    if not data.exists():
        raise DataError(f"{data} does not exist; pass data=FOLDER or data=MANIFEST.csv")
    clips = LAYOUTS[guess_layout(data) if layout == "auto" else layout](data)
    chosen = clips if split == "all" else [clip for clip in clips if clip.split == split]
    if not chosen:
        found = ", ".join(sorted({clip.split for clip in clips}))
        raise DataError(f"{data} has no {split} recordings; it has: {found}")
    return chosen


def exclude_clips(clips: list[Clip], patterns: Iterable[str], data: str | Path) -> list[Clip]:
    """`clips` without those whose name, or path within `data`, matches a glob pattern (* crosses folders too)."""
    root = Path(data) if Path(data).is_dir() else Path(data).parent
    out: set[Path] = set()
    for pattern in patterns:
        matched = {c.path for c in clips if any(fnmatchcase(x, pattern) for x in (c.path.name, within(c.path, root)))}
        if not matched:
            raise DataError(f"exclude: no recording of {data} matches {pattern!r}; correct the pattern or remove it")
        out |= matched
    left = [clip for clip in clips if clip.path not in out]
    if not left:
        raise DataError(f"exclude leaves none of the {len(clips)} recordings of {data}; remove a pattern")
    return left


def within(path: Path, root: Path) -> str:
    """A path as it is told to others: relative to `root` where it lies there."""
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def guess_layout(data: Path) -> str:
    """The layout's name, from what lies in the folder."""
    if data.suffix == ".tar" or any(data.glob("shard-*.tar")):
        return "shards"
    if data.is_file() or (data / "manifest.csv").is_file():
        return "manifest"
    if any(any(data.glob(f"{split}/*/mixture.wav")) for split in ("train", "test")):
        return "musdb18-hq"
    if any(any(data.glob(f"{split}/*.stem.mp4")) for split in ("train", "test")):
        return "musdb18"
    if (data / "wav48_silence_trimmed").is_dir():
        return "vctk"
    if (data / "meta" / "esc50.csv").is_file() or any(data.glob("audio/[1-5]-*-[A-H]-*.wav")):
        return "esc-50"
    if (data / "low").is_dir() and (data / "high").is_dir():
        return "pairs"
    return "folder"


def _manifest(data: Path) -> list[Clip]:
    if data.is_file() and data.suffix.lower() != ".csv":
        raise DataError(f"{data} is neither a folder nor a CSV manifest; pass data=FOLDER or data=MANIFEST.csv")
    return read_manifest(data if data.is_file() else data / "manifest.csv")


def _folder(data: Path) -> list[Clip]:
    paths = _sorted(p for p in _directory(data).rglob("*") if is_audio(p, data))
    return _needs(data, "audio files", [Clip(path, _first_folder(path, data)) for path in paths])


def is_audio(path: Path, root: Path) -> bool:
    """By its suffix; hidden files are none (macOS writes ._x.wav beside x.wav)."""
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    return path.suffix.lower() in AUDIO_SUFFIXES and not hidden and path.is_file()


def _first_folder(path: Path, root: Path) -> str:
    parts = path.relative_to(root).parts
    return parts[0] if len(parts) > 1 else root.resolve().name


def _musdb(data: Path, pattern: str) -> list[Clip]:
    train = _sorted((_directory(data) / "train").glob(pattern))
    first_held_out = len(train) - round(MUSDB_VALIDATION_SHARE * len(train))
    clips = [Clip(path, "music") for path in train[:first_held_out]]
    clips += [Clip(path, "music", split="validation") for path in train[first_held_out:]]
    clips += [Clip(path, "music", split="test") for path in _sorted((data / "test").glob(pattern))]
    return _needs(data, f"train/{pattern}", clips)


def _vctk(data: Path) -> list[Clip]:
    paths = _sorted((_directory(data) / "wav48_silence_trimmed").glob("*/*_mic1.flac"))
    clips = [Clip(p, "speech", split="test" if p.parent.name >= VCTK_FIRST_TEST_SPEAKER else "train") for p in paths]
    return _needs(data, "wav48_silence_trimmed/pXXX/*_mic1.flac", clips)


def _esc50(data: Path) -> list[Clip]:
    paths = _sorted((_directory(data) / "audio").glob("[1-5]-*.wav"))
    clips = [Clip(p, "effects", split="test" if p.name[0] == ESC50_TEST_FOLD else "train") for p in paths]
    return _needs(data, "audio/FOLD-*.wav", clips)


def _pairs(data: Path) -> list[Clip]:
    high = _directory(data) / "high"
    if not high.is_dir():
        raise DataError(f"{data} holds no folder high/; pairs lie as high/NAME.wav and low/NAME.wav")
    name = data.resolve().name
    return [replace(clip, kind=name) if clip.path.parent == high else clip for clip in _folder(high)]


def _shards(data: Path) -> list[Clip]:
    raise DataError(f"{data} holds shards, and no recordings that can be listed; train on it with data={data}")


def _directory(data: Path) -> Path:
    if not data.is_dir():
        raise DataError(f"{data} is a file; this layout needs a folder")
    return data


def _needs(data: Path, what: str, clips: list[Clip]) -> list[Clip]:
    if clips:
        return clips
    state = "holds no" if any(data.iterdir()) else "is empty, expected"
    raise DataError(f"{data} {state} {what}; pass data=FOLDER with recordings or data=MANIFEST.csv")


def _sorted(paths: Iterable[Path]) -> list[Path]:
    """Byte order of the path, the same on every system."""
    return sorted(paths, key=lambda path: os.fsencode(path.as_posix()))  # names need not be UTF-8


LAYOUTS: dict[str, Callable[[Path], list[Clip]]] = {
    "manifest": _manifest,
    "musdb18-hq": partial(_musdb, pattern="*/mixture.wav"),
    "musdb18": partial(_musdb, pattern="*.stem.mp4"),
    "vctk": _vctk,
    "esc-50": _esc50,
    "pairs": _pairs,
    "shards": _shards,
    "folder": _folder,
}
