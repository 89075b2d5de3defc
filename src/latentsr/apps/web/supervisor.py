"""The queue, and the process with the model: one job at a time, and none that nobody wants."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from latentsr.apps.children import STILLBORN, BrokenError, Child, GoneError
from latentsr.apps.terminal import warn
from latentsr.apps.web.work import Order, Result, answer

GRACE_S = 3.0  # to end by itself; the model would have to be loaded again
TICK_S = 0.05


class QueueFullError(RuntimeError):
    """No more work is taken now."""


@dataclass(eq=False)
class Job:
    """An order on its way: whoever made it looks at the fields until `ended` is set."""

    order: Order
    stop: threading.Event = field(default_factory=threading.Event)  # set by whoever no longer wants it
    ended: threading.Event = field(default_factory=threading.Event)
    fraction: float = 0.0
    what: str = ""  # is being done; empty until its turn has come
    result: Result | None = None
    error: str | None = None  # None and no result: it was stopped


class Engine:
    """Does one job after another in a process that it starts, watches and ends.

    Args:
        loader: makes the pipeline, over there; can be sent to another process.
        queue: how many jobs may wait behind the one at work.
        time_limit_s: of one job, from its turn on.
        offline: whether the loader may not go to the Hub.
        on_broken: called with a line when the model cannot be loaded.
    """

    def __init__(
        self,
        loader: Callable[[], Any],
        queue: int,
        time_limit_s: float,
        offline: bool = True,
        on_broken: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.loader, self.queue, self.time_limit_s, self.offline, self.on_broken = (
            loader, queue, time_limit_s, offline, on_broken,
        )  # fmt: skip
        self.broken: str | None = None  # why the model cannot be loaded
        self._jobs: deque[Job] = deque()  # the first is at work
        self._lock = threading.Condition()
        self._closing = threading.Event()
        self._process: Child | None = None
        # One thread for life: the system ends a child with the thread that started it.
        self._thread = threading.Thread(target=self._live, name="engine", daemon=True)

    def start(self) -> None:
        """Begin to load the model."""
        self._thread.start()

    def close(self) -> None:
        """End whatever is at work, and wait until it is gone."""
        with self._lock:
            self._closing.set()
            self._lock.notify_all()
        self._thread.join()

    def submit(self, order: Order) -> Job:
        """Put work into the queue; raises `QueueFullError`."""
        with self._lock:
            waiting = [job for job in self._jobs if not job.stop.is_set()]
            if len(waiting) > self.queue:
                raise QueueFullError(f"{len(waiting) - 1} recordings are waiting already; try again in a minute")
            job = Job(order)
            self._jobs.append(job)
            self._lock.notify_all()
        return job

    def ahead(self, job: Job) -> int:
        """How many come before this one."""
        with self._lock:
            wanted = [other for other in self._jobs if other is job or not other.stop.is_set()]
        return wanted.index(job) if job in wanted else 0

    # --- the thread -----------------------------------------------------------------------------------------------

    def _live(self) -> None:
        try:
            while not self._closing.is_set():
                process = self._get_ready()
                job = self._next()
                if job is not None:
                    self._do(job, process)
                    self._end(job)
        except Exception as error:  # a fault of ours must not leave people waiting
            self._break(f"{type(error).__name__}: {error}")
        finally:
            if self._process is not None:
                self._process.kill()
            for job in list(self._jobs):
                self._end(job)

    def _get_ready(self) -> Child | None:
        """A process with the model loaded; None where there is none, since it is broken or all is over."""
        stillborn = 0
        while not self._closing.is_set() and self.broken is None:
            if self._process is None or self._process.closed:
                self._process = Child(self.loader, answer, {"HF_HUB_OFFLINE": "1" if self.offline else "0"})
            was_ready = self._process.ready
            try:
                self._process.hear(0.0 if was_ready else TICK_S)  # or it says nothing any more
                if self._process.ready:
                    return self._process
            except BrokenError as error:
                self._break(str(error))
            except GoneError:
                stillborn += not was_ready
                if stillborn == STILLBORN:
                    self._break("the process with the model ends before the model is loaded")
        return None

    def _next(self) -> Job | None:
        with self._lock:
            if not self._jobs:
                self._lock.wait(1.0)
            return self._jobs[0] if self._jobs else None

    def _break(self, text: str) -> None:
        self.broken = text
        self.on_broken(text)

    def _do(self, job: Job, process: Child | None) -> None:
        """One job, to its end or to that of the process."""
        if self.broken is not None:
            job.error = "The model could not be loaded; whoever runs this server can read why in its log"
        if job.stop.is_set() or process is None:
            return
        job.what = "Starting"
        process.send(asdict(job.order), self.time_limit_s)
        try:
            while not (job.stop.is_set() or self._closing.is_set() or process.late):
                if (message := process.hear(TICK_S)) is None:
                    continue
                if "working" not in message:
                    self._take(job, message)
                    return
                job.fraction, job.what = float(message["working"][0]), str(message["working"][1])
            if process.late and not job.stop.is_set():
                job.error = (
                    f"{job.order.name} took longer than {self.time_limit_s:g} s, which is the most; take a shorter "
                    "piece, fewer steps or another head"
                )
            self._halt(process)
        except GoneError:
            job.error = f"{job.order.name} could not be restored: its decoder failed; save it as WAV or FLAC"

    def _take(self, job: Job, message: dict[str, Any]) -> None:
        if "result" in message:
            job.result = Result(**message["result"])
        elif "error" in message:
            job.error = str(message["error"])
        if "log" in message:
            log = str(message["log"]).strip()
            print(log, file=sys.stderr, flush=True) if os.environ.get("LATENTSR_DEBUG") else warn(log.splitlines()[-1])

    def _halt(self, process: Child) -> None:
        """Ask the process to stop its work; end it where it does not."""
        process.send({"stop": True}, GRACE_S)
        message: dict[str, Any] | None = None
        with suppress(GoneError):
            while not (process.late or self._closing.is_set()) and (message is None or "working" in message):
                message = process.hear(TICK_S)
        # A result that came just before leaves the word to stop in the pipe: no process to go on with.
        if message is None or "stopped" not in message:
            process.kill()

    def _end(self, job: Job) -> None:
        """Let go of a job; what it left of its work is removed unless it is done."""
        if job.result is None:
            shutil.rmtree(Path(job.order.folder), ignore_errors=True)
        with self._lock:
            if job in self._jobs:
                self._jobs.remove(job)
        job.ended.set()
