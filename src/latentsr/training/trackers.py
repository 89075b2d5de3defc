"""Trackers by the names that accelerate has for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker, get_available_trackers

from latentsr.config import ConfigError
from latentsr.training.stage import StageConfig

PROJECT = "latentsr"
# How a tracker is told the name of the run; its first argument is the project, but for those in RUN_FIRST the run.
RUN_NAME = {
    "wandb": "name",
    "trackio": "name",
    "mlflow": "run_name",
    "swanlab": "experiment_name",
    "clearml": "task_name",
}
RUN_FIRST = ("tensorboard", "aim", "dvclive")


def check_trackers(names: list[str]) -> list[str]:
    """The trackers that are meant, each once. Raises ConfigError where one is not known, or not installed."""
    there = [str(name) for name in get_available_trackers()]
    wanted = list(dict.fromkeys(there if "all" in names else names))
    for name in wanted:
        if name not in LOGGER_TYPE_TO_CLASS:
            raise ConfigError(f"unknown tracker {name!r}; choose one of {', '.join(LOGGER_TYPE_TO_CLASS)}, or all")
        if name not in there:
            raise ConfigError(f"the tracker {name} is not installed; pip install {name.replace('_', '-')}")
    return wanted


def open_trackers(names: list[str], run: Path, step: int, config: StageConfig) -> list[GeneralTracker]:
    """Start the trackers of a run that stands at `step`.

    TensorBoard writes into the run's folder, so that `tensorboard --logdir runs` shows each run by its name.
    """
    opened = []
    for name in names:
        kind: Any = LOGGER_TYPE_TO_CLASS[name]
        first = run.name if name in RUN_FIRST else PROJECT
        words: dict[str, Any] = {RUN_NAME[name]: run.name} if name in RUN_NAME else {}
        if name == "tensorboard":
            words["purge_step"] = step + 1 if step else None  # of a step that is trained again, the first figures go
        places = [str(run.parent)] if kind.requires_logging_directory else []
        tracker = kind(first, *places, **words)
        tracker.start()
        if name != "tensorboard":  # it would make a second run of them
            tracker.store_init_configuration(config.model_dump(mode="json"))
        opened.append(tracker)
    return opened
