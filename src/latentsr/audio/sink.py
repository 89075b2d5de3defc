"""The file that libsndfile writes into: it keeps the first error, and makes room for what libsndfile does not write."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path

from latentsr.errors import AudioError


class Sink(io.FileIO):
    """The temporary file as libsndfile sees it; keeps the first error, which cannot cross its C code.

    `inset` is written into the file at the offset `at` when libsndfile gets there, and hidden from it: its own
    offsets go on as if nothing were there, and so nothing has to be moved when a file is complete.
    """

    error: BaseException | None = None
    mute = False
    at = 0
    inset = b""
    _gap = 0  # bytes of the inset, once it is written

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to where libsndfile thinks that it goes."""
        if whence == os.SEEK_CUR:
            offset += self.tell()
        elif whence == os.SEEK_END:
            offset += super().seek(0, os.SEEK_END) - self._gap
        super().seek(offset + (self._gap if offset >= self.at else 0))
        return offset

    def tell(self) -> int:
        """Where libsndfile thinks that it is."""
        offset = super().tell()
        return offset - self._gap if offset > self.at else offset

    def write(self, data: object) -> int:
        view = memoryview(data)  # type: ignore[arg-type]
        if self.mute or self.error is not None:
            return len(view)
        before = max(self.at - self.tell(), 0)  # bytes of the view up to the inset
        try:
            self._write_whole(view[:before])
            if before < len(view) and self._gap == 0:
                self._write_whole(memoryview(self.inset))
                self._gap, self.inset = len(self.inset), b""
            elif before < len(view):
                self.seek(self.tell())  # over the inset
            self._write_whole(view[before:])
        except BaseException as error:  # KeyboardInterrupt too: raised again by `reraise`
            self.error = error
        return len(view)

    def _write_whole(self, view: memoryview) -> None:
        done = 0
        while done < len(view):
            done += super().write(view[done:])

    def reraise(self, path: Path) -> None:
        """Raise what went wrong since, if anything did."""
        if isinstance(self.error, OSError):
            raise cannot_write(path, self.error) from None
        if self.error is not None:
            raise self.error


def cannot_write(path: Path, error: Exception) -> AudioError:
    """The error that says why `path` could not be written, and what to do."""
    reason = getattr(error, "strerror", None) or str(error)
    remedy = {
        errno.ENOSPC: "free some space or choose another disk",
        errno.EDQUOT: "free some space or choose another disk",
        errno.EFBIG: "raise the limit on file sizes or choose another disk",
        errno.ENAMETOOLONG: "choose a shorter name",
    }.get(getattr(error, "errno", None) or 0, "choose another folder or change its access rights")
    return AudioError(f"cannot write {path}: {reason.lower()}; {remedy}")
