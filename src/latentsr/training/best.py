"""The averaged weights of the validation at which a named metric was best, kept beside the last ones."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from latentsr.config import ConfigError
from latentsr.training import checkpoint
from latentsr.training.stage import StageConfig

Averages = Mapping[str, list[Tensor]]  # by network: its averaged parameters


class Best:
    """Kept in RUN/checkpoints/best, and over a kill; nothing is done where the config names no metric."""

    def __init__(self, run: Path, config: StageConfig) -> None:
        self.folder, self.metric = run / "checkpoints" / "best", config.best_metric
        self.sign = -1.0 if config.best_mode == "max" else 1.0
        self.step, self.value = -1, math.nan

    def start(self) -> None:
        """Take up what the run has found, by the same metric."""
        found = checkpoint.newest_valid(self.folder) if self.metric else None
        if found is not None and found[1].get("metric") == self.metric:
            self.step, self.value = found[1]["step"], found[1]["value"]

    def offer(self, step: int, metrics: Mapping[str, float], averages: Averages) -> bool:
        """Keep the averages if they are the best so far. Raises ConfigError where no metric has that name."""
        if self.metric is None:
            return False
        if self.metric not in metrics:
            raise ConfigError(f"no metric {self.metric!r} for best_metric; validation has {', '.join(metrics)}")
        value = metrics[self.metric]
        if math.isnan(value) or self.step >= 0 and self.sign * value >= self.sign * self.value:
            return False
        self.step, self.value = step, value
        groups = {name: {str(i): tensor for i, tensor in enumerate(tensors)} for name, tensors in averages.items()}
        path = checkpoint.save(self.folder, step, groups, {"metric": self.metric, "value": value})
        for other in checkpoint.checkpoints(self.folder):
            if other != path:
                shutil.rmtree(other)
        return True

    def summary(self) -> dict[str, Any]:
        """For the exported weights: which step they are of, and how good."""
        return {"step": self.step, "metric": self.metric, "value": self.value}

    def load(self) -> dict[str, list[Tensor]] | None:
        """The averages that were the best; None where nothing was kept."""
        if self.step < 0:
            return None
        tensors = checkpoint.load(self.folder / f"step-{self.step:08d}")
        return {name: [group[str(i)] for i in range(len(group))] for name, group in tensors.items()}
