"""All stages of a recipe in order, in time windows, over a kill at any moment; then the model, its table and its card.

OUT/NAME is the run folder of a stage, OUT/curves has a picture of each, OUT/model is the model, OUT/eval its tables.

The table is the benchmark on recordings that no stage was trained on; the curves are training and validation side by
side, from a run's metrics.jsonl.
"""

from __future__ import annotations

import gc
import io
import json
import math
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, parse_flag_from_env

from latentsr.config import AUDIO, dump
from latentsr.data.dataset import Corpus, DataConfig
from latentsr.data.sources import Found, SourceConfig, open_recordings
from latentsr.evaluation import benchmark, report
from latentsr.evaluation.report import MissingExtraError
from latentsr.head_kinds import HEADS
from latentsr.pipeline import Pipeline
from latentsr.training.assemble import LOADERS, assemble
from latentsr.training.card import write_card
from latentsr.training.dry_run import FOLDER, dry_run
from latentsr.training.launch import DONE, ERRORS, INTERRUPTED, NO_DATA, TIME_UP, denormals_flushed, failed, parse
from latentsr.training.loop import fit
from latentsr.training.pace import duration
from latentsr.training.recipe import EvalConfig, Recipe, RecipeStage, load_recipe, references, stage_configs
from latentsr.training.record import Record, digest, read_json, write_json, write_text
from latentsr.training.stages import STAGES, build_stage
from latentsr.wholefiles import publish_folder

ASSEMBLED, MEASURED = "model.json", "eval.json"  # in OUT: what the model, and its table, were made from
TABLE = "table.md"
Curves = dict[str, tuple[list[float], list[float]]]  # name -> (minutes, values)


@denormals_flushed()
def launch_recipe(default: Path, argv: Sequence[str] | None = None) -> int:
    """Parse, train, assemble, measure.

    Returns:
        The exit code: 0 done, 1 failed, 2 wrong usage, 4 stopped by --max-minutes, 130 interrupted.
    """
    parser, args = parse("Train all stages of a recipe. docs/recipe.md has the keys.", default, argv)
    try:
        recipe = load_recipe(args.config, args.overrides)
        if not recipe.data:
            parser.error(NO_DATA)
        if args.dry_run:
            return dry_run_recipe(recipe, args.config)
        driver = Driver(recipe, args.config, args.max_minutes)
        done = driver.train(args.resume, args.tracker) and driver.finish()
        code = DONE if done else INTERRUPTED if driver.interrupted else TIME_UP
    except KeyboardInterrupt:
        code = INTERRUPTED
    except ERRORS as error:
        return failed(error)
    if code != DONE:
        print(f"stopped in {recipe.out}; the same command goes on from there")
    return code


def dry_run_recipe(recipe: Recipe, path: Path) -> int:
    """A dry run of each stage, on the weights that the dry runs before it have left. Returns the exit code."""
    recipe = recipe.model_copy(update={"out": str(Path(recipe.out) / FOLDER)})
    driver, seconds = Driver(recipe, path, None), 0.0
    for stage in recipe.stages:
        print(f"\n{stage.name}", flush=True)
        config = driver.configs[stage.name]
        built = build_stage(STAGES[stage.kind][0], config)
        foreseen = dry_run(built, driver.corpus(config.corpus, config.data), recipe.folder(stage.name))
        seconds += min(foreseen, 60 * (stage.minutes or math.inf))
    print(f"\nall stages: {duration(seconds)}, without the table")
    return DONE


