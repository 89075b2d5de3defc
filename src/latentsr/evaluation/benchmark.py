"""One harness for every claim: find references, degrade them, ask each system, score what comes back.

A system is a plain callable, so that the harness can be tested without networks and foreign systems can be rows.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentsr.audio import output_length
from latentsr.evaluation.cases import error_percent
from latentsr.evaluation.clip_cases import load_cases, write_input
from latentsr.evaluation.columns import Record
from latentsr.evaluation.conditions import CEILING as CEILING
from latentsr.evaluation.conditions import UNPROCESSED, Conditions
from latentsr.evaluation.filters import lowpass
from latentsr.evaluation.noises import Wave
from latentsr.evaluation.outputs import output_paths, read_output
from latentsr.evaluation.references import RATE, EvaluationError
from latentsr.evaluation.references import find_clips as find_clips
from latentsr.evaluation.resamplers import with_length
from latentsr.evaluation.scoring import OF_NOISE as OF_NOISE
from latentsr.evaluation.scoring import Case, Clip, Scorers, Task, as_tensor
from latentsr.head_kinds import HEADS
from latentsr.signal.degrade import Recipe

HELD_BYTES = 384 * 2**20  # of estimates that wait to be scored
LATENTS = "+latents"  # behind the name of a head that can do without them

Restore = Callable[[Wave, int, float | None], tuple[Wave, float | None]]
"""(wave (T,), sample_rate, cutoff_hz or None = estimate it) -> (wave (T,), the cutoff that was used)."""
Watch = Callable[[Sequence[Clip]], Iterable[Clip]]
Restored = tuple[Case, Wave, Record]  # an estimate of a case, and what is known of it unscored


@dataclass(frozen=True)
class System:
    """A row of the table: what it makes of a case, with the cutoff it used (None where that has no meaning)."""

    name: str
    run: Callable[[Case], tuple[Wave, float | None]]
    timed: bool = True
    of_truth: bool = False  # it sees the truth and not the input: the same for every input of a clip
    asked: Mapping[str, Any] | None = None  # of a pipeline: its head, its steps and what else it is called with
    draw: Callable[[int, Case], Wave] | None = None  # what another seed makes of a case, where that is something else


@dataclass(frozen=True)
class Comparison:
    """What is compared: references, the rows of the table, and how the references are degraded."""

    clips: Sequence[Clip]
    systems: Sequence[System]
    conditions: Conditions


# --- systems ---------------------------------------------------------------------------------------------------------


def unprocessed() -> System:
    """The degraded input as it is, at 48 kHz: what every system has to beat."""
    return System(UNPROCESSED, lambda case: (case.degraded, None), timed=False)


def restored(name: str, restore: Restore, known_cutoff: bool = False) -> System:
    """A restoring callable, told the true cutoff or left to find it.

    It gives back what it is given, at 48 kHz. Where a case changed the level, that is undone. A lower rate has rounded
    the truth's length, by half an input sample at most (3 of ours at 8 kHz): what comes back is cut, or filled up with
    zeros, by as many. Nothing else is mended.
    """

    def run(case: Case) -> tuple[Wave, float | None]:
        rate = case.input.sample_rate
        wave, cutoff_hz = restore(case.given, rate, case.told_hz if known_cutoff else None)
        wave = wave / case.gain
        as_given = wave.shape == (output_length(len(case.given), rate, RATE),)
        return with_length(wave, len(case.truth)) if as_given else wave, cutoff_hz

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
    of_latents = {name: others.pop(name) for name in ("guidance_scale", "temperature") if name in others}
    wanted: dict[tuple[str, bool], None] = {}  # in order, each once
    for word in heads:
        head = word.removesuffix(LATENTS)
        wanted[head, (for_all or word != head) and not HEADS[head].needs_latents] = None
    rows = []
    for head, latents in wanted:
        counts = step_counts if latents or HEADS[head].takes_steps else [None]
        asked = others | {"use_latents": True} if latents else others
        if latents or HEADS[head].needs_latents:
            asked = asked | of_latents
        if not HEADS[head].draws:
            asked = {name: value for name, value in asked.items() if name != "seed"}
        rows += [head_row(pipe, head, steps, known_cutoff, asked) for steps in counts]
    return rows


def head_row(
    pipe: Any, head: str, steps: int | None, known_cutoff: bool = False, options: Mapping[str, Any] | None = None
) -> System:
    """A row of a `latentsr.Pipeline`: one head at one number of steps (None: the head's own default)."""
    asked = options or {}
    name = f"{head} {LATENTS}" if asked.get("use_latents") else head

    def restore(wave: Wave, rate: int, cutoff_hz: float | None, **seed: int) -> tuple[Wave, float | None]:
        words = {"head": head, "steps": steps, "cutoff_hz": cutoff_hz, **asked, **seed}
        out = pipe(wave.astype(np.float32), sample_rate=rate, **words)
        return np.asarray(out.audio, dtype=np.float64)[0], float(out.cutoff_hz)

    warm_up = np.random.default_rng(0).normal(0, 0.1, RATE)
    restore(lowpass(warm_up, Recipe("cheby1", 8, RATE / 8)), RATE, None)  # loads what is still missing, untimed
    row = restored(name if steps is None else f"{name} @{steps}", restore, known_cutoff)

    def draw(seed: int, case: Case) -> Wave:
        return restored(name, partial(restore, seed=seed), known_cutoff).run(case)[0]

    return replace(row, asked={"head": head, "steps": steps, **asked}, draw=draw if HEADS[head].draws else None)


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
    compared: Comparison,
    *,
    visqol: bool = True,
    zimtohrli: bool = True,
    inputs_dir: Path | None = None,
    jobs: int = 1,
    watch: Watch = iter,
) -> list[Record]:
    """Score every system on every clip, cutoff and rate, one flat record each.

    Clips are restored here one by one, and scored in `jobs` processes while nothing is restored, so that the seconds
    that a system takes are its own.

    Args:
        compared: references, rows and conditions.
        visqol: score ViSQOL too (seconds a clip); without it, or where the package is missing, the figure is None.
        zimtohrli: the same for Zimtohrli (a tenth of a second a clip).
        inputs_dir: if given, the degraded inputs are written there, for other systems: <cutoff>/<clip's path>.wav,
            <cutoff>-<noise>/..., <codec>-<kb/s>/... at 48 kHz, rate-<rate>/... at that rate, <case>/... as its file is.
        jobs: processes that score; the figures do not depend on how many.
        watch: gives the clips on, one by one: a progress bar.

    Returns:
        Records with clip, group, system, cutoff_hz, input_rate_hz, noise and all figures of the estimate.
    """
    records: list[Record] = []
    waiting: list[list[Restored]] = []

    def score_waiting() -> None:
        tasks = [Task([(case, estimate) for case, estimate, _ in each], visqol, zimtohrli) for each in waiting]
        for each, figures in zip(waiting, scorers.score(tasks), strict=True):
            records.extend(about | found for (_, _, about), found in zip(each, figures, strict=True))
        waiting.clear()

    with Scorers(jobs) as scorers:
        for clip in watch(compared.clips):
            waiting.append(_restored_clip(clip, compared, inputs_dir))
            held = sum(estimate.nbytes for each in waiting for _, estimate, _ in each)
            if jobs == 1 or held > HELD_BYTES:
                score_waiting()
        score_waiting()
    if not records:
        raise EvaluationError("no clip's own band reaches beyond the cut of these cases; name others, or other clips")
    return records


