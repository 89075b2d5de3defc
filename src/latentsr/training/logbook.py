"""What a run writes for people: the live line, metrics.jsonl, trackers, spectrogram pictures and audio samples."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker, get_available_trackers
from tqdm import tqdm

from latentsr import audio
from latentsr.config import ConfigError
from latentsr.evaluation.report import spectrogram_png
from latentsr.training.pace import LiveLine, Pace
from latentsr.training.stage import StageConfig, Validation

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


class Journal:
    """Figures under the names that the stage gave them. On resuming, lines past the resumed step are dropped.

    Only the main process writes.
    """

    def __init__(self, run: Path, config: StageConfig, trackers: list[str], main: bool) -> None:
        if find_spec("matplotlib") is None:  # said now, and not at the first validation
            raise ConfigError("validation draws spectrograms with matplotlib; pip install 'latentsr[train]'")
        self.run, self.config, self.main = run, config, main
        self.names = check_trackers(trackers)
        self.trackers: list[GeneralTracker] = []
        self.file = run / "metrics.jsonl"
        self.sums: dict[str, list[float]] = defaultdict(list)
        self.validated = -1  # the last step that was
        self.line: LiveLine | None = None
        self.last: dict[str, float] = {}  # what was written of the last steps

    def start(self, step: int) -> None:
        """Begin to write, after `step`."""
        if not self.main:
            return
        self.trackers = open_trackers(self.names, self.run, step, self.config)
        if self.file.exists():
            lines = [json.loads(line) for line in self.file.read_text(encoding="utf-8").splitlines()]
            kept = [line for line in lines if line["step"] <= step]
            self.file.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
            self.validated = max((line["step"] for line in kept if _is_validation(line)), default=-1)

    def say(self, text: str) -> None:
        """A line of its own, above the live one."""
        if self.main:
            tqdm.write(text)
            sys.stdout.flush()

    def step(self, step: int, losses: dict[str, float], rates: dict[str, float], pace: Pace) -> None:
        """Show the losses and learning rates of a step; write means every so many steps, and at the last."""
        if not self.main:
            return
        self.line = self.line or LiveLine(self.run.name, self.config.steps)
        self.line.show(step, losses, rates, pace)
        for name, value in losses.items():
            self.sums[name].append(value)
        if step % self.config.log_every == 0 or step == self.config.steps:
            means = {name: sum(values) / len(values) for name, values in self.sums.items()}
            self.last = means | {f"learning_rate_{k}": v for k, v in rates.items()} | pace.figures(step)
            self._write(step, self.last)
            self.line.log(step, means, rates, pace)
            self.sums.clear()
            pace.clear()

    def validation(self, step: int, seconds: float, validation: Validation, note: str = "") -> None:
        """Write the figures, one PNG with all spectrograms and one FLAC per wave."""
        self.validated = step
        self._write(step, {f"validation_{k}": v for k, v in validation.metrics.items()} | {"seconds": seconds})
        figures = ", ".join(f"{name} {value:.4f}" for name, value in validation.metrics.items())
        self.say(f"step {step}: validation {figures}{note}")
        if not validation.waves:
            return
        folder = self.run / "samples" / f"step-{step:08d}"
        rate = validation.sample_rate
        waves = {name: wave.detach().float().cpu().clamp(-1, 1).numpy() for name, wave in validation.waves.items()}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            spectrogram_png(waves, folder / "spectrograms.png", rate)
            for name, wave in waves.items():
                audio.write(audio.Target.of(folder / f"{name}.flac", overwrite=True), wave[None], rate)
        except (OSError, audio.AudioError) as error:
            raise OSError(f"cannot write samples {folder} ({error}); make room; checkpoints are kept") from error
        for tracker in self.trackers:
            _show_samples(tracker, step, waves, folder / "spectrograms.png", rate)

    def pause(self) -> None:
        """The live line ends; figures can still be written."""
        if self.line is not None:
            self.line.close()
        self.line = None

    def close(self) -> None:
        """End the trackers; accelerate's own `end_training` would also end the process group, and with it a recipe."""
        for tracker in self.trackers:
            tracker.finish()

    def _write(self, step: int, figures: dict[str, float]) -> None:
        for tracker in self.trackers:
            tracker.log(figures, step=step)
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **figures}) + "\n")


def _is_validation(line: dict[str, Any]) -> bool:
    return any(name.startswith("validation_") for name in line)


def _show_samples(tracker: Any, step: int, waves: dict[str, Any], png: Path, rate: int) -> None:
    """Pictures where accelerate's tracker takes them; sounds where it is TensorBoard."""
    from matplotlib.image import imread

    if hasattr(tracker, "log_images"):
        tracker.log_images({"spectrograms": imread(png)[None, ..., :3]}, step=step, **_layout(tracker))
    if tracker.name == "tensorboard":
        for name, wave in waves.items():
            tracker.writer.add_audio(name, wave, global_step=step, sample_rate=rate)
        tracker.writer.flush()


def _layout(tracker: Any) -> dict[str, str]:
    return {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}


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
