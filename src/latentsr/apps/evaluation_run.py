"""What `latentsr eval` does with its options: everything is checked first, then scored, then written."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from latentsr.apps.evaluate import NONE
from latentsr.apps.loading import check_device, cores, share_threads
from latentsr.apps.terminal import bar_manners, warn
from latentsr.config import AUDIO, build
from latentsr.errors import UsageError
from latentsr.evaluation import benchmark, intervals, memory, outputs, perceptual, presets, report, spectrogram
from latentsr.evaluation import cases as case_table
from latentsr.evaluation.benchmark import System
from latentsr.evaluation.calibration import calibration, in_words
from latentsr.evaluation.clip_cases import load_cases
from latentsr.evaluation.columns import Record
from latentsr.evaluation.commands import command as of_command
from latentsr.evaluation.conditions import Conditions
from latentsr.evaluation.harm import harm
from latentsr.evaluation.references import DATASETS, check_references, dataset_of, find_clips
from latentsr.evaluation.resamplers import RESAMPLERS
from latentsr.evaluation.scoring import Clip
from latentsr.head_kinds import HEADS
from latentsr.options import Options

EMBEDDED = "embedded"
OTHER_CONDITIONS = {"preset", "cutoffs", "rates", "filter_name", "order", "resampler", "noise"}
CALLED_WITH = {
    "guidance": "guidance_scale",
    "temperature": "temperature",
    "denoise": "denoise",
    "use_latents": "use_latents",
}
OF_MODELS = ("known_cutoff", "denoise", "use_latents", "model", "models", "device", "threads", "memory", "ceiling")

Rows = list[tuple[System, str | None]]  # each with its model: a folder, a hub id, or None for the embedded one


def evaluate(words: dict[str, Any], given: set[str], command: str) -> None:
    """Run `latentsr eval`; what is `given` on the command line counts more than a preset, `command` runs it again."""
    asked = Namespace(**_with_preset(words, given))
    asked.steps = [None] if asked.steps is None else _numbers(asked.steps, int, "--steps")
    _make_folders(asked)
    conditions = _conditions(asked, given)
    _check_idle(asked, given, conditions)
    check_device(asked.device)
    clips = find_clips(asked.ref_dir, asked.limit, asked.dataset)
    seconds = check_references(clips)
    others, rates = _foreign(asked, clips, conditions, seconds)
    peers = [of_command(name, text) for name, text in _pairs(asked.systems, "--system", '"CMD {in} {out}"')]
    rows, models = _rows(asked, conditions)
    systems = [benchmark.unprocessed(), *others, *peers, *(row for row, _ in rows)]
    if asked.draws and not any(system.draw for system in systems):
        raise UsageError("--draws changes nothing here: no head scored draws; leave --draws out, or add one that does")
    _check_names(systems, asked.baseline)
    _say_what_is_missing(asked)
    asked.jobs = asked.jobs or cores()
    compared = benchmark.Comparison(clips, systems, conditions)
    records = benchmark.run(
        compared, visqol=asked.visqol, zimtohrli=asked.zimtohrli, inputs_dir=asked.write_inputs, jobs=asked.jobs,
        watch=_with_bar,
    )  # fmt: skip
    summary = report.summarise(records, overall=asked.overall, baseline=asked.baseline, seed=conditions.seed)
    about = {
        "references": asked.ref_dir.resolve().name,
        **{name: getattr(asked, name) for name in ("dataset", "preset", "visqol", "zimtohrli")},
        **models,
        "outputs_hz": rates or None,
        "left_out": report.left_out(records, conditions, len(clips)),
        **_measure_memory(asked, rows, max(clips, key=lambda clip: seconds[clip.name]), conditions, summary),
        **_asked(vars(asked)),
        "jobs": asked.jobs,
        "intervals": intervals.in_words(conditions.seed, asked.baseline),
        "command": command,
    }
    described = report.describe(conditions, about)
    more: dict[str, list[Record]] = {}
    if asked.html:
        more["harm"] = harm(compared)
    if asked.draws:
        more["calibration"] = calibration(compared, asked.draws, conditions.seed)
    if asked.csv:
        report.write_csv(asked.csv, summary, described)
    if asked.json:
        report.write_json(asked.json, summary, records, described, more)
    if asked.html:
        from latentsr.evaluation import page

        scores = report.Scores(summary, records, described, **more)
        warn(page.write(asked.html, compared, scores, count=asked.html_clips, baseline=asked.baseline))
    typer.echo(report.format_table(summary))
    for each in more.get("calibration", []):
        typer.echo(in_words(each))
    typer.echo(report.format_conditions(described))
    if asked.preset:
        typer.echo(f"Preset {asked.preset}: {presets.in_words(asked.preset)}")


# --- what was asked --------------------------------------------------------------------------------------------------


def _with_preset(words: dict[str, Any], given: set[str]) -> dict[str, Any]:
    """The options, with a preset's where none was given."""
    dataset, preset = words["dataset"], words["preset"]
    if dataset not in DATASETS:
        raise UsageError(f"--dataset takes {', '.join(DATASETS)}, got {dataset!r}")
    if preset is None:
        return words
    if preset not in presets.PRESETS:
        raise UsageError(f"--preset takes {', '.join(presets.PRESETS)}, got {preset!r}")
    if dataset == "auto":
        dataset = dataset_of(words["ref_dir"])
    options = {**presets.options_of(preset, dataset), "overall": True}
    return words | {name: value for name, value in options.items() if name not in given} | {"dataset": dataset}


