"""What a system does to recordings that need nothing: a full band, its own result once more, and silence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from latentsr.config import AUDIO
from latentsr.evaluation.benchmark import Comparison, System
from latentsr.evaluation.clip_cases import load_cases
from latentsr.evaluation.columns import Record
from latentsr.evaluation.inputs import Input
from latentsr.evaluation.metrics import LIMIT_DB
from latentsr.evaluation.noises import Wave
from latentsr.evaluation.references import EvaluationError
from latentsr.evaluation.scoring import Case

FULL_HZ = 20_000.0  # a recording that reaches so far has its band
CLIPS = 3  # of each kind of input
SILENCE_S = 1.0


def harm(compared: Comparison) -> list[Record]:
    """One record per system that can be asked: what it changes, dB against the input, the worst of `CLIPS` clips.

    `full_band_db` is of references that reach 20 kHz, `again_db` of its own results, restored once more, `silence_db`
    the peak, dB of full scale, of what it makes of digital silence. -200: nothing at all; None: it cannot be said, and
    `why` says why.
    """
    asked = [system for system in compared.systems if system.timed and not system.of_truth]
    if not asked:
        return []
    found = [cases[0] for clip in compared.clips[: 4 * CLIPS] if (cases := load_cases(clip, compared.conditions))]
    full = [case for case in found if case.bandwidth_hz >= FULL_HZ][:CLIPS]
    return [_of_system(system, full, found[:CLIPS]) for system in asked]


def _of_system(system: System, full: Sequence[Case], cut: Sequence[Case]) -> Record:
    record: Record = {"system": system.name, "full_band_db": None, "again_db": None, "silence_db": None, "why": None}
    try:
        wide = [_changed_db(case.truth, _asked(system, case, case.truth)) for case in full]
        record["full_band_db"] = max(wide, default=None)
        firsts = [(case, system.run(case)[0]) for case in cut]
        record["again_db"] = max((_changed_db(wave, _asked(system, case, wave)) for case, wave in firsts), default=None)
        silence = np.zeros(round(SILENCE_S * AUDIO.sample_rate))
        if cut:
            record["silence_db"] = _db(float(np.abs(_asked(system, cut[0], silence)).max()))
        if not full:
            record["why"] = f"no clip looked at reaches {FULL_HZ / 1000:g} kHz"
    except (EvaluationError, ValueError) as error:  # that it fails is what there is to say
        record["why"] = str(error)
    return record


def _asked(system: System, case: Case, wave: Wave) -> Wave:
    """What a system makes of a whole wave at 48 kHz; a file holds no more than full scale."""
    gain = 1.0 / max(1.0, float(np.abs(wave).max()))
    whole = replace(case, truth=wave, given=gain * wave, degraded=wave, edge_hz=math.inf, recipe=None, gain=gain)
    return system.run(replace(whole, input=Input(AUDIO.sample_rate / 2)))[0]


def _changed_db(before: Wave, after: Wave) -> float:
    """The energy of the difference against that of the wave, dB."""
    energy = float(before @ before)
    return (
        _db((float((after - before) @ (after - before)) / energy) ** 0.5) if energy else _db(float(np.abs(after).max()))
    )


def _db(amplitude: float) -> float:
    return max(-LIMIT_DB, 20 * math.log10(amplitude)) if amplitude else -LIMIT_DB
