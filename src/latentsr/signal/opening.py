"""Opening a recording: a regular file, a header that makes sense, and libsndfile on top of it."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Sequence
from io import SEEK_CUR, SEEK_END, SEEK_SET, FileIO, RawIOBase
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from latentsr.signal import containers, xiph
from latentsr.signal.containers import AudioError, EmptyAudio, TruncatedAudio

MAX_CHANNELS = 64
LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 1_000, 768_000
PIECE_FRAMES = 4_096


class Decoder(soundfile.SoundFile):
    """libsndfile, read piece by piece up to the first damage, which is then named by `damage`; channels as in WAV.

    soundfile seeks behind every block it reads, which fails at the end of a FLAC of unknown length. The position in
    `file` is the decoder's: nobody else may move it from now on.
    """

    slack = 0  # samples by which the declared length may be too long
    overrun = False  # it never reads beyond the declared length
    last_frame: int | None = None  # where to stop before libsndfile does: it decodes half a packet of ALAC to noise

    def __init__(self, file: FileIO, piece_frames: int, mends: Sequence[tuple[int, bytes]]) -> None:
        self._piece_frames = piece_frames
        self.damage: str | None = None
        self._done = 0
        file.seek(0)
        if mends:
            super().__init__(_Mended(file, mends))
        else:
            super().__init__(os.dup(file.fileno()), closefd=True)

    def seekable(self) -> bool:
        return False

    def read_block(self, frames: int) -> np.ndarray:
        """The next (n, C) samples, n <= `frames`; n = 0 at the end or where nothing more can be decoded."""
        if self.last_frame is not None:
            frames = min(frames, self.last_frame - self._done)
        block = np.empty((frames, self.channels), dtype=np.float32)
        done = 0
        while done < frames and self.damage is None:
            try:
                # A read that fails loses all it decoded: pieces, each a frame of FLAC, lose no good sample.
                piece = self.read(min(self._piece_frames, frames - done), dtype="float32", always_2d=True)
            except soundfile.LibsndfileError as error:
                self.damage = _reason(error)
                break
            if not len(piece):
                break
            block[done : done + len(piece)] = piece
            done += len(piece)
        self._done += done
        order = xiph.VORBIS_ORDER.get(self.channels) if self.subtype in ("VORBIS", "OPUS") else None
        return block[:done] if order is None else block[:done, np.argsort(order)]


class _Mended(RawIOBase):
    """A file some bytes of which read differently: a header that claims what is there."""

    def __init__(self, file: FileIO, mends: Sequence[tuple[int, bytes]]) -> None:
        self._file, self._mends = file, mends

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        return self._file.seek(offset, whence) if whence in (SEEK_SET, SEEK_CUR, SEEK_END) else -1

    def readinto(self, buffer: Any) -> int:
        start = self._file.tell()
        count = self._file.readinto(buffer) or 0
        view = memoryview(buffer).cast("B")
        for offset, data in self._mends:
            for at in range(max(start, offset), min(start + count, offset + len(data))):
                view[at - start] = data[at - offset]
        return count


def open_regular(path: Path) -> FileIO:
    """Open a regular file for reading, without waiting; raise `AudioError` for anything else."""
    try:
        # O_NONBLOCK: opening a named pipe must not wait for someone to write to it.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise AudioError(f"{path} does not exist; check the name") from None
    except PermissionError:
        raise AudioError(f"{path} may not be read (permission denied); change its access rights") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise AudioError(f"{path} cannot be opened ({getattr(error, 'strerror', error)}); check the name") from None
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        if stat.S_ISDIR(mode):
            raise AudioError(f"{path} is a directory; name the files in it")
        raise AudioError(f"{path} is not a regular file; copy its content into one first")
    return os.fdopen(descriptor, "rb", buffering=0)  # libsndfile shares the descriptor, and with it the position


def open_sound(path: Path, file: FileIO, head: bytes, mends: Sequence[tuple[int, bytes]], *, cut: bool) -> Decoder:
    """libsndfile on a file that begins with `head`, its header mended; raise `AudioError` where it finds no audio.

    `cut`: the file is known to be cut short, which then is the reason.
    """
    frames = struct.unpack(">H", head[8:10])[0] if head[:4] == b"fLaC" and len(head) >= 10 else 0
    try:
        return Decoder(file, frames if frames >= 256 else PIECE_FRAMES, mends)
    except soundfile.LibsndfileError as error:
        if cut:
            text = f"{path} is cut short: nothing of it can be decoded ({_reason(error)}); fetch a whole copy"
            raise TruncatedAudio(text) from None
        raise AudioError(_why_not_audio(path, head, error)) from None


def check_claim(path: Path, claim: containers.Claim | None) -> None:
    """Raise `AudioError` for a header that makes no sense, before a decoder looks at it."""
    if claim is None:
        return
    remedy = "its header is damaged; fetch it again or repair the header"
    if claim.sample_rate == 0:
        raise AudioError(f"{path} declares a sampling rate of 0 Hz; {remedy}")
    if claim.channels == 0:
        raise AudioError(f"{path} declares no channels; {remedy}")
    if claim.channels is not None and claim.channels > MAX_CHANNELS:
        raise AudioError(f"{path} declares {claim.channels} channels, at most {MAX_CHANNELS} can be restored; split it")
    if claim.data_bytes == 0 and not claim.unfinished:
        raise EmptyAudio(f"{path} holds no samples: its header declares 0 bytes of audio; record or copy it again")
    if claim.data_bytes is not None and claim.data_bytes < 0:
        raise AudioError(f"{path} declares {claim.data_bytes} bytes of audio; {remedy}")


def check_shape(path: Path, channels: int, rate_hz: int) -> None:
    """Raise `AudioError` for more channels than can be restored, and for rates that no recording has."""
    if not 1 <= channels <= MAX_CHANNELS:
        raise AudioError(
            f"{path} has {channels} channels, at most {MAX_CHANNELS} can be restored; split it into groups"
        )
    if not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ:
        raise AudioError(
            f"{path} declares {rate_hz} Hz; rates from {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ} Hz can be "
            "restored: correct the header or resample the file"
        )


def _why_not_audio(path: Path, head: bytes, error: soundfile.LibsndfileError) -> str:
    if (kind := containers.what_else(head)) is not None:
        return f"{path} holds {kind}, not audio; check what was saved under this name"
    return f"{path} is not a recording that can be read ({_reason(error)}); check that it is audio and whole"


def _reason(error: soundfile.LibsndfileError) -> str:
    if "SF_INFO struct incomplete" in error.error_string:
        return "its header declares an impossible sampling rate or number of channels"
    return str(error.error_string).removeprefix("Error : ").rstrip(". ")
