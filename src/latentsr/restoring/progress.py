"""Progress in seconds of audio."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from latentsr.config import AUDIO

Progress = Callable[[float, float], None]  # (seconds done, seconds in all)

DIFFUSION_SHARE = 0.8  # of the work of restoring, where there is diffusion
LISTENING_SHARE = 0.1  # of the work on a file, which is gone through twice
SHAPE = "{desc} {percentage:3.0f}%|{bar}| {n:.1f}/{total:.1f} s [{elapsed}<{remaining}{postfix}]"  # of a bar of tqdm


@contextmanager
def told(
    make: Callable[..., Any] | None, seconds: float | None, progress: Progress | None, listening_share: float = 0.0
) -> Iterator[Told | None]:
    """What to tell progress to; None where nobody wants to know.

    Args:
        make: makes a bar, given its `total`; None: there is none.
        seconds: duration; None while it is not known: then there is no bar, and nothing is told yet.
        progress: to call in the bar's place.
        listening_share: of the whole, for `Told.heard`.
    """
    if progress is not None:
        yield from _whole(Told(progress, seconds, listening_share))
    elif make is not None and seconds is not None:
        with closing(make(total=seconds)) as bar:
            bar.bar_format = SHAPE
            yield from _whole(Told(lambda done_s, _: bar.update(done_s - bar.n), seconds, listening_share))
    else:
        yield None


def _whole(told: Told) -> Iterator[Told]:
    """From nothing to all that there is, whatever is told in between."""
    told(0.0)
    yield told
    told(told.seconds or 0.0)


@dataclass
class Told:
    """Progress as a restoration counts it."""

    progress: Progress
    seconds: float | None
    listening_share: float

    def __call__(self, done_s: float) -> None:
        if self.seconds is not None:
            self.progress(min(done_s, self.seconds), self.seconds)

    def heard(self, samples: int) -> None:
        """So many samples at 48 kHz were listened to."""
        self(self.listening_share * samples / AUDIO.sample_rate)

    def update(self, diffused: int, decoded: int, before_s: float = 0.0) -> None:
        """Take over what a restorer has done, in samples; so many seconds were done before it."""
        share = DIFFUSION_SHARE * diffused + (1 - DIFFUSION_SHARE) * decoded if diffused else decoded
        listened = self.listening_share * (self.seconds or 0.0)
        self(listened + (1 - self.listening_share) * (before_s + share / AUDIO.sample_rate))
