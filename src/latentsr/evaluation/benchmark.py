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
from latentsr.evaluation.conditions import UNPROCESSED, Conditions, Input, lowpass
from latentsr.evaluation.noises import KEPT_SHARE, Wave
from latentsr.heads import HEADS
from latentsr.signal.audio import output_length, read, resample, write
from latentsr.signal.bandwidth import estimate_cutoff_hz
from latentsr.signal.degrade import Recipe, cutoff_3db_hz

RATE = AUDIO.sample_rate
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff")
MIN_SAMPLES = 2048  # one window of the distance
TONE_GONE_DB, TONE_LIKE_CLEAN_DB = -30.0, 3.0  # a tone is left where it is above both
OF_NOISE = ("si_sdr_kept_db", "si_sdr_gain_db", "tone_db", "tone_vs_clean_db", "tone_left")
LATENTS = "+latents"  # behind the name of a head that can do without them

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
    """One clip under one condition; waves are mono, (T,), at 48 kHz but for what systems are given."""

    clip: Clip
    truth: Wave
    bandwidth_hz: float  # scores count up to here
    input: Input
    given: Wave  # at the input's rate
    degraded: Wave  # the same at 48 kHz
    edge_hz: float  # where it is 3 dB down: the truth for cutoff estimates
    recipe: Recipe | None = None  # None at a lower rate

    @property
    def tone_hz(self) -> float | None:
        """The frequency of the tone, where a tone is what was added."""
        effects = () if self.recipe is None else self.recipe.effects
        return effects[0].frequency_hz if [effect.name for effect in effects] == ["tone"] else None


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
    """A clip under every input of the conditions."""
    truth = load_mono(clip.path)
    if len(truth) < MIN_SAMPLES:
        raise EvaluationError(f"{clip.path} is shorter than {MIN_SAMPLES / RATE:.3f} s; remove it from the references")
    own_hz = clip.bandwidth_hz or float(estimate_cutoff_hz(_tensor(truth).float()[:, None], RATE)[0])
    return [_case(clip, truth, min(own_hz, RATE / 2), each, conditions) for each in conditions.inputs]


def _case(clip: Clip, truth: Wave, bandwidth_hz: float, each: Input, conditions: Conditions) -> Case:
    if each.sample_rate == RATE:
        recipe = conditions.recipe(clip.name, each, truth)
        low = conditions.degrade(truth, recipe)
        return Case(clip, truth, bandwidth_hz, each, low, low, cutoff_3db_hz(recipe, RATE), recipe)
    given = conditions.at_rate(truth, each.sample_rate)
    degraded = _with_length(resample(given, each.sample_rate, RATE), len(truth))
    return Case(clip, truth, bandwidth_hz, each, given, degraded, each.cutoff_hz)


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
        wave = reconstruct(_tensor(case.truth).float()[None])
        return wave[0, 0].detach().cpu().double().numpy(), None

    return System("ceiling (VAE + vocoder)", run)


def outputs(name: str, folder: Path, clips: Sequence[Clip], conditions: Conditions) -> System:
    """Another system's files, FOLDER/<the input's folder>/<clip's path> with any audio suffix.

    Where there is a single input, the files may lie in FOLDER itself.
    """
    wanted = conditions.inputs
    found = {
        (each.folder, clip.name): _output_path(folder, clip, each, len(wanted) == 1)
        for clip in clips
        for each in wanted
    }
    paths = {key: path for key, path in found.items() if path is not None}
    if missing := sorted(found.keys() - paths.keys()):
        first = "/".join(missing[0])
        raise EvaluationError(
            f"{folder} lacks {len(missing)} of {len(found)} outputs of {name!r}, first {first} (any suffix)"
        )

    def run(case: Case) -> tuple[Wave, float | None]:
        path = paths[case.input.folder, case.clip.name]
        return _common_part(load_mono(path), case.truth, path), None

    return System(name, run, timed=False)


def _output_path(folder: Path, clip: Clip, each: Input, alone: bool) -> Path | None:
    stems = [folder / each.folder / clip.name] + [folder / clip.name] * alone
    candidates = (stem.with_suffix(suffix) for stem in stems for suffix in AUDIO_SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)


def _common_part(wave: Wave, truth: Wave, path: Path) -> Wave:
    """A foreign output may be 0.1 s longer or shorter: cut, or filled up with zeros, at its end."""
    if abs(len(wave) - len(truth)) > RATE // 10:
        raise EvaluationError(
            f"{path} lasts {len(wave) / RATE:.2f} s, its reference {len(truth) / RATE:.2f} s; align them"
        )
    return _with_length(wave, len(truth))


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
    return restored(name if steps is None else f"{name} @{steps}", restore, known_cutoff)


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
    """Score every system on every clip, cutoff and rate, one flat record each.

    Args:
        clips: references, as `find_clips` gives them.
        systems: rows of the table.
        conditions: how the references are degraded.
        visqol: score ViSQOL too (3 s a clip); without it, or where the package is missing, the figure is None.
        inputs_dir: if given, the degraded inputs are written there, for other systems: <cutoff>/<clip's path>.wav,
            <cutoff>-<noise>/..., <codec>-<kb/s>/... at 48 kHz, rate-<rate>/... at that rate.

    Returns:
        Records with clip, group, system, cutoff_hz, input_rate_hz, noise and the figures of `score`.
    """
    records = []
    for clip in clips:
        for case in load_cases(clip, conditions):
            if inputs_dir is not None:
                _write_input(inputs_dir, case)
            records += [_record(case, system, visqol) for system in systems]
    return records


def _write_input(folder: Path, case: Case) -> None:
    path = (folder / case.input.folder / case.clip.name).with_suffix(".wav")
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = case.given[None].astype(np.float32)
    write(path, samples, case.input.sample_rate, subtype="PCM_16", overwrite=True)


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
        "cutoff_hz": case.input.cutoff_hz,
        "input_rate_hz": case.input.sample_rate,
        "noise": case.input.noise,
        "input": case.input.label,
        "bandwidth_hz": case.bandwidth_hz,
        "recipe": None if case.recipe is None else case.recipe.to_dict(),
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
    cutoff, top, kept = case.input.cutoff_hz, case.bandwidth_hz, KEPT_SHARE * case.input.cutoff_hz
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
    if case.input.noise != "none":
        figures["si_sdr_kept_db"] = metrics.si_sdr_db(truth, wave, kept)
        figures["si_sdr_gain_db"] = figures["si_sdr_kept_db"] - metrics.si_sdr_db(truth, given, kept)
    if case.tone_hz is not None:
        figures["tone_db"] = metrics.tone_level_db(given, wave, case.tone_hz)
        figures["tone_vs_clean_db"] = metrics.tone_level_db(truth, wave, case.tone_hz)
        left = (figures["tone_db"] > TONE_GONE_DB) & (figures["tone_vs_clean_db"] > TONE_LIKE_CLEAN_DB)
        figures["tone_left"] = left.double()
    numbers = dict.fromkeys(OF_NOISE) | {name: _finite(float(value[0])) for name, value in figures.items()}
    return numbers | {"visqol": metrics.visqol(truth[0], wave[0]) if visqol else None}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _tensor(wave: Wave) -> Tensor:
    """(T,) -> (1, T) float64"""
    return torch.from_numpy(np.ascontiguousarray(wave, dtype=np.float64))[None]
