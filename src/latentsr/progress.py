"""Progress in seconds of audio."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from latentsr.config import AUDIO

Progress = Callable[[float, float], None]  # (seconds done, seconds in all)

DIFFUSION_SHARE = 0.8  # of the work, where there is diffusion


class Bar:
    """Progress in seconds of audio: a bar of our own, or the caller's function."""

    def __init__(self, make: Callable[..., Any], seconds: float, progress: Progress | None) -> None:
        self.make, self.seconds, self.progress, self.done = make, seconds, progress, 0.0

    def __enter__(self) -> Bar:
        self.bar = self.make(total=self.seconds) if self.progress is None else None
        self.update(0, 0)
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def update(self, diffused: int, decoded: int) -> None:
        """Take over what the restorer has done, in samples."""
        share = DIFFUSION_SHARE * diffused + (1 - DIFFUSION_SHARE) * decoded if diffused else decoded
        before, self.done = self.done, min(share / AUDIO.sample_rate, self.seconds)
        if self.bar is not None:
            self.bar.update(self.done - before)
        elif self.progress is not None:
            self.progress(self.done, self.seconds)