class Driver:
    """A recipe, where its stages stand, and the time that is left."""

    def __init__(self, recipe: Recipe, path: Path, max_minutes: float | None) -> None:
        self.deadline = None if max_minutes is None else time.monotonic() + 60 * max_minutes
        self.recipe, self.out = recipe, Path(recipe.out)
        self.configs = stage_configs(recipe, path)
        self.state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))
        self.found: dict[str, Found] = {}
        self.interrupted = False

    @property
    def main(self) -> bool:
        return bool(self.state.is_main_process)

    # --- training -------------------------------------------------------------------------------------------------

    def train(self, resume: bool, trackers: list[str]) -> bool:
        """Train what is not finished yet. False where the time was up, or an interrupt came, before the end."""
        for name in self.configs:
            self._record(name).check(resume)  # hours before its turn
        if self.main:
            self.out.mkdir(parents=True, exist_ok=True)
            dump(self.recipe, self.out / "recipe.yaml")
        for stage in self.recipe.stages:
            record = self._record(stage.name)
            if record.finished():
                self._print(f"{stage.name} is finished")
                if self.main and "cost" not in record.read():  # killed between the two
                    self._show(stage.name, record)
            elif not self._train(stage, record, resume, trackers):
                return False
        return True

    def _train(self, stage: RecipeStage, record: Record, resume: bool, trackers: list[str]) -> bool:
        """Train a stage as long as there is time. False where it is not finished then."""
        config = self.configs[stage.name]
        record.check(resume)
        if self._is_over(self._minutes_left(record)):
            return False
        corpus = self.corpus(config.corpus, config.data)
        minutes = self._minutes_left(record)
        if self._is_over(minutes):
            return False
        self._print(f"training {stage.name}")
        if self.main:
            record.begin(str(corpus), self.state.num_processes)
        built = build_stage(STAGES[stage.kind][0], config)
        exported = fit(built, corpus, record.folder, resume=resume, max_minutes=minutes, trackers=trackers)
        self.interrupted = exported is None
        del built
        gc.collect()  # the networks and optimisers of a stage do not stay beside those of the next
        if self.main and exported is not None:
            self._show(stage.name, record)
        self.state.wait_for_everyone()  # torchrun stops the others as soon as one is gone
        return exported is not None and record.finished()

    def _show(self, name: str, record: Record) -> None:
        """Cost and curves of what is there."""
        record.end()
        progress = record.progress()
        draw_curves(record.folder, self.out / "curves" / f"{name}.png", progress["seconds"], progress["step"])

    def _record(self, name: str) -> Record:
        stage = next(stage for stage in self.recipe.stages if stage.name == name)
        inputs = {other: digest(self.recipe.weights(other)) for other in references(stage)}
        return Record(self.configs[name], inputs, stage.minutes)

    def corpus(self, config: DataConfig, data: str) -> Corpus:
        """Its recordings are decoded once for all stages that read the same, however each draws from them."""
        key = f"{data} {config.model_dump_json(include=set(SourceConfig.model_fields))}"
        if key not in self.found:
            self.found[key] = open_recordings(data, config)
        return Corpus(self.found[key].recordings, config, self.found[key].left_out)

    def _minutes_left(self, record: Record) -> float | None:
        """Of the window and of the stage's own; the main process' clock counts for all."""
        left = [] if self.deadline is None else [(self.deadline - time.monotonic()) / 60]
        if record.minutes is not None:
            left.append(record.minutes - record.progress().get("seconds", 0.0) / 60)
        agreed = [min(left, default=None)]
        broadcast_object_list(agreed)
        return agreed[0]

    @staticmethod
    def _is_over(minutes: float | None) -> bool:
        return minutes is not None and minutes <= 0

    # --- the model ------------------------------------------------------------------------------------------------

    def finish(self) -> bool:
        """Model folder, table and card, by the main process alone. False where no time was left for the table."""
        self.state.destroy_process_group()  # the others do not wait for hours of measuring
        if not self.main:
            return True
        model, table = self.out / "model", ""
        self._assemble(model)
        if self.recipe.eval.references:
            if self.deadline is not None and time.monotonic() > self.deadline and not self._measured():
                return False
            table = self._measure(model)
        records = {name: self._record(name).read() for name in self.configs}
        corpora = [config.corpus for config in self.configs.values()]
        write_text(model / "README.md", write_card(self.recipe, records, corpora, table))
        print(f"the model is in {model}")
        return True

    def _parts(self) -> dict[str, Path]:
        """Component -> its folder; of several stages that make it, the last one's."""
        folders = [self.recipe.weights(stage.name) / part for stage in self.recipe.stages for part in LOADERS]
        return {folder.name: folder for folder in folders if folder.is_dir()}

    def _made_from(self) -> dict[str, object]:
        weights = {name: digest(folder.parent) for name, folder in self._parts().items()}
        return {"weights": weights, "model": self.recipe.model.model_dump(mode="json")}

    def _assemble(self, model: Path) -> None:
        """Written beside and renamed, and only where it is not there yet."""
        if model.is_dir() and read_json(self.out / ASSEMBLED) == self._made_from():
            return
        config, partial = self.recipe.model, self.out / ".model.partial"
        shutil.rmtree(partial, ignore_errors=True)
        (self.out / ASSEMBLED).unlink(missing_ok=True)
        assemble(
            partial, self._parts(), base=config.base, scheduler=config.scheduler, dtype=config.dtype,
            values=config.values,
        )  # fmt: skip
        publish_folder(partial, model)
        write_json(self.out / ASSEMBLED, self._made_from())

    def _measured_from(self) -> dict[str, object]:
        return {**self._made_from(), "eval": self.recipe.eval.model_dump(mode="json")}

    def _measured(self) -> bool:
        return read_json(self.out / MEASURED) == self._measured_from()

    def _measure(self, model: Path) -> str:
        """The text of the table, measured anew where model or conditions are others."""
        if not self._measured():
            self._print("measuring")
            measure(model, self.recipe.eval, str(self.state.device), self.out / "eval")
            write_json(self.out / MEASURED, self._measured_from())
        return (self.out / "eval" / TABLE).read_text(encoding="utf-8")

    def _print(self, text: str) -> None:
        if self.main:
            print(text, flush=True)


