"""What a run writes for people: metrics.jsonl, trackers, spectrogram pictures and audio samples."""

from __future__ import annotations

import json
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path

from accelerate import Accelerator

from latentsr import audio
from latentsr.config import ConfigError
from latentsr.evaluation.report import spectrogram_png
from latentsr.training.stage import Validation


class Journal:
    """Figures under the names that the stage gave them. On resuming, lines past the resumed step are dropped."""

    def __init__(self, run: Path, accelerator: Accelerator) -> None:
        if find_spec("matplotlib") is None:  # said now, and not at the first validation
            raise ConfigError("validation draws spectrograms with matplotlib; pip install 'latentsr[train]'")
        self.run = run
        self.accelerator = accelerator
        self.file = run / "metrics.jsonl"
        self.sums: dict[str, list[float]] = defaultdict(list)

    def start(self, step: int) -> None:
        """Begin to write, after `step`."""
        if self.accelerator.log_with:
            self.accelerator.init_trackers("latentsr")
        if self.accelerator.is_main_process and self.file.exists():
            kept = [line for line in self.file.read_text().splitlines() if json.loads(line)["step"] <= step]
            self.file.write_text("".join(line + "\n" for line in kept))

    def losses(self, step: int, figures: dict[str, float], every: int) -> None:
        """Collect the losses of a step; write their means every so many steps."""
        for name, value in figures.items():
            self.sums[name].append(value)
        if step % every == 0 and self.sums:
            self._write(step, {name: sum(values) / len(values) for name, values in self.sums.items()})
            self.sums.clear()

    def validation(self, step: int, seconds: float, validation: Validation) -> None:
        """Write the figures, one PNG with all spectrograms and one FLAC per wave."""
        self._write(step, {f"validation_{k}": v for k, v in validation.metrics.items()} | {"seconds": seconds})
        self.accelerator.print(
            f"step {step}: " + ", ".join(f"{name} {value:.4f}" for name, value in validation.metrics.items())
        )
        if not validation.waves or not self.accelerator.is_main_process:
            return
        folder = self.run / "samples" / f"step-{step:08d}"
        folder.mkdir(parents=True, exist_ok=True)
        waves = {name: wave.detach().float().cpu().clamp(-1, 1).numpy() for name, wave in validation.waves.items()}
        spectrogram_png(waves, folder / "spectrograms.png", validation.sample_rate)
        for name, wave in waves.items():
            audio.write(folder / f"{name}.flac", wave[None], validation.sample_rate, subtype="PCM_16", overwrite=True)

    def _write(self, step: int, figures: dict[str, float]) -> None:
        self.accelerator.log(figures, step=step)
        if self.accelerator.is_main_process:
            with self.file.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **figures}) + "\n")
