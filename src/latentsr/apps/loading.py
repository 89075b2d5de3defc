"""From words of the command line to a pipeline; torch is imported when one is loaded, not before."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Loader:
    """Which model to load and how; it can be sent to another process, which calls it."""

    model: str | None = None  # folder, Hub id, or AudioSR checkpoint file; None = the embedded default
    head: str | None = None
    device: str | None = None
    dtype: str | None = None
    vocoder: str | None = None

    def __call__(self) -> Any:
        """The pipeline, on its device."""
        return load_pipeline(self.model, self.head, self.device, self.dtype, self.vocoder)

    def key(self) -> str:
        """A hash of everything about the model that the result depends on."""
        parts = [model_hash(self.model), self.dtype or "float32"]
        if self.vocoder is not None:
            parts.append(model_hash(None if self.vocoder == "embedded" else self.vocoder))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def load_pipeline(
    model: str | None, head: str | None, device: str | None, dtype: str | None, vocoder: str | None = None
) -> Any:
    """A pipeline with what `head` needs; raises `UsageError` for a head or a device that there is not."""
    import torch

    from latentsr import Pipeline
    from latentsr.apps.restore import UsageError
    from latentsr.components import default_head
    from latentsr.heads import HEADS

    if head is not None and head not in HEADS:
        raise UsageError(f"unknown head {head!r}; choose one of {', '.join(HEADS)}")
    if device is not None and device.partition(":")[0] == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            f"torch {torch.__version__} finds no CUDA device here; leave out --device, or say --device cpu"
        )
    pipe: Any
    torch_dtype = getattr(torch, dtype or "float32")
    if model is not None and Path(model).is_file():
        pipe = Pipeline.from_audiosr(model, vocoder=vocoder, torch_dtype=torch_dtype)
    else:
        pipe = Pipeline.from_pretrained(
            model, heads=[head or default_head(model)], vocoder=vocoder, torch_dtype=torch_dtype
        )
    pipe.set_progress_bar_config(disable=True)  # ours shows the real-time factor
    return pipe.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def model_hash(model: str | None) -> str:
    """A hash of the model's files, or of its list of hashes."""
    from latentsr import folder as folders
    from latentsr.convert import audiosr_hub

    if model is not None and Path(model).is_file():
        return folders.sha256(Path(model))
    published = model is not None and not Path(model).is_dir() and audiosr_hub.is_published(model)
    place = audiosr_hub.fetch(str(model)) if published else folders.find(model)
    if (place / folders.HASHES).is_file():  # it has the hash of every other file, held to it at loading
        return folders.sha256(place / folders.HASHES)
    files = sorted(path for path in place.rglob("*") if path.suffix in (".json", ".safetensors"))
    lines = [f"{path.relative_to(place).as_posix()} {folders.sha256(path)}" for path in files]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
