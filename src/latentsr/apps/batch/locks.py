"""One run at a time in one DEST: the supervisor's lock, and one that its workers share for as long as they live.

A supervisor that was killed leaves its lock at once, its workers perhaps a moment later: the next run waits for them
before it clears away their half-written files.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from latentsr.apps.batch.journal import BatchError

SUPERVISOR, WORKERS = ".latentsr-batch.lock", ".latentsr-workers.lock"
PART = re.compile(r"\.latentsr-[0-9a-f]{12}\.part")  # what an output is called until it is whole
LEFTOVERS_S = 60.0  # how long workers of a killed run may take to end


class BusyError(BatchError):
    """Somebody else is at work in DEST."""


@contextmanager
def supervisor_lock(dest: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Alone in DEST, with no half-written file in it; raises `BusyError` where another run is at work."""
    descriptor = _open(dest / SUPERVISOR)
    try:
        if not _lock(descriptor, fcntl.LOCK_EX):
            raise BusyError(f"another latentsr batch is at work in {dest}; let it end, or name another folder")
        _wait_for_leftovers(dest, say)
        remove_parts(dest)
        yield
    finally:
        os.close(descriptor)


def share_workers_lock(dest: Path) -> int:
    """A descriptor that keeps the next run waiting until it is closed, or its process has ended."""
    descriptor = _open(dest / WORKERS)
    if not _lock(descriptor, fcntl.LOCK_SH):
        os.close(descriptor)
        raise BusyError(f"a new latentsr batch has begun in {dest}; this one is over")
    return descriptor


def remove_parts(dest: Path) -> None:
    """Remove what killed workers had half written; only with the lock, and when no worker lives."""
    for folder, _, files in os.walk(dest):
        for name in files:
            if PART.fullmatch(name):
                with suppress(OSError):
                    (Path(folder) / name).unlink()


def _wait_for_leftovers(dest: Path, say: Callable[[str], None]) -> None:
    descriptor = _open(dest / WORKERS)
    try:
        began = time.monotonic()
        while not _lock(descriptor, fcntl.LOCK_EX):
            if time.monotonic() - began > LEFTOVERS_S:
                raise BusyError(f"workers of an earlier run still write to {dest}; end them, then run this again")
            if time.monotonic() - began < 0.1:
                say(f"waiting for workers of an earlier run in {dest} to end")
            time.sleep(0.1)
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        return os.open(path, flags, 0o666)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise BatchError(f"cannot write {path}: {reason}; choose another folder") from None


def _lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True
