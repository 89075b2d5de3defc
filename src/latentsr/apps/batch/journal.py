"""The journal of a batch: one JSON object per line in DEST, appended whole, by however many workers.

    {"event": "run", "run": ..., "src": ..., "engine": ..., "options": {...}, "model": ..., "files": ...}
    {"event": "start", "file": ..., "key": ..., "output": ..., "replaces": [bytes, mtime_ns] or null, "worker": ...}
    {"event": "done", "file": ..., "key": ..., "output": ..., "identity": [bytes, mtime_ns], "record": {...}}
    {"event": "failed" | "skipped", "file": ..., "key": ..., "error": ...}
    {"event": "lost", "file": ..., "error": ...}          a try that ended with its worker; the file is tried again

A file's key says what it was restored from and how. Outputs appear by a rename, so that one which is there after a
"start" with the same key is whole, whether or not the "done" came to be written.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from latentsr.apps.locking import SAFE, lock, unlock
from latentsr.errors import reason_of

NAME = "latentsr-journal.jsonl"
ENDS = ("done", "failed", "skipped")

Identity = tuple[int, int]  # size in bytes, time of the last change in ns


class BatchError(RuntimeError):
    """What ends a whole run; the message says what to do."""


class JournalError(BatchError):
    """The journal cannot be kept, and without it nothing may go on."""


@dataclass
class History:
    """What the journal says of one file."""

    last: dict[str, Any] | None = None  # how it ended last: done, failed or skipped
    begun: dict[str, Any] | None = None  # the start that has no end yet
    tries: int = 0  # starts without an end in this run


@dataclass
class Journal:
    """The journal of DEST as it is being written. Reading it again costs only what has been added since."""

    dest: Path
    run: str  # this run's own id
    histories: dict[str, History] = field(default_factory=lambda: defaultdict(History))
    made: dict[str, Identity] = field(default_factory=dict)  # outputs of this batch, as they were left
    latest_run: str | None = None
    _offset: int = 0

    @property
    def path(self) -> Path:
        return self.dest / NAME

    def append(self, event: str, file: str | None = None, **facts: Any) -> dict[str, Any]:
        """Add one line and flush it to the disk; raise `JournalError`, and leave none, where that cannot be done."""
        time = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        entry = {"event": event, "run": self.run, "time": time, **({} if file is None else {"file": file}), **facts}
        data = json.dumps(entry).encode("ascii") + b"\n"
        try:
            self._append(data)
        except OSError as error:
            raise JournalError(
                f"cannot write the journal {self.path}: {reason_of(error)}; mend that and add --resume"
            ) from None
        return entry

    def refresh(self) -> list[dict[str, Any]]:
        """Read what has been added; returns the new entries. A torn line, of a writer that was killed, is left out."""
        try:
            descriptor = self._open(os.O_RDONLY)
        except FileNotFoundError:
            return []
        with os.fdopen(descriptor, "rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        entries = [entry for line in whole.splitlines() if (entry := _parse(line)) is not None]
        for entry in entries:
            self._note(entry)
        return entries

    def _open(self, flags: int) -> int:
        descriptor = os.open(self.path, flags | SAFE, 0o666)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "it is not a regular file", str(self.path))
        return descriptor

    def _append(self, data: bytes) -> None:
        descriptor = self._open(os.O_RDWR | os.O_CREAT | os.O_APPEND)
        try:
            lock(descriptor, wait=True)  # O_APPEND alone does not hold on a network's file system
            size = os.fstat(descriptor).st_size
            os.lseek(descriptor, max(size - 1, 0), os.SEEK_SET)
            if size and os.read(descriptor, 1) != b"\n":  # a torn line: it stays one, by itself
                data = b"\n" + data
            if os.write(descriptor, data) != len(data):
                os.ftruncate(descriptor, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
            unlock(descriptor)
        finally:
            os.close(descriptor)

    def _note(self, entry: dict[str, Any]) -> None:
        event, name = entry["event"], entry.get("file")
        if event == "run":
            self.latest_run = entry["run"]
        if not isinstance(name, str):
            return
        history = self.histories[name]
        if event == "start":
            history.begun = entry
            history.tries += entry["run"] == self.run
        elif event in ENDS:
            history.last, history.tries = entry, 0
            if entry.get("key") is not None:  # else nobody has looked whether the output came into being
                history.begun = None
        if event == "done":
            self.made[entry["output"]] = (int(entry["identity"][0]), int(entry["identity"][1]))


def identity(path: Path) -> Identity | None:
    """What tells a file from what it is replaced by; None where there is none."""
    try:
        status = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
    return status.st_size, status.st_mtime_ns


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
        shaped = isinstance(entry["event"], str) and isinstance(entry["run"], str)
        if entry["event"] in ("start", "done"):
            shaped = shaped and all(isinstance(entry[name], str) for name in ("key", "output"))
        if entry["event"] == "done":
            shaped = shaped and isinstance(entry["record"], dict) and len([int(n) for n in entry["identity"]]) == 2
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return entry if shaped else None
