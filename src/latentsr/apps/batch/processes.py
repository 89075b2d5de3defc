"""Worker processes on this machine, each with a model and a pipe to the supervisor, which outlives all of them.

Processes are spawned: forking beside threads of torch deadlocks. What comes back over a pipe is JSON, so that a
decoder taken over by a hostile file can tell the supervisor nothing but text.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import time
from collections import Counter, deque
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from latentsr.apps.batch.engine import Event, Replaced, Working
from latentsr.apps.batch.journal import BatchError, Journal
from latentsr.apps.batch.plan import Item
from latentsr.apps.batch.worker import Outcome, Setup, Worker, outcome_of
from latentsr.apps.children import deaf, environment, serve

STILLBORN = 3  # workers in a row that die before they have loaded the model: it will not get better
MESSAGE_BYTES = 2**20  # of a worker, at most
PROGRESS_S = 0.5


def run(setup: Setup, items: Sequence[Item], workers: int | None, address: str | None) -> Generator[Event, None, None]:
    """The engine `local`; `address` is of no meaning here."""
    pool = _Pool(setup, items, workers or 1)
    try:
        yield from pool.events()
    finally:
        pool.kill()


@dataclass
class _Slot:
    """A worker as the supervisor sees it."""

    number: int  # its place, which it leaves to the one that replaces it
    process: Any  # multiprocessing's SpawnProcess
    pipe: Connection
    ready: bool = False
    item: Item | None = None
    deadline: float = math.inf  # of the item, by the monotonic clock


class _Pool:
    def __init__(self, setup: Setup, items: Sequence[Item], workers: int) -> None:
        self.setup = setup
        self.queue = deque(items)
        self.tries: Counter[str] = Counter()
        self.stillborn = 0
        self.journal = Journal(setup.dest, setup.run)
        self.slots = [_start(setup, number) for number in range(min(workers, len(items)))]

    def events(self) -> Generator[Event, None, None]:
        while self.slots:
            timeout = max(0.0, min(slot.deadline for slot in self.slots) - time.monotonic())
            wait([s.pipe for s in self.slots], None if timeout == math.inf else timeout)
            for slot in list(self.slots):
                yield from self._attend(slot)
            self.slots = [slot for slot in self.slots if not slot.pipe.closed]

    def kill(self) -> None:
        """End all workers at once and wait until they are gone."""
        for slot in self.slots:
            slot.process.kill()
        for slot in self.slots:
            slot.process.join()
            slot.pipe.close()

    def _attend(self, slot: _Slot) -> Generator[Event, None, None]:
        try:
            while not slot.pipe.closed and slot.pipe.poll():
                message = json.loads(slot.pipe.recv_bytes(MESSAGE_BYTES))
                yield from self._heard(slot, message)
        except (EOFError, OSError, ValueError, TypeError):  # it is gone, or no longer itself
            slot.process.join(1.0)
            yield from self._lost(slot, _cause(slot.process))
            return
        if time.monotonic() > slot.deadline:
            yield from self._lost(slot, f"took longer than {self.setup.timeout_s:g} s (--timeout)")

    def _heard(self, slot: _Slot, message: dict[str, Any]) -> Generator[Event, None, None]:
        if (broken := message.get("broken")) is not None:
            raise BatchError(str(broken))
        if (working := message.get("working")) is not None and slot.item is not None:
            yield Working(slot.item.name, *working)
            return
        if (outcome := message.get("outcome")) is not None:
            slot.item, slot.deadline = None, math.inf
            yield Outcome(**outcome)
        slot.ready, self.stillborn = True, 0
        self._give(slot)

    def _give(self, slot: _Slot) -> None:
        """The next item for a free worker; one for which there is none ends."""
        if not self.queue:
            slot.pipe.close()
            slot.process.kill()  # it has nothing in hand, and would take its time to take torch apart
            slot.process.join()
            return
        slot.item = self.queue.popleft()
        if self.setup.timeout_s is not None:
            slot.deadline = time.monotonic() + self.setup.timeout_s
        with suppress(OSError):  # it died meanwhile: seen at the next look
            slot.pipe.send(slot.item)

    def _lost(self, slot: _Slot, cause: str) -> Generator[Event, None, None]:
        slot.process.kill()
        slot.process.join()
        slot.pipe.close()
        if slot.item is not None:
            outcome = self._try_again(slot.item, cause)
            if outcome is not None:
                yield outcome
        if not slot.ready:
            self.stillborn += 1
            if self.stillborn >= STILLBORN:
                raise BatchError(f"workers end before they have loaded the model: {cause}; try fewer --workers")
        if self.queue:
            self.slots[self.slots.index(slot)] = _start(self.setup, slot.number)
            yield Replaced(cause)

    def _try_again(self, item: Item, cause: str) -> Outcome | None:
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
        error = f"{item.source}: {cause}{times}"
        self.journal.append("failed", item.name, error=error)
        return Outcome(item.name, "failed", error=error)


def _start(setup: Setup, number: int) -> _Slot:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(setup, theirs, os.getpid()), daemon=True)
    surroundings = {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(setup.threads)}
    if setup.gpus:
        surroundings["CUDA_VISIBLE_DEVICES"] = setup.gpus[number % len(setup.gpus)]
    with deaf(), environment(surroundings):
        process.start()
    theirs.close()
    return _Slot(number, process, ours)


def _cause(process: Any) -> str:
    code = process.exitcode
    killed = code is not None and code < 0
    return f"its worker died (signal {-code})" if killed else f"its worker ended (exit code {code})"


def _work(setup: Setup, pipe: Connection, supervisor: int) -> None:
    """The life of a worker: load the model, then restore what comes, until nothing more does."""

    def answer(worker: Worker, say: Any) -> dict[str, Any]:
        return {"outcome": asdict(worker(pipe.recv(), _reporter(say)))}

    serve(pipe, supervisor, lambda: Worker(setup), answer)


def _reporter(say: Any) -> Any:
    said = 0.0

    def progress(done_s: float, total_s: float) -> None:
        nonlocal said
        if time.monotonic() - said > PROGRESS_S:
            said = time.monotonic()
            say(working=[done_s, total_s])

    return progress
