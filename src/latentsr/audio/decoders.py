"""Opening a recording: a regular file, a header that makes sense, and libsndfile on top of it."""

from __future__ import annotations

import os
import stat
import struct
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile

from latentsr.audio import apart, ffmpeg, headers, kinds, mpeg
from latentsr.audio.parts import Layout, Part
from latentsr.audio.spans import View, bytes_at
from latentsr.audio.tags import xiph
from latentsr.audio.tags.metadata import Metadata, collected
from latentsr.errors import AudioError, EmptyAudio, TruncatedAudio, UnsupportedAudio

MAX_CHANNELS = 64
LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 1_000, 768_000
PIECE_FRAMES = 4_096
MAX_FLAC_FRAME = 65_535  # samples
_BEHIND = "what lies behind its last sample is no sound that is known, and was not read"
UNKNOWN_FRAMES = 2**62  # what libsndfile gives out as more is "length unknown": a FLAC that was streamed
_IMPOSSIBLE = "SF_INFO struct incomplete"  # libsndfile's words for a header without rate or channels


@dataclass(frozen=True)
class Opened:
    """A decoder, and what was seen of the part beforehand that it must be compared with."""

    decoder: Decoder | ffmpeg.Decoder
    claim: headers.Claim | None = None  # only one that the file does not keep
    stream: mpeg.Stream | None = None
    ogg_end: str | None = None
    told: bool = True  # the length stands in the file


class Decoder(soundfile.SoundFile):
    """libsndfile, read piece by piece up to the first damage, which is then named by `damage`; channels as in WAV.

    soundfile seeks behind every block it reads, which fails at the end of a FLAC of unknown length. The position in
    `file` is the decoder's: nobody else may move it from now on.
    """

    name = "libsndfile"
    unread = 0  # bytes behind the sound that are neither more of it nor tags
    left_out = 0
    last_frame: int | None = None  # where to stop before libsndfile does: it decodes half a packet of ALAC to noise

    def __init__(
        self, file: BinaryIO, piece_frames: int, stream: mpeg.Stream | None, declared: BinaryIO | None = None
    ) -> None:
        self._piece_frames, self._declared = piece_frames, declared
        self._tail: np.ndarray | None = None  # of `declared`, what `file` did not give
        self.damage: str | None = None
        self.notes: list[str] = []
        self._done = 0
        self.delay = self.removed = 0
        file.seek(0)
        if isinstance(file, FileIO):
            super().__init__(os.dup(file.fileno()), closefd=True)
        else:
            super().__init__(file)
        self.length = self.frames if self.frames < UNKNOWN_FRAMES else None  # samples per channel, as declared
        self.slack = mpeg.SLACK if self.subtype.startswith("MPEG") else 0  # samples by which it may be too long
        self.overrun = False  # more came than the header declares
        self.metadata = Metadata(collected(self.copy_metadata().items()))  # the tags that libsndfile knows
        if stream is not None:
            self.delay, self.removed = stream.delay, stream.removed
            self.length = self.length if stream.layer == 3 else stream.counted

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
                piece = self._piece(min(self._piece_frames, frames - done), self._done + done)
            except soundfile.LibsndfileError as error:
                if self._done + done != self.length:
                    self.damage = _reason(error)
                elif _BEHIND not in self.notes:  # not damage
                    self.notes.append(_BEHIND)
                break
            if not len(piece):
                break
            block[done : done + len(piece)] = piece
            done += len(piece)
        self._done += done
        self.overrun = self.length is not None and self._done > self.length + self.slack
        order = xiph.VORBIS_ORDER.get(self.channels) if self.subtype in ("VORBIS", "OPUS") else None
        return block[:done] if order is None else block[:done, np.argsort(order)]

    def _piece(self, frames: int, at: int) -> np.ndarray:
        """The next (n, C) samples, n <= `frames`, the first of which is the recording's `at`-th."""
        if self._tail is None:
            try:
                return self.read(frames, dtype="float32", always_2d=True)
            except soundfile.LibsndfileError:
                self._tail = self._rest(at)
                if self._tail is None:
                    raise
                self.notes.append(_BEHIND)
        piece, self._tail = self._tail[:frames], self._tail[frames:]
        return piece

    def _rest(self, at: int) -> np.ndarray | None:
        """A last frame of FLAC that the decoder loses to what lies behind it, if it is told the length."""
        missing = (self.length or 0) - at
        if self._declared is not None and 0 < missing <= MAX_FLAC_FRAME:
            with suppress(soundfile.LibsndfileError), soundfile.SoundFile(self._declared) as file:
                file.seek(at)
                rest: np.ndarray = file.read(missing, dtype="float32", always_2d=True)
                return rest if len(rest) == missing else None
        return None


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


