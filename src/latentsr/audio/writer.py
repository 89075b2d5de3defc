"""Recordings out: whole under their own name, or not there at all.

Samples go to a hidden file in the same folder, which is flushed to the disk and renamed when it is
complete; on any error, Ctrl-C included, it is removed. PCM is rounded to the nearest step here
(libsndfile rounds down), so that 16-bit audio read and written again is the same to the bit.
"""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from latentsr.audio.sink import Sink, cannot_write
from latentsr.audio.tags import carry, xiph
from latentsr.audio.tags.metadata import Metadata
from latentsr.errors import AudioError
from latentsr.wholefiles import part_of, publish

# extension: (libsndfile container, subtypes from the shallowest up)
_PCM = ("PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")
_CONTAINERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "wav": ("WAV", _PCM),
    "flac": ("FLAC", ("PCM_16", "PCM_24")),
    "mp3": ("MP3", ("MPEG_LAYER_III",)),
    "ogg": ("OGG", ("VORBIS",)),
    "oga": ("OGG", ("VORBIS",)),
    "opus": ("OGG", ("OPUS",)),
    "aif": ("AIFF", _PCM),
    "aiff": ("AIFF", _PCM),
    "caf": ("CAF", _PCM),
    "w64": ("W64", _PCM),
    "rf64": ("RF64", _PCM),
    "au": ("AU", _PCM),
}
# Bits of resolution of what can be read; what is not listed is a lossy codec, for which 24 bits lose nothing.
_DEPTH = {
    "PCM_S8": 8, "PCM_U8": 8, "ULAW": 14, "ALAW": 13, "IMA_ADPCM": 16, "MS_ADPCM": 16, "GSM610": 16, "DPCM_8": 8,
    "DPCM_16": 16, "DWVW_12": 12, "DWVW_16": 16, "DWVW_24": 24, "VOX_ADPCM": 16, "G721_32": 16, "G723_24": 16,
    "G723_40": 16, "NMS_ADPCM_16": 16, "NMS_ADPCM_24": 16, "NMS_ADPCM_32": 16, "PCM_16": 16, "PCM_24": 24,
    "PCM_32": 32, "FLOAT": 33, "DOUBLE": 64, "ALAC_16": 16, "ALAC_20": 24, "ALAC_24": 24, "ALAC_32": 32,
}  # fmt: skip
_MPEG_RATES_HZ = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
_OPUS_RATES_HZ = (8_000, 12_000, 16_000, 24_000, 48_000)
_MAX_CHANNELS = {"FLAC": 8, "MP3": 2, "OGG": 8}
_MAX_RATE_HZ = {"FLAC": 655_350, "OGG": 192_000}
RIFF_LIMIT_BYTES = 2**32 - 2**20  # sizes in a RIFF header have 32 bits; a megabyte is left for tags
_WRITE_FRAMES = 16_384  # libsndfile's Vorbis writer overflows its stack when given minutes at once


def container(path: str | os.PathLike[str], format: str | None = None) -> str:
    """The format that a file will be written in, 'wav', 'flac', ...: `format`, else the extension of the name."""
    name = (format or Path(path).suffix).lower().removeprefix(".")
    if name not in _CONTAINERS:
        known = ", ".join(_CONTAINERS)
        what = f"format {name!r}" if name else "a name without an extension"
        raise AudioError(f"cannot write {path}: {what} is not one of {known}; choose one of these")
    return name


def choose_subtype(format: str, like: str | None = None) -> str:
    """The shallowest subtype of `format` that loses nothing of an input of subtype `like`.

    >>> choose_subtype("wav", "PCM_24"), choose_subtype("flac", "PCM_U8"), choose_subtype("wav", "MPEG_LAYER_III")
    ('PCM_24', 'PCM_16', 'PCM_24')
    """
    offered = _CONTAINERS[container("", format)][1]
    wanted = 16 if like is None else _depth(like)
    return next((subtype for subtype in offered if _DEPTH.get(subtype, 64) >= wanted), offered[-1])


