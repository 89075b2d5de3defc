"""Recordings in and out: read in blocks, resampled sharply, written whole or not at all.

A header is a claim, not a fact: nothing is allocated from it, and a file that holds less than it
declares is an error, not a shorter recording. What libsndfile cannot read goes through PyAV (extra
`av`). The content decides what a file is, never its name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from latentsr.audio import decoders, ffmpeg, headers, parts
from latentsr.audio.decoders import HIGHEST_RATE_HZ, LOWEST_RATE_HZ, MAX_CHANNELS
from latentsr.audio.facts import Account, Asks, Audio, How, Info, odd_scale
from latentsr.audio.spans import View, bytes_at, tags_end
from latentsr.audio.tags import ape, carry
from latentsr.audio.tags.metadata import Metadata
from latentsr.errors import AudioError, EmptyAudio, InvalidAudio, TruncatedAudio

BLOCK_FRAMES = 65_536
UNREAD_BYTES = 64  # so few are padding, and no note
_REPAIR = "fetch a whole copy, or restore what is left with --salvage (salvage=True)"


def probe(path: str | os.PathLike[str], **asks: Unpack[Asks]) -> Info:
    """Open a recording and say what it claims to be, without decoding it; raise `AudioError` if it is none.

    With `salvage`, a header that claims more than there is is no error.
    """
    with Reader(path, **asks) as reader:
        return reader.info


def read(path: str | os.PathLike[str], **asks: Unpack[Asks]) -> Audio:
    """Decode a whole recording.

    Args:
        path: any file that libsndfile reads; with the extra `av` also m4a, wma, video, ...
        asks: see `How`.

    Returns:
        The samples, (C, T) float32, with what is needed to write them back alike, and notes of what was lost.

    Raises:
        AudioError: not audio, or too long; as one of its kinds `TruncatedAudio`, `InvalidAudio` (samples
            that are NaN or infinite), `EmptyAudio`, `UnsupportedAudio`.
    """
    with Reader(path, **asks) as reader:
        blocks = list(reader)
        info, notes, account = reader.info, reader.notes, reader.account
    samples = np.empty((info.channels, sum(block.shape[1] for block in blocks)), dtype=np.float32)
    end = samples.shape[1]
    while blocks:  # from the back, so that each block is freed as soon as it is copied
        block = blocks.pop()
        samples[:, end - block.shape[1] : end] = block
        end -= block.shape[1]
    return Audio(samples, info.sample_rate, info.subtype, info.format, info.path, info.metadata, notes, account)


class Reader:
    """A recording as blocks of samples, (C, n) float32 each, in bounded memory; to be iterated over once.

    Iterating raises `InvalidAudio` before a block with NaN or infinity is handed out, and `TruncatedAudio`
    at the end if less came than was declared. The options change that; `notes` then says, once the last
    block was handed out, what was lost or repaired, and `account` what was read.

    Args:
        path: the recording.
        block_frames: samples per channel in a block; the last one may be shorter.
        known: what an earlier reader of the same file found out: tags are not parsed again.
        asks: see `How`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        block_frames: int = BLOCK_FRAMES,
        known: Info | None = None,
        **asks: Unpack[Asks],
    ) -> None:
        self.how = How(**asks)
        self.path = Path(path)
        self.notes: list[str] = []
        self.account: Account | None = None  # known behind the last block
        self.peak = 0.0  # largest absolute sample so far
        self._block_frames, self._known = block_frames, known
        self._cut: tuple[str, float | None] | None = None  # why, and seconds declared, where the header shows it
        self._bad = 0  # samples that are NaN or infinite
        self._first_bad = 0, 0  # sample and channel, from 0, of the first one
        self._decoder: decoders.Decoder | ffmpeg.Decoder | None = None
        self._file = decoders.open_regular(self.path)
        try:
            self.info = self._open()
            limit_s = self.how.max_seconds
            self._most = float("inf") if limit_s is None else limit_s * self.info.sample_rate  # samples per channel
            if not self.how.salvage and (self.info.frames or 0) > self._most:
                raise self._too_long()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
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
            if self._has_bad(block, done):
                if self.how.on_nonfinite == "error":
                    raise self._not_finite(done + block.shape[1], blocks)
                block = np.where(np.isfinite(block), block, np.float32(0))
            self.peak = max(self.peak, float(block.max()), -float(block.min()))
            done += block.shape[1]
            yield block
        self._finish(done)

    # --- opening ----------------------------------------------------------------------------------

    def _open(self) -> Info:
        if not bytes_at(self._file, 0, 1):
            raise AudioError(f"{self.path} is empty (0 bytes); fetch it again from its source")
        if tags_end(self._file, 0) >= os.fstat(self._file.fileno()).st_size:
            raise TruncatedAudio(f"{self.path} holds a tag and no sound; fetch a whole copy")
        self._layout = parts.layout(self._file, self.path)
        first = self._layout.parts[0]
        metadata = self._metadata(first) if self._known is None else self._known.metadata
        decoder = self._decoder_of(first)
        if self._known is None:
            metadata = metadata.over(decoder.metadata).over(Metadata(sample_rate=decoder.samplerate))
        told = decoder.length is not None and len(self._layout.parts) == 1
        frames = max((decoder.length or 0) - decoder.delay, 0) if told else None
        shape = decoder.samplerate, decoder.channels, frames, decoder.format, decoder.subtype
        return Info(self.path, *shape, metadata)

    def _metadata(self, first: parts.Part) -> Metadata:
        """Tags, pictures and chunks of the first part that its decoder does not know, and what stands at both ends."""
        kind, size = self._layout.kind, os.fstat(self._file.fileno()).st_size
        tagged = first.stream is not None or first.start == tags_end(self._file, 0)
        start = 0 if tagged else first.start
        found = Metadata()
        if kind is None or kind.sndfile or bytes_at(self._file, 0, 3) == b"ID3":
            view: Any = self._file if (start, first.end) == (0, size) else View(self._file, start, first.end)
            found = carry.found(view)
        return found.over(ape.read(self._file, size)).checked()

    def _decoder_of(self, part: parts.Part) -> decoders.Decoder | ffmpeg.Decoder:
        which = ffmpeg.Which(self.how.track, not self.how.no_timeline)
        opened = decoders.opened(self.path, self._file, self._layout, part, which)
        self._decoder = opened.decoder  # to be closed if what follows raises
        channels, rate_hz = opened.decoder.channels, opened.decoder.samplerate
        if not 1 <= channels <= MAX_CHANNELS:
            raise AudioError(
                f"{self.path} has {channels} channels, at most {MAX_CHANNELS} can be restored; split it into groups"
            )
        if not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ:
            raise AudioError(
                f"{self.path} declares {rate_hz} Hz; rates from {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ} Hz can be "
                "restored: correct the header or resample the file"
            )
        self._told = opened.told
        self._compare(opened)
        return opened.decoder

    def _compare(self, opened: decoders.Opened) -> None:
        """Notice what is cut short before it is decoded."""
        decoder, claim, stream, ogg_end = opened.decoder, opened.claim, opened.stream, opened.ogg_end
        rate = decoder.samplerate
        there = 0.0 if decoder.length is None else decoder.length / rate
        if claim is not None and claim.unfinished:
            follow = f"though {claim.present_bytes} bytes follow: all were read"
            self.notes.append(f"written into a pipe or never finished: its header declares 0 bytes of audio, {follow}")
        elif claim is not None and claim.data_bytes is not None:
            why = f"its header declares {claim.data_bytes} bytes of audio, {claim.present_bytes} are there"
            declared_s = there * claim.data_bytes / max(claim.present_bytes, 1)
            if decoder.subtype.startswith("ALAC") and claim.frames is not None and claim.whole_frames is not None:
                decoder.last_frame = claim.whole_frames
                there, declared_s = claim.whole_frames / rate, claim.frames / rate
            self._cut_at_once(f"{self.path} is cut short: {why}", why, there, declared_s)
        elif stream is not None and stream.cut:
            declared = decoder.length if (decoder.length or 0) > stream.counted else stream.declared
            there, declared_s = stream.counted / rate, (declared or 0) / rate
            why = "the file ends before its last frame"
            text = f"{self.path} is cut short: {there:.3f} s of {declared_s:.3f} s are there"
            self._cut_at_once(text, why, there, declared_s)
        elif ogg_end == headers.OGG_CUT:
            self._cut_at_once(f"{self.path} is cut short: {there:.3f} s are there, and {ogg_end}", ogg_end, there, None)
        elif ogg_end is not None and len(self._layout.parts) == 1:
            self.notes.append(f"{ogg_end}: {there:.3f} s are there, more may be missing")

    def _cut_at_once(self, text: str, why: str, there_s: float, declared_s: float | None) -> None:
        if not self.how.salvage:
            raise TruncatedAudio(f"{text}; {_REPAIR}", there_s, declared_s)
        self._cut = why, declared_s

    # --- reading ----------------------------------------------------------------------------------

    def _blocks(self) -> Iterator[np.ndarray]:
        self._unread, self._removed = self._layout.unread, 0
        for number, part in enumerate(self._layout.parts):
            decoder = self._decoder
            assert decoder is not None
            if number:
                decoder.close()
                decoder = self._decoder_of(part)
                shape = decoder.channels, decoder.samplerate
                if shape != (self.info.channels, self.info.sample_rate):
                    behind = sum(each.end - each.start for each in self._layout.parts[number:])
                    why = f"it goes on with {shape[0]} channels at {shape[1]} Hz: {behind} bytes were not read"
                    self._cut = why, None
                    self._unread += behind
                    return
            skip = decoder.delay
            while len(block := decoder.read_block(self._block_frames)):
                taken = block[min(skip, len(block)) :]
                skip -= len(block) - len(taken)
                if len(taken):
                    yield taken.T
            self._removed = max(self._removed, decoder.delay - skip + decoder.removed)
            self._unread += decoder.unread
            if decoder.damage is not None and number + 1 < len(self._layout.parts):
                self._cut = self._cut or (f"part {number + 1}: {decoder.damage}", None)
                if not self.how.salvage:
                    return

    def _finish(self, done: int) -> None:
        """Compare what came with what was declared; complete the notes."""
        decoder, info = self._decoder, self.info
        assert decoder is not None
        rate, declared = info.sample_rate, info.frames
        why, declared_s = self._cut or (decoder.damage, None if declared is None else declared / rate)
        if why is None and declared is not None and done + decoder.slack + decoder.left_out < declared:
            why = "the file ends"
        if why is not None:
            self._lose(done / rate, declared_s, why)
        elif done == 0:
            raise EmptyAudio(f"{self.path} holds no samples; there is nothing to restore")
        if self._bad:
            self.notes.append(self._in_words(", replaced by zeros"))
        if decoder.overrun:
            self.notes.append(f"its header declares {(declared or 0) / rate:.3f} s; there was more, and it was read")
        self.notes += decoder.notes
        count = len(self._layout.parts)
        self.account = Account(
            decoder.name, info.format, info.subtype, count, declared if self._told else None, done, done / rate,
            self._unread, self._removed,
        )  # fmt: skip
        if count > 1:
            self.notes.append(f"it is {count} recordings joined; all were read, with the tags of the first")
        if self._unread > UNREAD_BYTES and self._cut is None:
            self.notes.append(f"{self._unread} bytes are neither sound nor tags that are known, and were not read")
        self.notes += odd_scale(info.subtype, self.peak)

    def _lose(self, done_s: float, declared_s: float | None, why: str) -> None:
        claimed = "" if declared_s is None else f" of {declared_s:.3f}"
        if self.how.salvage and done_s:
            self.notes.append(f"cut short: {done_s:.3f}{claimed} s could be decoded ({why}); the rest is missing")
            return
        remedy = _REPAIR if done_s else "fetch a whole copy"
        raise TruncatedAudio(
            f"{self.path} is damaged or cut short: {done_s:.3f}{claimed and ' s' + claimed} s could be decoded "
            f"({why}); {remedy}",
            done_s,
            declared_s,
        )

    def _too_long(self) -> AudioError:
        return AudioError(f"{self.path} is longer than {self.how.max_seconds:g} s; cut it into shorter pieces")

    def _not_finite(self, done: int, rest: Iterator[np.ndarray]) -> InvalidAudio:
        """The error, with all such samples counted: what is in `rest`, from sample `done` on, is decoded for it."""
        for block in rest:
            if done + block.shape[1] > self._most:
                break
            self._has_bad(block, done)
            done += block.shape[1]
        return InvalidAudio(
            f"{self.path} has {self._in_words()}; "
            'export it again, or put zeros in their place with --on-nonfinite zero (on_nonfinite="zero")',
            self._bad,
            self._first_bad[0],
        )

    def _has_bad(self, block: np.ndarray, start: int) -> bool:
        """Count what is NaN or infinite in a block (C, n) from sample number `start` on; whether there is any."""
        if (finite := np.isfinite(block)).all():
            return False
        if not self._bad:
            place = int(np.flatnonzero(~finite.all(axis=0))[0])
            self._first_bad = start + place, int(np.flatnonzero(~finite[:, place])[0])
        self._bad += int((~finite).sum())
        return True

    def _in_words(self, what_became: str = "") -> str:
        (first, channel), one = self._first_bad, self._bad == 1
        what = f"{self._bad} sample{'' if one else 's'} that {'is' if one else 'are'} NaN or infinite{what_became}"
        return f"{what}, the first at {first / self.info.sample_rate:.6f} s (sample {first}, channel {channel + 1})"
