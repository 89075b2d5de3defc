"""What a report lets people hear: which clips, which part of each, at which level, and how it is stored."""

from __future__ import annotations

import io
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import soundfile

from latentsr.evaluation import metrics, spectrogram
from latentsr.evaluation.benchmark import CEILING, Comparison
from latentsr.evaluation.clip_cases import load_cases
from latentsr.evaluation.columns import Record
from latentsr.evaluation.filters import cut_at
from latentsr.evaluation.noises import KEPT_SHARE, Wave
from latentsr.evaluation.references import RATE
from latentsr.evaluation.scoring import Case, Clip, as_tensor, one_thread

TRUTH = "truth"
EXCERPT_S = 6.0
FADE_S = 0.01
PEAK = 0.97  # of full scale; above it all tracks of a clip are turned down alike
CORRELATED = 0.5  # below it the kept bands are no longer copies of each other, and only their energies are compared
SAME_LSD = 1e-3


@dataclass(frozen=True)
class Chosen:
    """A clip to listen to, and why it is."""

    clip: Clip
    why: str


@dataclass
class Track:
    """One recording of a clip: what made it, and the sound and picture of its excerpt."""

    system: str
    wave: Wave  # the excerpt, as it is scored
    lsd: float | None
    gain: float  # that its level was matched by
    cutoffs_hz: tuple[float, ...] = ()  # where its input ends; of what does not depend on the input, where each does
    flac: bytes = b""
    png: bytes = b""


@dataclass
class Material:
    """All tracks of a clip: those that do not depend on the input, and those of each input."""

    chosen: Chosen
    start_s: float
    seconds: float
    always: list[Track] = field(default_factory=list)
    by_input: dict[str, list[Track]] = field(default_factory=dict)
    differing: int = 0  # tracks that came out otherwise than when they were scored

    @property
    def tracks(self) -> list[Track]:
        return [*self.always, *(track for tracks in self.by_input.values() for track in tracks)]


# --- which clips -----------------------------------------------------------------------------------------------------


def choose(clips: Sequence[Clip], records: Sequence[Record], count: int, baseline: str) -> list[Chosen]:
    """Of each group the clip with the median change of LSD from the baseline, then the worst, then the best, and so on.

    A clip's change is the mean over inputs and over all rows but the baseline's and the ceiling's. Groups take turns.
    """
    changes = _changes(records, baseline)
    groups: dict[str, list[Clip]] = {}
    for clip in (clip for clip in clips if clip.name in changes):  # a clip may count under no case
        groups.setdefault(clip.group, []).append(clip)
    turns = [_ranked(sorted(members, key=lambda clip: (changes[clip.name], clip.name))) for members in groups.values()]
    order = [turn[i] for i in range(max(map(len, turns), default=0)) for turn in turns if i < len(turn)]
    return order[:count]


def _changes(records: Sequence[Record], baseline: str) -> dict[str, float]:
    """Mean change of LSD by clip: negative is better than the baseline."""
    lsd = {(r["clip"], r["input"], r["system"]): r["lsd"] for r in records if r["lsd"] is not None}
    found: dict[str, list[float]] = {record["clip"]: [] for record in records}
    for (clip, given, system), value in lsd.items():
        if system != baseline and not system.endswith(CEILING) and (clip, given, baseline) in lsd:
            found[clip].append(value - lsd[clip, given, baseline])
    return {clip: statistics.fmean(values) if values else 0.0 for clip, values in found.items()}


def _ranked(clips: list[Clip]) -> list[Chosen]:
    """Clips from best to worst -> the median, the worst, the best, then the others from the worst on."""
    middle = (len(clips) - 1) // 2
    named = {0: "best", len(clips) - 1: "worst", middle: "median"}  # of one or two clips the first is the median
    order = dict.fromkeys([middle, len(clips) - 1, 0, *reversed(range(len(clips)))])
    total = len(clips)
    return [
        Chosen(
            clips[i], f"{named[i] if i in named else f'rank {i + 1} of {total}'} of {clips[i].group} by change of LSD"
        )
        for i in order
    ]