@dataclass(frozen=True)
class Target:
    """A file to be written: where, how it is coded, and whether it may replace another.

    Attributes:
        path: where.
        format: 'wav', 'flac', 'mp3', 'ogg', 'opus', 'aiff', 'caf', 'w64', 'rf64', 'au'.
        subtype: libsndfile's.
        overwrite: replace an existing file.
    """

    path: Path
    format: str
    subtype: str
    overwrite: bool = False

    @classmethod
    def of(
        cls,
        path: str | os.PathLike[str],
        format: str | None = None,
        subtype: str | None = None,
        *,
        like: str | None = None,
        overwrite: bool = False,
    ) -> Target:
        """The format by the extension unless given; the subtype as `choose_subtype` says for an input of `like`."""
        name = container(path, format)
        return cls(Path(path), name, subtype or choose_subtype(name, like), overwrite)

    def check(self, channels: int, rate_hz: int) -> None:
        """Raise `AudioError` unless the format holds this, and nothing is in the way."""
        path, name, subtype, major = self.path, self.format, self.subtype, _CONTAINERS[self.format][0]
        limit, highest = _MAX_CHANNELS.get(major, 1024), _MAX_RATE_HZ.get(major, 2**31 - 1)
        if not 1 <= channels <= limit:
            raise AudioError(
                f"cannot write {path}: {name} holds 1 to {limit} channels, not {channels}; write WAV instead"
            )
        rates = {"OPUS": _OPUS_RATES_HZ, "MPEG_LAYER_III": _MPEG_RATES_HZ}.get(subtype)
        if rates is not None and rate_hz not in rates:
            choice = ", ".join(map(str, rates))
            raise AudioError(f"cannot write {path}: {name} has no {rate_hz} Hz; choose one of {choice}")
        if not 1 <= rate_hz <= highest:
            raise AudioError(f"cannot write {path}: {name} goes up to {highest} Hz, not {rate_hz}; write WAV instead")
        if not soundfile.check_format(major, subtype):
            offered = ", ".join(_CONTAINERS[name][1])
            raise AudioError(f"cannot write {path}: {name} cannot hold {subtype}; choose one of {offered}")
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            if path.is_symlink():
                text = f"cannot write {path}: it is a link to nowhere; remove it or name another file"
                raise AudioError(text) from None
            return
        except (OSError, ValueError) as error:
            raise cannot_write(path, error) from None
        if stat.S_ISDIR(mode):
            raise AudioError(f"cannot write {path}: it is a directory; name a file in it")
        if not stat.S_ISREG(mode):
            raise AudioError(f"cannot write {path}: it is not a regular file; name another one")
        if not self.overwrite:
            raise AudioError(
                f"cannot write {path}: it exists already; name another file, or say --overwrite (overwrite=True)"
            )

    def check_now(self, channels: int, rate_hz: int) -> None:
        """`check`, and that there is a folder that may be written to; leaves nothing behind."""
        self.check(channels, rate_hz)
        sink, temporary = self.reserve()
        sink.close()
        temporary.unlink()

    def reserve(self) -> tuple[Sink, Path]:
        """A new hidden file beside it."""
        path, temporary = self.path, part_of(self.path)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        try:
            return Sink(os.open(temporary, flags, 0o666), "r+"), temporary
        except FileNotFoundError:
            raise AudioError(f"cannot write {path}: the folder {path.parent} does not exist; make it first") from None
        except (OSError, ValueError) as error:
            raise cannot_write(path, error) from None

    def gain(self, peak: float) -> float:
        """The gain that brings samples of this peak into its range: 1.0 where they fit."""
        return 1.0 if self.subtype in ("FLOAT", "DOUBLE") or peak <= 1.0 else 1.0 / peak

    def depth_note(self, like: str | None) -> str | None:
        """What is lost of an input of subtype `like`, where the format loses nothing else but is shallower.

        >>> Target.of("a.flac").depth_note("FLOAT")
        'flac holds 16 bits, and the source is FLOAT; write WAV to keep its depth'
        """
        bits = _DEPTH.get(self.subtype)  # None: a lossy codec
        if like is None or bits is None or bits >= _depth(like):
            return None
        return f"{self.format} holds {bits} bits, and the source is {like}; write WAV to keep its depth"


def write(
    target: str | os.PathLike[str] | Target, samples: np.ndarray, sample_rate: int, metadata: Metadata | None = None
) -> tuple[str, ...]:
    """Write a recording whole, or leave nothing.

    Args:
        target: where, and how if not by its extension.
        samples: (C, T) floating point, finite; within full scale unless the subtype is FLOAT or DOUBLE.
        sample_rate: Hz.
        metadata: tags, pictures and chunks of the source: written where the format has room for them.

    Returns:
        What of the metadata could not be carried, one line each.

    Raises:
        AudioError: nothing was written, and why.
    """
    path = target.path if isinstance(target, Target) else target
    if samples.ndim != 2:
        raise AudioError(f"cannot write {path}: samples must be (channels, samples), got shape {samples.shape}")
    channels, frames = samples.shape
    if frames == 0:
        raise AudioError(f"cannot write {path}: there are no samples")
    with Writer(target, channels, sample_rate, frames, metadata) as writer:
        writer.write(samples)
    return writer.notes


