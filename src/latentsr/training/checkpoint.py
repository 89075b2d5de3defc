"""Checkpoints that survive a kill at any moment: written beside, hashed, renamed, and only then rotated.

accelerate's own `save_state` is not atomic and pickles; here every tensor is safetensors and the rest JSON.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from latentsr.config import ConfigError
from latentsr.model_folder.tensorfiles import read_json
from latentsr.training.stage import StageConfig
from latentsr.wholefiles import publish_folder, sha256

MANIFEST = "manifest.json"  # written last: a folder without it is not a checkpoint
DIGEST = "manifest_sha256"  # in the manifest, of all else in it
Tensors = dict[str, dict[str, Tensor]]  # file stem -> name -> tensor
Averages = Mapping[str, list[Tensor]]  # by network: its averaged parameters


def save(folder: Path, step: int, tensors: Tensors, extra: dict[str, Any]) -> Path:
    """Write checkpoint `folder/step-XXXXXXXX` atomically and return its path.

    Raises OSError where it cannot be written (a full disk); the checkpoints before it stay as they are.
    """
    final = folder / f"step-{step:08d}"
    partial = folder / f".partial-{final.name}"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        _write(partial, step, tensors, extra)
        publish_folder(partial, final)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise OSError(f"cannot write checkpoint {final} ({error}); make room; those before it are kept") from error
    return final


def _write(partial: Path, step: int, tensors: Tensors, extra: dict[str, Any]) -> None:
    for stem, group in tensors.items():
        save_file({k: v.detach().cpu().contiguous() for k, v in group.items()}, partial / f"{stem}.safetensors")
    hashes = {f.name: sha256(f) for f in sorted(partial.iterdir())}
    manifest = {"step": step, "sha256": hashes, **extra}
    (partial / MANIFEST).write_text(json.dumps({**manifest, DIGEST: _digest(manifest)}, indent=1))


def rotate(folder: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints, and what killed runs left half-written."""
    for old in checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    for partial in folder.glob(".partial-*"):
        shutil.rmtree(partial)


def checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    return sorted(p for p in folder.glob("step-*") if (p / MANIFEST).is_file())


def newest_valid(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint whose files match their hashes, and its manifest; damaged ones are named and skipped."""
    for path in reversed(checkpoints(folder)):
        try:
            manifest = _manifest(path)
            bad = [name for name, digest in manifest["sha256"].items() if not _is_whole(path / name, digest)]
        except ValueError:
            bad = [MANIFEST]
        if not bad:
            return path, manifest
        print(f"checkpoint {path} is damaged ({', '.join(bad)}); trying the one before")
    return None


def _manifest(path: Path) -> dict[str, Any]:
    """What a checkpoint says of itself; ValueError where that is not what `save` writes."""
    manifest = read_json(path / MANIFEST)
    digest = manifest.pop(DIGEST, None)
    hashes, step = manifest.get("sha256"), manifest.get("step")
    if not isinstance(hashes, dict) or type(step) is not int or any(Path(name).name != name for name in hashes):
        raise ValueError("not what is written here")
    if digest != _digest(manifest) and (digest is not None or not {"config", "seconds"} <= manifest.keys()):
        raise ValueError("changed since")  # runs of before had none
    return manifest


def _is_whole(path: Path, digest: str) -> bool:
    try:
        return sha256(path) == digest
    except (OSError, ValueError):  # missing, or no name of a file
        return False


def _digest(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def load(path: Path) -> Tensors:
    """The tensors of a checkpoint; OSError where a file holds none, whatever its hash."""
    try:
        return {file.stem: load_file(file) for file in sorted(path.glob("*.safetensors"))}
    except SafetensorError as error:
        raise OSError(f"checkpoint {path} cannot be read ({error}); delete it, and the one before is taken") from error


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's moments, flat: `<parameter index>.<moment>` -> tensor."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{key}": torch.as_tensor(value) for i, moments in state.items() for key, value in moments.items()}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


class Best:
    """The averaged weights of the validation at which a named metric was best, beside the last ones, over a kill too.

    They lie in RUN/checkpoints/best. Nothing is done where the config names no metric.
    """

    def __init__(self, run: Path, config: StageConfig) -> None:
        self.folder, self.metric = run / "checkpoints" / "best", config.best_metric
        self.sign = -1.0 if config.best_mode == "max" else 1.0
        self.step, self.value = -1, math.nan

    def start(self) -> None:
        """Take up what the run has found, by the same metric."""
        found = newest_valid(self.folder) if self.metric else None
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
        path = save(self.folder, step, groups, {"metric": self.metric, "value": value})
        for other in checkpoints(self.folder):
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
        tensors = load(self.folder / f"step-{self.step:08d}")
        return {name: [group[str(i)] for i in range(len(group))] for name, group in tensors.items()}
