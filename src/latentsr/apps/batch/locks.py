"""One run at a time in one DEST: the supervisor's lock, and one that its workers share for as long as they live.

A supervisor that was killed leaves its lock at once, its workers perhaps a moment later: the next run waits for them
before it clears away their half-written files.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from latentsr.apps.batch.journal import BatchError
from latentsr.apps.locking import SAFE, lock
from latentsr.errors import reason_of
from latentsr.wholefiles import PART

SUPERVISOR, WORKERS = ".latentsr-batch.lock", ".latentsr-workers.lock"
LEFTOVERS_S = 60.0  # how long workers of a killed run may take to end


class BusyError(BatchError):
    """Somebody else is at work in DEST."""


@contextmanager
def supervisor_lock(dest: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Alone in DEST, with no half-written file in it; raises `BusyError` where another run is at work."""
    descriptor = _open(dest / SUPERVISOR)
    try:
        if not lock(descriptor):
            raise BusyError(
                f"another latentsr batch is at work in {dest}; wait for that batch to end, or name another folder"
            )
        _wait_for_leftovers(dest, say)
        remove_parts(dest)
        yield
    finally:
        os.close(descriptor)


def share_workers_lock(dest: Path) -> int:
    """A descriptor that keeps the next run waiting until it is closed, or its process has ended."""
    descriptor = _open(dest / WORKERS)
    if not lock(descriptor, shared=True):
        os.close(descriptor)
        raise BusyError(f"a new latentsr batch has begun in {dest}; this batch is over")
    return descriptor


def remove_parts(dest: Path) -> None:
    """Remove what killed workers had half written; only with the lock, and when no worker lives."""
    for folder, _, files in os.walk(dest):
        for name in files:
            if PART.fullmatch(name):
                with suppress(OSError):
                    (Path(folder) / name).unlink()


def workers_end(dest: Path, seconds: float) -> bool:
    """Whether no worker is left in DEST, at the latest after so many seconds."""
    descriptor = _open(dest / WORKERS)
    try:
        last = time.monotonic() + seconds
        while not (alone := lock(descriptor)) and time.monotonic() < last:
            time.sleep(0.1)
        return alone
    finally:
        os.close(descriptor)


def _wait_for_leftovers(dest: Path, say: Callable[[str], None]) -> None:
    if workers_end(dest, 0.0):
        return
    say(f"waiting for workers of an earlier run in {dest} to end")
    if not workers_end(dest, LEFTOVERS_S):
        raise BusyError(
            f"workers of an earlier run still write to {dest}; end those workers, then run this command again"
        )


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | SAFE, 0o666)
    except OSError as error:
        raise BatchError(f"cannot write {path}: {reason_of(error)}; choose another folder") from None
