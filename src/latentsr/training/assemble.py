"""The weights of finished runs in one model folder for `Pipeline.from_pretrained`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from latentsr.diffusion.sampling import SCHEDULERS, training_scheduler
from latentsr.dtypes import TRAINED_DTYPES
from latentsr.model_folder.loading import EMBEDDED, class_named, load_network, read_index
from latentsr.pipeline import Pipeline
from latentsr.training.vae import load_vae

VALUES = ("default_steps", "default_guidance_scale", "default_temperature", "default_head")


LOADERS: dict[str, Any] = {
    "vae": load_vae,  # which refuses one whose scale was not measured
    "unet": load_network,
    "vocoder": load_network,
    "mamba_gan": load_network,
    "diffwave_mamba": load_network,
    "live": load_network,
    "aeromamba": load_network,
    "mambawave": load_network,
}


def assemble(
    out: Path,
    parts: Mapping[str, Path],
    *,
    base: str = "",
    scheduler: str | None = None,
    dtype: str = "fp16",
    values: Mapping[str, Any] | None = None,
) -> float:
    """Write the model folder `out`.

    Args:
        out: the folder to write.
        parts: component's name -> its folder.
        base: model folder, or 'embedded': where the rest comes from; '' = there is no rest.
        scheduler: a key of SCHEDULERS; None takes what lies beside the UNet, the base's, or ddim.
        dtype: of the files.
        values: VALUES of the pipeline, before those of the base.

    Returns:
        Megabytes of the weights.
    """
    loaded: dict[str, Any] = {}
    given = dict(values or {})
    if base:
        folder = EMBEDDED if base == "embedded" else Path(base)
        index = read_index(folder)
        given = {key: index[key] for key in VALUES if key in index} | given
        for name in (n for n in LOADERS if n not in parts and (index.get(n) or [None])[0]):
            loaded[name] = LOADERS[name](folder / name)
        if (index.get("scheduler") or [None])[0]:
            kind = SCHEDULERS[scheduler] if scheduler else class_named(index["scheduler"][1])
            loaded["scheduler"] = kind.from_pretrained(folder / "scheduler")
    if "unet" in parts:
        loaded["scheduler"] = _scheduler(parts["unet"].parent / "scheduler", scheduler)
    loaded |= {name: LOADERS[name](part) for name, part in parts.items()}
    Pipeline(**loaded, **given).save_pretrained(out, dtype=getattr(torch, TRAINED_DTYPES[dtype]))
    return sum(file.stat().st_size for file in out.rglob("*.safetensors")) / 1e6


def _scheduler(beside: Path, name: str | None) -> Any:
    """How a trained UNet is sampled: by the scheduler that its stage wrote, where it wrote one."""
    file = beside / "scheduler_config.json"
    if not file.is_file():
        return SCHEDULERS[name or "ddim"].from_config(training_scheduler().config)
    written = json.loads(file.read_text(encoding="utf-8"))["_class_name"]
    if name and written not in {kind.__name__ for kind in SCHEDULERS.values()}:
        raise ValueError(f"{beside} is a {written}: the UNet was not trained for {name}; leave the scheduler out")
    return (SCHEDULERS[name] if name else class_named(written)).from_pretrained(beside)
