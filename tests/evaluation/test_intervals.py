"""Bootstrap intervals: they hold what they promise, and a seed gives the same ones."""

import numpy as np
import pytest

from latentsr.evaluation import report
from latentsr.evaluation.intervals import difference, interval

FIGURES = [column.source or column.key for column in report.COLUMNS]


def record(clip, system, **figures):
    about = {"clip": clip, "group": "music", "system": system, "cutoff_hz": 4000.0, "input_rate_hz": 48_000}
    about |= {"noise": "none", "input": "4000", "seconds": 1.0, "duration_s": 4.0}
    return about | dict.fromkeys(FIGURES) | figures


def test_95_percent_of_the_intervals_hold_the_mean_of_a_skewed_distribution():
    """300 samples of 40 draws from an exponential of mean 1: three standard errors of 0.95 are 0.038.

    BCa itself is a little too sure on such small samples (0.93 in long runs), so the band reaches lower than higher.
    """
    draws = np.random.default_rng(1).exponential(1.0, (300, 40))
    found = [interval(list(row), name=str(i), resamples=999) for i, row in enumerate(draws)]
    covered = np.mean([low <= 1.0 <= high for low, high in found])
    assert 0.895 < covered < 0.985


def test_the_interval_is_as_wide_as_theory_says():
    values = list(np.random.default_rng(2).normal(5, 2, 400))
    low, high = interval(values)
    standard_error = np.std(values, ddof=1) / 20
    assert high - low == pytest.approx(2 * 1.96 * standard_error, rel=0.1)
    low, high = interval(values, median=True)
    assert low < np.median(values) < high


def test_seed_and_name_decide_and_nothing_else():
    values = list(np.random.default_rng(3).normal(0, 1, 20))
    assert interval(values, seed=1, name="a") == interval(values, seed=1, name="a")
    assert interval(values, seed=1, name="a") != interval(values, seed=2, name="a")
    assert interval(values, seed=1, name="a") != interval(values, seed=1, name="b")


def test_too_few_clips_have_none_and_equal_ones_no_width():
    assert interval([1.0, 2.0, 3.0, 4.0]) is None
    assert interval([2.0] * 9) == (2.0, 2.0)
    low, high = interval([4.1 - 1.1, *[3.0] * 9, 1e-15 + 3.0])  # rounding alone: BCa would give NaN
    assert low == pytest.approx(3) == high


def test_paired_differences_see_what_two_intervals_do_not():
    """Clips differ by far more than the systems do: the two intervals overlap, the paired one leaves out 0."""
    hard = np.random.default_rng(4).normal(2, 1, 30)
    better = hard - 0.1 + np.random.default_rng(5).normal(0, 0.05, 30)
    centre, (low, high) = difference(list(better), list(hard))
    assert low < centre < high < 0
    assert interval(list(better))[1] > interval(list(hard))[0]
    assert difference([1.0, None], [None, 1.0]) == (None, None)


def test_the_summary_holds_intervals_and_differences_from_the_chosen_row():
    rng = np.random.default_rng(6)
    records = []
    for i in range(12):
        hard = float(rng.normal(3, 1))
        records += [
            record(f"{i}", "unprocessed", lsd=hard),
            record(f"{i}", "x", lsd=hard - 1),
            record(f"{i}", "y", lsd=hard),
        ]
    unprocessed, x, y = report.summarise(records, seed=0)
    assert unprocessed["lsd_low"] < unprocessed["lsd"] < unprocessed["lsd_high"]
    assert unprocessed["lsd_vs_baseline"] is None
    assert x["lsd_vs_baseline"] == pytest.approx(-1)
    assert x["lsd_vs_baseline_low"] == pytest.approx(-1)
    assert y["lsd_vs_baseline_high"] == 0
    _, x, y = report.summarise(records, seed=0, baseline="x")
    assert x["lsd_vs_baseline"] is None
    assert y["lsd_vs_baseline"] == pytest.approx(1)
    assert "lsd_low" not in report.summarise(records)[0]


def test_all_clips_together_are_a_group_of_their_own():
    records = [record("a", "x", lsd=1.0), {**record("b", "x", lsd=2.0), "group": "speech"}]
    assert [(row["group"], row["lsd"]) for row in report.summarise(records, overall=True)] == [
        ("music", 1.0), ("speech", 2.0), ("(all)", 1.5)
    ]  # fmt: skip
