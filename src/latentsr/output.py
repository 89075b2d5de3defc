"""What a restoration returns."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from diffusers.utils import BaseOutput

from latentsr.signal import audio
from latentsr.signal.metadata import Metadata

TRAINED_FROM_HZ = 2_000.0  # no head was trained on a cutoff below


@dataclass
class RestorationOutput(BaseOutput):
    """A restored recording.

    `audio` (C, T) float32 at `sample_rate` Hz, full scale 1.0; `cutoff_hz`, where the source's pass band ended (half
    the rate: full band, nothing to do); `seconds`, its duration; `lines_hz`, the steady tones that `denoise` took out.
    """

    audio: np.ndarray
    sample_rate: int
    cutoff_hz: float
    seconds: float
    subtype: str | None = None  # of the source file
    metadata: Metadata = field(default_factory=Metadata)  # of the source file: tags, pictures, chunks
    lines_hz: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()  # what happened on the way, and what could not be saved of the source

    @property
    def tags(self) -> Mapping[str, str]:
        """Title, artist, ... of the source file."""
        return self.metadata.tags

    @property
    def note(self) -> str | None:
        """What should be known of this result, in one line."""
        return "; ".join(filter(None, (note_on_cutoff(self.cutoff_hz), *self.notes))) or None

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
        subtype = subtype or audio.choose_subtype(audio.container(path, format), self.subtype)
        peak = max(float(samples.max()), -float(samples.min()))  # np.abs would copy a long recording
        gain = audio.full_scale_gain(peak, subtype)
        if gain != 1.0:
            samples = samples * np.float32(gain)
        lost = audio.write(
            path, samples, rate, subtype=subtype, format=format, overwrite=overwrite, metadata=self.metadata
        )
        shallow = audio.depth_note(audio.container(path, format), subtype, self.subtype)
        self.notes = tuple(dict.fromkeys((*self.notes, *((shallow,) if shallow else ()), *lost)))
        return gain


def note_on_cutoff(cutoff_hz: float) -> str | None:
    """What should be known of a restoration from this cutoff, in one line."""
    if cutoff_hz >= TRAINED_FROM_HZ:
        return None
    return (
        f"the recording ends at {cutoff_hz:.0f} Hz, and nothing was trained below {TRAINED_FROM_HZ:.0f}: "
        "listen to what was made; if that end is wrong, give the true one (cutoff_hz, --cutoff)"
    )
