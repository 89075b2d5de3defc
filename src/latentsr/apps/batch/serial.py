"""One file after another in this process: nothing to set up, and nothing that could survive a decoder that dies."""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from latentsr.apps.batch.engine import Event
from latentsr.apps.batch.plan import Item
from latentsr.apps.batch.worker import Outcome, Setup, Worker


class _TimeUp(BaseException):
    """Not an `Exception`, so that nothing on the way takes it for bad media."""


def run(setup: Setup, items: Sequence[Item], workers: int | None, address: str | None) -> Generator[Event, None, None]:
    """The engine `serial`; `workers` is one, and `address` of no meaning here."""
    worker = Worker(setup)
    try:
        for item in items:
            yield _restored(worker, item)
    finally:
        worker.close()


def _restored(worker: Worker, item: Item) -> Outcome:
    try:
        with _limit(worker.setup.timeout_s):
            return worker(item)
    except _TimeUp:
        cause = f"{item.source}: took longer than {worker.setup.timeout_s:g} s (--timeout)"
        worker.journal.append("failed", item.name, error=cause)
        return Outcome(item.name, "failed", error=cause)


@contextmanager
def _limit(seconds: float | None) -> Iterator[None]:
    """Raise `_TimeUp` in the block when it takes longer; what C code is busy with is finished first."""
    if seconds is None:
        yield
        return

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise _TimeUp

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
