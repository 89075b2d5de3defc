"""The model card that a recipe writes: components, data and licences, cost of every stage, measured table, recipe."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

import latentsr
from latentsr.data.dataset import DataConfig
from latentsr.data.layouts import exclude_clips, find_clips
from latentsr.model_folder.loading import read_index
from latentsr.model_folder.tensorfiles import header
from latentsr.training.recipe import Recipe

Row = Sequence[str]


def write_card(
    recipe: Recipe, records: Mapping[str, Mapping[str, Any]], corpora: Iterable[DataConfig], table: str
) -> str:
    """The text of the model folder's README.md, of each stage's stage.json; no table: there were no references."""
    model = Path(recipe.out) / "model"
    front: dict[str, Any] = {"license": recipe.model.licence} if recipe.model.licence else {}
    front |= {"library_name": "latentsr", "tags": ["audio", "audio-super-resolution", "bandwidth-extension"]}
    commits = list(dict.fromkeys(commit for record in records.values() for commit in record.get("commits", [])))
    code = f"latentsr {latentsr.__version__}" + (f", commit {' to '.join(commits)}" if commits else "")
    return "\n".join(
        [
            f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n",
            f"# {Path(recipe.out).name}\n",
            "Restores the missing top of recordings: 48 kHz out, the given band untouched.\n",
            _table(["component", "class", "parameters"], _components(model)),
            "\n## Training\n",
            f"By `train.py` ({code}), seed {recipe.seed}.\n",
            _table(STAGE_HEADINGS, [_stage(name, record) for name, record in records.items()]),
            "\nMinutes are on the wall; the other two figures are what training saw in a second of them.\n",
            "\n## Measured\n",
            table or "Not measured: the recipe was given no references (`eval.references=DIR`).",
            "\n## Data\n",
            *dict.fromkeys(_sentence(record["corpus"]) for record in records.values()),
            "",
            _licences(recipe, list(corpora)),
            "\n## Recipe\n",
            f"```yaml\n{_portable(recipe)}```\n",
        ]
    )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


STAGE_HEADINGS = ("stage", "steps", "minutes", "examples/s", "seconds of audio/s", "hardware")


def _stage(name: str, record: Mapping[str, Any]) -> Row:
    cost = record["cost"]
    return [
        name,
        f"{cost['steps']:,}",
        f"{cost['minutes']:.1f}",
        f"{cost['examples_per_second']:.1f}",
        f"{cost['audio_seconds_per_second']:.1f}",
        "; ".join(record["hardware"]),
    ]


def _components(model: Path) -> list[Row]:
    rows: list[Row] = []
    for name, entry in read_index(model).items():
        if isinstance(entry, list) and entry[-1] is not None and (model / name / "config.json").is_file():
            rows.append([f"`{name}`", f"`{entry[-1]}`", f"{_parameters(model / name) / 1e6:.2f} M"])
    return rows


def _parameters(folder: Path) -> int:
    tensors = (tensor for file in folder.glob("*.safetensors") for tensor in header(file).values())
    return sum(math.prod(tensor.shape) for tensor in tensors)


def _licences(recipe: Recipe, corpora: Sequence[DataConfig]) -> str:
    """Sources and licences of the recordings, as the manifest has them."""
    data = Path(recipe.data)
    manifest = data if data.suffix.lower() == ".csv" else data / "manifest.csv"
    rows = _manifest_rows(manifest) if manifest.is_file() else []
    if not rows or "licence" not in rows[0]:
        return f"Licences are not known: `{data.name}` has no manifest with a column `licence`."
    used = {clip.path for corpus in corpora for clip in _clips(data, corpus)}
    groups: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        if manifest.parent / row["file"] in used:
            groups[row.get("source") or "", row["licence"] or "not given"].append(float(row.get("seconds") or 0))
    lines = [
        [source, licence, str(len(seconds)), f"{sum(seconds) / 60:.1f}"]
        for (source, licence), seconds in groups.items()
    ]
    return _table(["source", "licence", "files", "minutes"], lines)


def _clips(data: Path, corpus: DataConfig) -> list[Any]:
    clips = [clip for clip in find_clips(data, corpus.layout, "all") if clip.split != "test"]
    return exclude_clips(clips, corpus.exclude, data)


def _manifest_rows(manifest: Path) -> list[dict[str, str]]:
    with manifest.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def _portable(recipe: Recipe) -> str:
    """The recipe without this machine's folders."""
    values = recipe.model_dump(mode="json", exclude_defaults=True)
    values["data"] = Path(recipe.data).name
    values.pop("out", None)
    if recipe.eval.references:
        values["eval"]["references"] = Path(recipe.eval.references).name
    return yaml.safe_dump(values, sort_keys=False, width=120)


def _table(headings: Row, rows: Iterable[Row]) -> str:
    lines = [list(headings), ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"
