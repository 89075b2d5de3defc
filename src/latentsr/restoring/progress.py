"""Progress in seconds of audio."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from latentsr.config import AUDIO

Progress = Callable[[float, float], None]  # (seconds done, seconds in all)

DIFFUSION_SHARE = 0.8  # of the work of restoring, where there is diffusion
LISTENING_SHARE = 0.1  # of the work on a file, which is gone through twice
SHAPE = "{desc} {percentage:3.0f}%|{bar}| {n:.1f}/{total:.1f} s [{elapsed}<{remaining}{postfix}]"  # of a bar of tqdm


class Bar:
    """Progress in seconds of audio: a bar of our own, or the caller's function.

    Args:
        make: makes a bar, given its `total`; None: there is none.
        seconds: duration; None while it is not known, in which case nothing is told yet.
        progress: to call in the bar's place.
        listening_share: of the whole, for `heard`.
    """

    def __init__(
        self,
        make: Callable[..., Any] | None,
        seconds: float | None,
        progress: Progress | None,
        listening_share: float = 0.0,
    ) -> None:
        self.make, self.seconds, self.progress, self.listening_share = make, seconds, progress, listening_share
        self.done = 0.0

    def __enter__(self) -> Bar:
        shown = self.make is not None and self.progress is None and self.seconds is not None
        self.bar = self.make(total=self.seconds) if shown and self.make is not None else None
        if self.bar is not None:
            self.bar.bar_format = SHAPE
        self._tell(0.0)
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        if kind is None:  # all is done, whatever was told before
            self._tell(self.seconds or 0.0)
        if self.bar is not None:
            self.bar.close()

    def heard(self, samples: int) -> None:
        """So many samples at 48 kHz were listened to."""
        self._tell(self.listening_share * samples / AUDIO.sample_rate)

    def update(self, diffused: int, decoded: int, before_s: float = 0.0) -> None:
        """Take over what a restorer has done, in samples; so many seconds were done before it."""
        share = DIFFUSION_SHARE * diffused + (1 - DIFFUSION_SHARE) * decoded if diffused else decoded
        listened = self.listening_share * (self.seconds or 0.0)
        self._tell(listened + (1 - self.listening_share) * (before_s + share / AUDIO.sample_rate))

    def _tell(self, seconds: float) -> None:
        if self.seconds is None:
            return
        before, self.done = self.done, min(seconds, self.seconds)
        if self.bar is not None:
            self.bar.update(self.done - before)
        elif self.progress is not None:
            self.progress(self.done, self.seconds)
