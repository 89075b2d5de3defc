"""What `latentsr eval` does with its options: everything is checked first, then scored, then written."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer

from latentsr.apps.evaluate import NONE
from latentsr.apps.terminal import warn
from latentsr.config import AUDIO, build
from latentsr.evaluation import (
    benchmark,
    foreign,
    intervals,
    memory,
    metrics,
    perceptual,
    picture,
    presets,
    references,
    report,
)
from latentsr.evaluation.benchmark import Clip, System
from latentsr.evaluation.conditions import Conditions

EMBEDDED = "embedded"
CALLED_WITH = {
    "guidance": "guidance_scale",
    "temperature": "temperature",
    "denoise": "denoise",
    "use_latents": "use_latents",
}


@dataclass(frozen=True)
class Rows:
    """The rows of the table, what is known of the models behind them, and which model each row is of."""

    systems: list[System]
    about: dict[str, Any]
    model_of: dict[str, str | None]


def evaluate(words: dict[str, Any], given: set[str], command: str) -> None:
    """Run `latentsr eval`.

    Args:
        words: its options by the names of its parameters; what is None is left out.
        given: those that stand on the command line: they count more than a preset.
        command: the command line that makes the same figures.
    """
    ref_dir: Path = words["ref_dir"]
    words = _with_preset(words, given)
    _step_counts(words)
    _make_folders(words)
    conditions = _conditions(words)
    clips = benchmark.find_clips(ref_dir, words.get("limit"), words["dataset"])
    seconds = references.check_references(clips)
    others, rates = _foreign(words, clips, conditions, seconds)
    rows = _rows(words, conditions)
    systems = [benchmark.unprocessed(), *others, *rows.systems]
    _check_names(systems, words["baseline"])
    _say_what_is_missing(words)
    records = benchmark.run(
        _with_bar(clips),
        systems,
        conditions,
        visqol=words["visqol"],
        zimtohrli=words["zimtohrli"],
        inputs_dir=words.get("write_inputs"),
        jobs=words.get("jobs") or _cores(),
    )
    summary = report.summarise(records, overall=words["overall"], baseline=words["baseline"], seed=conditions.seed)
    about = rows.about | {"outputs_hz": rates or None} | _probe(words, rows, clips, seconds, conditions, summary)
    described = _described(words, conditions, about, ref_dir, command)
    _write(words, summary, records, described, clips, systems, conditions)
    typer.echo(report.format_table(summary))
    typer.echo(report.format_conditions(described))
    if "preset" in words:
        typer.echo(f"Preset {words['preset']}: {presets.in_words(words['preset'])}")


# --- what was asked --------------------------------------------------------------------------------------------------


def _with_preset(words: dict[str, Any], given: set[str]) -> dict[str, Any]:
    """The options, with a preset's where none was given."""
    if words["dataset"] not in references.DATASETS:
        raise typer.BadParameter(f"--dataset takes {', '.join(references.DATASETS)}, got {words['dataset']!r}")
    if "preset" not in words:
        return words
    if words["preset"] not in presets.PRESETS:
        raise typer.BadParameter(f"--preset takes {', '.join(presets.PRESETS)}, got {words['preset']!r}")
    dataset = words["dataset"]
    if dataset == "auto":
        dataset = references.dataset_of(words["ref_dir"])
    options = {**presets.options_of(words["preset"], dataset), "dataset": dataset, "overall": True}
    return words | {name: value for name, value in options.items() if name not in given or name == "dataset"}


def _conditions(words: Mapping[str, Any]) -> Conditions:
    values = {
        "cutoffs_hz": [] if words["cutoffs"] == NONE else _numbers(words["cutoffs"], float, "--cutoffs"),
        "rates_hz": [] if words["rates"] == NONE else _numbers(words["rates"], int, "--rates"),
        "filter": words["filter_name"],
        "order": words["order"],
        "resampler": words["resampler"],
        "noise": words["noise"],
        "noise_amplitude": words.get("noise_amplitude"),
        "noise_snr_db": words.get("noise_snr_db"),
        "seed": words["seed"],
        "known_cutoff": words["known_cutoff"],
        "limit": words.get("limit"),
    }
    return build(Conditions, values, where="eval")


