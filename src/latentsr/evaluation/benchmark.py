"""One harness for every claim: find references, degrade them, ask each system, score what comes back.

A system is a plain callable, so that the harness can be tested without networks and foreign systems can be rows.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentsr.config import AUDIO
from latentsr.data.manifest import read_manifest
from latentsr.evaluation import metrics
from latentsr.evaluation.conditions import Conditions, Wave, lowpass
from latentsr.signal.audio import read, resample, write
from latentsr.signal.bandwidth import estimate_cutoff_hz
from latentsr.signal.degrade import Recipe, cutoff_3db_hz

RATE = AUDIO.sample_rate
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff")
MIN_SAMPLES = 2048  # one window of the distance
KEPT_SHARE = 0.8  # of the cutoff: below it the output must be the input

Restore = Callable[[Wave, int, float | None], tuple[Wave, float | None]]
"""(wave (T,), sample_rate, cutoff_hz or None = estimate it) -> (wave (T,), the cutoff that was used)."""


class EvaluationError(ValueError):
    """A benchmark that cannot be run; the message names the file and the remedy."""


@dataclass(frozen=True)
class Clip:
    """One reference: its name below the folder, its group, and where its own content ends (None: to be measured)."""

    name: str
    path: Path
    group: str
    bandwidth_hz: float | None


@dataclass(frozen=True)
class Case:
    """One clip under one condition; waves are mono, (T,), at 48 kHz."""

    clip: Clip
    truth: Wave
    degraded: Wave
    bandwidth_hz: float  # scores count up to here
    recipe: Recipe
    edge_hz: float  # where the low-pass is 3 dB down: the truth for cutoff estimates


@dataclass(frozen=True)
class System:
    """A row of the table: what it makes of a case, with the cutoff it used (None where that has no meaning)."""

    name: str
    run: Callable[[Case], tuple[Wave, float | None]]
    timed: bool = True


# --- references ------------------------------------------------------------------------------------------------------


def find_clips(ref_dir: Path, limit: int | None = None) -> list[Clip]:
    """All recordings below a folder, grouped by the `type` of its manifest.csv if it has one, else by first folder."""
    if not ref_dir.is_dir():
        raise EvaluationError(f"{ref_dir} is not a folder; pass the folder that holds the reference recordings")
    listed = _listed(ref_dir)
    paths = sorted(p for p in ref_dir.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES and p.is_file())
    if not paths:
        raise EvaluationError(f"{ref_dir} holds no recordings ({', '.join(AUDIO_SUFFIXES)})")
    if missing := sorted(listed.keys() - set(paths)):
        raise EvaluationError(f"manifest.csv names {len(missing)} files that are not there, first {missing[0]}")
    clips, taken = [], Counter[str]()
    for path in paths:
        clip = listed.get(path) or _unlisted(ref_dir, path)
        taken[clip.group] += 1
        if limit is None or taken[clip.group] <= limit:
            clips.append(clip)
    return clips


def _listed(ref_dir: Path) -> dict[Path, Clip]:
    manifest = ref_dir / "manifest.csv"
    if not manifest.exists():
        return {}
    return {
        row.path: Clip(_name(ref_dir, row.path), row.path, row.kind, row.bandwidth_hz)
        for row in read_manifest(manifest)
    }


def _unlisted(ref_dir: Path, path: Path) -> Clip:
    folders = path.relative_to(ref_dir).parts[:-1]
    return Clip(_name(ref_dir, path), path, folders[0] if folders else "all", None)


def _name(ref_dir: Path, path: Path) -> str:
    return path.relative_to(ref_dir).as_posix()


def load_mono(path: Path) -> Wave:
    """Read a file as (T,): mean over channels, resampled to 48 kHz."""
    audio = read(path)
    mono = audio.samples.mean(axis=0, dtype=np.float64)
    return mono if audio.sample_rate == RATE else resample(mono, audio.sample_rate, RATE).astype(np.float64)


def load_cases(clip: Clip, conditions: Conditions) -> list[Case]:
    """A clip under every cutoff of the conditions."""
    truth = load_mono(clip.path)
    if len(truth) < MIN_SAMPLES:
        raise EvaluationError(f"{clip.path} is shorter than {MIN_SAMPLES / RATE:.3f} s; remove it from the references")
    own_hz = clip.bandwidth_hz or float(estimate_cutoff_hz(_tensor(truth).float()[:, None], RATE)[0])
    recipes = [conditions.recipe(clip.name, hz) for hz in conditions.cutoffs_hz]
    return [
        Case(clip, truth, conditions.degrade(truth, recipe), min(own_hz, RATE / 2), recipe, cutoff_3db_hz(recipe, RATE))
        for recipe in recipes
    ]


# --- systems ---------------------------------------------------------------------------------------------------------


def unprocessed() -> System:
    """The degraded input as it is: what every system has to beat."""
    return System("unprocessed", lambda case: (case.degraded, None), timed=False)


def restored(name: str, restore: Restore, known_cutoff: bool = False) -> System:
    """A restoring callable, told the true cutoff or left to find it."""
    return System(name, lambda case: restore(case.degraded, RATE, case.edge_hz if known_cutoff else None))


def ceiling(reconstruct: Callable[[Tensor], Tensor]) -> System:
    """The truth through `reconstruct` ((1, 1, T) -> (1, 1, T), VAE + vocoder): no diffusion can do better."""

    def run(case: Case) -> tuple[Wave, float | None]:
        wave = reconstruct(_tensor(case.truth).float()[None])
        return wave[0, 0].detach().cpu().double().numpy(), None

    return System("ceiling (VAE + vocoder)", run)


def outputs(name: str, folder: Path, clips: Sequence[Clip], conditions: Conditions) -> System:
    """Another system's files, FOLDER/<cutoff>/<clip's path> with any audio suffix; a single cutoff needs no folder."""
    found = {
        (clip.name, hz): _output_path(folder, clip, hz, conditions) for clip in clips for hz in conditions.cutoffs_hz
    }
    paths = {key: path for key, path in found.items() if path is not None}
    if missing := sorted(found.keys() - paths.keys()):
        clip_name, hz = missing[0]
        raise EvaluationError(
            f"{folder} lacks {len(missing)} of {len(found)} outputs of {name!r}, first {hz:g}/{clip_name} (any suffix)"
        )

    def run(case: Case) -> tuple[Wave, float | None]:
        path = paths[case.clip.name, case.recipe.cutoff_hz]
        return _common_part(load_mono(path), case.truth, path), None

    return System(name, run, timed=False)


def _output_path(folder: Path, clip: Clip, cutoff_hz: float, conditions: Conditions) -> Path | None:
    stems = [folder / f"{cutoff_hz:g}" / clip.name] + [folder / clip.name] * (len(conditions.cutoffs_hz) == 1)
    candidates = (stem.with_suffix(suffix) for stem in stems for suffix in AUDIO_SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)


def _common_part(wave: Wave, truth: Wave, path: Path) -> Wave:
    """A foreign output may be 0.1 s longer or shorter: cut, or filled up with zeros, at its end."""
    if abs(len(wave) - len(truth)) > RATE // 10:
        raise EvaluationError(
            f"{path} lasts {len(wave) / RATE:.2f} s, its reference {len(truth) / RATE:.2f} s; align them"
        )
    return np.pad(wave, (0, max(0, len(truth) - len(wave))))[: len(truth)]


def head_row(
    pipe: Any, head: str, steps: int | None, known_cutoff: bool = False, options: Mapping[str, Any] | None = None
) -> System:
    """A row of a `latentsr.Pipeline`: one head at one number of steps (None: the head's own default)."""

    def restore(wave: Wave, rate: int, cutoff_hz: float | None) -> tuple[Wave, float | None]:
        out = pipe(
            wave.astype(np.float32), sample_rate=rate, head=head, steps=steps, cutoff_hz=cutoff_hz, **(options or {})
        )
        return np.asarray(out.audio, dtype=np.float64)[0], float(out.cutoff_hz)

    warm_up = np.random.default_rng(0).normal(0, 0.1, RATE)
    restore(lowpass(warm_up, Recipe("cheby1", 8, RATE / 8)), RATE, None)  # loads what is still missing, untimed
    return restored(head if steps is None else f"{head} @{steps}", restore, known_cutoff)


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
    inputs_dir: Path | None = None,
) -> list[dict[str, Any]]:
    """Score every system on every clip and cutoff, one flat record each.

    Args:
        clips: references, as `find_clips` gives them.
        systems: rows of the table.
        conditions: how the references are degraded.
        visqol: score ViSQOL too (3 s a clip); without it, or where the package is missing, the figure is None.
        inputs_dir: if given, the degraded inputs are written there, <cutoff>/<clip's path>.wav, for other systems.

    Returns:
        Records with clip, group, system, cutoff_hz and the figures of `score`.
    """
    records = []
    for clip in clips:
        for case in load_cases(clip, conditions):
            if inputs_dir is not None:
                _write_input(inputs_dir, case)
            records += [_record(case, system, visqol) for system in systems]
    return records