# --- their tracks ----------------------------------------------------------------------------------------------------


def material(chosen: Chosen, compared: Comparison, records: Sequence[Record]) -> Material:
    """Restore a clip once more and cut out the same excerpt of everything."""
    cases = load_cases(chosen.clip, compared.conditions)
    scored = {(r["input"], r["system"]): r["lsd"] for r in records if r["clip"] == chosen.clip.name}
    start, stop = excerpt(cases[0].truth)
    found = Material(chosen, start / RATE, (stop - start) / RATE)
    ends = tuple(case.told_hz for case in cases)
    found.always.append(Track(TRUTH, cases[0].truth[start:stop], 0.0, 1.0, ends))
    for case in cases:
        tracks = found.by_input.setdefault(case.input.label, [])
        for system in compared.systems:
            if system.of_truth and case is not cases[0]:
                continue
            wave = system.run(case)[0]
            lsd = scored[case.input.label, system.name]
            found.differing += not _as_scored(case, wave, lsd)
            gain = level_gain(case.truth, wave, KEPT_SHARE * case.input.cutoff_hz)
            cut = ends if system.of_truth else (case.told_hz,)
            (found.always if system.of_truth else tracks).append(Track(system.name, wave[start:stop], lsd, gain, cut))
    _encode(found)
    return found


def excerpt(truth: Wave) -> tuple[int, int]:
    """Where its `EXCERPT_S` with the most energy begin and end, samples, in steps of 0.1 s."""
    length, step = min(len(truth), round(EXCERPT_S * RATE)), RATE // 10
    energy = np.concatenate([[0.0], np.cumsum(np.square(truth))])
    starts = np.arange(0, len(truth) - length + 1, step)
    start = int(starts[np.argmax(energy[starts + length] - energy[starts])])
    return start, start + length


def level_gain(truth: Wave, wave: Wave, kept_hz: float) -> float:
    """What to multiply a wave by, so that the band that all systems were given is as loud in it as in the truth.

    Least squares below `kept_hz`, which noise that only one of them has does not disturb; where the two are no copies
    of each other (a vocoder's phases are its own), their energies there are made equal.
    """
    low, other = (cut_at(x, kept_hz) for x in (truth, wave))
    energies, product = (float(low @ low), float(other @ other)), float(low @ other)
    if not all(energies):
        return 1.0
    if product > CORRELATED * (energies[0] * energies[1]) ** 0.5:
        return energies[0] / product
    return float((energies[0] / energies[1]) ** 0.5)


def _as_scored(case: Case, wave: Wave, lsd: float | None) -> bool:
    with one_thread():
        again = metrics.lsd(as_tensor(case.truth), as_tensor(wave), high_hz=case.bandwidth_hz)
    return lsd is None or abs(float(again[0]) - lsd) < SAME_LSD


def _encode(found: Material) -> None:
    """Sound, level-matched, and pictures, of the waves as they are, in one scale of colours for the clip."""
    loudest = max(float(np.abs(track.gain * track.wave).max()) for track in found.tracks)
    down = min(1.0, PEAK / loudest) if loudest else 1.0
    levels = [spectrogram.levels_db(track.wave) for track in found.tracks]
    top_db = max(float(level.max()) for level in levels)
    for track, level in zip(found.tracks, levels, strict=True):
        ramp = np.minimum(1.0, np.arange(len(track.wave)) / (FADE_S * RATE))
        track.flac = flac(down * track.gain * track.wave * ramp * ramp[::-1])
        track.png = spectrogram.png(level, top_db)


def flac(wave: Wave) -> bytes:
    """16-bit FLAC, which every browser plays and which keeps the whole band. (T,)"""
    file = io.BytesIO()
    soundfile.write(file, wave, RATE, format="FLAC", subtype="PCM_16", compression_level=1.0)
    return file.getvalue()
