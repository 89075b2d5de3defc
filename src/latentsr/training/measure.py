"""The table of a finished model: the benchmark on recordings that no stage was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from latentsr.config import AUDIO
from latentsr.evaluation import benchmark, report
from latentsr.head_kinds import HEADS
from latentsr.pipeline import Pipeline
from latentsr.training.recipe import EvalConfig
from latentsr.training.record import write_text

TABLE = "table.md"


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
