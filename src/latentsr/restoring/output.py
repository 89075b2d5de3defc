"""What a restoration returns."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from latentsr import audio
from latentsr.audio.tags.metadata import Metadata
from latentsr.config import AUDIO
from latentsr.restoring.analysis import Heard, note_on_cutoff
from latentsr.restoring.source import CutoffTrack, Recording
from latentsr.signal.correlation import Correlation


@dataclass
class RestorationOutput:
    """A restored recording.

    `audio` (C, T) float32 at `sample_rate` Hz, full scale 1.0; `cutoff_hz`, where the source's pass band ended, the
    median over time and channels of what is below full band (half the rate: nothing to do); `cutoff_track`, per channel
    a list of (start_s, cutoff_hz), each until the next begins; `seconds`, its duration; `lines_hz`, the steady tones
    that `denoise` took out; `holes_hz`, from where on the holes of each channel were filled with `repair` (None: it had
    none); `channel_correlation`, how alike the channels were below the cutoff (None: one channel, or
    nothing was made).
    """

    audio: np.ndarray
    sample_rate: int
    cutoff_hz: float
    seconds: float
    subtype: str | None = None  # of the source file
    metadata: Metadata = field(default_factory=Metadata)  # of the source file: tags, pictures, chunks
    lines_hz: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()  # what happened on the way, and what could not be saved of the source
    channel_correlation: Correlation | None = None
    cutoff_track: CutoffTrack = field(default_factory=list)
    holes_hz: tuple[float | None, ...] = ()

    @classmethod
    def of(cls, recording: Recording, audio: np.ndarray, heard: Heard) -> RestorationOutput:
        """A recording as it came, (C, T) at 48 kHz, with what was heard of it."""
        return cls(
            audio, AUDIO.sample_rate, heard.track.cutoff_hz, audio.shape[-1] / AUDIO.sample_rate,
            recording.subtype, recording.metadata, notes=recording.notes, cutoff_track=heard.track.pairs,
            holes_hz=heard.holes_hz,
        )  # fmt: skip

    @property
    def tags(self) -> Mapping[str, str]:
        """Title, artist, ... of the source file."""
        return self.metadata.tags

    @property
    def note(self) -> str | None:
        """What should be known of this result, in one line."""
        return "; ".join(filter(None, (note_on_cutoff(self.cutoff_track), *self.notes))) or None

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        format: str | None = None,
        subtype: str | None = None,
        sample_rate: int | None = None,
    ) -> float:
        """Write the recording at least as deep as its source; return the gain it was written with.

        The gain is 1.0 unless a source above full scale goes into a format that ends there.
        """
        samples, rate = self.audio, sample_rate or self.sample_rate
        if rate != self.sample_rate:
            samples = audio.resample(samples, self.sample_rate, rate)
        target = audio.Target.of(path, format, subtype, like=self.subtype, overwrite=overwrite)
        peak = max(float(samples.max()), -float(samples.min()))  # np.abs would copy a long recording
        gain = target.gain(peak)
        if gain != 1.0:
            samples = samples * np.float32(gain)
        lost = audio.write(target, samples, rate, self.metadata)
        shallow = target.depth_note(self.subtype)
        self.notes = tuple(dict.fromkeys((*self.notes, *((shallow,) if shallow else ()), *lost)))
        return gain
