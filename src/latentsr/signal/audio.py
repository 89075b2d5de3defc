"""Recordings in and out: read in blocks, resampled sharply, written whole or not at all.

A header is a claim, not a fact: nothing is allocated from it, and a file that holds less than it
declares is an error, not a shorter recording. What libsndfile cannot read goes through PyAV (extra
`av`). The content decides what a file is, never its name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal

import numpy as np
import soxr

from latentsr.signal import carry, containers, foreign, mpeg, opening, riff
from latentsr.signal.containers import AudioError, EmptyAudio, InvalidAudio, TruncatedAudio, UnsupportedAudio
from latentsr.signal.metadata import Metadata, collected
from latentsr.signal.nonfinite import NonFinite, zeroed
from latentsr.signal.opening import HIGHEST_RATE_HZ, LOWEST_RATE_HZ, MAX_CHANNELS
from latentsr.signal.writing import (
    Writer,
    check_format,
    check_writable,
    choose_subtype,
    container,
    depth_note,
    full_scale_gain,
    write,
)

__all__ = [
    "Audio",
    "AudioError",
    "EmptyAudio",
    "Info",
    "HIGHEST_RATE_HZ",
    "InvalidAudio",
    "LOWEST_RATE_HZ",
    "MAX_CHANNELS",
    "Reader",
    "TruncatedAudio",
    "UnsupportedAudio",
    "Writer",
    "check_format",
    "check_writable",
    "choose_subtype",
    "container",
    "depth_note",
    "full_scale_gain",
    "output_length",
    "probe",
    "read",
    "resample",
    "write",
]

BLOCK_FRAMES = 65_536
# Above this libsndfile means "length unknown" (a FLAC that was streamed, or whose writer was killed).
UNKNOWN_FRAMES = 2**62
# What may lie behind the samples of a FLAC or Ogg file: tags at the end, and what was read ahead.
BEHIND_BYTES = 65_536
_REPAIR = "fetch a whole copy, or restore what is left with --salvage (salvage=True)"


@dataclass(frozen=True)
class Info:
    """What a recording says about itself; `frames` is None where it does not say."""

    path: Path
    sample_rate: int  # Hz
    channels: int
    frames: int | None  # samples per channel, as declared
    format: str  # libsndfile's, 'WAV', or FFmpeg's
    subtype: str  # libsndfile's, 'PCM_16', or the codec
    metadata: Metadata = field(default_factory=Metadata)

    @property
    def tags(self) -> Mapping[str, str]:
        return self.metadata.tags


@dataclass
class Audio:
    """A decoded recording. `samples`: (C, T) float32, full scale 1.0."""

    samples: np.ndarray
    sample_rate: int  # Hz
    subtype: str
    format: str
    path: Path
    metadata: Metadata = field(default_factory=Metadata)
    notes: list[str] = field(default_factory=list)  # what was lost or repaired, a line each

    @property
    def tags(self) -> Mapping[str, str]:
        return self.metadata.tags

    @property
    def seconds(self) -> float:
        return self.samples.shape[-1] / self.sample_rate


def probe(path: str | os.PathLike[str], *, salvage: bool = False) -> Info:
    """Open a recording and say what it claims to be, without decoding it; raise `AudioError` if it is none.

    With `salvage`, a header that claims more than there is is no error.
    """
    with Reader(path, salvage=salvage) as reader:
        return reader.info


def read(
    path: str | os.PathLike[str],
    *,
    max_seconds: float | None = None,
    salvage: bool = False,
    on_nonfinite: Literal["error", "zero"] = "error",
) -> Audio:
    """Decode a whole recording.

    Args:
        path: any file that libsndfile reads; with the extra `av` also m4a, wma, video, ...
        max_seconds: refuse anything longer, counted while decoding, whatever the header says.
        salvage: give what can be decoded of a recording that is cut short or damaged, up to there.
        on_nonfinite: what to do about samples that are NaN or infinite: raise, or put zeros in their place.

    Returns:
        The samples, (C, T) float32, with what is needed to write them back alike, and notes of what was lost.

    Raises:
        AudioError: not audio, or too long; as one of its kinds `TruncatedAudio`, `InvalidAudio` (samples
            that are NaN or infinite), `EmptyAudio`, `UnsupportedAudio`.
    """
    with Reader(path, max_seconds=max_seconds, salvage=salvage, on_nonfinite=on_nonfinite) as reader:
        blocks = list(reader)
        info, notes = reader.info, reader.notes
    samples = np.empty((info.channels, sum(block.shape[1] for block in blocks)), dtype=np.float32)
    end = samples.shape[1]
    while blocks:  # from the back, so that each block is freed as soon as it is copied
        block = blocks.pop()
        samples[:, end - block.shape[1] : end] = block
        end -= block.shape[1]
    return Audio(samples, info.sample_rate, info.subtype, info.format, info.path, info.metadata, notes)


class Reader:
    """A recording as blocks of samples, (C, n) float32 each, in bounded memory; to be iterated over once.

    Iterating raises `InvalidAudio` before a block with NaN or infinity is handed out, and `TruncatedAudio`
    at the end if less came than was declared. The options change that; `notes` then says, once the last
    block was handed out, what was lost or repaired.

    Args:
        path: the recording.
        block_frames: samples per channel in a block; the last one may be shorter.
        max_seconds: refuse anything longer, whatever the header says.
        salvage: stop without an error where a recording is cut short or damaged.
        on_nonfinite: "zero" puts zeros in the place of samples that are NaN or infinite.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        block_frames: int = BLOCK_FRAMES,
        max_seconds: float | None = None,
        salvage: bool = False,
        on_nonfinite: Literal["error", "zero"] = "error",
    ) -> None:
        if on_nonfinite not in ("error", "zero"):
            raise ValueError(f"on_nonfinite must be 'error' or 'zero', got {on_nonfinite!r}")
        self.path = Path(path)
        self.notes: list[str] = []
        self._block_frames, self._max_seconds = block_frames, max_seconds
        self._salvage, self._zero = salvage, on_nonfinite == "zero"
        self._cut: tuple[str, float | None] | None = None  # why, and seconds declared, where the header shows it
        self._unfinished = False  # nothing is missing but the length in the header
        self._bad = NonFinite()
        self._decoder: opening.Decoder | foreign.Decoder | None = None
        self._file = opening.open_regular(self.path)
        try:
            self.info, self._decoder = self._open()
            opening.check_shape(self.path, self.info.channels, self.info.sample_rate)
            if not salvage and (self.info.frames or 0) > self._most:
                raise self._too_long()
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
            if done + block.shape[1] > self._most:
                raise self._too_long()
            if self._bad.look(done, block):
                if not self._zero:
                    raise self._not_finite(done + block.shape[1], blocks)
                block = zeroed(block)
            done += block.shape[1]
            yield block
        self._finish(done)

    @property
    def _most(self) -> float:
        """Samples per channel that are not too many."""
        return float("inf") if self._max_seconds is None else self._max_seconds * self.info.sample_rate

    # --- opening ----------------------------------------------------------------------------------

    def _open(self) -> tuple[Info, opening.Decoder | foreign.Decoder]:
        head = self._file.read(64)
        if not head:
            raise AudioError(f"{self.path} is empty (0 bytes); fetch it again from its source")
        if (kind := containers.foreign(head)) is not None:
            return self._open_foreign(kind, Metadata())
        claim = containers.claim(self._file)
        opening.check_claim(self.path, claim)
        lies = claim is not None and (claim.cut or claim.unfinished)
        ogg_end = containers.ogg_end(self._file)
        survey = mpeg.survey(self._file) if head[:3] == b"ID3" or head[0] == 0xFF else None
        mend = survey.mend if survey is not None else None
        if claim is not None and (lies or claim.data_bytes is None):
            mend = claim.mend
        cut = lies or ogg_end == containers.OGG_CUT
        metadata = carry.found(self._file)
        mends = [*riff.mends(self._file), *([mend] if mend is not None else [])]
        decoder = opening.open_sound(self.path, self._file, head, mends, cut=cut)
        if survey is not None and survey.longer_than(decoder.frames):
            decoder.close()
            return self._open_foreign(containers.Foreign("MP3 without a true length in its header", "mp3"), metadata)
        self._decoder = decoder  # to be closed if what follows raises
        self._compare(decoder, claim if lies else None, survey, ogg_end)
        frames = decoder.frames if decoder.frames < UNKNOWN_FRAMES else None
        metadata = metadata.over(Metadata(collected(decoder.copy_metadata().items())))
        info = Info(self.path, decoder.samplerate, decoder.channels, frames, decoder.format, decoder.subtype, metadata)
        return info, decoder

    def _open_foreign(self, kind: containers.Foreign, metadata: Metadata) -> tuple[Info, foreign.Decoder]:
        decoder = foreign.Decoder(self.path, self._file, kind)
        info = Info(
            self.path,
            decoder.sample_rate,
            decoder.channels,
            decoder.frames,
            decoder.format,
            decoder.subtype,
            metadata.over(decoder.metadata),
        )
        return info, decoder

    def _compare(
        self,
        decoder: opening.Decoder,
        claim: containers.Claim | None,
        survey: mpeg.Survey | None,
        ogg_end: str | None,
    ) -> None:
        """Notice what is cut short before it is decoded. `claim`: only one that the file does not keep."""
        rate, there = decoder.samplerate, decoder.frames / decoder.samplerate
        if claim is not None and claim.unfinished:
            why = f"its header declares 0 bytes of audio, though {claim.present_bytes} bytes follow"
            self._cut_at_once(f"{self.path} was never finished: {why}", why, there, None)
            self._unfinished = True
        elif claim is not None and claim.data_bytes is not None:
            why = f"its header declares {claim.data_bytes} bytes of audio, {claim.present_bytes} are there"
            declared_s = there * claim.data_bytes / max(claim.present_bytes, 1)
            if decoder.subtype.startswith("ALAC") and claim.frames is not None and claim.whole_frames is not None:
                decoder.last_frame = claim.whole_frames
                there, declared_s = claim.whole_frames / rate, claim.frames / rate
            self._cut_at_once(f"{self.path} is cut short: {why}", why, there, declared_s)
        elif survey is not None and survey.cut:
            there, declared_s = survey.counted / rate, decoder.frames / rate
            why = "the file ends before its last frame"
            text = f"{self.path} is cut short: {there:.3f} s of {declared_s:.3f} s are there"
            self._cut_at_once(text, why, there, declared_s)
        elif ogg_end == containers.OGG_CUT:
            self._cut_at_once(f"{self.path} is cut short: {there:.3f} s are there, and {ogg_end}", ogg_end, there, None)
        elif ogg_end is not None:
            self.notes.append(f"{ogg_end}: {there:.3f} s are there, more may be missing")

    def _cut_at_once(self, text: str, why: str, there_s: float, declared_s: float | None) -> None:
        if not self._salvage:
            raise TruncatedAudio(f"{text}; {_REPAIR}", there_s, declared_s)
        self._cut = why, declared_s

    # --- reading ----------------------------------------------------------------------------------

    def _blocks(self) -> Iterator[np.ndarray]:
        assert self._decoder is not None
        while len(block := self._decoder.read_block(self._block_frames)):
            yield block.T

    def _finish(self, done: int) -> None:
        """Compare what came with what was declared; complete the notes."""
        assert self._decoder is not None
        rate, declared, damage = self.info.sample_rate, self.info.frames, self._decoder.damage
        slack = mpeg.SLACK if self.info.subtype.startswith("MPEG") else self._decoder.slack
        why, declared_s = self._cut or (damage, None if declared is None else declared / rate)
        if why is None and declared is not None and done + slack < declared:
            why = "the file ends"
        if why is not None:
            self._lose(done / rate, declared_s, why)
        elif done == 0:
            raise EmptyAudio(f"{self.path} holds no samples; there is nothing to restore")
        if self._bad.count:
            self.notes.append(f"{self._bad.counted()}, replaced by zeros, the first {self._bad.where(rate)}")
        if self._decoder.overrun:
            self.notes.append(f"its header declares {(declared or 0) / rate:.3f} s; there was more, and it was read")
        elif self.info.format in ("FLAC", "OGG") and why is None:
            self._note_what_is_behind()

    def _lose(self, done_s: float, declared_s: float | None, why: str) -> None:
        claimed = "" if declared_s is None else f" of {declared_s:.3f}"
        if self._salvage and done_s:
            kind, rest = ("never finished", "") if self._unfinished else ("cut short", "; the rest is missing")
            self.notes.append(f"{kind}: {done_s:.3f}{claimed} s could be decoded ({why}){rest}")
            return
        remedy = _REPAIR if done_s else "fetch a whole copy"
        raise TruncatedAudio(
            f"{self.path} is damaged or cut short: {done_s:.3f}{claimed and ' s' + claimed} s could be decoded "
            f"({why}); {remedy}",
            done_s,
            declared_s,
        )

    def _note_what_is_behind(self) -> None:
        """libsndfile stops at the declared length: say so where the file goes on."""
        behind = os.fstat(self._file.fileno()).st_size - self._file.tell()
        if behind > BEHIND_BYTES:
            self.notes.append(f"{behind} bytes lie behind the length that its header declares, and were not read")

    def _too_long(self) -> AudioError:
        return AudioError(f"{self.path} is longer than {self._max_seconds:g} s; cut it into shorter pieces")

    def _not_finite(self, done: int, rest: Iterator[np.ndarray]) -> InvalidAudio:
        """The error, with all such samples counted: what is in `rest`, from sample `done` on, is decoded for it."""
        for block in rest:
            if done + block.shape[1] > self._most:
                break
            self._bad.look(done, block)
            done += block.shape[1]
        return InvalidAudio(
            f"{self.path} has {self._bad.counted()}, the first {self._bad.where(self.info.sample_rate)}; "
            'export it again, or put zeros in their place with --on-nonfinite zero (on_nonfinite="zero")',
            self._bad.count,
            self._bad.first,
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