def _restored_clip(clip: Clip, compared: Comparison, inputs_dir: Path | None) -> list[Restored]:
    """What each system makes of each case of a clip; what does not depend on the input is made once."""
    done = []
    of_truth: dict[str, tuple[Wave, float | None, float]] = {}
    for case in load_cases(clip, compared.conditions):
        if inputs_dir is not None:
            write_input(inputs_dir, case)
        for system in compared.systems:
            made = of_truth.get(system.name) or _estimate(case, system)
            if system.of_truth:
                of_truth[system.name] = made
            estimate, used_hz, seconds = made
            done.append((case, estimate, _about(case, system, used_hz, seconds)))
    return done


def _estimate(case: Case, system: System) -> tuple[Wave, float | None, float]:
    """One estimate, the cutoff it used, and its seconds; it must have the truth's length and be finite."""
    started = time.perf_counter()
    estimate, used_hz = system.run(case)
    seconds = time.perf_counter() - started
    if estimate.shape != case.truth.shape or not np.isfinite(estimate).all():
        raise EvaluationError(
            f"{system.name} on {case.clip.name}: need {case.truth.shape} finite samples, got {estimate.shape}, "
            f"{np.count_nonzero(~np.isfinite(estimate))} of them not finite"
        )
    return estimate, used_hz, seconds


def _about(case: Case, system: System, used_hz: float | None, seconds: float) -> Record:
    off_percent = None
    if used_hz is not None and not case.hidden:
        off_percent = error_percent(used_hz, case.edge_hz, case.bandwidth_hz)
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
        "seconds": seconds if system.timed else None,
        "cutoff_true_hz": case.edge_hz if math.isfinite(case.edge_hz) else None,
        "cutoff_used_hz": used_hz,
        "cutoff_error_percent": off_percent,
    }