def _write_input(folder: Path, case: Case) -> None:
    path = (folder / f"{case.recipe.cutoff_hz:g}" / case.clip.name).with_suffix(".wav")
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, case.degraded[None].astype(np.float32), RATE, subtype="PCM_16", overwrite=True)


def _record(case: Case, system: System, visqol: bool) -> dict[str, Any]:
    where = {"clip": case.clip.name, "group": case.clip.group, "system": system.name}
    started = time.perf_counter()
    estimate, cutoff_used_hz = system.run(case)
    seconds = time.perf_counter() - started
    if estimate.shape != case.truth.shape or not np.isfinite(estimate).all():
        raise EvaluationError(
            f"{system.name} on {case.clip.name}: need {case.truth.shape} finite samples, got {estimate.shape}, "
            f"{np.count_nonzero(~np.isfinite(estimate))} of them not finite"
        )
    about = {
        "cutoff_hz": case.recipe.cutoff_hz,
        "bandwidth_hz": case.bandwidth_hz,
        "recipe": case.recipe.to_dict(),
        "duration_s": len(case.truth) / RATE,
        "seconds": seconds if system.timed else None,
        "cutoff_true_hz": case.edge_hz,
        "cutoff_used_hz": cutoff_used_hz,
        "cutoff_error_percent": None if cutoff_used_hz is None else 100 * (cutoff_used_hz / case.edge_hz - 1),
    }
    return where | about | score(case, estimate, visqol=visqol)


