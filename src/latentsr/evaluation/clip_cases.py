"""A clip under every input of the conditions: what the systems get, and what is true of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from latentsr.audio import Target, read, resample, write
from latentsr.evaluation import cases
from latentsr.evaluation.cases import CASES
from latentsr.evaluation.conditions import Conditions
from latentsr.evaluation.inputs import Input
from latentsr.evaluation.noises import Wave
from latentsr.evaluation.references import MIN_SAMPLES, RATE, EvaluationError, load_mono
from latentsr.evaluation.resamplers import with_length
from latentsr.evaluation.scoring import Case, Clip


def load_cases(clip: Clip, conditions: Conditions) -> list[Case]:
    """A clip under every input of the conditions, but for those of `cases` that end above the clip's own band."""
    truth = load_mono(clip.path)
    if len(truth) < MIN_SAMPLES:
        raise EvaluationError(
            f"{clip.path} is shorter than {MIN_SAMPLES / RATE:.3f} s; remove the file from the references"
        )
    own_hz = min(clip.bandwidth_hz or _own_band_hz(clip), RATE / 2)
    found = [_case(clip, truth, own_hz, each, conditions) for each in conditions.inputs]
    return [case for case in found if case is not None]


def write_input(folder: Path, case: Case) -> Path:
    """FOLDER/<the input's folder>/<the clip's path>.wav, at the rate and depth of the input; that path."""
    path = (folder / case.input.folder / case.clip.name).with_suffix(".wav")
    path.parent.mkdir(parents=True, exist_ok=True)
    subtype = CASES[case.input.case].subtype if case.input.case else "PCM_16"
    write(Target.of(path, subtype=subtype, overwrite=True), case.given[None].astype(np.float32), case.input.sample_rate)
    return path


def _own_band_hz(clip: Clip) -> float:
    from latentsr.bandwidth import estimate_cutoff

    audio = read(clip.path)
    return float(estimate_cutoff(audio.samples.mean(axis=0, keepdims=True), audio.sample_rate))


def _case(clip: Clip, truth: Wave, own_hz: float, each: Input, conditions: Conditions) -> Case | None:
    operator = conditions.operator(each)
    if each.case:
        return _file(clip, truth, own_hz, each, conditions)
    if each.sample_rate == RATE:
        recipe = conditions.recipe(clip.name, each, truth)
        low = conditions.degrade(truth, recipe, each)
        return Case(clip, truth, own_hz, each, low, low, conditions.edge_hz(each, recipe), operator, recipe)
    given = conditions.at_rate(truth, each.sample_rate, operator or "soxr")
    degraded = with_length(resample(given, each.sample_rate, RATE), len(truth))
    return Case(clip, truth, own_hz, each, given, degraded, each.cutoff_hz, operator)


def _file(clip: Clip, truth: Wave, own_hz: float, each: Input, conditions: Conditions) -> Case | None:
    """None where the clip's own band does not reach far enough beyond the cut to show it."""
    made = CASES[each.case]
    given, rate = made.make(truth, cases.generator(conditions.seed, clip.name, each.case))
    degraded = with_length(resample(given, rate, RATE), len(truth)) / made.gain
    edge_hz = cases.truth_hz(made.cutoff_hz, degraded, truth, own_hz)
    if edge_hz is None:
        return None
    return Case(clip, truth, own_hz, each, given, degraded, edge_hz, conditions.operator(each), gain=made.gain)
