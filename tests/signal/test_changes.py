"""Where a band changes: few changes, in the right place, and what stands out of a dull stretch."""

import numpy as np
import pytest

from latentsr.signal.bandedges import events, likeliest_path, placed
from latentsr.signal.bandframes import BINS


def evidence(classes, length, strength, doubt=0.0, seed=0):
    """Windows that are for one class each; a share of them for any other."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(classes, length)
    wrong = rng.random(len(truth)) < doubt
    seen = np.where(wrong, rng.integers(0, 10, len(truth)), truth)
    table = np.zeros((len(truth), 10), np.float32)
    table[np.arange(len(truth)), seen] = strength
    return table, truth


def test_a_change_that_lasts_is_followed():
    table, truth = evidence([2, 7, 2], 8, 3.0)
    assert (likeliest_path(table, 9.0) == truth).all()


@pytest.mark.parametrize("seed", range(5))
def test_a_fifth_of_wrong_windows_makes_no_flutter(seed):
    table, truth = evidence([4], 60, 3.0, doubt=0.2, seed=seed)
    assert (likeliest_path(table, 9.0) == truth).all()


def frames(length, cutoff_bin, floor_db=-90.0, seed=0):
    """A programme that falls with frequency, moves in time, and ends at a bin."""
    rng = np.random.default_rng(seed)
    level = rng.uniform(-15, 0, (length, 1)) - 0.15 * np.arange(BINS) + rng.normal(0, 3, (length, BINS))
    level[:, cutoff_bin:] = -400
    return (10 * np.log10(10 ** (level / 10) + 10 ** ((floor_db + rng.normal(0, 1, level.shape)) / 10))).astype(
        np.float32
    )


@pytest.mark.parametrize("at", [37, 44, 50])
def test_a_change_is_placed_to_a_frame(at):
    whole = np.concatenate([frames(at, 40), frames(100 - at, BINS, seed=1) - 20])
    assert abs(placed(whole, 44, 3_750, 24_000) - at) <= 1


def test_what_goes_beyond_for_a_moment_is_found():
    whole = frames(100, 40)
    whole[60:64] = frames(4, BINS, seed=1) - 20
    assert events(whole, 3_750, 24_000) == [(60, 64)]


def test_clicks_and_images_are_no_events():
    clicks = frames(100, 40)
    clicks[[20, 50, 51]] = -30
    assert events(clicks, 3_750, 24_000) == []
    images = frames(100, 40)
    images[:, 43:80] = np.maximum(images[:, 43:80], images[:, 37:0:-1] - 15)
    assert events(images, 3_750, 24_000) == []
