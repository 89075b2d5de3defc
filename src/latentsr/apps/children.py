"""Manners of processes that are spawned to do dangerous work: deaf to Ctrl-C, silent, and gone with their parent."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from latentsr.apps.restore import one_line

PR_SET_PDEATHSIG = 1

Model = TypeVar("Model")


@contextmanager
def deaf() -> Iterator[None]:
    """What is started here never hears of Ctrl-C, which a terminal sends to all: the supervisor decides."""
    resource_tracker.ensure_running()  # starting it opens the ears again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def environment(words: dict[str, str]) -> Iterator[None]:
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


def die_with(supervisor: int) -> None:
    """However the supervisor ends, this process ends too, and writes nothing behind its back."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    def watch() -> None:
        while os.getppid() == supervisor:
            time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def hush() -> None:
    """Decoders print what they think of a damaged file; `LATENTSR_DEBUG` lets them."""
    if not os.environ.get("LATENTSR_DEBUG"):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)


def serve(
    pipe: Connection,
    supervisor: int,
    load: Callable[[], Model],
    answer: Callable[[Model, Callable[..., None]], dict[str, Any]],
) -> None:
    """The life of such a process: load a model, then do what comes over the pipe, until nothing more does.

    What it says is JSON: a decoder taken over by a hostile file can tell the supervisor nothing but text.

    Args:
        pipe: to the supervisor.
        supervisor: its process.
        load: makes the model; then `ready` is said, or `broken` where it fails.
        answer: takes the model and a function that says something, receives one request, and gives what to say of it.
    """
    die_with(supervisor)
    hush()

    def say(**message: Any) -> None:
        pipe.send_bytes(json.dumps(message).encode("ascii"))

    try:
        model = load()
        say(ready=True)
        while True:
            say(**answer(model, say))
    except (EOFError, BrokenPipeError):
        return
    except Exception as error:
        say(broken=one_line(error))
