"""One file after another in this process: nothing to set up, and nothing that could survive a decoder that dies."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from types import FrameType
from typing import NoReturn

from latentsr.apps.batch.plan import Item
from latentsr.apps.batch.protocol import Event
from latentsr.apps.batch.worker import LONGER, Outcome, Setup, Worker, alarm


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
        with alarm(worker.setup.timeout_s, _stop):
            return worker(item)
    except _TimeUp:
        cause = f"{item.source}: took longer than {worker.setup.timeout_s:g} s; {LONGER}"
        worker.journal.append("failed", item.name, error=cause)
        return Outcome(item.name, "failed", error=cause)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    """What C code is busy with is finished first."""
    raise _TimeUp