class Writer:
    """Writes a recording block by block; the file appears under its name when the `with` block ends well.

    Args:
        target: where, and how if not by its extension.
        channels: C of every block.
        sample_rate: Hz.
        frames: how many samples per channel will come, which decides between RIFF and RF64 (above 4 GiB).
        metadata: tags, pictures and chunks of the source, written where the format has room for them; `notes` says,
            one line each, what could not be carried.
    """

    def __init__(
        self,
        target: str | os.PathLike[str] | Target,
        channels: int,
        sample_rate: int,
        frames: int,
        metadata: Metadata | None = None,
    ) -> None:
        target = target if isinstance(target, Target) else Target.of(target)
        self.path, self.overwrite, self.subtype = target.path, target.overwrite, target.subtype
        target.check(channels, sample_rate)
        major, metadata = _CONTAINERS[target.format][0], Metadata() if metadata is None else metadata
        audio_bytes = frames * channels * _DEPTH.get(self.subtype, 16) // 8
        if major == "WAV" and audio_bytes + metadata.size_bytes > RIFF_LIMIT_BYTES:
            major = "RF64"
        self._sink, self._temporary = target.reserve()
        try:
            fitted = carry.fitted(metadata, major, self.subtype, channels, sample_rate)
            self.notes, self._finish = fitted.notes, fitted.finish
            self._sink.at, self._sink.inset = fitted.at, fitted.inset
            self._file = soundfile.SoundFile(self._sink, "w", sample_rate, channels, self.subtype, format=fitted.major)
            for key, text in fitted.strings.items():
                with contextlib.suppress(soundfile.LibsndfileError):  # a container without this tag
                    setattr(self._file, key, text)
        except BaseException as error:
            self._discard()
            if isinstance(error, soundfile.LibsndfileError):
                raise AudioError(
                    f"cannot write {self.path}: {_text(error)} at {sample_rate} Hz, {channels} channels, "
                    f"{self.subtype}; choose another format or sampling rate"
                ) from None
            raise

    def write(self, samples: np.ndarray) -> None:
        """Append a block. `samples`: (C, n)."""
        if samples.shape[0] != self._file.channels:
            raise AudioError(
                f"cannot write {self.path}: got {samples.shape[0]} channels, expected {self._file.channels}"
            )
        order = xiph.VORBIS_ORDER.get(len(samples)) if self.subtype in ("VORBIS", "OPUS") else None
        for start in range(0, samples.shape[1], _WRITE_FRAMES):
            block = samples[:, start : start + _WRITE_FRAMES]
            block = self._fitted(block if order is None else block[list(order)])
            try:
                self._file.write(block)
            except (soundfile.SoundFileError, AssertionError) as error:
                self._sink.reraise(self.path)
                raise AudioError(f"cannot write {self.path}: {_text(error)}") from None
            self._sink.reraise(self.path)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            self._discard()
            return
        try:
            self._file.close()  # flushes the encoder, which may still find the disk full
            self._sink.reraise(self.path)
            if self._finish is not None:
                self._finish(self._sink, os.fstat(self._sink.fileno()).st_size)
                self._sink.reraise(self.path)
            os.fsync(self._sink.fileno())
            self._sink.close()
            publish(self._temporary, self.path, replace=self.overwrite)
        except BaseException as failure:
            self._discard()
            if isinstance(failure, FileExistsError):
                text = f"cannot write {self.path}: it has come into being meanwhile; name another file"
                raise AudioError(text) from None
            if isinstance(failure, OSError):
                raise cannot_write(self.path, failure) from None
            if isinstance(failure, soundfile.SoundFileError):
                raise AudioError(f"cannot write {self.path}: {_text(failure)}") from None
            raise

    def _fitted(self, samples: np.ndarray) -> np.ndarray:
        """(n, C) in the type that libsndfile stores without rounding, after the checks."""
        if not np.isfinite(samples).all():
            raise AudioError(
                f"cannot write {self.path}: the samples hold NaN or infinity, and PCM would turn them to noise"
            )
        if self.subtype in ("FLOAT", "DOUBLE"):
            return np.ascontiguousarray(samples.T)
        peak = float(np.abs(samples).max(initial=0.0))
        if peak > 1.0:
            raise AudioError(
                f"cannot write {self.path}: the peak is {peak:.4f} of full scale, which {self.subtype} would clip; "
                "scale the samples, or write WAV with subtype FLOAT"
            )
        if not self.subtype.startswith("PCM_"):
            return np.ascontiguousarray(samples.T)
        bits = _DEPTH[self.subtype]
        top = 2 ** (bits - 1)
        steps = np.clip(np.rint(samples.T.astype(np.float64) * top), -top, top - 1).astype(np.int64)
        stored, width = (np.int16, 16) if bits <= 16 else (np.int32, 32)
        return np.ascontiguousarray((steps << (width - bits)).astype(stored))

    def _discard(self) -> None:
        self._sink.mute = True
        if hasattr(self, "_file"):
            with contextlib.suppress(soundfile.SoundFileError):
                self._file.close()
        self._sink.close()
        self._temporary.unlink(missing_ok=True)


def _depth(subtype: str) -> int:
    """Bits of resolution of a subtype; those of a lossless codec of FFmpeg's stand in its name ('WAVPACK_32')."""
    last = subtype.rpartition("_")[2]
    known = _DEPTH.get(subtype) or _DEPTH.get(last)
    return known or (int(last) if last in ("8", "16", "20", "24", "32") else 24)


def _text(error: BaseException) -> str:
    return str(getattr(error, "error_string", error)).removeprefix("Error : ").rstrip(". ") or "the encoder failed"
