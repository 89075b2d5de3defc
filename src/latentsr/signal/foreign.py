"""Reading through PyAV (extra `av`) what libsndfile cannot: m4a, aac, wma, video, ..."""

from __future__ import annotations

from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from latentsr.signal import av_tags, mp4
from latentsr.signal.containers import AudioError, Foreign, TruncatedAudio, UnsupportedAudio

EXACT = ("mov", "wv", "ape", "dsf")  # demuxers whose length is written in the file, not guessed from a bit rate
NEARLY = ("matroska", "asf")  # those whose length is of the container, right to a codec's frame
SLACK_S = 0.1  # seconds by which a container's declared length may exceed what its codec delivers


class Decoder:
    """The first audio stream of a file, read block by block up to the first damage, which `damage` then names.

    Args:
        path: named in errors only.
        file: the open file; FFmpeg gets no name, and so cannot be led to another file or address.
        kind: what the file is, with the one demuxer that may be tried.
    """

    def __init__(self, path: Path, file: FileIO, kind: Foreign) -> None:
        try:
            import av
        except ImportError:
            text = f"{path} is {kind.label}, which needs an extra: pip install 'latentsr[av]'"
            raise UnsupportedAudio(text, extra="av") from None
        self._path, self._av = path, av
        if kind.demuxer == "mov":
            _check_mp4(path, file)
        file.seek(0)
        try:
            self._container = av.open(file, mode="r", format=kind.demuxer, metadata_errors="replace")
        except (av.FFmpegError, ValueError, MemoryError) as error:
            raise AudioError(f"{path} is {kind.label} that cannot be read ({_reason(error)}); fetch it again") from None
        try:
            self._start(kind)
        except BaseException:
            self.close()
            raise

    def _start(self, kind: Foreign) -> None:
        if not self._container.streams.audio:
            raise AudioError(f"{self._path} has no audio track; choose a file that holds sound")
        stream = self._container.streams.audio[0]
        if stream.codec_context is None:
            raise UnsupportedAudio(
                f"{self._path} is {kind.label} in a coding that cannot be decoded here; convert it to WAV or FLAC first"
            )
        self.damage: str | None = None
        self.overrun = False  # more came than the header declares
        self.metadata = av_tags.collect(self._container, stream)  # pictures come before all sound
        self._frames = self._decoded(stream)
        # The rate in the header of an AAC stream can be half of what its decoder delivers: the first frame knows.
        self.sample_rate, self.channels = stream.rate or 0, stream.channels
        first = next(self._frames, None)
        self._rest = np.empty((0, self.channels), dtype=np.float32) if first is None else first
        self._done = 0
        self.frames = _declared_frames(self._container, stream, kind.demuxer, self.sample_rate)
        self._limit = self.frames if kind.demuxer in EXACT else None
        self.slack = round(SLACK_S * self.sample_rate)  # samples by which `frames` may be too many
        self.format = kind.label
        self.subtype: str = av_tags.subtype(stream)

    def read_block(self, frames: int) -> np.ndarray:
        """The next (n, C) samples, n <= `frames`; n = 0 at the end or where nothing more can be decoded."""
        left = frames if self._limit is None else self._limit - self._done
        # Near the declared end a look ahead: a codec's last frame is padded beyond it, but a header may also lie.
        wanted = frames if left > frames else left + self.slack + 1 if self._limit is not None else frames
        blocks, have = [self._rest], len(self._rest)
        while have < wanted and (block := next(self._frames, None)) is not None:
            blocks.append(block)
            have += len(block)
        joined = np.concatenate(blocks)
        if self._limit is not None and len(joined) > left:
            if len(joined) > left + self.slack:
                self._limit, self.overrun = None, True
            else:
                joined = joined[:left]
        self._rest = joined[frames:]
        self._done += min(frames, len(joined))
        return joined[:frames]

    def close(self) -> None:
        """Let go of FFmpeg's memory."""
        self._container.close()

    def _decoded(self, stream: Any) -> Iterator[np.ndarray]:
        resampler = self._av.AudioResampler(format="flt")  # PyAV 18 reads past the 8th plane of planar frames
        shape = None
        try:
            for frame in self._container.decode(stream):
                now = frame.sample_rate, len(frame.layout.channels)
                if shape is None:
                    shape = self.sample_rate, self.channels = now
                elif now != shape:
                    self.damage = f"it goes on with {now[1]} channels at {now[0]} Hz"
                    return
                for packed in resampler.resample(frame):
                    yield packed.to_ndarray().reshape(-1, now[1])
        except (self._av.FFmpegError, ValueError, MemoryError) as error:
            self.damage = _reason(error)


def _check_mp4(path: Path, file: FileIO) -> None:
    if mp4.index_is_lost(file):
        raise TruncatedAudio(
            f"{path} is cut short: its index (moov) is missing, and nothing can be decoded without; fetch a whole copy"
        )
    if (lie := mp4.lie(file)) is not None:
        raise AudioError(f"{path} is damaged: {lie}; fetch it again")


def _declared_frames(container: Any, stream: Any, demuxer: str, rate_hz: int) -> int | None:
    if demuxer in EXACT and stream.duration is not None and stream.time_base:
        return int(stream.duration * stream.time_base * rate_hz)
    if demuxer in NEARLY and container.duration is not None and len(container.streams) == 1:
        late_s = float((stream.start_time or 0) * (stream.time_base or 0))
        return int((container.duration / 1e6 - late_s) * rate_hz)
    return None


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).rstrip(". ")
