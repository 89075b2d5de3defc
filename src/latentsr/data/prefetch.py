"""Make batches in the background, in order, so that the network never waits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetch(Iterator[T], Generic[T]):
    """make_batch(start_step), make_batch(start_step + 1), ... in this order, without end, at most `depth` ahead.

    An error in `make_batch` is raised at the step it belongs to. Close it, or use it in a `with`.

    Args:
        make_batch: the batch of a step; must not depend on the order of its calls.
        start_step: the first step.
        depth: batches made ahead of the consumer.
        workers: threads; one is enough unless a GPU is faster than a core (resampling and FFTs release the GIL).

    >>> with prefetch(lambda step: step * step, start_step=3) as batches:
    ...     next(batches), next(batches)
    (9, 16)
    """

    def __init__(self, make_batch: Callable[[int], T], start_step: int, depth: int = 2, workers: int = 1) -> None:
        if depth < 1 or workers < 1:
            raise ValueError(f"depth and workers must be at least 1, got {depth} and {workers}")
        self._make_batch = make_batch
        self._next_step = start_step
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="prefetch")
        self._ahead: deque[Future[T]] = deque()
        self._closed = False
        for _ in range(depth):
            self._submit()

    def _submit(self) -> None:
        self._ahead.append(self._pool.submit(self._make_batch, self._next_step))
        self._next_step += 1

    def __next__(self) -> T:
        if self._closed:
            raise StopIteration
        try:
            batch = self._ahead.popleft().result()
        except BaseException:
            self.close()
            raise
        self._submit()
        return batch

    def close(self) -> None:
        """Stop; a batch that is being made is finished first, the others are never begun."""
        self._closed = True
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._ahead.clear()

    def __enter__(self) -> Prefetch[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


prefetch = Prefetch
