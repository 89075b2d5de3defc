"""Make WebDataset shards: recordings decoded, cut into segments, and packed into tars of a limited size.

A shard appears under its name when it is whole, the index when all shards are. The same command run again goes on
after the last whole shard and ends with the same bytes as an unbroken run.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import tarfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from latentsr.config import AUDIO
from latentsr.data.decode import Recording, decode_each
from latentsr.data.layouts import within
from latentsr.data.manifest import Clip, DataError, check_present
from latentsr.data.shards import FORMAT, INDEX, UNFINISHED, scan
from latentsr.wholefiles import replace_file, replacing

log = logging.getLogger(__name__)
BLOCK = tarfile.BLOCKSIZE  # bytes: a tar pads its members to this,
END = 2 * BLOCK + tarfile.RECORDSIZE  # and ends with at most so many


@dataclass(frozen=True)
class Packing:
    """How recordings are packed.

    Attributes:
        max_mb: size of a shard in MB (10**6 bytes), at most.
        segment_s: length of a segment, at most; a file is cut into equal ones.
    """

    max_mb: float = 256.0
    segment_s: float = 30.0

    def __post_init__(self) -> None:
        if self.segment_s <= 0 or self.max_mb * 1e6 < 3 * self.segment_s * AUDIO.sample_rate + 2 * END:
            raise DataError(
                f"a segment of {self.segment_s:g} s may not fit into {self.max_mb:g} MB; raise max_mb or cut shorter"
            )


def write_shards(
    clips: list[Clip],
    root: Path,
    folder: Path,
    packing: Packing = Packing(),
    *,
    on_bad: str = "error",
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write the shards of `clips` and their index; return the index.

    Args:
        clips: the recordings, in the order they shall have.
        root: the folder that their paths are told relative to.
        folder: where the shards go; made if need be.
        packing: how large shards and segments may be.
        on_bad: 'error' stops at a file that cannot be read; 'skip' leaves it out and logs it.
        overwrite: replace shards that were made of other files or with other options.
    """
    plan = {"format": FORMAT, "clips": _digest(clips, root)} | asdict(packing)
    if on_bad == "error":
        check_present(clips)
    folder.mkdir(parents=True, exist_ok=True)
    if _begin(folder, plan, overwrite):
        return json.loads((folder / INDEX).read_text(encoding="utf-8"))
    done = [row for path in _shards(folder) for row in scan(path)]
    number, segment = (done[-1]["clip"], done[-1]["segment"] + 1) if done else (0, 0)
    bad: list[str] = []
    members = _members(clips, root, number, segment, packing.segment_s, decode_each(clips[number:], on_bad, bad))
    for at, shard in enumerate(_packed(members, packing.max_mb), start=len(_shards(folder))):
        _write(folder / f"shard-{at:06d}.tar", shard)
    if bad:
        log.warning("left out %d of %d files: %s", len(bad), len(clips), "; ".join(bad))
    return _finish(folder, clips, root, plan)


def _begin(folder: Path, plan: dict[str, Any], overwrite: bool) -> bool:
    """Whether the shards of `plan` are all there; else leave those that belong to it, and say that more are to come."""
    found = next((folder / name for name in (UNFINISHED, INDEX) if (folder / name).is_file()), None)
    old = json.loads(found.read_text(encoding="utf-8")).get("plan") if found else None
    if old == plan:
        return found == folder / INDEX
    if any(folder.iterdir()) and not overwrite:
        raise DataError(
            f"{folder} holds shards of other files or options, or other things; choose another folder, "
            "or pass --overwrite (overwrite=True)"
        )
    for path in (folder / UNFINISHED, folder / INDEX, *_shards(folder)):
        path.unlink(missing_ok=True)
    replace_file(folder / UNFINISHED, json.dumps({"plan": plan}).encode())
    return False


def _members(
    clips: list[Clip], root: Path, number: int, segment: int, segment_s: float, decoded: Iterator[Recording]
) -> Iterator[tuple[str, bytes, bytes]]:
    """(key, FLAC, JSON) of each segment, from segment `segment` of clip `number` on."""
    numbers = {clip.path: i for i, clip in enumerate(clips)}
    for recording in decoded:
        at = numbers[recording.clip.path]
        parts = -(-len(recording.samples) // round(segment_s * AUDIO.sample_rate))
        places = [round(i * len(recording.samples) / parts) for i in range(parts + 1)]
        for i in range(segment if at == number else 0, parts):
            samples = np.asarray(recording.samples[places[i] : places[i + 1]])
            about = _about(recording, root) | {"clip": at, "segment": i, "segments": parts, "length": len(samples)}
            yield f"{at:06d}-{i:04d}", _flac(samples), json.dumps(about, sort_keys=True).encode()


def _about(recording: Recording, root: Path) -> dict[str, Any]:
    """The JSON of a segment; its 16-bit samples, as integers, times `scale` are the mono mean of the file at 48 kHz."""
    clip = recording.clip
    about = {
        "source": within(clip.path, root),
        "kind": clip.kind,
        "split": clip.split,
        "bandwidth_hz": recording.bandwidth_hz,
        "digest": recording.digest,
        "scale": recording.scale,
        "sample_rate": AUDIO.sample_rate,
    }
    return about if clip.licence is None else about | {"licence": clip.licence}


def _flac(samples: np.ndarray) -> bytes:
    content = io.BytesIO()
    soundfile.write(content, samples, AUDIO.sample_rate, format="FLAC", subtype="PCM_16")
    return content.getvalue()


def _packed(members: Iterator[tuple[str, bytes, bytes]], max_mb: float) -> Iterator[list[tuple[str, bytes]]]:
    """The files of each shard: as many as fit."""
    shard: list[tuple[str, bytes]] = []
    size = END
    for key, flac, about in members:
        added = sum(BLOCK + -(-len(content) // BLOCK) * BLOCK for content in (flac, about))
        if shard and size + added > max_mb * 1e6:
            yield shard
            shard, size = [], END
        shard += [(f"{key}.flac", flac), (f"{key}.json", about)]
        size += added
    if shard:
        yield shard


def _write(path: Path, files: list[tuple[str, bytes]]) -> None:
    """A tar of `files`, with no time or owner in it, so that the same files give the same bytes."""
    with replacing(path) as file, tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def _finish(folder: Path, clips: list[Clip], root: Path, plan: dict[str, Any]) -> dict[str, Any]:
    """The index, written last of all."""
    rows = {path: scan(path) for path in _shards(folder)}
    if not rows:
        raise DataError(f"none of the {len(clips)} files can be used; what is wrong with them has been said")
    used = {row["clip"] for members in rows.values() for row in members}
    left_out = [within(clip.path, root) for i, clip in enumerate(clips) if i not in used]
    shards = [{"file": path.name, "bytes": path.stat().st_size, "members": rows[path]} for path in rows]
    index = {"plan": plan, "left_out": left_out, "shards": shards}
    replace_file(folder / INDEX, json.dumps(index).encode())
    (folder / UNFINISHED).unlink()
    return index


def _shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("shard-*.tar"))


def _digest(clips: list[Clip], root: Path) -> str:
    """Of what the shards are made of: names, sizes, times of change, and what is known of each file."""
    digest = hashlib.sha256()
    for clip in clips:
        stat = clip.path.stat() if clip.path.is_file() else None
        state = (stat.st_size, stat.st_mtime_ns) if stat else ()
        known = (clip.kind, clip.bandwidth_hz, clip.split, clip.licence)
        digest.update(repr((within(clip.path, root), *known, *state)).encode())
    return digest.hexdigest()
