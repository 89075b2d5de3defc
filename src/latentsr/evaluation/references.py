"""The references of a benchmark: which recordings, in which groups, and whether each can be read to its end.

Data sets that `latentsr.data.layouts` knows by name are known here too: their test recordings are taken, and no others.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from latentsr.audio import AudioError, Reader, read, resample
from latentsr.config import AUDIO
from latentsr.data import layouts
from latentsr.data.manifest import Clip as Listed
from latentsr.data.manifest import DataError, read_manifest
from latentsr.evaluation.noises import Wave
from latentsr.evaluation.scoring import Clip

RATE = AUDIO.sample_rate
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff")
MIN_SAMPLES = 2048  # one window of the distance
TEST_SETS = ("vctk", "musdb18-hq", "musdb18", "esc-50")  # layouts whose test recordings are scored
DATASETS = ("auto", *TEST_SETS, "folder", "manifest")
ESC50_CATEGORIES = (
    "animals",
    "nature",
    "human",
    "interior",
    "urban",
)  # ten classes each, by number
ESC50_NAME = re.compile(r"[1-5]-.+-[A-Z]-(\d+)")  # FOLD-ID-TAKE-CLASS


class EvaluationError(ValueError):
    """A benchmark that cannot be run; the message names the file and the remedy."""


def find_clips(ref_dir: Path, limit: int | None = None, dataset: str = "auto") -> list[Clip]:
    """The recordings to score.

    Args:
        ref_dir: the folder.
        limit: at most so many of each group.
        dataset: one of `DATASETS`. 'auto' looks what the folder is like. Of a data set known by name the test
            recordings are taken; of a folder all, grouped by the `type` of its manifest.csv where that lists them, else
            by first folder; of a manifest those that it lists. Where a manifest has a test split, that alone counts.

    Raises:
        EvaluationError: nothing is there, or the folder is not what its name says.
    """
    if dataset not in DATASETS:
        raise EvaluationError(f"unknown data set {dataset!r}; known are {', '.join(DATASETS)}")
    if not ref_dir.is_dir():
        raise EvaluationError(f"{ref_dir} is not a folder; pass the folder that holds the reference recordings")
    name = dataset_of(ref_dir) if dataset == "auto" else dataset
    clips, taken = [], Counter[str]()
    for clip in _test_set(ref_dir, name) if name in TEST_SETS else _recordings(ref_dir, dataset):
        taken[clip.group] += 1
        if limit is None or taken[clip.group] <= limit:
            clips.append(clip)
    return clips


def dataset_of(ref_dir: Path) -> str:
    """Which of `DATASETS` a folder looks like: a name of `TEST_SETS`, 'manifest' or 'folder'."""
    guess = layouts.guess_layout(ref_dir)
    return guess if guess in (*TEST_SETS, "manifest") else "folder"


def _test_set(ref_dir: Path, name: str) -> list[Clip]:
    try:
        found = layouts.find_clips(ref_dir, layout=name, split="test")
    except DataError as error:
        why = str(error).partition("; pass data=")[0]
        raise EvaluationError(
            f"this is not {name}, or lacks its test recordings: {why}; pass its own folder, or --dataset folder"
        ) from None
    return [_clip(ref_dir, each, _esc50_category(each) if name == "esc-50" else each.kind) for each in found]


def _esc50_category(clip: Listed) -> str:
    """The category of the class number in FOLD-ID-TAKE-CLASS.wav."""
    match = ESC50_NAME.fullmatch(clip.path.stem)
    if match is None or not int(match[1]) < 10 * len(ESC50_CATEGORIES):
        raise EvaluationError(f"{clip.path} is not named as ESC-50 names its files, FOLD-ID-TAKE-CLASS.wav; remove it")
    return ESC50_CATEGORIES[int(match[1]) // 10]


def _recordings(ref_dir: Path, name: str) -> list[Clip]:
    """All recordings below a folder, or those that its manifest lists."""
    rows = {} if name == "folder" else _rows(ref_dir, needed=name == "manifest")
    paths = sorted(p for p in ref_dir.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES and layouts.is_audio(p, ref_dir))
    if not paths:
        raise EvaluationError(f"{ref_dir} holds no recordings ({', '.join(AUDIO_SUFFIXES)})")
    if missing := sorted(rows.keys() - set(paths)):
        raise EvaluationError(f"manifest.csv names {len(missing)} files that are not there, first {missing[0]}")
    wanted = {path for path, row in rows.items() if row.split == "test"} or (rows if name == "manifest" else paths)
    listed = [rows.get(path) or Listed(path, _first_folder(ref_dir, path)) for path in paths if path in wanted]
    return [_clip(ref_dir, each, each.kind) for each in listed]


def _rows(ref_dir: Path, needed: bool) -> dict[Path, Listed]:
    manifest = ref_dir / "manifest.csv"
    if manifest.exists():
        return {row.path: row for row in read_manifest(manifest)}
    if needed:
        remedy = "write one (columns file,type), or leave --dataset out"
        raise EvaluationError(f"{ref_dir} holds no manifest.csv; {remedy}")
    return {}


def _first_folder(ref_dir: Path, path: Path) -> str:
    return [*path.relative_to(ref_dir).parts[:-1], "all"][0]


def _clip(ref_dir: Path, listed: Listed, group: str) -> Clip:
    return Clip(listed.path.relative_to(ref_dir).as_posix(), listed.path, group, listed.bandwidth_hz)


def load_mono(path: Path) -> Wave:
    """Read a file as (T,): mean over channels, resampled to 48 kHz."""
    audio = read(path)
    mono = audio.samples.mean(axis=0, dtype=np.float64)
    return mono if audio.sample_rate == RATE else resample(mono, audio.sample_rate, RATE).astype(np.float64)


def check_references(clips: Iterable[Clip]) -> dict[str, float]:
    """Decode every reference once, before hours go into scoring the others.

    Returns:
        Seconds by the clip's name.

    Raises:
        EvaluationError: how many cannot be used, and why the first of them cannot.
    """
    seconds, faults = {}, []
    for clip in clips:
        try:
            seconds[clip.name], _ = decoded(clip.path)
            if seconds[clip.name] < MIN_SAMPLES / RATE:
                faults.append(
                    f"{clip.path} is shorter than {MIN_SAMPLES / RATE:.3f} s; remove the file from the references"
                )
        except (AudioError, OSError) as error:
            faults.append(str(error))
    if faults:
        count = "" if len(faults) == 1 else f"{len(faults)} references cannot be used, the first: "
        raise EvaluationError(f"{count}{faults[0]}")
    return seconds


def decoded(path: Path) -> tuple[float, int]:
    """Seconds and sampling rate of a recording that can be read to its end."""
    with Reader(path) as reader:
        samples = sum(block.shape[1] for block in reader)
        return samples / reader.info.sample_rate, reader.info.sample_rate
