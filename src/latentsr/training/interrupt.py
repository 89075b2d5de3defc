"""SIGINT and SIGTERM as a wish to stop, so that the step in work is finished and saved."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any


class Interrupt:
    """While active, the first SIGINT or SIGTERM sets `happened`; a second one acts as usual."""

    def __init__(self) -> None:
        self.happened = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.happened = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
