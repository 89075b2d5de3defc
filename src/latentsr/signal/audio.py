"""Recordings in and out: read in blocks, resampled sharply, written whole or not at all.

A header is a claim, not a fact: nothing is allocated from it, and a file that holds less than it
declares is an error, not a shorter recording. What libsndfile cannot read goes through PyAV (extra
`av`). The content decides what a file is, never its name.
"""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import soundfile
import soxr

from latentsr.signal import containers, foreign
from latentsr.signal.containers import AudioError
from latentsr.signal.writing import (
    Writer,
    check_format,
    check_writable,
    choose_subtype,
    container,
    full_scale_gain,
    write,
)

__all__ = [
    "Audio",
    "AudioError",
    "Info",
    "Reader",
    "Writer",
    "check_format",
    "check_writable",
    "choose_subtype",
    "container",
    "full_scale_gain",
    "output_length",
    "probe",
    "read",
    "resample",
    "write",
]

MAX_CHANNELS = 64
LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 1_000, 768_000
BLOCK_FRAMES = 65_536
# Above this libsndfile means "length unknown" (a FLAC that was streamed, or whose writer was killed).
UNKNOWN_FRAMES = 2**62
_REPAIR = "fetch a whole copy, or save what is left under a new name in an audio editor"
MPEG_SLACK = 3 * 1152  # samples: encoder delay and padding make declared lengths of MP3 inexact by up to 2.7 frames


@dataclass(frozen=True)
class Info:
    """What a recording says about itself; `frames` is None where it does not say."""

    path: Path
    sample_rate: int  # Hz
    channels: int
    frames: int | None  # samples per channel, as declared
    format: str  # libsndfile's, 'WAV', or FFmpeg's
    subtype: str  # libsndfile's, 'PCM_16', or the codec
    tags: dict[str, str] = field(default_factory=dict)


@dataclass
class Audio:
    """A decoded recording. `samples`: (C, T) float32, full scale 1.0."""

    samples: np.ndarray
    sample_rate: int  # Hz
    subtype: str
    format: str
    path: Path
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return self.samples.shape[-1] / self.sample_rate


def probe(path: str | os.PathLike[str]) -> Info:
    """Open a recording and say what it claims to be, without decoding it; raise `AudioError` if it is none."""
    with Reader(path) as reader:
        return reader.info


def read(path: str | os.PathLike[str], *, max_seconds: float | None = None) -> Audio:
    """Decode a whole recording.

    Args:
        path: any file that libsndfile reads; with the extra `av` also m4a, wma, video, ...
        max_seconds: refuse anything longer, counted while decoding and not taken from the header.

    Returns:
        The samples, (C, T) float32, with what is needed to write them back alike.

    Raises:
        AudioError: not audio, damaged, cut short, empty, NaN or infinite samples, or too long.
    """
    with Reader(path, max_seconds=max_seconds) as reader:
        blocks = list(reader)
        info = reader.info
    samples = np.empty((info.channels, sum(block.shape[1] for block in blocks)), dtype=np.float32)
    end = samples.shape[1]
    while blocks:  # from the back, so that each block is freed as soon as it is copied
        block = blocks.pop()
        samples[:, end - block.shape[1] : end] = block
        end -= block.shape[1]
    return Audio(samples, info.sample_rate, info.subtype, info.format, info.path, info.tags)


