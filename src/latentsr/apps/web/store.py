"""Files of the visitors: in one folder, each for as long as its page is open, and gone with the server."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import threading
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

from latentsr.apps.locking import SAFE, lock

PREFIX = "latentsr-demo-"
KEEP_S = 3600.0  # what nobody came for, or came back for
EXAMPLES = "examples"


class Store:
    """A temporary folder with uploads and results; a leftover of a server that was killed is removed at the start."""

    def __init__(self) -> None:
        _remove_leftovers(Path(tempfile.gettempdir()))
        self.root = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
        self._lock_file = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT | SAFE, 0o600)
        lock(self._lock_file, wait=True)
        self.files = self.root / "files"  # gradio's folder of uploads, too
        self.files.mkdir()
        self._folders: defaultdict[str, set[Path]] = defaultdict(set)  # of a session: uploads and results
        self._lock = threading.Lock()

    def close(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.root, ignore_errors=True)
        os.close(self._lock_file)

    def examples(self, source: Path) -> list[Path]:
        """Copies of the recordings in `source`, which pages may offer."""
        folder = self.files / EXAMPLES
        shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.md"))
        return sorted(folder.iterdir())

    def new_folder(self, session: str, keep: Path | None = None) -> Path:
        """For a result; those that the session had are removed, but for the one to keep."""
        folder = self.files / secrets.token_hex(16)
        folder.mkdir()
        with self._lock:
            old = {path for path in self._folders[session] if path != keep and (path / ".result").exists()}
            self._folders[session] = self._folders[session] - old | {folder}
        (folder / ".result").touch()
        for path in old:
            shutil.rmtree(path, ignore_errors=True)
        return folder

    def claim(self, session: str, upload: Path) -> None:
        """Note whose upload this is: one of the same name and content may be that of several."""
        if upload.parent.parent == self.files and upload.parent.name != EXAMPLES:
            with self._lock:
                self._folders[session].add(upload.parent)

    def forget(self, session: str) -> None:
        """Remove what only this session had."""
        with self._lock:
            gone = self._folders.pop(session, set())
            for others in self._folders.values():
                gone -= others
        for folder in gone:
            shutil.rmtree(folder, ignore_errors=True)

    def tidy(self) -> None:
        """Remove what is older than an hour, whoever had it."""
        for path in self.files.iterdir():
            with suppress(OSError):
                if path.name != EXAMPLES and time.time() - path.stat().st_mtime > KEEP_S:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()  # an upload that was broken off is a file

    def find(self, token: str, name: str) -> Path | None:
        """A file of a result."""
        folder = self.files / token
        if len(token) != 32 or not (folder / ".result").is_file() or name.startswith("."):
            return None
        return next((path for path in folder.iterdir() if path.name == name and path.is_file()), None)


def _remove_leftovers(folder: Path) -> None:
    """Folders of servers of this user that no longer live: whoever lives holds the lock."""
    for path in folder.glob(f"{PREFIX}*"):
        with suppress(OSError):
            if path.is_symlink() or path.stat().st_uid != getattr(os, "getuid", lambda: 0)():
                continue
            lock_file = os.open(path / ".lock", os.O_RDWR | SAFE)
            try:
                if lock(lock_file):
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock_file)
