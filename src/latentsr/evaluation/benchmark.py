"""One harness for every claim: find references, degrade them, ask each system, score what comes back.

A system is a plain callable, so that the harness can be tested without networks and foreign systems can be rows.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentsr.evaluation.conditions import UNPROCESSED, Conditions, Input, lowpass
from latentsr.evaluation.foreign import output_paths, read_output
from latentsr.evaluation.noises import Wave
from latentsr.evaluation.references import MIN_SAMPLES, RATE, EvaluationError, find_clips, load_mono
from latentsr.evaluation.scoring import OF_NOISE, Case, Clip, Scorers, Task, as_tensor, score
from latentsr.heads import HEADS
from latentsr.signal.audio import output_length, resample, write
from latentsr.signal.bandwidth import estimate_cutoff_hz
from latentsr.signal.degrade import Recipe

__all__ = [
    "OF_NOISE",
    "Case",
    "Clip",
    "EvaluationError",
    "Restore",
    "System",
    "ceiling",
    "find_clips",
    "head_row",
    "head_rows",
    "load_cases",
    "load_mono",
    "model_hash",
    "outputs",
    "restored",
    "run",
    "score",
    "unprocessed",
]

CEILING = "ceiling (VAE + vocoder)"
HELD_BYTES = 384 * 2**20  # of estimates that wait to be scored
LATENTS = "+latents"  # behind the name of a head that can do without them

Restore = Callable[[Wave, int, float | None], tuple[Wave, float | None]]
"""(wave (T,), sample_rate, cutoff_hz or None = estimate it) -> (wave (T,), the cutoff that was used)."""


@dataclass(frozen=True)
class System:
    """A row of the table: what it makes of a case, with the cutoff it used (None where that has no meaning)."""

    name: str
    run: Callable[[Case], tuple[Wave, float | None]]
    timed: bool = True
    of_truth: bool = False  # it sees the truth and not the input: the same for every input of a clip
    asked: Mapping[str, Any] | None = None  # of a pipeline: its head, its steps and what else it is called with


# --- cases ------------------------------------------------------------------------------------------------------------


def load_cases(clip: Clip, conditions: Conditions) -> list[Case]:
    """A clip under every input of the conditions."""
    truth = load_mono(clip.path)
    if len(truth) < MIN_SAMPLES:
        raise EvaluationError(f"{clip.path} is shorter than {MIN_SAMPLES / RATE:.3f} s; remove it from the references")
    own_hz = clip.bandwidth_hz or float(estimate_cutoff_hz(as_tensor(truth).float()[:, None], RATE)[0])
    return [_case(clip, truth, min(own_hz, RATE / 2), each, conditions) for each in conditions.inputs]


def _case(clip: Clip, truth: Wave, bandwidth_hz: float, each: Input, conditions: Conditions) -> Case:
    operator = conditions.operator(each)
    if each.sample_rate == RATE:
        recipe = conditions.recipe(clip.name, each, truth)
        low = conditions.degrade(truth, recipe, each)
        return Case(clip, truth, bandwidth_hz, each, low, low, conditions.edge_hz(each, recipe), operator, recipe)
    given = conditions.at_rate(truth, each.sample_rate, operator or "soxr")
    degraded = _with_length(resample(given, each.sample_rate, RATE), len(truth))
    return Case(clip, truth, bandwidth_hz, each, given, degraded, each.cutoff_hz, operator)


def _with_length(wave: Wave, samples: int) -> Wave:
    """Cut, or filled up with zeros, at the end."""
    return np.pad(wave, (0, max(0, samples - len(wave))))[:samples]


# --- systems ---------------------------------------------------------------------------------------------------------


def unprocessed() -> System:
    """The degraded input as it is, at 48 kHz: what every system has to beat."""
    return System(UNPROCESSED, lambda case: (case.degraded, None), timed=False)


def restored(name: str, restore: Restore, known_cutoff: bool = False) -> System:
    """A restoring callable, told the true cutoff or left to find it.

    It gives back what it is given, at 48 kHz. A lower rate has rounded the truth's length, by half an input sample at
    most (3 of ours at 8 kHz): what comes back is cut, or filled up with zeros, by as many. Nothing else is mended.
    """

    def run(case: Case) -> tuple[Wave, float | None]:
        rate = case.input.sample_rate
        wave, cutoff_hz = restore(case.given, rate, case.edge_hz if known_cutoff else None)
        as_given = wave.shape == (output_length(len(case.given), rate, RATE),)
        return _with_length(wave, len(case.truth)) if as_given else wave, cutoff_hz

    return System(name, run)


def ceiling(reconstruct: Callable[[Tensor], Tensor]) -> System:
    """The truth through `reconstruct` ((1, 1, T) -> (1, 1, T), VAE + vocoder): no diffusion can do better."""

    def run(case: Case) -> tuple[Wave, float | None]:
        wave = reconstruct(as_tensor(case.truth).float()[None])
        return wave[0, 0].detach().cpu().double().numpy(), None

    return System(CEILING, run, of_truth=True)


def outputs(name: str, folder: Path, clips: Sequence[Clip], conditions: Conditions) -> System:
    """Another system's files, FOLDER/<the input's folder>/<clip's path> with any audio suffix.

    Where there is a single input, the files may lie in FOLDER itself.
    """
    paths = output_paths(name, folder, clips, conditions)
    return System(name, partial(read_output, paths), timed=False)


def head_rows(
    pipe: Any,
    heads: Iterable[str],
    step_counts: Sequence[int | None] = (None,),
    known_cutoff: bool = False,
    options: Mapping[str, Any] | None = None,
) -> list[System]:
    """Rows of a `latentsr.Pipeline`: each head at each number of steps, once if it takes none.

    The option `use_latents` lets those heads decode latents that can do without them; NAME+latents lets one.
    """
    others = dict(options or {})
    for_all = others.pop("use_latents", False)
    wanted: dict[tuple[str, bool], None] = {}  # in order, each once
    for word in heads:
        head = word.removesuffix(LATENTS)
        wanted[head, (for_all or word != head) and not HEADS[head].needs_latents] = None
    rows = []
    for head, latents in wanted:
        counts = step_counts if latents or HEADS[head].takes_steps else [None]
        asked = others | {"use_latents": True} if latents else others
        rows += [head_row(pipe, head, steps, known_cutoff, asked) for steps in counts]
    return rows


def head_row(
    pipe: Any, head: str, steps: int | None, known_cutoff: bool = False, options: Mapping[str, Any] | None = None
) -> System:
    """A row of a `latentsr.Pipeline`: one head at one number of steps (None: the head's own default)."""
    asked = options or {}
    name = f"{head} {LATENTS}" if asked.get("use_latents") else head

    def restore(wave: Wave, rate: int, cutoff_hz: float | None) -> tuple[Wave, float | None]:
        out = pipe(wave.astype(np.float32), sample_rate=rate, head=head, steps=steps, cutoff_hz=cutoff_hz, **asked)
        return np.asarray(out.audio, dtype=np.float64)[0], float(out.cutoff_hz)

    warm_up = np.random.default_rng(0).normal(0, 0.1, RATE)
    restore(lowpass(warm_up, Recipe("cheby1", 8, RATE / 8)), RATE, None)  # loads what is still missing, untimed
    row = restored(name if steps is None else f"{name} @{steps}", restore, known_cutoff)
    return replace(row, asked={"head": head, "steps": steps, **asked})


def model_hash(components: Iterable[tuple[str, Any]]) -> str:
    """SHA-256 over names, shapes and float32 values of all weights, 16 hex digits: which model made the figures."""
    digest = hashlib.sha256()
    for name, component in components:
        if isinstance(component, torch.nn.Module):
            for key, value in sorted(component.state_dict().items()):
                digest.update(f"{name}.{key} {tuple(value.shape)}".encode())
                digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


# --- the run ---------------------------------------------------------------------------------------------------------


def run(
    clips: Iterable[Clip],
    systems: Sequence[System],
    conditions: Conditions,
    *,
    visqol: bool = True,
    zimtohrli: bool = True,
    inputs_dir: Path | None = None,
    jobs: int = 1,
) -> list[dict[str, Any]]:
    """Score every system on every clip, cutoff and rate, one flat record each.

    Clips are restored here one by one, and scored in `jobs` processes while nothing is restored, so that the seconds
    that a system takes are its own.

    Args:
        clips: references, as `find_clips` gives them.
        systems: rows of the table.
        conditions: how the references are degraded.
        visqol: score ViSQOL too (seconds a clip); without it, or where the package is missing, the figure is None.
        zimtohrli: the same for Zimtohrli (a tenth of a second a clip).
        inputs_dir: if given, the degraded inputs are written there, for other systems: <cutoff>/<clip's path>.wav,
            <cutoff>-<noise>/..., <codec>-<kb/s>/... at 48 kHz, rate-<rate>/... at that rate.
        jobs: processes that score; the figures do not depend on how many.

    Returns:
        Records with clip, group, system, cutoff_hz, input_rate_hz, noise and the figures of `score`.
    """
    records: list[dict[str, Any]] = []
    waiting: list[_Restored] = []

    def score_waiting() -> None:
        tasks = [Task([(case, estimate) for case, estimate, _ in each], visqol, zimtohrli) for each in waiting]
        for each, figures in zip(waiting, scorers.score(tasks), strict=True):
            records.extend(about | found for (_, _, about), found in zip(each, figures, strict=True))
        waiting.clear()

    with Scorers(jobs) as scorers:
        for clip in clips:
            waiting.append(_restored_clip(clip, systems, conditions, inputs_dir))
            held = sum(estimate.nbytes for each in waiting for _, estimate, _ in each)
            if jobs == 1 or held > HELD_BYTES:
                score_waiting()
        score_waiting()
    return records


_Restored = list[tuple[Case, Wave, dict[str, Any]]]  # each case with an estimate, and what is known of it unscored


def _restored_clip(clip: Clip, systems: Sequence[System], conditions: Conditions, inputs_dir: Path | None) -> _Restored:
    """What each system makes of each case of a clip."""
    done: _Restored = []
    of_truth: dict[str, tuple[Wave, dict[str, Any]]] = {}  # what does not depend on the input is made once
    for case in load_cases(clip, conditions):
        if inputs_dir is not None:
            _write_input(inputs_dir, case)
        for system in systems:
            if system.of_truth and system.name in of_truth:
                estimate, about = of_truth[system.name]
                about = _about(case, system) | {"seconds": about["seconds"]}
            else:
                estimate, about = _estimate(case, system)
                of_truth[system.name] = estimate, about
            done.append((case, estimate, about))
    return done


def _write_input(folder: Path, case: Case) -> None:
    path = (folder / case.input.folder / case.clip.name).with_suffix(".wav")
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = case.given[None].astype(np.float32)
    write(path, samples, case.input.sample_rate, subtype="PCM_16", overwrite=True)


def _estimate(case: Case, system: System) -> tuple[Wave, dict[str, Any]]:
    """One estimate, timed; it must have the truth's length and be finite."""
    started = time.perf_counter()
    estimate, cutoff_used_hz = system.run(case)
    seconds = time.perf_counter() - started
    if estimate.shape != case.truth.shape or not np.isfinite(estimate).all():
        raise EvaluationError(
            f"{system.name} on {case.clip.name}: need {case.truth.shape} finite samples, got {estimate.shape}, "
            f"{np.count_nonzero(~np.isfinite(estimate))} of them not finite"
        )
    used = {
        "seconds": seconds if system.timed else None,
        "cutoff_used_hz": cutoff_used_hz,
        "cutoff_error_percent": None if cutoff_used_hz is None else 100 * (cutoff_used_hz / case.edge_hz - 1),
    }
    return estimate, _about(case, system) | used


def _about(case: Case, system: System) -> dict[str, Any]:
    return {
        "clip": case.clip.name,
        "group": case.clip.group,
        "system": system.name,
        "cutoff_hz": case.input.cutoff_hz,
        "input_rate_hz": case.input.sample_rate,
        "noise": case.input.noise,
        "input": case.input.label,
        "operator": case.operator,
        "bandwidth_hz": case.bandwidth_hz,
        "recipe": None if case.recipe is None else case.recipe.to_dict(),
        "duration_s": len(case.truth) / RATE,
        "seconds": None,
        "cutoff_true_hz": case.edge_hz,
        "cutoff_used_hz": None,
        "cutoff_error_percent": None,
    }
