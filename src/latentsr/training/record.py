"""What a recipe knows of a stage: with which values it was trained, on what, where, and at which cost.

It lies in the stage's run folder as `stage.json`, beside what `fit` writes.
"""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from latentsr.config import ConfigError, differences
from latentsr.training.stage import StageConfig
from latentsr.wholefiles import replace_file, sha256

FILE = "stage.json"


@dataclass
class Record:
    """A stage of a recipe: its config, the digests of the weights it is trained with, and what is left of its run."""

    config: StageConfig
    inputs: dict[str, str]  # name of the stage -> digest of its weights
    minutes: float | None  # of training in all; None: as long as its steps last

    @property
    def folder(self) -> Path:
        return Path(self.config.out)

    @property
    def values(self) -> dict[str, Any]:
        """What must not change while the stage is trained."""
        return {**self.config.model_dump(mode="json"), "inputs": self.inputs}

    def read(self) -> dict[str, Any]:
        return read_json(self.folder / FILE)

    def progress(self) -> dict[str, Any]:
        """`step`, `seconds` and `finished` of the exported weights; nothing where there are none."""
        return read_json(self.folder / "weights" / "training.json")

    def changes(self) -> list[str]:
        """Lines `key: old -> new` against the run that is there."""
        there = self.read()
        return differences(there["values"], self.values) if there else []

    def finished(self) -> bool:
        """Whether the weights that are there are what this stage is to make."""
        there, progress = self.read(), self.progress()
        if not there or not progress or self.changes():
            return False
        used_up = self.minutes is not None and progress["seconds"] >= 60 * self.minutes
        return used_up or (progress["finished"] and progress["step"] >= self.config.steps)

    def check(self, resume: bool) -> None:
        """Raise ConfigError where a run with other values is there, and `resume` does not say to go on with these."""
        changes = self.changes()
        if changes and not resume and (self.folder / "checkpoints").is_dir():
            raise ConfigError(
                f"{self.folder} was trained with other values ({'; '.join(changes)}); "
                f"add --resume to go on with the new ones, or delete {self.folder} to train it anew"
            )

    def begin(self, corpus: str, processes: int = 1) -> None:
        """Note the values, on what they are trained, and where."""
        if self.changes():  # what was exported before is not what these values make
            (self.folder / "weights" / "training.json").unlink(missing_ok=True)
        there = self.read()
        noted: dict[str, Any] = {"values": self.values, "corpus": corpus}
        for key, now in {"hardware": hardware(processes), "commits": commit()}.items():
            before = there.get(key, [])
            noted[key] = before if now is None or now in before else [*before, now]
        write_json(self.folder / FILE, noted)

    def end(self) -> None:
        """Note what it cost."""
        write_json(self.folder / FILE, {**self.read(), "cost": cost(self.config, self.progress())})


def cost(config: StageConfig, progress: Mapping[str, Any]) -> dict[str, float]:
    """Steps, minutes on the wall, and what was trained on in a second: examples, and seconds of audio."""
    if not progress:
        return {}
    per_second = progress["step"] * config.batch_size / max(progress["seconds"], 1e-9)
    return {
        "steps": progress["step"],
        "minutes": progress["seconds"] / 60,
        "examples_per_second": per_second,
        "audio_seconds_per_second": per_second * config.frames / config.audio.frames_per_second,
    }


def digest(folder: Path) -> str:
    """SHA-256 over the weights and configs below `folder`, 16 hex digits."""
    total = hashlib.sha256()
    for file in sorted(folder.glob("*/*")):
        if file.suffix in (".safetensors", ".json"):
            total.update(f"{file.relative_to(folder).as_posix()} {sha256(file)}\n".encode())
    return total.hexdigest()[:16]


def hardware(processes: int = 1) -> str:
    """What computes, in words."""
    if torch.cuda.is_available():
        where = torch.cuda.get_device_name()
    else:
        where = f"{_cpu()}, {torch.get_num_threads()} threads"
    return f"{where}, torch {torch.__version__}" + (f", {processes} processes" if processes > 1 else "")


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0].partition(":")[2].strip() if names else platform.processor() or platform.machine()


def commit() -> str | None:
    """The commit of this code, with + where files differ from it; None outside a git checkout."""
    here = Path(__file__)

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", *words], cwd=here.parent, capture_output=True, text=True)
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    if git("ls-files", "--error-unmatch", here.name) is None:  # installed, perhaps below somebody else's checkout
        return None
    head = git("rev-parse", "--short=12", "HEAD")
    return head and head + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")


def read_json(path: Path) -> dict[str, Any]:
    """The mapping in a file; nothing where there is none, or one that a kill cut short."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(values, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Whole, in a folder that is made where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, text.encode())
