"""Batches come in order, ahead of time, and errors where they belong."""

import threading
import time

import pytest

from latentsr.data.prefetch import prefetch


@pytest.mark.parametrize("workers", [1, 3])
def test_steps_come_in_order_from_the_start_step(workers):
    def make_batch(step):
        time.sleep(0.002 * (step % 3))
        return step

    with prefetch(make_batch, start_step=7, depth=4, workers=workers) as batches:
        assert [next(batches) for _ in range(12)] == list(range(7, 19))


def test_never_more_than_depth_ahead():
    made = []
    with prefetch(lambda step: made.append(step), start_step=0, depth=3) as batches:
        next(batches)
        time.sleep(0.05)
        assert made == [0, 1, 2, 3]


def test_an_error_is_raised_at_its_step():
    def make_batch(step):
        if step == 2:
            raise OSError("disk gone")
        return step

    batches = prefetch(make_batch, start_step=0, depth=4)
    assert [next(batches), next(batches)] == [0, 1]
    with pytest.raises(OSError, match="disk gone"):
        next(batches)
    assert list(batches) == []


def test_closing_leaves_no_thread():
    batches = prefetch(lambda step: step, start_step=0)
    next(batches)
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


@pytest.mark.parametrize("arguments", [{"depth": 0}, {"workers": 0}])
def test_nothing_ahead_is_refused(arguments):
    with pytest.raises(ValueError, match="must be at least 1"):
        prefetch(lambda step: step, start_step=0, **arguments)
