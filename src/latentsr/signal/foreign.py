"""Reading through PyAV (extra `av`) what libsndfile cannot: m4a, aac, wma, video, ..."""

from __future__ import annotations

from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from latentsr.signal.containers import AudioError, Foreign

EXACT = ("mov", "wv", "ape", "dsf")  # demuxers whose length is written in the file, not guessed from a bit rate
SLACK_S = 0.1  # seconds by which a container's declared length may exceed what its codec delivers

_TAGS = {"track": "tracknumber"} | {
    key: key for key in ("title", "artist", "album", "date", "genre", "comment", "copyright", "license", "tracknumber")
}


class Decoder:
    """The first audio stream of a file, read block by block with soundfile's `read` and `close`.

    Args:
        path: named in errors only.
        file: the open file; FFmpeg gets no name, and so cannot be led to another file or address.
        kind: what the file is, with the one demuxer that may be tried.
    """

    def __init__(self, path: Path, file: FileIO, kind: Foreign) -> None:
        try:
            import av
        except ImportError:
            raise AudioError(f"{path} is {kind.label}, which needs an extra: pip install 'latentsr[av]'") from None
        self._path, self._av = path, av
        try:
            self._container = av.open(file, mode="r", format=kind.demuxer, metadata_errors="replace")
        except (av.FFmpegError, ValueError) as error:
            raise AudioError(f"{path} is {kind.label} that cannot be read ({_reason(error)}); fetch it again") from None
        if not self._container.streams.audio:
            self._container.close()
            raise AudioError(f"{path} has no audio track; choose a file that holds sound")
        stream = self._container.streams.audio[0]
        self._frames = self._decoded(stream)
        self._rest = np.empty((0, stream.channels), dtype=np.float32)
        self._done = 0
        self.sample_rate: int = stream.rate or 0
        self.channels: int = stream.channels
        self.frames = _declared_frames(stream, kind.demuxer)
        self.format = kind.label
        self.subtype: str = stream.codec_context.name.upper()
        known = {**self._container.metadata, **stream.metadata}
        self.tags = {_TAGS[key.lower()]: text for key, text in known.items() if key.lower() in _TAGS}

    def read(self, frames: int, dtype: str = "float32", always_2d: bool = True) -> np.ndarray:
        """The next (n, C) samples, n <= `frames`; n = 0 at the end."""
        del dtype, always_2d  # always float32 and two-dimensional; named to match soundfile
        blocks, have = [self._rest], len(self._rest)
        while have < frames and (block := next(self._frames, None)) is not None:
            blocks.append(block)
            have += len(block)
        joined = np.concatenate(blocks)
        if self.frames is not None:  # a codec's last frame is padded beyond the length in the file
            joined = joined[: self.frames - self._done]
        self._rest = joined[frames:]
        self._done += min(frames, len(joined))
        return joined[:frames]

    def close(self) -> None:
        """Let go of FFmpeg's memory."""
        self._container.close()

    def _decoded(self, stream: Any) -> Iterator[np.ndarray]:
        resampler = self._av.AudioResampler(format="fltp")
        try:
            for frame in self._container.decode(stream):
                if len(frame.layout.channels) != self.channels:
                    raise AudioError(f"{self._path} changes its number of channels midway; convert it to WAV first")
                for planar in resampler.resample(frame):
                    yield planar.to_ndarray().T.astype(np.float32, copy=False)
        except self._av.FFmpegError as error:
            raise AudioError(
                f"{self._path} is damaged or cut short ({_reason(error)}); fetch a whole copy of it"
            ) from None


def slack(decoder: Any) -> int:
    """Samples by which this decoder's declared length may be too long: 0 for libsndfile's."""
    return round(SLACK_S * decoder.sample_rate) if isinstance(decoder, Decoder) else 0


def _declared_frames(stream: Any, demuxer: str) -> int | None:
    if demuxer not in EXACT or stream.duration is None:
        return None
    return int(stream.duration * stream.time_base * stream.rate)


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).rstrip(". ")