class Reader:
    """A recording as blocks of samples, (C, n) float32 each, in bounded memory.

    Iterating raises `AudioError` before a block with NaN or infinity is handed out, and at the end
    if less came than was declared.

    Args:
        path: the recording.
        block_frames: samples per channel in a block; the last one may be shorter.
        max_seconds: refuse anything longer.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        block_frames: int = BLOCK_FRAMES,
        max_seconds: float | None = None,
    ) -> None:
        self.path = Path(path)
        self._block_frames = block_frames
        self._max_seconds = max_seconds
        self._file = open_regular(self.path)
        self._decoder: Any = None
        try:
            self.info, self._decoder = self._open()
            _check_shape(self.info)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; safe to call twice."""
        if self._decoder is not None:
            self._decoder.close()
        self._file.close()

    def __iter__(self) -> Iterator[np.ndarray]:
        done = 0
        blocks = self._blocks()
        for block in blocks:
            if self._max_seconds is not None and done + block.shape[1] > self._max_seconds * self.info.sample_rate:
                raise AudioError(f"{self.path} is longer than {self._max_seconds:g} s; cut it into shorter pieces")
            if not np.isfinite(block).all():
                raise self._not_finite(done, block, blocks)
            done += block.shape[1]
            yield block
        self._check_length(done)

    def _open(self) -> tuple[Info, Any]:
        head = self._file.read(64)
        if not head:
            raise AudioError(f"{self.path} is empty (0 bytes); fetch it again from its source")
        if (kind := containers.foreign(head)) is not None:
            return self._open_foreign(kind)
        _check_claim(self.path, containers.claim(self._file))
        self._file.seek(0)
        try:
            decoder = _Decoder(os.dup(self._file.fileno()), closefd=True)
        except soundfile.LibsndfileError as error:
            raise AudioError(_why_not_audio(self.path, head, error)) from None
        if decoder.format == "MP3" and self._longer_than(decoder.frames):
            decoder.close()
            return self._open_foreign(containers.Foreign("MP3 without a length in its header", "mp3"))
        frames = decoder.frames if decoder.frames < UNKNOWN_FRAMES else None
        tags = {key: text for key, text in decoder.copy_metadata().items() if key != "software"}
        info = Info(self.path, decoder.samplerate, decoder.channels, frames, decoder.format, decoder.subtype, tags)
        return info, decoder

    def _open_foreign(self, kind: containers.Foreign) -> tuple[Info, Any]:
        self._file.seek(0)
        decoder = foreign.Decoder(self.path, self._file, kind)
        info = Info(
            self.path,
            decoder.sample_rate,
            decoder.channels,
            decoder.frames,
            decoder.format,
            decoder.subtype,
            decoder.tags,
        )
        return info, decoder

    def _longer_than(self, frames: int) -> bool:
        """Whether an MP3 without a Xing header goes on behind the length that libsndfile estimates."""
        with mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            samples = containers.mpeg_samples(data)
        return samples is not None and samples > frames + MPEG_SLACK

    def _blocks(self) -> Iterator[np.ndarray]:
        done = 0
        while True:
            try:
                block = self._decoder.read(self._block_frames, dtype="float32", always_2d=True)
            except soundfile.LibsndfileError as error:
                raise self._cut_short(done, str(error).removeprefix("Error : ")) from None
            if not len(block):
                return
            done += len(block)
            yield block.T

    def _check_length(self, done: int) -> None:
        if done == 0:
            raise AudioError(f"{self.path} holds no samples; there is nothing to restore")
        slack = MPEG_SLACK if self.info.subtype.startswith("MPEG") else foreign.slack(self._decoder)
        if self.info.frames is not None and done + slack < self.info.frames:
            raise self._cut_short(done, "the file ends")

    def _cut_short(self, done: int, reason: str) -> AudioError:
        rate, declared = self.info.sample_rate, self.info.frames
        claimed = "" if declared is None else f" of {declared / rate:.3f} s"
        return AudioError(
            f"{self.path} is damaged or cut short: {done / rate:.3f} s{claimed} could be decoded "
            f"({reason.rstrip('. ')}); {_REPAIR}"
        )

    def _not_finite(self, start: int, block: np.ndarray, rest: Iterator[np.ndarray]) -> AudioError:
        bad = ~np.isfinite(block)
        first = int(np.flatnonzero(bad.any(axis=0))[0])
        channel = int(np.flatnonzero(bad[:, first])[0])
        count = int(bad.sum()) + sum(int((~np.isfinite(later)).sum()) for later in rest)
        at = (start + first) / self.info.sample_rate
        return AudioError(
            f"{self.path} has {count} samples that are NaN or infinite, the first at {at:.6f} s "
            f"(sample {start + first}, channel {channel + 1}); export it again, or replace them by zeros"
        )


