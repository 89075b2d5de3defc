"""Scores do not depend on how many processes count them, and what cannot change is computed once."""

import os

import numpy as np
import pytest
import soundfile

from latentsr.evaluation import benchmark, metrics, scoring
from latentsr.evaluation.conditions import Conditions

RATE = 48_000
TIMES = ("seconds",)


@pytest.fixture
def clips(tmp_path):
    for i in range(3):
        soundfile.write(tmp_path / f"{i}.wav", np.random.default_rng(i).normal(0, 0.1, RATE + 1000 * i), RATE)
    return benchmark.find_clips(tmp_path)


def systems():
    halved = benchmark.restored("halved", lambda wave, rate, cutoff_hz: (0.5 * wave, 4000.0))
    return [benchmark.unprocessed(), halved]


@pytest.mark.slow
def test_two_processes_give_the_figures_of_one(clips, monkeypatch):
    monkeypatch.setattr(scoring, "WORTH_S", 0.0)
    conditions = Conditions(cutoffs_hz=(4000, 8000))
    one, two = (benchmark.run(benchmark.Comparison(clips, systems(), conditions), jobs=jobs) for jobs in (1, 2))
    assert len(one) == 12
    assert [{k: v for k, v in r.items() if k not in TIMES} for r in one] == [
        {k: v for k, v in r.items() if k not in TIMES} for r in two
    ]


def test_waves_that_wait_are_bounded(clips, monkeypatch):
    """With no room to wait each clip is scored before the next is restored."""
    monkeypatch.setattr(benchmark, "HELD_BYTES", 0)
    order = []
    watched = benchmark.System("x", lambda case: (order.append(case.clip.name), (case.truth, None))[1])
    monkeypatch.setattr(
        scoring.Scorers, "score", lambda self, tasks: order.append(len(tasks)) or map(scoring.score_task, tasks)
    )
    benchmark.run(benchmark.Comparison(clips, [watched], Conditions(cutoffs_hz=(4000,))), visqol=False, jobs=2)
    assert order == ["0.wav", 1, "1.wav", 1, "2.wav", 1, 0]


def test_what_sees_only_the_truth_is_made_once_a_clip_and_heard_once(clips, monkeypatch):
    made, heard = [], []
    monkeypatch.setattr(scoring, "heard", lambda *_, **__: heard.append(1) or {"visqol": 1.0})
    truth = benchmark.System(
        "ceiling", lambda case: (made.append(1), (np.diff(case.truth, prepend=0), None))[1], of_truth=True
    )
    records = benchmark.run(benchmark.Comparison(clips[:1], [truth], Conditions(cutoffs_hz=(4000, 8000))))
    assert (len(made), len(heard), len(records)) == (1, 1, 2)
    assert records[0]["lsd_hf"] != records[1]["lsd_hf"]  # what depends on the input is not
    assert records[0]["seconds"] == records[1]["seconds"] > 0


def test_a_worker_that_is_killed_is_an_error_with_a_remedy(monkeypatch):
    monkeypatch.setattr(scoring, "WORTH_S", 0.0)
    monkeypatch.setattr(scoring, "_work_s", lambda task: 1.0)
    with scoring.Scorers(2) as scorers, pytest.raises(ValueError, match="was killed.*--jobs 1"):
        scorers.score([Fatal(), Fatal()])


class Fatal:
    """A task that ends the process it arrives in."""

    pairs = ()

    def __reduce__(self):
        return os._exit, (1,)


def test_no_process_is_refused():
    with pytest.raises(ValueError, match="at least 1 process"):
        scoring.Scorers(0)


def test_spectra_that_come_again_are_not_computed_again_and_change_no_figure(clips, monkeypatch):
    computed = []
    real = metrics._new_stft
    monkeypatch.setattr(metrics, "_new_stft", lambda *how: computed.append(how[1:]) or real(*how))
    case = benchmark.load_cases(clips[0], Conditions(cutoffs_hz=(4000,)))[0]
    estimates = [0.5 * case.truth, 0.9 * case.truth]
    each = [scoring.measured(case, estimate) for estimate in estimates]
    alone = len(computed)
    with metrics.remembering():
        assert [scoring.measured(case, estimate) for estimate in estimates] == each
    assert (alone, len(computed) - alone) == (20, 9)  # 3 of truth and input, and 3 of each estimate and its error
