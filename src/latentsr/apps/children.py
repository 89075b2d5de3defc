"""Processes that are spawned to do dangerous work, one piece after another: both ends of such a process.

A `Child` loads a model and does what it is sent. It is deaf to Ctrl-C, silent, and gone with its supervisor. Processes
are spawned: forking beside threads of torch deadlocks. What goes over a pipe is JSON, so that a decoder taken over by a
hostile file can tell the supervisor nothing but text.
"""

from __future__ import annotations

import ctypes
import json
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

from latentsr.apps.restore import one_line

PR_SET_PDEATHSIG = 1
STILLBORN = 3  # children in a row that end before they have loaded the model: it will not get better
MESSAGE_BYTES = 2**20  # of a child, at most

Answer = Callable[[Any, dict[str, Any], Connection], dict[str, Any]]


class GoneError(Exception):
    """A child has ended, or is no longer itself; the message says how."""


class BrokenError(GoneError):
    """A child says itself why it cannot go on: its model does not load."""


class Child:
    """A process of its own, as its supervisor sees it. The thread that made it has to live as long (`_die_with`).

    Args:
        load: makes the model, over there; can be sent to another process, as `answer` can.
        answer: takes the model, one job, and the pipe for what is said meanwhile (`say`), and gives what to say at the
            end of the job.
        surroundings: variables of its environment.
    """

    def __init__(self, load: Callable[[], Any], answer: Answer, surroundings: Mapping[str, str]) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_live, args=(theirs, os.getpid(), load, answer), daemon=True)
        with _deaf(), _environment(surroundings):
            self._process.start()
        theirs.close()
        self.ready = False  # has loaded its model
        self.deadline = math.inf  # of what it has in hand, by the monotonic clock

    @property
    def pid(self) -> int | None:
        return self._process.pid

    @property
    def late(self) -> bool:
        """Whether it should have done by now what it was sent."""
        return time.monotonic() > self.deadline

    @property
    def closed(self) -> bool:
        """Whether `kill` was called."""
        return self._pipe.closed

    def send(self, job: Mapping[str, Any], seconds: float | None = None) -> None:
        """Let it do something, in so many seconds."""
        self.deadline = math.inf if seconds is None else time.monotonic() + seconds
        with suppress(OSError):  # it died meanwhile: `hear` will tell
            self._pipe.send_bytes(json.dumps(job).encode("ascii"))

    def hear(self, patience_s: float = 0.0) -> dict[str, Any] | None:
        """The next message, None where there is none yet; one without `working` is the end of a job.

        Raises:
            GoneError: it has ended, or says what nobody can read; it is killed.
        """
        try:
            if not self._pipe.poll(patience_s):
                return None
            message: dict[str, Any] = json.loads(self._pipe.recv_bytes(MESSAGE_BYTES))
            broken = message.get("broken")
        except (EOFError, OSError, ValueError, AttributeError):
            self._process.join(1.0)
            code = self._process.exitcode
            self.kill()
            raise GoneError(f"died (signal {-code})" if code and code < 0 else f"ended (exit code {code})") from None
        if broken is not None:
            self.kill()
            raise BrokenError(str(broken))
        if "working" not in message:
            self.ready, self.deadline = True, math.inf
        return message

    def end(self, patience_s: float) -> None:
        """Ask it to end, by SIGTERM, so that it can clear up; kill it when that takes too long."""
        try:
            self._process.terminate()
            self._process.join(patience_s)
        finally:
            self.kill()

    def kill(self) -> None:
        """End it at once, and wait until it is gone; safe to call twice."""
        self._process.kill()
        self._process.join()
        self._pipe.close()


def wait_for(children: Sequence[Child]) -> None:
    """Wait until one of the children says something, or is late."""
    first = min(child.deadline for child in children)
    wait([child._pipe for child in children], None if first == math.inf else max(0.0, first - time.monotonic()))


def kill_all(children: Sequence[Child]) -> None:
    """End them at the same time."""
    for child in children:
        child._process.kill()
    for child in children:
        child.kill()


@contextmanager
def _deaf() -> Iterator[None]:
    """What is started here never hears of Ctrl-C, which a terminal sends to all: the supervisor decides."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows: `_live` ignores it, from its first line on
        yield
        return
    resource_tracker.ensure_running()  # starting it opens the ears again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _environment(words: Mapping[str, str]) -> Iterator[None]:
    """What is started here finds these in its environment: libraries read them when they are imported."""
    before = {name: os.environ.get(name) for name in words}
    os.environ.update(words)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


# --- over there -------------------------------------------------------------------------------------------------------


def say(pipe: Connection, **message: Any) -> None:
    """Tell the supervisor."""
    pipe.send_bytes(json.dumps(message).encode("ascii"))


def _live(pipe: Connection, supervisor: int, load: Callable[[], Any], answer: Answer) -> None:
    """The life of a child: load the model, then do what comes over the pipe, until nothing more does."""
    if not hasattr(signal, "pthread_sigmask"):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with(supervisor)
    _hush()
    try:
        model = load()
        say(pipe, ready=True)
        while True:
            say(pipe, **answer(model, json.loads(pipe.recv_bytes()), pipe))
    except (EOFError, BrokenPipeError):
        return
    except Exception as error:
        say(pipe, broken=one_line(error))


def _die_with(supervisor: int) -> None:
    """However the supervisor ends, this process ends too, and writes nothing behind its back."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    def watch() -> None:
        while os.getppid() == supervisor:
            time.sleep(1.0)
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))

    threading.Thread(target=watch, daemon=True).start()


def _hush() -> None:
    """Decoders print what they think of a damaged file; `LATENTSR_DEBUG` lets them."""
    if not os.environ.get("LATENTSR_DEBUG"):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
