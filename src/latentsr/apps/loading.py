"""From words of the command line to a model; torch is imported when one is loaded, not before."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from latentsr.errors import UsageError
from latentsr.head_kinds import DEFAULT_HEAD, HEADS
from latentsr.wholefiles import sha256

if TYPE_CHECKING:
    from latentsr.restoring.flow import Restores


THREADS = "OMP_NUM_THREADS"  # how many there are to be, where somebody says so
DEVICES = ("cpu", "cuda", "mps")
MOST_THREADS = 4  # unless somebody does: each holds a window in memory


@dataclass(frozen=True)
class Loader:
    """Which model to load and how; it can be sent to another process, which calls it."""

    model: str | None = None  # folder, Hub id, or AudioSR checkpoint file; None = the embedded default
    head: str | None = None
    device: str | None = None
    dtype: str | None = None
    vocoder: str | None = None
    threads: int | None = None  # None: those of the environment, else as many as there are cores, up to `MOST_THREADS`

    def __call__(self) -> Restores:
        """The model with what the head needs, on its device; raises `UsageError` for a device that there is not."""
        import torch

        dtype = getattr(torch, self.dtype or "float32")
        device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        check_device(device)
        small = device == "cpu" and not HEADS[self.head or self.default_head()].needs_latents
        windows = share_threads(self.threads, small)
        if self.is_checkpoint:
            from latentsr.pipeline import Pipeline

            pipe = Pipeline.from_audiosr(str(self.model), vocoder=self.vocoder, torch_dtype=dtype)
            pipe.set_progress_bar_config(disable=True)  # ours shows the real-time factor
            return pipe.to(device)
        from latentsr.restoring.model import Model

        heads = None if self.head is None else [self.head]
        model = Model(self.model, heads, vocoder=self.vocoder, dtype=dtype, device=device)
        model.threads = windows
        return model

    @property
    def is_checkpoint(self) -> bool:
        """Whether the model is a file of AudioSR's, not a folder."""
        return self.model is not None and Path(self.model).is_file()

    def default_head(self) -> str:
        """The head that the model takes unless told otherwise, known before it is loaded."""
        from latentsr.restoring.model import default_head_of

        return DEFAULT_HEAD if self.is_checkpoint else default_head_of(self.model)

    def key(self) -> str:
        """A hash of everything about the model that the result depends on."""
        parts = [model_hash(self.model), self.dtype or "float32"]
        if self.vocoder is not None:
            parts.append(model_hash(None if self.vocoder == "embedded" else self.vocoder))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def check_device(device: str) -> None:
    """Raise `UsageError` for a device that torch does not know, or that this machine has not."""
    import torch

    kind, colon, number = device.partition(":")
    if kind not in DEVICES or (colon and not number.isdecimal()):
        raise UsageError(f"there is no device {device!r}; choose one of {', '.join(DEVICES)}, or cuda:1 and so on")
    there = {
        "cpu": 1,
        "cuda": torch.cuda.is_available() and torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }[kind]
    if int(number or 0) >= there:
        which = f"{kind.upper()} device {number if there else ''}".strip()
        raise UsageError(f"torch {torch.__version__} finds no {which} here; leave out --device, or say --device cpu")


def share_threads(asked: int | None, small: bool) -> int:
    """Let torch take as many threads as are asked for, and say how many windows to restore at once.

    Where a head's operations are small, threads inside them would wait for each other, on a busy machine most of the
    time: each window gets one thread.
    """
    import torch

    said = asked or (torch.get_num_threads() if THREADS in os.environ else None)
    if small:
        torch.set_num_threads(1)
        return said or min(cores(), MOST_THREADS)
    if said:
        torch.set_num_threads(said)
    return 1


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def model_hash(model: str | None) -> str:
    """A hash of the model's files, or of its list of hashes."""
    from latentsr.model_folder import loading as folders
    from latentsr.restoring.model import find

    if model is not None and Path(model).is_file():
        return sha256(Path(model))
    place = find(model)
    if (place / folders.HASHES).is_file():  # it has the hash of every other file, held to it at loading
        return sha256(place / folders.HASHES)
    files = sorted(path for path in place.rglob("*") if path.suffix in (".json", ".safetensors"))
    lines = [f"{path.relative_to(place).as_posix()} {sha256(path)}" for path in files]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