def output_length(samples: int, from_hz: int, to_hz: int) -> int:
    """samples x to / from, rounded half up, in whole numbers.

    >>> output_length(1, 32_000, 48_000)
    2
    """
    return (2 * samples * to_hz + from_hz) // (2 * from_hz)


def resample(samples: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    """Resample with soxr VHQ: flat to 0.95 of the lower Nyquist frequency, nothing above it.

    Args:
        samples: (..., T) float32 or float64.
        from_hz: sampling rate of `samples`.
        to_hz: sampling rate wanted.

    Returns:
        (..., `output_length(T, from_hz, to_hz)`) of the same type, starting at the same instant.
    """
    if from_hz == to_hz:
        return samples.copy()
    length = output_length(samples.shape[-1], from_hz, to_hz)
    rows = samples.reshape(-1, samples.shape[-1])
    out = np.empty((len(rows), length), dtype=samples.dtype)
    # soxr rounds a length its own way: a few zeros behind give it no reason to stop early.
    tail = np.zeros(2 + 2 * from_hz // to_hz, dtype=samples.dtype)
    for row, target in zip(rows, out, strict=True):
        target[:] = soxr.resample(np.concatenate([row, tail]), from_hz, to_hz, quality="VHQ")[:length]
    return out.reshape(*samples.shape[:-1], length)


class _Decoder(soundfile.SoundFile):
    """soundfile seeks behind every block it reads, which fails at the end of a FLAC of unknown length."""

    def seekable(self) -> bool:
        return False


def open_regular(path: Path) -> FileIO:
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


def _check_claim(path: Path, claim: containers.Claim | None) -> None:
    if claim is None:
        return
    remedy = "its header is damaged; fetch it again or repair the header"
    if claim.sample_rate == 0:
        raise AudioError(f"{path} declares a sampling rate of 0 Hz; {remedy}")
    if claim.channels == 0:
        raise AudioError(f"{path} declares no channels; {remedy}")
    if claim.channels is not None and claim.channels > MAX_CHANNELS:
        raise AudioError(f"{path} declares {claim.channels} channels, at most {MAX_CHANNELS} can be restored; split it")
    if claim.data_bytes == 0:
        follow = f", though {claim.present_bytes} bytes follow" if claim.present_bytes else ""
        raise AudioError(
            f"{path} holds no samples: its header declares 0 bytes of audio{follow}; record or copy it again"
        )
    # One byte less is a missing pad byte, which some writers forget.
    if claim.data_bytes is not None and claim.present_bytes < claim.data_bytes - 1:
        raise AudioError(
            f"{path} is cut short: its header declares {claim.data_bytes} bytes of audio, "
            f"{claim.present_bytes} are there; {_REPAIR}"
        )


def _check_shape(info: Info) -> None:
    if not 1 <= info.channels <= MAX_CHANNELS:
        raise AudioError(
            f"{info.path} has {info.channels} channels, at most {MAX_CHANNELS} can be restored; split it into groups"
        )
    if not LOWEST_RATE_HZ <= info.sample_rate <= HIGHEST_RATE_HZ:
        raise AudioError(
            f"{info.path} declares {info.sample_rate} Hz; rates from {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ} Hz can be "
            "restored: correct the header or resample the file"
        )


def _why_not_audio(path: Path, head: bytes, error: soundfile.LibsndfileError) -> str:
    if containers.is_text(head):
        return f"{path} holds text, not audio; check what was saved under this name"
    reason = str(error.error_string).removeprefix("Error : ").rstrip(". ")
    return f"{path} is not a recording that can be read ({reason}); check that it is audio and whole"
