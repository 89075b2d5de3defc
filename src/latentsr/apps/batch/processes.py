"""The engine `local`: worker processes on this machine, each with a model, and a supervisor that outlives all."""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from latentsr.apps.batch.journal import BatchError, Journal
from latentsr.apps.batch.plan import Item
from latentsr.apps.batch.protocol import Event, Replaced, Working
from latentsr.apps.batch.worker import ALONE, LONGER, Outcome, Progress, Setup, Worker, outcome_of
from latentsr.apps.children import STILLBORN, BrokenError, Child, GoneError, kill_all, say, wait_for
from latentsr.apps.loading import THREADS

PROGRESS_S = 0.5


def run(setup: Setup, items: Sequence[Item], workers: int | None, address: str | None) -> Generator[Event, None, None]:
    """The engine `local`; `address` is of no meaning here."""
    pool = _Pool(setup, items, workers or 1)
    try:
        yield from pool.events()
    finally:
        kill_all([slot.child for slot in pool.slots])


@dataclass
class _Slot:
    """A worker's place, which it leaves to the one that replaces it."""

    number: int
    child: Child
    item: Item | None = None  # that it has in hand


class _Pool:
    def __init__(self, setup: Setup, items: Sequence[Item], workers: int) -> None:
        self.setup = setup
        self.queue = deque(items)
        self.tries: Counter[str] = Counter()
        self.stillborn = 0
        self.journal = Journal(setup.dest, setup.run)
        self.slots = [_Slot(number, _start(setup, number)) for number in range(min(workers, len(items)))]

    def events(self) -> Generator[Event, None, None]:
        while self.slots:
            wait_for([slot.child for slot in self.slots])
            for slot in self.slots:
                yield from self._attend(slot)
            self.slots = [slot for slot in self.slots if not slot.child.closed]

    def _attend(self, slot: _Slot) -> Generator[Event, None, None]:
        try:
            while not slot.child.closed and (message := slot.child.hear()) is not None:
                yield from self._heard(slot, message)
        except BrokenError as error:
            raise BatchError(str(error)) from None
        except GoneError as error:
            yield from self._lost(slot, f"its worker {error}", ALONE)
        except TypeError:  # words that no event has
            yield from self._lost(slot, "its worker made no sense any more", ALONE)
        else:
            if slot.child.late:
                yield from self._lost(slot, f"took longer than {self.setup.timeout_s:g} s", LONGER)

    def _heard(self, slot: _Slot, message: dict[str, Any]) -> Generator[Event, None, None]:
        self.stillborn = 0
        if (working := message.get("working")) is not None and slot.item is not None:
            yield Working(slot.item.name, *working)
            return
        if (outcome := message.get("outcome")) is not None:
            slot.item = None
            yield Outcome(**outcome)
        if self.queue:
            slot.item = self.queue.popleft()
            slot.child.send(slot.item.to_dict(), self.setup.timeout_s)
        else:
            slot.child.kill()  # it has nothing in hand, and would take its time to take torch apart

    def _lost(self, slot: _Slot, cause: str, next_step: str) -> Generator[Event, None, None]:
        slot.child.kill()
        if slot.item is not None:
            outcome = self._try_again(slot.item, cause, next_step)
            if outcome is not None:
                yield outcome
        if not slot.child.ready:
            self.stillborn += 1
            if self.stillborn >= STILLBORN:
                raise BatchError(f"workers end before they have loaded the model: {cause}; try fewer --workers")
        if self.queue:
            slot.child, slot.item = _start(self.setup, slot.number), None
            yield Replaced(cause)

    def _try_again(self, item: Item, cause: str, next_step: str) -> Outcome | None:
        """Put a file whose worker was lost to the end of the queue; its outcome where that was its last try."""
        self.journal.refresh()
        last = self.journal.histories[item.name].last
        if last is not None and last["run"] == self.setup.run:  # it died behind its last word, which got lost
            return outcome_of(last)
        self.tries[item.name] += 1
        if self.tries[item.name] < self.setup.tries:
            self.journal.append("lost", item.name, error=cause)
            self.queue.append(item)
            return None
        times = f", {self.setup.tries} times over" if self.setup.tries > 1 else ""
        error = f"{item.source}: {cause}{times}; {next_step}"
        self.journal.append("failed", item.name, error=error)
        return Outcome(item.name, "failed", error=error)


def _start(setup: Setup, number: int) -> Child:
    surroundings = {} if THREADS in os.environ else {THREADS: str(setup.threads)}
    if setup.gpus:
        surroundings["CUDA_VISIBLE_DEVICES"] = setup.gpus[number % len(setup.gpus)]
    return Child(partial(Worker, setup), _answer, surroundings)


def _answer(worker: Worker, item: dict[str, Any], pipe: Connection) -> dict[str, Any]:
    return {"outcome": asdict(worker(Item.of(item), _reporter(pipe)))}


def _reporter(pipe: Connection) -> Progress:
    said = 0.0

    def progress(done_s: float, total_s: float) -> None:
        nonlocal said
        if time.monotonic() - said > PROGRESS_S:
            said = time.monotonic()
            say(pipe, working=[done_s, total_s])

    return progress