def _numbers(text: str, kind: type, option: str) -> list[Any]:
    try:
        return [kind(word) for word in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{option} takes numbers separated by commas, got {text!r}") from None


def _step_counts(words: Mapping[str, Any]) -> list[Any]:
    return _numbers(words["steps"], int, "--steps") if "steps" in words else [None]


def _make_folders(words: Mapping[str, Any]) -> None:
    """Before hours of scoring, not after."""
    for name in ("csv", "json", "html"):
        if name in words:
            words[name].parent.mkdir(parents=True, exist_ok=True)
            if words[name].is_dir():
                raise typer.BadParameter(f"--{name} takes a file, and {words[name]} is a folder")


def _say_what_is_missing(words: Mapping[str, Any]) -> None:
    """Once, and not for each clip; what a page cannot do without is an error."""
    if "html" in words:
        picture.check_installed()
    for name, asked, there in (
        ("ViSQOL", words["visqol"], metrics.visqol_installed),
        ("Zimtohrli", words["zimtohrli"], perceptual.zimtohrli_installed),
    ):
        if asked and not there():
            warn(f"{name} is n/a: install it with pip install 'latentsr[eval]'")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# --- rows ------------------------------------------------------------------------------------------------------------


def _rows(words: Mapping[str, Any], conditions: Conditions) -> Rows:
    """Rows of heads x models; a single model's have no model in their names."""
    if words["heads"] == NONE:
        return Rows([], {"model": None}, {})
    named = dict(_pairs(words.get("models", []), "--models", "PATH"))
    models = {"": words.get("model")} if "model" in words or not named else {}
    models |= {name: None if path == EMBEDDED else path for name, path in named.items()}
    systems: list[System] = []
    abouts: dict[str, Any] = {}
    model_of: dict[str, str | None] = {}
    for name, path in models.items():
        found, abouts[name] = _model_rows(path, words, conditions)
        renamed = [replace(row, name=f"{name}: {row.name}" if name else row.name) for row in found]
        systems += renamed
        model_of |= {row.name: path for row in renamed}
    about = abouts.pop("", {"model": None})
    return Rows(systems, {**about, "models": abouts or None, "device": words["device"]}, model_of)


def _model_rows(
    model: str | None, words: Mapping[str, Any], conditions: Conditions
) -> tuple[list[System], dict[str, Any]]:
    """Rows of one pipeline's heads, and which model they are."""
    import torch

    from latentsr.pipeline import Pipeline

    heads = [head.strip() for head in words["heads"].split(",")]
    step_counts = _step_counts(words)
    pipe = Pipeline.from_pretrained(model, heads=[head.removesuffix(benchmark.LATENTS) for head in heads])
    pipe = pipe.to(words["device"])
    pipe.set_progress_bar_config(disable=True)
    asked = {"seed": conditions.seed, **_asked(words)}
    rows = benchmark.head_rows(pipe, heads, step_counts, conditions.known_cutoff, asked)
    if words["ceiling"]:
        pipe.reconstruct(torch.zeros(1, 1, AUDIO.sample_rate))  # loads what no head has loaded, untimed
        rows.append(benchmark.ceiling(pipe.reconstruct))
    about = {
        "model": Path(model).name if model else EMBEDDED,
        "device": words["device"],
        "model_sha256": benchmark.model_hash(pipe.components.items()),
    }
    return rows, about


def _asked(words: Mapping[str, Any]) -> dict[str, Any]:
    """What the pipeline is called with; its own defaults stay its own."""
    return {
        name: words[option]
        for option, name in CALLED_WITH.items()
        if words.get(option) is not None and words[option] is not False
    }


def _foreign(
    words: Mapping[str, Any], clips: Sequence[Clip], conditions: Conditions, seconds: Mapping[str, float]
) -> tuple[list[System], dict[str, int]]:
    """Rows of other systems' files, and at which rate each system's are."""
    rows, rates = [], {}
    for name, folder in _pairs(words.get("outputs", []), "--outputs", "DIR"):
        paths = foreign.output_paths(name, Path(folder), clips, conditions)
        rates[name] = foreign.check_outputs(name, paths, seconds)
        rows.append(benchmark.outputs(name, Path(folder), clips, conditions))
    return rows, rates


def _pairs(words: Sequence[str], option: str, what: str) -> list[tuple[str, str]]:
    pairs = [(name.strip(), value) for name, _, value in (word.partition("=") for word in words)]
    for name, value in pairs:
        if not (name and value):
            raise typer.BadParameter(f"{option} takes NAME={what}, got {name!r}")
    if len(dict(pairs)) < len(pairs):
        raise typer.BadParameter(f"{option}: a name is given twice; each is a row of its own")
    return pairs


def _check_names(systems: Sequence[System], baseline: str) -> None:
    names = [system.name for system in systems]
    if twice := {name for name in names if names.count(name) > 1}:
        raise typer.BadParameter(f"two rows are named {twice.pop()!r}; give the outputs or models other names")
    if baseline not in names:
        raise typer.BadParameter(f"--baseline {baseline!r} is no row of this table; its rows are {', '.join(names)}")


# --- what is measured and written beside the scores ------------------------------------------------------------------


def _probe(
    words: Mapping[str, Any],
    rows: Rows,
    clips: Sequence[Clip],
    seconds: Mapping[str, float],
    conditions: Conditions,
    summary: list[report.Record],
) -> dict[str, Any]:
    """Fill in the peak memory of each head's rows, on the longest clip, and say on what it was measured."""
    probed = [system for system in rows.systems if system.asked is not None]
    if not words.get("memory", "html" in words) or not probed:
        return {}
    longest = max(clips, key=lambda clip: seconds[clip.name])
    case = benchmark.load_cases(longest, conditions)[0]
    peaks = {
        system.name: memory.peak_memory_mb(
            rows.model_of[system.name], words["device"], system.asked or {}, case.given, case.input.sample_rate
        )
        for system in probed
    }
    for row in summary:
        row["peak_memory_mb"] = peaks.get(row["system"])
    lasts_s = min(seconds[longest.name], memory.LONGEST_S)
    where = f"a fresh process that loads the model and restores {lasts_s:.1f} s of {longest.name}, {case.input.label}"
    return {"peak_memory": where}


def _described(
    words: Mapping[str, Any], conditions: Conditions, about: Mapping[str, Any], ref_dir: Path, command: str
) -> report.Record:
    more = {
        "references": ref_dir.resolve().name,
        "dataset": words["dataset"],
        "preset": words.get("preset"),
        "visqol": words["visqol"],
        "zimtohrli": words["zimtohrli"],
        **about,
        **_asked(words),
        "jobs": words.get("jobs") or _cores(),
        "intervals": intervals.in_words(conditions.seed, words["baseline"]),
        "command": command,
    }
    return report.describe(conditions, more)


def _write(
    words: Mapping[str, Any],
    summary: list[report.Record],
    records: list[report.Record],
    described: report.Record,
    clips: Sequence[Clip],
    systems: Sequence[System],
    conditions: Conditions,
) -> None:
    """Each file appears whole, or not at all."""
    if "csv" in words:
        report.write_csv(words["csv"], summary, described)
    if "json" in words:
        report.write_json(words["json"], summary, records, described)
    if "html" in words:
        from latentsr.evaluation import page

        note = page.write(
            words["html"], summary, records, described, clips, systems, conditions,
            count=words["html_clips"], baseline=words["baseline"],
        )  # fmt: skip
        warn(note)


def _with_bar(clips: Sequence[Clip]) -> Any:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(clips, "restoring and scoring", console=console, disable=not console.is_terminal)
