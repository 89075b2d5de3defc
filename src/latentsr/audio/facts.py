"""What is asked of a recording that is read, and what is known of it then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypedDict

import numpy as np

from latentsr.audio.tags.metadata import Metadata

ODD_PEAK = 16.0  # times full scale: no mix is as loud


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


@dataclass(frozen=True)
class Account:
    """What was read of a recording, by whom."""

    decoder: str  # "libsndfile" or "FFmpeg"
    container: str
    codec: str
    parts: int  # recordings joined in the file
    frames_declared: int | None  # samples per channel by its header; None: it does not say
    frames_decoded: int  # and given out
    seconds: float
    bytes_unread: int  # that are neither sound nor tags
    delay_removed: int  # samples, the codec's own, per part

    def in_words(self) -> str:
        """One line of it.

        >>> Account("FFmpeg", "AAC", "AAC", 1, None, 48000, 1.0, 7, 1024).in_words()
        'AAC by FFmpeg, no length declared, 1.000 s counted, 1024 samples of delay removed, 7 bytes not read'
        """
        what = self.container if self.codec in self.container else f"{self.container} ({self.codec})"
        joined = f", {self.parts} parts" if self.parts > 1 else ""
        length = f"{self.seconds:.3f} s"
        length = f"no length declared, {length} counted" if self.frames_declared is None else length
        delay = f", {self.delay_removed} samples of delay removed" if self.delay_removed else ""
        rest = f", {self.bytes_unread} bytes not read" if self.bytes_unread else ""
        return f"{what} by {self.decoder}{joined}, {length}{delay}{rest}"


class Asks(TypedDict, total=False):
    """The keywords of `Reader`, `read`, `probe` and `SourceFile`: see `How`."""

    max_seconds: float | None
    salvage: bool
    on_nonfinite: Literal["error", "zero"]
    track: int
    no_timeline: bool


@dataclass(frozen=True)
class How:
    """How to read a recording.

    Attributes:
        max_seconds: refuse anything longer, counted while decoding, whatever the header says.
        salvage: give what can be decoded of a recording that is cut short or damaged, without an error.
        on_nonfinite: what to do about samples that are NaN or infinite: raise, or put zeros in their place.
        track: which audio track of several, from 1 on.
        no_timeline: leave out the silence where the time line of a video has no sound.
    """

    max_seconds: float | None = None
    salvage: bool = False
    on_nonfinite: Literal["error", "zero"] = "error"
    track: int = 1
    no_timeline: bool = False

    def __post_init__(self) -> None:
        if self.on_nonfinite not in ("error", "zero"):
            raise ValueError(f"on_nonfinite must be 'error' or 'zero', got {self.on_nonfinite!r}")
        if self.track < 1:
            raise ValueError(f"track must be 1 or more, got {self.track!r}")


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
    account: Account | None = None  # what was read, by whom

    @property
    def tags(self) -> Mapping[str, str]:
        return self.metadata.tags

    @property
    def seconds(self) -> float:
        return self.samples.shape[-1] / self.sample_rate


def odd_scale(subtype: str, peak: float) -> list[str]:
    """What should be known of a full scale that the file cannot say, and of bits that float32 does not hold."""
    notes = ["64-bit float was read as 32-bit float"] if subtype in ("DOUBLE", "PCM_F64LE", "PCM_F64BE") else []
    if subtype in ("FLOAT", "DOUBLE") and peak > ODD_PEAK:
        notes.append(f"its largest sample is {peak:.0f} times full scale: its full scale may be another than 1.0")
    elif subtype.endswith("_32") and 0 < peak < 2**-7:
        notes.append(f"its largest sample is 1/{1 / peak:.0f} of full scale: these may be fewer bits in 32")
    return notes
