"""A recipe: stages of training in their order, each with its config, and the model that they make together.

    stages:
      - {name: vae, kind: vae, config: configs/vae/small.yaml}
      - {name: ldm, kind: ldm, config: configs/ldm/small.yaml, overrides: {vae: "{vae}/vae"}}

`{NAME}` stands for the folder of the weights of an earlier stage. A stage's config is its YAML file, then `common`,
then its own `overrides`; their keys are dotted, as on the command line, and what they give replaces what was there.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from latentsr.config import Config, ConfigError, build, load, parse_word
from latentsr.dtypes import TrainedDtype
from latentsr.evaluation.conditions import Conditions
from latentsr.training.stage import StageConfig
from latentsr.training.stages import STAGES

REFERENCE = re.compile(r"\{([^{}]*)\}")
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


class RecipeStage(Config):
    """One stage: its run folder is OUT/NAME."""

    name: str
    kind: str  # a key of STAGES
    config: str  # YAML file, relative to the recipe's folder or to a folder above it
    overrides: dict[str, Any] = {}
    minutes: float | None = Field(None, gt=0)  # of training in all; the steps that are left then are left out


class ModelConfig(Config):
    """The model folder OUT/model. Of several stages that make a component, the last one's is taken."""

    base: str = ""  # model folder, or 'embedded': where the components come from that no stage makes
    scheduler: str | None = None  # a key of sampling.SCHEDULERS; None: that of the base, or ddim
    dtype: TrainedDtype = "fp16"  # of the files
    values: dict[str, Any] = {}  # default_steps, default_guidance_scale, ... of the pipeline
    licence: str = ""  # of the weights, for the card


class EvalConfig(Config):
    """The table of the finished model; none without references."""

    references: str = ""  # folder of wide-band recordings that no stage is trained on
    heads: tuple[str, ...] = ()  # as `latentsr eval` takes them; empty: all that the model has
    steps: tuple[int, ...] = ()  # a row each; empty: the model's default
    conditions: tuple[Conditions, ...] = (build(Conditions, {}),)  # a table each
    visqol: bool = True
    options: dict[str, Any] = {}  # of the pipeline's call: guidance_scale, temperature, denoise


class Recipe(Config):
    data: str = ""  # folder or manifest
    out: str = "runs/recipe"
    seed: int = 0  # of every stage
    common: dict[str, Any] = {}  # overrides of every stage
    stages: tuple[RecipeStage, ...]
    model: ModelConfig = ModelConfig()
    eval: EvalConfig = EvalConfig()

    def folder(self, name: str) -> Path:
        """The run folder of a stage."""
        return Path(self.out) / name

    def weights(self, name: str) -> Path:
        return self.folder(name) / "weights"


TAKEN = {*Recipe.model_fields, *StageConfig.model_fields, "curves"}  # keys of the command line, or folders of OUT


def load_recipe(path: Path, words: Iterable[str] = ()) -> Recipe:
    """Read a recipe and apply the words of the command line.

    `NAME.key=value` changes the stage of that name, a key of the recipe (`eval.references=DIR`) the recipe, and a key
    that all stages have (`corpus.layout=pairs`, `batch_size=8`) every stage.
    """
    words = [word.removeprefix("common.") for word in words]
    own = [word for word in words if re.split("[.=]", word)[0] in Recipe.model_fields]
    recipe = load(Recipe, path, own)
    _check_stages(recipe, path)
    names = [stage.name for stage in recipe.stages]
    common, stages = dict(recipe.common), {stage.name: dict(stage.overrides) for stage in recipe.stages}
    for word in (word for word in words if word not in own):
        key, value = parse_word(word)
        head, _, rest = key.partition(".")
        if head in names and rest:
            _put(stages[head], rest, value)
        elif head in StageConfig.model_fields:
            _put(common, key, value)
        else:
            known = [*names, *Recipe.model_fields, *StageConfig.model_fields]
            near = difflib.get_close_matches(head, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"stages: {', '.join(names)}"
            raise ConfigError(f"{word!r}: {head!r} is neither a stage nor a key of the recipe or of all stages; {hint}")
    changed = tuple(stage.model_copy(update={"overrides": stages[stage.name]}) for stage in recipe.stages)
    return recipe.model_copy(update={"common": common, "stages": changed})


def stage_configs(recipe: Recipe, path: Path) -> dict[str, StageConfig]:
    """The resolved config of every stage, by name; `path` is the recipe's file. Wrong ones raise ConfigError."""
    configs: dict[str, StageConfig] = {}
    for stage in recipe.stages:
        fixed = {"data": recipe.data, "out": str(recipe.folder(stage.name)), "seed": recipe.seed}
        values = [*recipe.common.items(), *fixed.items(), *stage.overrides.items()]
        words = [f"{key}={_text(_resolved(value, recipe, stage, list(configs)))}" for key, value in values]
        try:
            configs[stage.name] = load(STAGES[stage.kind][1], _find(stage, path), words)
        except ConfigError as error:
            raise ConfigError(f"stage {stage.name}: {error}") from None
        if configs[stage.name].out != fixed["out"]:
            raise ConfigError(f"stage {stage.name}: its out is {fixed['out']}; remove out from the overrides")
    return configs


def references(stage: RecipeStage) -> list[str]:
    """Names of the stages whose weights a stage is trained with."""
    return sorted({name for text in _strings(stage.overrides) for name in REFERENCE.findall(text)})


def _check_stages(recipe: Recipe, path: Path) -> None:
    if not recipe.stages:
        raise ConfigError(f"{path} has no stages; list at least one")
    seen: set[str] = set()
    for stage in recipe.stages:
        if not NAME.fullmatch(stage.name) or stage.name in TAKEN:
            raise ConfigError(f"{path}: a stage cannot be named {stage.name!r}; use letters, digits, - and _")
        if stage.name in seen:
            raise ConfigError(f"{path}: two stages are named {stage.name!r}; rename one")
        if stage.kind not in STAGES:
            raise ConfigError(
                f"{path}: stage {stage.name} is of unknown kind {stage.kind!r}; known: {', '.join(STAGES)}"
            )
        seen.add(stage.name)


def _find(stage: RecipeStage, path: Path) -> Path:
    candidates = [folder / stage.config for folder in path.resolve().parents]
    found = next((file for file in candidates if file.is_file()), None)
    if found is None:
        raise ConfigError(f"no {stage.config} in {path.parent} or a folder above it")
    return found


def _resolved(value: Any, recipe: Recipe, stage: RecipeStage, earlier: list[str]) -> Any:
    """`value` with every {NAME} replaced by the folder of that stage's weights."""
    if isinstance(value, Mapping):
        return {key: _resolved(part, recipe, stage, earlier) for key, part in value.items()}
    if isinstance(value, list):
        return [_resolved(part, recipe, stage, earlier) for part in value]
    if not isinstance(value, str):
        return value
    for name in REFERENCE.findall(value):
        if name not in earlier:
            there = ", ".join(earlier) or "none"
            raise ConfigError(f"stage {stage.name}: {{{name}}} is no earlier stage; earlier ones: {there}")
    return REFERENCE.sub(lambda match: recipe.weights(match[1]).as_posix(), value)


def _strings(value: Any) -> Iterator[str]:
    """All strings within a value, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _strings(part)


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    """As the last one: overrides are applied in their order."""
    values.pop(key, None)
    values[key] = value


def _text(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True)