def _conditions(asked: Namespace, given: set[str]) -> Conditions:
    same = ("order", "resampler", "noise", "noise_amplitude", "noise_snr_db", "seed", "known_cutoff", "limit", "cases")
    values = {name: getattr(asked, name) for name in same} | {"filter": asked.filter_name}
    for name, kind in (("cutoffs", float), ("rates", int)):
        text = getattr(asked, name)
        values[f"{name}_hz"] = [] if text == NONE else _numbers(text, kind, f"--{name}")
    if asked.cases is None:  # a default case is part of the default table alone
        values["cases"] = [] if given & OTHER_CONDITIONS else list(case_table.DEFAULT)
    elif asked.cases == NONE:
        values["cases"] = []
    return build(Conditions, values, where="eval")


def _check_idle(asked: Namespace, given: set[str], conditions: Conditions) -> None:
    """Refuse what was given and changes nothing beside the rest."""
    by_resampler = all(name in RESAMPLERS for name in conditions.filters)
    for idle, why, names in (
        (asked.heads == NONE, "--heads none loads no model", OF_MODELS),
        (not conditions.cutoffs_hz, "there are no --cutoffs", ("filter_name", "order")),
        (by_resampler, "a resampler has no order", ("order",)),
        (not conditions.rates_hz, "there are no --rates", ("resampler",)),
        (asked.html is None, "there is no --html", ("html_clips",)),
    ):
        for name in names:
            if idle and name in given and getattr(asked, name):
                flag = f"--{name.removesuffix('_name').replace('_', '-')}"
                raise UsageError(f"{flag} changes nothing here: {why}; leave {flag} out")


def _numbers(text: str, kind: type, option: str) -> list[Any]:
    try:
        return [kind(word) for word in text.split(",")]
    except ValueError:
        raise UsageError(f"{option} takes numbers separated by commas, got {text!r}") from None


def _make_folders(asked: Namespace) -> None:
    """Before hours of scoring, not after."""
    for name in ("csv", "json", "html"):
        path: Path | None = getattr(asked, name)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                raise UsageError(f"--{name} takes a file, and {path} is a folder")


def _say_what_is_missing(asked: Namespace) -> None:
    """Once, and not for each clip; what a page cannot do without is an error."""
    if asked.html:
        spectrogram.check_installed()
    if asked.visqol and not perceptual.visqol_installed():
        warn("ViSQOL is n/a: install it with pip install 'latentsr[eval]'")
    if asked.zimtohrli and not perceptual.zimtohrli_installed():
        warn("Zimtohrli is n/a: install it with pip install 'latentsr[eval]'")


# --- rows ------------------------------------------------------------------------------------------------------------


def _rows(asked: Namespace, conditions: Conditions) -> tuple[Rows, dict[str, Any]]:
    """Rows of heads x models, and what is known of the models; a single model's rows have no model in their names."""
    if asked.heads == NONE:
        _check_use(asked, [])
        return [], {"model": None}
    named = dict(_pairs(asked.models, "--models", "PATH"))
    models = {"": asked.model} if asked.model is not None or not named else {}
    models |= {name: None if path == EMBEDDED else path for name, path in named.items()}
    _check_use(asked, [head for path in models.values() for head in _heads(path, asked)])
    rows: Rows = []
    abouts: dict[str, Any] = {}
    for name, path in models.items():
        found, abouts[name] = _model_rows(path, asked, conditions)
        rows += [(replace(row, name=f"{name}: {row.name}" if name else row.name), path) for row in found]
    about = abouts.pop("", {"model": None})
    return rows, {**about, "models": abouts or None, "device": asked.device}


def _heads(model: str | None, asked: Namespace) -> list[str]:
    """The heads to score, some with +latents behind their name."""
    from latentsr.restoring.model import default_head_of

    return [default_head_of(model)] if asked.heads is None else [head.strip() for head in asked.heads.split(",")]