def score(case: Case, estimate: Wave, *, visqol: bool = True) -> dict[str, float | None]:
    """All figures of one estimate (T,); None where one is not defined or not installed."""
    truth, given, wave = _tensor(case.truth), _tensor(case.degraded), _tensor(estimate)
    cutoff, top, kept = case.recipe.cutoff_hz, case.bandwidth_hz, KEPT_SHARE * case.recipe.cutoff_hz
    bands = [(0.0, top), (0.0, None), (cutoff, top), (0.0, cutoff)]
    figures = dict(zip(("lsd", "lsd_full", "lsd_hf", "lsd_lf"), metrics.lsd_bands(truth, wave, bands), strict=True))
    ssr_eval = metrics.lsd_bands(truth, wave, bands[:2], preset="ssr_eval")
    figures |= dict(zip(("ssr_eval", "ssr_eval_full"), ssr_eval, strict=True))
    figures["hf_energy_db"] = metrics.band_energy_ratio_db(truth, wave, cutoff, top)
    figures["hf_spread"] = metrics.band_spread_ratio(truth, wave, cutoff, top)
    figures["level_error_db"] = metrics.level_error_db(given, wave, kept)
    figures["kept_error_db"] = metrics.kept_band_error_db(given, wave, kept)
    figures["si_sdr_db"] = metrics.si_sdr_db(truth, wave)
    figures["snr_db"] = metrics.snr_db(truth, wave)
    numbers = {name: _finite(float(value[0])) for name, value in figures.items()}
    return numbers | {"visqol": metrics.visqol(truth[0], wave[0]) if visqol else None}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _tensor(wave: Wave) -> Tensor:
    """(T,) -> (1, T) float64"""
    return torch.from_numpy(np.ascontiguousarray(wave, dtype=np.float64))[None]
