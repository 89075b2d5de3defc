"""What a stranger's file is, found out in a process that may die of it: python -m latentsr.apps.web.look FILE SECONDS

Decoded to the end, block by block, so that the answer does not depend on what a header claims; no torch is imported.
What there is to hear in it takes torch, and longer: it is asked for apart.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from latentsr import audio
from latentsr.audio import AudioError, EmptyAudio, InvalidAudio, TruncatedAudio, UnsupportedAudio

PATIENCE_S, HEARING_S = 30.0, 120.0  # for a look at one file; for what there is to hear, which holds nobody up
MEMORY_BYTES = 4 * 2**30  # of address space
MEND = "switch on “Mend damaged files” under Advanced"


class WrongFileError(ValueError):
    """A file that is not taken; the message is one sentence for the page and names no path."""


@dataclass(frozen=True)
class Seen:
    """A recording as it was decoded."""

    seconds: float
    sample_rate: int  # Hz
    channels: int
    format: str
    subtype: str


def look(path: Path, max_seconds: float, mend: bool = False, tick: Callable[[], None] = lambda: None) -> Seen:
    """Decode a recording to its end; `AudioError` where it is none, or longer than `max_seconds`, whatever it declares.

    `mend` takes what is left of a damaged one, and zeros for samples that are no numbers. Each block calls `tick`.
    """
    frames = 0
    on_nonfinite: Literal["zero", "error"] = "zero" if mend else "error"
    with audio.Reader(path, max_seconds=max_seconds, salvage=mend, on_nonfinite=on_nonfinite) as reader:
        for block in reader:
            frames += block.shape[1]
            tick()
        info = reader.info
    return Seen(frames / info.sample_rate, info.sample_rate, info.channels, info.format, info.subtype)


def look_from_outside(path: Path, name: str, max_seconds: float, mend: bool = False) -> Seen:
    """`look` in a process of its own; raises `WrongFileError` with the sentence to show, by the name in the page."""
    try:
        answer = _apart(PATIENCE_S, str(path), name, str(max_seconds), str(int(mend)))
    except subprocess.TimeoutExpired:
        raise WrongFileError(
            f"{name} takes too long to read; save the recording as WAV or FLAC and try again"
        ) from None
    except (subprocess.CalledProcessError, ValueError):
        raise WrongFileError(
            f"{name} cannot be read: the decoder failed; save the recording as WAV or FLAC and try again"
        ) from None
    if "error" in answer:
        raise WrongFileError(answer["error"])
    return Seen(**answer)


def hear_from_outside(path: Path, mend: bool = False) -> dict[str, Any] | None:
    """What `Inspection.to_dict` says of an upload, in a process of its own; None where it says nothing in time."""
    try:
        return _apart(HEARING_S, str(path), str(int(mend)))
    except (subprocess.SubprocessError, OSError, ValueError):
        return None


def _apart(seconds: float, *words: str) -> dict[str, Any]:
    """What `main` says to these words in a process of its own, in so many seconds."""
    command, environment = [sys.executable, "-m", __name__, *words], {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, capture_output=True, timeout=seconds, check=True, env=environment)
    return dict(json.loads(run.stdout))


def sentence(error: BaseException, path: Path, name: str) -> str | None:
    """What the page says of an error on the file at `path`, called `name` there; None where only the log may know."""
    match error:
        case InvalidAudio():
            return f"{name} has {error.count} samples that are no numbers (NaN or infinite); export it again, or {MEND}"
        case TruncatedAudio() if error.decoded_s > 0:
            of = "" if error.declared_s is None else f" of {error.declared_s:.1f}"
            there = f"{error.decoded_s:.1f}{of} s can be read"
            return f"{name} is damaged or cut short: {there}; fetch a whole copy, or {MEND}"
        case TruncatedAudio():
            return f"{name} is damaged or cut short: nothing of it can be read; fetch a whole copy"
        case EmptyAudio():
            return f"{name} holds no samples; there is nothing to restore"
        case UnsupportedAudio():
            return f"{name} is of a kind that cannot be read here; convert it to WAV or FLAC first"
        case MemoryError():
            return f"{name} needs more memory than there is; take a shorter piece"
        case AudioError():
            text = " ".join(str(error).split()).replace(str(path), name).replace(f"{path.parent}{os.sep}", "")
            return text if str(path.parent) not in text else None
    return None


def main() -> None:
    """Print what was seen, or the sentence, as JSON; with two words, what was heard."""
    if len(sys.argv) == 3:
        _hear(Path(sys.argv[1]), sys.argv[2] == "1")
        return
    path, name, max_seconds, mend = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), sys.argv[4] == "1"
    _bound_memory()
    try:
        answer = asdict(look(path, max_seconds, mend))
    except (AudioError, MemoryError) as error:
        answer = {"error": sentence(error, path, name) or f"{name} cannot be read"}
    print(json.dumps(answer))


def _hear(path: Path, mend: bool) -> None:
    _bound_memory()
    from latentsr.inspection import inspect  # it imports torch

    print(json.dumps(inspect(path, salvage=mend, on_nonfinite="zero" if mend else "error").to_dict()))


def _bound_memory() -> None:
    with suppress(ImportError, ValueError, OSError):  # not everywhere
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


if __name__ == "__main__":
    main()