def _check_use(asked: Namespace, heads: Sequence[str]) -> None:
    """Refuse an option that changes no row: its figures would be taken for those of what was asked."""
    kinds = [Options(head=head.removesuffix(benchmark.LATENTS)).kind for head in heads]  # refuses unknown names
    drawn = [
        asked.use_latents or head.endswith(benchmark.LATENTS) or kind.needs_latents
        for head, kind in zip(heads, kinds, strict=True)
    ]
    stepped = [draws or kind.takes_steps for draws, kind in zip(drawn, kinds, strict=True)]
    for option, given, used in (
        ("--steps", asked.steps != [None], stepped),
        ("--guidance", asked.guidance is not None, drawn),
        ("--temperature", asked.temperature is not None, drawn),
    ):
        if given and not any(used):
            able = "take steps" if used is stepped else "draw latents"
            which = ", ".join(dict.fromkeys(heads)) or NONE
            raise UsageError(
                f"{option} changes nothing here: the heads scored ({which}) do not {able}; "
                f"leave {option} out, or add --heads vocoder"
            )


def _model_rows(model: str | None, asked: Namespace, conditions: Conditions) -> tuple[list[System], dict[str, Any]]:
    """Rows of one pipeline's heads, and which model they are."""
    import torch

    from latentsr.pipeline import Pipeline

    heads = _heads(model, asked)
    needed = [head.removesuffix(benchmark.LATENTS) for head in heads]
    pipe = Pipeline.from_pretrained(model, heads=needed).to(asked.device)
    pipe.set_progress_bar_config(disable=True)
    small = all(not head.endswith(benchmark.LATENTS) and not HEADS[head].needs_latents for head in heads)
    pipe.threads = share_threads(asked.threads, small and asked.device == "cpu")
    options = {"seed": conditions.seed, **_asked(vars(asked))}
    rows = benchmark.head_rows(pipe, heads, asked.steps, conditions.known_cutoff, options)
    if asked.ceiling:
        pipe.reconstruct(torch.zeros(1, 1, AUDIO.sample_rate))  # loads what no head has loaded, untimed
        rows.append(benchmark.ceiling(pipe.reconstruct))
    return rows, {
        "model": Path(model).name if model else EMBEDDED,
        "device": asked.device,
        "model_sha256": benchmark.model_hash(pipe.components.items()),
    }


def _asked(words: Mapping[str, Any]) -> dict[str, Any]:
    """What the pipeline is called with; its own defaults stay its own."""
    return {
        name: words[option]
        for option, name in CALLED_WITH.items()
        if words.get(option) is not None and words[option] is not False
    }


def _foreign(
    asked: Namespace, clips: Sequence[Clip], conditions: Conditions, seconds: Mapping[str, float]
) -> tuple[list[System], dict[str, list[int]]]:
    """Rows of other systems' files, and at which rates each system's are."""
    rows, rates = [], {}
    for name, folder in _pairs(asked.outputs, "--outputs", "DIR"):
        rates[name] = outputs.check_outputs(name, outputs.output_paths(name, Path(folder), clips, conditions), seconds)
        rows.append(benchmark.outputs(name, Path(folder), clips, conditions))
    return rows, rates


def _pairs(words: Sequence[str] | None, option: str, what: str) -> list[tuple[str, str]]:
    pairs = [(name.strip(), value) for name, _, value in (word.partition("=") for word in words or [])]
    for name, value in pairs:
        if not (name and value):
            raise UsageError(f"{option} takes NAME={what}, got {name!r}")
    if len(dict(pairs)) < len(pairs):
        raise UsageError(f"{option}: a name is given twice, and each name is one row; give each its own name")
    return pairs


def _check_names(systems: Sequence[System], baseline: str) -> None:
    names = [system.name for system in systems]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UsageError(f"two rows are named {twice.pop()!r}; give the outputs or models other names")
    if baseline not in names:
        raise UsageError(f"--baseline {baseline!r} is no row of this table; its rows are {', '.join(names)}")


def _measure_memory(
    asked: Namespace, rows: Rows, longest: Clip, conditions: Conditions, summary: list[Record]
) -> dict[str, str]:
    """Fill in the peak memory of each head's rows, on the longest clip, and say on what it was measured."""
    heads = [(row, model) for row, model in rows if row.asked is not None]
    wanted = asked.memory if asked.memory is not None else asked.html is not None
    found = load_cases(longest, conditions) if wanted and heads else []
    if not found:  # it is not asked for, or the clip's own band ends below every case
        return {}
    case, peaks = found[0], {}
    for row, model in heads:
        rate = case.input.sample_rate
        peaks[row.name] = memory.peak_memory_mb(model, asked.device, row.asked or {}, case.given, rate)
    for each in summary:
        each["peak_memory_mb"] = peaks.get(each["system"])
    lasts_s = min(len(case.truth) / AUDIO.sample_rate, memory.LONGEST_S)
    where = f"a fresh process that loads the model and restores {lasts_s:.1f} s of {longest.name}, {case.input.label}"
    return {"peak_memory": where}


def _with_bar(clips: Sequence[Clip]) -> Any:
    from tqdm import tqdm  # type: ignore[import-untyped, unused-ignore]

    return tqdm(clips, "restoring and scoring", unit="clip", **bar_manners())