def heads_of(components: set[str]) -> list[str]:
    """The heads that a model with these components has: as `latentsr eval` takes them."""
    return [name for name, head in HEADS.items() if components >= _needed(name)]


def _needed(head: str) -> set[str]:
    diffusion = {"vae", "unet"} if HEADS[head].needs_latents else set[str]()
    return {*HEADS[head].components, *diffusion}


def measure(model: Path, config: EvalConfig, device: str, out: Path) -> None:
    """Score a model folder on a device; `out` gets table.md, and CSV and JSON of every condition."""
    out.mkdir(parents=True, exist_ok=True)
    pipe = Pipeline.from_pretrained(model).to(device)
    pipe.set_progress_bar_config(disable=True)
    components = {name for name, part in pipe.components.items() if part is not None}
    heads = list(config.heads) or heads_of(components)
    about: dict[str, Any] = {"references": Path(config.references).name, "visqol": config.visqol, "device": device}
    about["model_sha256"] = benchmark.model_hash(pipe.components.items())
    text = []
    for number, conditions in enumerate(config.conditions, start=1):
        clips = benchmark.find_clips(Path(config.references), conditions.limit)
        options = {"seed": conditions.seed, **config.options}
        systems = [benchmark.unprocessed()]
        systems += benchmark.head_rows(pipe, heads, config.steps or (None,), conditions.known_cutoff, options)
        if components >= {"vae", "vocoder"}:
            pipe.reconstruct(torch.zeros(1, 1, AUDIO.sample_rate))  # what is compiled or loaded late is not timed
            systems.append(benchmark.ceiling(pipe.reconstruct))
        records = benchmark.run(benchmark.Comparison(clips, systems, conditions), visqol=config.visqol)
        summary, described = report.summarise(records), report.describe(conditions, {**about, **config.options})
        report.write_csv(out / f"table-{number}.csv", summary, described)
        report.write_json(out / f"table-{number}.json", summary, records, described)
        text.append(report.format_table(summary))
        text.append(report.format_conditions(described))
    write_text(out / TABLE, "\n\n".join(text) + "\n")


def read_curves(run: Path, seconds: float, step: int) -> tuple[Curves, Curves]:
    """The losses' totals, and the distances on validation, against minutes of training.

    Where a line has no seconds of its own, it lies between the lines that have, by its step; the run ended at `step`
    after `seconds`.
    """
    file = run / "metrics.jsonl"
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
    timed = sorted(
        {(0, 0.0), (step, seconds)} | {(line["step"], line["seconds"]) for line in lines if "seconds" in line}
    )
    steps, times = zip(*timed, strict=True)
    training: Curves = {}
    validation: Curves = {}
    for line in lines:
        minutes = float(np.interp(line["step"], steps, times)) / 60
        for name, value in line.items():
            if name.startswith("total_"):
                _add(training, name.removeprefix("total_"), minutes, value)
            elif name.startswith("validation_") and "lsd" in name:
                _add(validation, name.removeprefix("validation_"), minutes, value)
    return training, validation


def draw_curves(run: Path, png: Path, seconds: float, step: int) -> None:
    """Draw both panels; nothing is drawn of a run that has written no figures."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise MissingExtraError("curves need matplotlib; install it with: pip install 'latentsr[train]'") from None
    panels = dict(zip(("training loss", "validation distance"), read_curves(run, seconds, step), strict=True))
    if not any(panels.values()):
        return
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    axes: Any = figure.subplots(1, 2)
    for axis, (title, curves) in zip(axes, panels.items(), strict=True):
        for name, (minutes, values) in curves.items():
            axis.plot(minutes, values, marker="." if len(values) < 50 else "", label=name)
        axis.set_title(f"{run.name}: {title}")
        axis.set_xlabel("minutes")
        if curves:
            axis.legend()
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=100)
    png.parent.mkdir(parents=True, exist_ok=True)
    png.write_bytes(picture.getvalue())


def _add(curves: Curves, name: str, minutes: float, value: float) -> None:
    times, values = curves.setdefault(name, ([], []))
    times.append(minutes)
    values.append(value)
