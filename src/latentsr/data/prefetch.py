"""Make batches in the background, in order, so that the network never waits."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetch(Generic[T], Iterator[T]):
    """make_batch(start_step), make_batch(start_step + 1), ... from one thread, at most `depth` ahead.

    An error in `make_batch` is raised at the step it belongs to. Close it, or use it in a `with`.

    >>> with prefetch(lambda step: step * step, start_step=3) as batches:
    ...     next(batches), next(batches)
    (9, 16)
    """

    def __init__(self, make_batch: Callable[[int], T], start_step: int, depth: int = 2) -> None:
        if depth < 1:
            raise ValueError(f"depth must be at least 1, got {depth}")
        self._make_batch = make_batch
        self._queue: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(depth)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(start_step,), name="prefetch", daemon=True)
        self._thread.start()

    def _work(self, step: int) -> None:
        while not self._stop.is_set():
            try:
                item: tuple[T | None, BaseException | None] = (self._make_batch(step), None)
            except BaseException as error:  # handed to the consumer, who raises it
                item = (None, error)
            self._put(item)
            if item[1] is not None:
                return
            step += 1

    def _put(self, item: tuple[T | None, BaseException | None]) -> None:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def __next__(self) -> T:
        if self._stop.is_set():
            raise StopIteration
        batch, error = self._queue.get()
        if error is not None:
            self.close()
            raise error
        return batch  # type: ignore[return-value]

    def close(self) -> None:
        """Stop the thread; a batch being made is finished first."""
        self._stop.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def __enter__(self) -> Prefetch[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def prefetch(make_batch: Callable[[int], T], start_step: int, depth: int = 2) -> Prefetch[T]:
    """Start a `Prefetch`."""
    return Prefetch(make_batch, start_step, depth)