def opened(path: Path, file: BinaryIO, layout: Layout, part: Part, which: ffmpeg.Which) -> Opened:
    """The decoder that `kinds` says for a part; raise `AudioError` where nobody finds sound in it."""
    size = file.seek(0, os.SEEK_END)
    whole = (part.start, part.end) == (0, size) and part.stream is None
    view: Any = file if whole else View(file, part.start, part.end)
    kind, head = layout.kind, bytes_at(view, 0, 128)
    if kind is not None and not kind.sndfile:
        return Opened(apart.opened(path, view, part, kind, which))
    if which.track > 1:
        raise AudioError(f"{path} has 1 audio track, and no track {which.track}; choose another with --track")
    claim = ogg_end = samples = None
    declared: Any = None
    seen, told, frames, behind = view, True, 0, 0
    if part.stream is not None:
        seen = View(file, part.stream.start, part.end, part.stream.prefix, part.stream.mends)
        told = bool(part.stream.declared)
    elif head[:4] == b"fLaC" and len(head) >= 26:  # libsndfile would stop at the length in STREAMINFO, true or not
        frames, samples = struct.unpack(">H", head[8:10])[0], int.from_bytes(head[21:26], "big") & 0xFFFFFFFFF
        declared = View(view, 0, part.end - part.start)
        seen = View(view, 0, part.end - part.start, mends=[(21, bytes([head[21] & 0xF0, 0, 0, 0, 0]))])
    elif head[:4] == b"OggS":
        ogg_end = headers.ogg_end(view)
    elif (claim := headers.claim(view)) is not None:
        check_claim(path, claim)
        told, behind = claim.data_bytes is not None, claim.behind_bytes
        if claim.fresh is not None:
            seen = View(view, *claim.fresh)
        elif claim.mend is not None and (claim.cut or not told or claim.next_at):
            seen = View(view, 0, part.end - part.start, mends=[claim.mend])
        claim = claim if claim.cut or claim.unfinished else None
    try:
        decoder = Decoder(seen, frames if frames >= 256 else PIECE_FRAMES, part.stream, declared)
        decoder.unread = behind
        decoder.length = decoder.length if samples is None else samples or None
        return Opened(decoder, claim, part.stream, ogg_end, told)
    except soundfile.LibsndfileError as error:
        refusal = error
    if (claim is not None and claim.cut) or ogg_end == headers.OGG_CUT:
        reason = _reason(refusal)
        text = f"{path} is cut short: nothing of it can be decoded ({reason}); fetch a whole copy"
        raise TruncatedAudio(text) from None
    if kind is None or kind.demuxer is None or _IMPOSSIBLE in refusal.error_string:
        raise AudioError(_why_not_audio(path, head, refusal)) from None
    try:
        other_decoder = apart.opened(path, view, part, kind, which)
        if other_decoder.channels:
            return Opened(other_decoder)
        other_decoder.close()
    except UnsupportedAudio as error:
        if error.extra is None:
            raise
        text = f"{path} is {kind.label} that needs an extra ({_reason(refusal)}): pip install 'latentsr[av]'"
        raise UnsupportedAudio(text, extra=error.extra) from None
    except AudioError:
        pass
    raise AudioError(_why_not_audio(path, head, refusal)) from None


def check_claim(path: Path, claim: headers.Claim | None) -> None:
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
    if claim.data_bytes == 0:
        raise EmptyAudio(f"{path} holds no samples: its header declares 0 bytes of audio; record or copy it again")
    if claim.data_bytes is not None and claim.data_bytes < 0:
        raise AudioError(f"{path} declares {claim.data_bytes} bytes of audio; {remedy}")


def _why_not_audio(path: Path, head: bytes, error: soundfile.LibsndfileError) -> str:
    if (other := kinds.unreadable(head, path)) is not None:
        return f"{path} is {other[0]}, which cannot be decoded here; convert it first: {other[1]}"
    if (kind := kinds.what_else(head)) is not None:
        return f"{path} holds {kind}, not audio; check what was saved under this name"
    return f"{path} is not a recording that can be read ({_reason(error)}); check that it is audio and whole"


def _reason(error: soundfile.LibsndfileError) -> str:
    if _IMPOSSIBLE in error.error_string:
        return "its header declares an impossible sampling rate or number of channels"
    if "File does not exist" in error.error_string or "resource fork" in error.error_string:
        return "its format is not known"  # what libsndfile says of what it takes for half of a Mac's file
    return str(error.error_string).removeprefix("Error : ").rstrip(". ")
