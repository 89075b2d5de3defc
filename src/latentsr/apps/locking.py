"""Locks on open files, on Linux, macOS and Windows; a lock ends with its process.

Windows knows no shared lock that fits: there each holder takes a byte of its own, and a lock that is alone takes all of
them. The bytes lie far behind what a file holds, since Windows lets nobody read what is locked.
"""

from __future__ import annotations

import errno
import os
import random

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# Not through a link, not for a child, and without waiting; what a system lacks is left out.
SAFE = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_CLOEXEC", "O_NONBLOCK", "O_BINARY"))
_REGION_AT, _REGION_BYTES = 2**29, 2**29


def lock(descriptor: int, *, shared: bool = False, wait: bool = False) -> bool:
    """Lock an open file, alone or with others; False where somebody has it and `wait` is False."""
    if fcntl is None:
        return _lock_windows(descriptor, shared, wait)
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(descriptor, kind | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


def unlock(descriptor: int) -> None:
    """Let go of a lock that was taken alone, before the file is closed: Windows is not quick about it."""
    if fcntl is None:
        import msvcrt

        os.lseek(descriptor, _REGION_AT, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, _REGION_BYTES)


def _lock_windows(descriptor: int, shared: bool, wait: bool) -> bool:
    import msvcrt

    while True:
        place = random.randrange(_REGION_BYTES) if shared else 0
        os.lseek(descriptor, _REGION_AT + place, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1 if shared else _REGION_BYTES)  # type: ignore[attr-defined]
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EDEADLK):
                raise
            if not wait:
                return False
        else:
            return True
