"""The queue, and the process with the model: one job at a time, and none that nobody wants."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from latentsr.apps.children import deaf, environment
from latentsr.apps.terminal import warn
from latentsr.apps.web.work import Loads, Order, Result, serve

STILLBORN = 3  # processes in a row that die before they have loaded the model: it will not get better
MESSAGE_BYTES = 2**20
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
        loader: makes the pipeline, over there.
        queue: how many jobs may wait behind the one at work.
        time_limit_s: of one job, from its turn on.
        offline: whether the loader may not go to the Hub.
        on_broken: called with a line when the model cannot be loaded.
    """

    def __init__(
        self,
        loader: Loads,
        queue: int,
        time_limit_s: float,
        offline: bool = True,
        on_broken: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.loader, self.queue, self.time_limit_s, self.offline, self.on_broken = (
            loader, queue, time_limit_s, offline, on_broken,
        )  # fmt: skip
        self.ready = threading.Event()
        self._broken: str | None = None
        self._jobs: deque[Job] = deque()  # the first is at work
        self._lock = threading.Condition()
        self._closing = threading.Event()
        self._process: Any = None  # multiprocessing's SpawnProcess
        self._pipe: Connection | None = None
        # One thread for life: the system ends a spawned process with the thread that started it (children.die_with).
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
            return next((i for i, other in enumerate(self._jobs) if other is job), 0)

    # --- the thread -----------------------------------------------------------------------------------------------

    def _live(self) -> None:
        try:
            while not self._closing.is_set():
                self._get_ready()
                job = self._next()
                if job is not None:
                    self._do(job)
                    self._end(job)
        except Exception as error:  # a fault of ours must not leave people waiting
            self._break(f"{type(error).__name__}: {error}")
        finally:
            self._kill()
            for job in list(self._jobs):
                self._end(job)

    def _next(self) -> Job | None:
        with self._lock:
            if not self._jobs:
                self._lock.wait(1.0)
            job = self._jobs[0] if self._jobs else None
        if self._broken is not None and job is not None:
            job.error = "The model could not be loaded; whoever runs this server can read why in its log"
            self._end(job)
            return None
        return job

    def _get_ready(self) -> None:
        """A process with the model loaded, or `_broken`."""
        stillborn = 0
        while not self._closing.is_set() and self._broken is None and not self._alive():
            self._start()
            message = self._hear(self._closing)
            if message is not None and "ready" in message:
                self.ready.set()
            elif message is not None:
                self._break(str(message.get("broken")))
            elif not self._closing.is_set():
                stillborn += 1
                if stillborn == STILLBORN:
                    self._break("the process with the model ends before the model is loaded")

    def _alive(self) -> bool:
        return self._process is not None and self._process.is_alive() and self.ready.is_set()

    def _start(self) -> None:
        self._kill()
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(self.loader, theirs, os.getpid()), daemon=True)
        with deaf(), environment({"HF_HUB_OFFLINE": "1" if self.offline else "0"}):
            self._process.start()
        theirs.close()

    def _kill(self) -> None:
        self.ready.clear()
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None

    def _break(self, text: str) -> None:
        self._broken = text
        self.on_broken(text)

    def _hear(self, until: threading.Event, deadline: float = float("inf")) -> dict[str, Any] | None:
        """The next message; None once the process is gone, or nobody waits for it any longer."""
        assert self._pipe is not None
        try:
            while not self._pipe.poll(TICK_S):
                if until.is_set() or self._closing.is_set() or time.monotonic() > deadline:
                    return None
            message = json.loads(self._pipe.recv_bytes(MESSAGE_BYTES))
        except (EOFError, OSError, ValueError):
            self._kill()
            return None
        return message if isinstance(message, dict) else None

    def _do(self, job: Job) -> None:
        """One job, to its end or to that of the process."""
        if job.stop.is_set():
            return
        job.what = "Starting"
        deadline = time.monotonic() + self.time_limit_s
        with suppress(OSError):  # it died meanwhile: heard at once
            assert self._pipe is not None
            self._pipe.send_bytes(json.dumps(asdict(job.order)).encode("ascii"))
        while (message := self._hear(job.stop, deadline)) is not None and "working" in message:
            job.fraction, job.what = float(message["working"][0]), str(message["working"][1])
            if job.stop.is_set() or time.monotonic() > deadline:
                message = None
                break
        if message is not None:
            self._take(job, message)
        elif self._process is None:
            job.error = f"{job.order.name} could not be restored: its decoder failed; save it as WAV or FLAC"
        else:
            if time.monotonic() > deadline and not job.stop.is_set():
                job.error = (
                    f"{job.order.name} took longer than {self.time_limit_s:g} s, which is the most; take a shorter "
                    "piece, fewer steps or another head"
                )
            self._halt()

    def _take(self, job: Job, message: dict[str, Any]) -> None:
        if "result" in message:
            job.result = Result(**message["result"])
        elif "error" in message:
            job.error = str(message["error"])
        if "log" in message:
            log = str(message["log"]).strip()
            print(log, file=sys.stderr, flush=True) if os.environ.get("LATENTSR_DEBUG") else warn(log.splitlines()[-1])

    def _halt(self) -> None:
        """Ask the process to stop its work; end it where it does not."""
        with suppress(OSError):
            assert self._pipe is not None
            self._pipe.send_bytes(b"stop")
        deadline = time.monotonic() + GRACE_S
        while (message := self._hear(self._closing, deadline)) is not None and "working" in message:
            pass
        # A result that came just before leaves the word to stop in the pipe: no process to go on with.
        if message is None or "stopped" not in message:
            self._kill()

    def _end(self, job: Job) -> None:
        """Let go of a job; what it left of its work is removed unless it is done."""
        if job.result is None:
            shutil.rmtree(Path(job.order.folder), ignore_errors=True)
        with self._lock:
            if job in self._jobs:
                self._jobs.remove(job)
        job.ended.set()
