"""Decode every clip once: mono, 48 kHz, 16 bit with a scale per clip, in memory or in a memory-mapped cache.

16 bit with a scale keeps -98 dB below a clip's own peak, where float16 would leave a white floor 66 dB
below the signal, in the very band that is learnt. A cache makes the second start take a second and
lets a corpus be bigger than memory; its name is a digest of the list of files with their sizes and
times of change, so that a changed corpus is decoded anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm  # type: ignore[import-untyped, unused-ignore]

from latentsr.audio import AudioError, Reader, resample
from latentsr.config import AUDIO
from latentsr.data.manifest import Clip, DataError
from latentsr.wholefiles import replace_file, replacing

log = logging.getLogger(__name__)
CACHE_VERSION = 3
USABLE_SHARE = 0.95  # of the declared length: with less of it whole, a file is a broken one
SOXR_PASS_BAND = 0.945  # of the lower Nyquist frequency: -1 dB there, -3 dB at 0.950, -60 dB at 0.986 (measured, VHQ)


class Samples(Protocol):
    """What a recording needs of its samples: an int16 array, or something that decodes a slice when asked for it."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: slice, /) -> np.ndarray: ...


@dataclass(frozen=True)
class Recording:
    """A clip's sound. `samples`: (T,) int16 at 48 kHz; multiplied by `scale` they are the mono mean of the file."""

    clip: Clip
    samples: Samples
    scale: float
    bandwidth_hz: float  # where the content ends, at most 24 kHz
    digest: str  # SHA-256 of the file
    low: Recording | None = None  # the degraded partner, as long as this one, where the data are pairs

    @property
    def seconds(self) -> float:
        return len(self.samples) / AUDIO.sample_rate

    def wave(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Samples start..stop as float32 (T,)."""
        return self.samples[start:stop].astype(np.float32) * np.float32(self.scale)

    def waves(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Samples start..stop as float32 (1, T), or (2, T) with those of the degraded partner."""
        return np.stack([r.wave(start, stop) for r in (self, self.low) if r is not None])


def decode(clips: list[Clip], *, on_bad: str = "error", cache: str | Path | None = None) -> list[Recording]:
    """Decode `clips` in their order.

    Args:
        clips: the files.
        on_bad: 'error' stops at a file that cannot be read and names it; 'skip' leaves such files out and logs them.
        cache: a folder for the decoded samples (about 5.8 MB a minute); None keeps them in memory.

    Returns:
        One recording per readable clip.
    """
    if on_bad not in ("error", "skip"):
        raise DataError(f"on_bad must be 'error' or 'skip', got {on_bad!r}")
    bad: list[str] = []
    decoded = decode_each(clips, on_bad, bad)
    recordings = list(decoded) if cache is None else _cached(clips, decoded, bad, _key(clips, on_bad), Path(cache))
    if not recordings:
        raise DataError(f"none of the {len(clips)} files can be used; the first: {bad[0]}")
    if bad:
        log.warning("left out %d of %d files: %s", len(bad), len(clips), "; ".join(bad))
    return recordings


def decode_each(clips: Iterable[Clip], on_bad: str, bad: list[str]) -> Iterator[Recording]:
    """One recording after the other. What `on_bad='skip'` leaves out is appended to `bad`, with its fault."""
    for clip in tqdm(clips, desc="decoding", unit="file", disable=None, leave=False):
        try:
            yield decode_clip(clip)
        except DataError as error:
            if on_bad == "error":
                raise DataError(f"{error}; remove the file or set on_bad=skip") from None
            bad.append(str(error))


def decode_clip(clip: Clip) -> Recording:
    """Read one file; `DataError` names it when it cannot be used."""
    from latentsr.bandwidth import estimate_cutoff

    try:
        samples, rate = _read_mono(clip.path)
        digest = hashlib.sha256(clip.path.read_bytes()).hexdigest()
    except (AudioError, OSError) as error:
        raise DataError(str(error)) from None
    wave = resample(samples, rate, AUDIO.sample_rate)
    if not len(wave):
        raise DataError(f"{clip.path} is shorter than one sample at {AUDIO.sample_rate} Hz")
    scale = float(np.abs(wave).max()) / 32767 or 1 / 32767
    bandwidth_hz = clip.bandwidth_hz or estimate_cutoff(samples[None], rate)
    return Recording(
        clip=clip,
        samples=np.round(wave / scale).astype(np.int16),
        scale=scale,
        bandwidth_hz=min(bandwidth_hz, resampled_edge_hz(rate)),
        digest=digest,
    )


def resampled_edge_hz(from_hz: float) -> float:
    """Where soxr's low-pass begins (-1 dB) on the way to 48 kHz: what was 44.1 kHz ends at 20.8 kHz, not at 22.05."""
    if from_hz == AUDIO.sample_rate:
        return AUDIO.sample_rate / 2
    return SOXR_PASS_BAND * min(from_hz, AUDIO.sample_rate) / 2


def _read_mono(path: Path) -> tuple[np.ndarray, int]:
    """The mean of the channels (T,), and the rate. A file damaged near its end is used up to there, with a warning."""
    blocks: list[np.ndarray] = []
    with Reader(path) as reader:
        try:
            for block in reader:
                blocks.append(block.mean(axis=0))
        except AudioError as error:
            if sum(map(len, blocks)) < USABLE_SHARE * (reader.info.frames or math.inf):
                raise
            log.warning("used up to its damage: %s", error)
        return np.concatenate(blocks), reader.info.sample_rate


def _cached(clips: list[Clip], decoded: Iterator[Recording], bad: list[str], key: str, folder: Path) -> list[Recording]:
    """The recordings of the cache in `folder`, which is written first where it is not there yet."""
    index, data = folder / f"{key}.json", folder / f"{key}.int16"
    if not index.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        _write_cache(clips, decoded, bad, index, data)
    content: dict[str, Any] = json.loads(index.read_text(encoding="utf-8"))
    rows, bad[:] = content["recordings"], content["bad"]
    ends = np.cumsum([row["length"] for row in rows], dtype=int)
    if not rows:
        return []
    if not data.is_file() or data.stat().st_size != 2 * ends[-1]:
        raise DataError(f"the cache {data} is damaged; delete {index} and start again")
    samples = np.memmap(data, dtype=np.int16, mode="r")
    return [
        Recording(
            clips[row["clip"]], samples[end - row["length"] : end], row["scale"], row["bandwidth_hz"], row["digest"]
        )
        for row, end in zip(rows, ends, strict=True)
    ]


def _write_cache(clips: list[Clip], decoded: Iterator[Recording], bad: list[str], index: Path, data: Path) -> None:
    """Samples first, index last, each whole or not there: a killed writer leaves nothing that is read."""
    number = {clip.path: i for i, clip in enumerate(clips)}
    rows = []
    with replacing(data) as file:
        for r in decoded:
            file.write(r.samples[:].tobytes())
            row = {"length": len(r.samples), "scale": r.scale, "bandwidth_hz": r.bandwidth_hz, "digest": r.digest}
            rows.append({"clip": number[r.clip.path], **row})
    replace_file(index, json.dumps({"recordings": rows, "bad": bad}).encode())


def _key(clips: list[Clip], on_bad: str) -> str:
    digest = hashlib.sha256(f"{CACHE_VERSION} {AUDIO.sample_rate} {on_bad}".encode())
    for clip in clips:
        try:
            stat = clip.path.stat()
            state = (stat.st_size, stat.st_mtime_ns)
        except OSError:
            state = (-1, -1)
        digest.update(repr((str(clip.path.resolve()), clip.bandwidth_hz, *state)).encode())
    return digest.hexdigest()[:24]
