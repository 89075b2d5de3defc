"""WebDataset shards, read at random places: a tar of KEY.flac + KEY.json, and an index of where each lies.

An example costs one read of a member and a seek within its FLAC (1.5 ms for 2 s, where decoding the whole half minute
takes 20), so nothing is kept in memory, any example can be had at any time, and the order of reading is that of the
corpus' random numbers: a run that resumes has no place in a stream to find again.
"""

from __future__ import annotations

import io
import json
import logging
import math
import re
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from latentsr.data.decode import Recording
from latentsr.data.manifest import Clip, DataError

log = logging.getLogger(__name__)
INDEX = "shards.json"
UNFINISHED = "shards.unfinished.json"  # beside shards that are still being made
FORMAT = 1  # of what is beside the sound
ANEW = "copy it anew, or make it with latentsr shard"
# What an index must say of a segment; nothing is allocated from it.
FIELDS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("offset", "size", "length"), lambda x: type(x) is int and x >= 0),
    **dict.fromkeys(("key", "source", "kind", "split", "digest"), lambda x: isinstance(x, str) and "\0" not in x),
    **dict.fromkeys(("scale", "bandwidth_hz"), lambda x: type(x) in (int, float) and 0 <= x < math.inf),
}


@dataclass(frozen=True)
class Member:
    """The samples (T,) int16 of a FLAC file within a tar; a slice of them is decoded when it is asked for."""

    tar: Path
    key: str
    offset: int  # bytes
    size: int  # bytes
    length: int  # T

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, place: slice) -> np.ndarray:
        start, stop, _ = place.indices(self.length)
        if stop <= start:
            return np.zeros(0, np.int16)
        try:
            with self.tar.open("rb") as file:
                file.seek(self.offset)
                content = io.BytesIO(file.read(self.size))
            with soundfile.SoundFile(content) as flac:
                flac.seek(start)
                samples = flac.read(stop - start, dtype="int16")
        except (OSError, soundfile.LibsndfileError) as error:
            raise DataError(f"{self.tar}: {self.key}.flac cannot be read ({error}); {ANEW}") from None
        if samples.shape != (stop - start,):
            raise DataError(f"{self.tar}: {self.key}.flac is damaged; {ANEW}")
        return samples


def open_shards(data: str | Path, *, on_bad: str = "error") -> list[Recording]:
    """The recordings of shards, in the order of their making; none is decoded yet.

    Args:
        data: a folder, one *.tar, or a brace pattern such as DIR/shard-{000000..000009}.tar.
        on_bad: 'error' stops at a shard that is missing or not whole; 'skip' leaves it out and logs it.
    """
    data = Path(data)
    if not data.exists() and "{" not in data.name:
        raise DataError(f"{data} does not exist; pass data=FOLDER with shards, or a pattern with braces")
    folder = data if data.is_dir() else data.parent
    if (folder / UNFINISHED).is_file():
        raise DataError(f"{folder} is unfinished; run its latentsr shard command again, which goes on where it stopped")
    names = None if data.is_dir() else expand_braces(data.name)
    recordings: list[Recording] = []
    bad = []
    for name, size, rows in _listed(folder, names):
        try:
            recordings += _recordings(folder / name, size, scan(folder / name) if rows is None else rows)
        except DataError as error:
            if on_bad == "error":
                raise DataError(f"{error}; or set on_bad=skip") from None
            bad.append(str(error))
    if not recordings:
        first = f"can be used; the first: {bad[0]}" if bad else f"holds recordings; {ANEW}"
        raise DataError(f"none of the shards of {data} {first}")
    if bad:
        log.warning("left out %d shards: %s", len(bad), "; ".join(bad))
    return recordings


def expand_braces(name: str) -> list[str]:
    """'a-{08..10}.tar' -> a-08.tar, a-09.tar, a-10.tar; '{a,b}.tar' -> a.tar, b.tar; several groups multiply."""
    group = re.search(r"\{([^{}]*)\}", name)
    if group is None:
        return [name]
    numbers = re.fullmatch(r"(\d+)\.\.(\d+)", group[1])
    if numbers:
        first, last = numbers.groups()
        words = [f"{i:0{len(first)}d}" for i in range(int(first), int(last) + 1)]
    else:
        words = group[1].split(",")
    return [text for word in words for text in expand_braces(name[: group.start()] + word + name[group.end() :])]


def scan(tar_path: Path) -> list[dict[str, Any]]:
    """What a shard holds, from its headers and its JSON members: one row per key."""
    rows: dict[str, dict[str, Any]] = {}
    try:
        with tarfile.open(tar_path) as tar:
            for info in tar:
                key, _, suffix = info.name.partition(".")
                row = rows.setdefault(key, {"key": key})
                if suffix == "flac":
                    row |= {"offset": info.offset_data, "size": info.size}
                elif suffix == "json" and (content := tar.extractfile(info)) is not None:
                    row |= json.loads(content.read())
    except (OSError, tarfile.TarError, ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{tar_path} is not a whole shard ({error}); {ANEW}") from None
    return list(rows.values())


def _listed(folder: Path, names: Sequence[str] | None) -> list[tuple[str, int | None, list[dict[str, Any]] | None]]:
    """(file, bytes, rows) of each shard asked for; the last two are None where no index tells them."""
    if not (folder / INDEX).is_file():
        names = sorted(path.name for path in folder.glob("*.tar")) if names is None else names
        if not names:
            raise DataError(f"{folder} holds no shards; make them with latentsr shard")
        log.warning("%s has no %s; reading the headers of %d shards instead", folder, INDEX, len(names))
        return [(name, None, None) for name in names]
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        known = {
            _plain(shard["file"]): (shard["file"], shard["bytes"], list(shard["members"])) for shard in index["shards"]
        }
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise DataError(f"{folder / INDEX} is damaged; delete it, and the shards' own headers are read") from None
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise DataError(f"{folder} has no shard {unknown[0]}; it has {', '.join(known)}")
    return [known[name] for name in names or known]


def _recordings(tar: Path, size: int | None, rows: list[dict[str, Any]]) -> list[Recording]:
    if not tar.is_file():
        raise DataError(f"{tar} is missing; {ANEW}")
    present = tar.stat().st_size
    if size not in (None, present):
        raise DataError(f"{tar} has {present} bytes and should have {size}; {ANEW}")
    return [_recording(tar, row, present) for row in rows]


def _recording(tar: Path, row: Any, present: int) -> Recording:
    """A segment. Its clip's path is the recording it was cut from, so that the segments of a file know each other."""
    known = row if isinstance(row, dict) else {}
    wrong = next((name for name, right in FIELDS.items() if not right(known.get(name))), None)
    if wrong or known["offset"] + known["size"] > present:
        key = str(known.get("key", row))[:60]
        raise DataError(f"{tar}: {key} lacks {wrong or 'size'!r}, so latentsr shard did not make it; {ANEW}")
    samples = Member(tar, known["key"], known["offset"], known["size"], known["length"])
    clip = Clip(tar.parent / known["source"], known["kind"], known["bandwidth_hz"], split=known["split"])
    return Recording(clip, samples, known["scale"], known["bandwidth_hz"], known["digest"])


def _plain(name: Any) -> str:
    """A file name that leads nowhere else; ValueError for any other."""
    if not isinstance(name, str) or Path(name).name != name or "\0" in name:
        raise ValueError(name)
    return name
