"""Model folders (the layout of diffusers): strict loading, no pickles, every file held to its hash.

diffusers itself falls back to pickles, only warns of missing tensors, and loads flipped bits in silence.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import AudioLDM2UNet2DConditionModel, AutoencoderKL
from diffusers.utils import logging as diffusers_logging
from torch import nn
from transformers import SpeechT5HifiGan
from transformers.utils import logging as transformers_logging

from latentsr.models.diffwave_mamba import DiffWaveMamba
from latentsr.models.mamba_gan import MambaGenerator
from latentsr.models.unet import LatentUNet
from latentsr.models.vae import MelAutoencoderKL
from latentsr.models.vocos import ISTFTVocoder
from latentsr.sampling import FLOW_SCHEDULERS, SCHEDULERS

INDEX = "model_index.json"
HASHES = "sha256.json"
EMBEDDED = Path(__file__).parent / "weights"
MAX_SHARD_BYTES = 15 * 2**20

_NETWORKS: tuple[type[nn.Module], ...] = (
    MelAutoencoderKL,
    AutoencoderKL,
    LatentUNet,
    AudioLDM2UNet2DConditionModel,
    ISTFTVocoder,
    SpeechT5HifiGan,
    MambaGenerator,
    DiffWaveMamba,
)
# A folder names its classes; only these are ever built, whatever it says.
CLASSES: dict[str, Any] = {c.__name__: c for c in (*_NETWORKS, *SCHEDULERS.values(), *FLOW_SCHEDULERS.values())}


class ModelError(ValueError):
    """A model folder that cannot be used; the message says which file and what to do."""


def find(model: str | os.PathLike[str] | None, *, local_files_only: bool = False) -> Path:
    """The folder of a model: the embedded one, a local path, or a Hub id, which is downloaded."""
    if model is None:
        folder = EMBEDDED
    elif Path(model).is_dir():
        folder = Path(model)
    elif Path(model).exists() or str(model).startswith((".", "/")) or str(model).count("/") != 1:
        raise ModelError(f"{model} is not a model folder; pass a folder that holds {INDEX}, or a Hub id user/name")
    else:
        from huggingface_hub import snapshot_download

        try:
            folder = Path(snapshot_download(str(model), local_files_only=local_files_only))
        except Exception as error:  # the hub's many errors, all of which mean the same to the caller
            raise ModelError(f"cannot fetch {model} from the Hub ({type(error).__name__}); check the name and the network, or pass a folder") from error  # fmt: skip  # noqa: E501
    if not (folder / INDEX).is_file():
        raise ModelError(f"{folder} holds no {INDEX}; is it a model folder?")
    return folder


def read_index(folder: Path) -> dict[str, Any]:
    """The parsed model_index.json."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / INDEX} cannot be read: {error}") from None
    if not isinstance(index, dict):
        raise ModelError(f"{folder / INDEX} must hold a mapping")
    return index


def load_component(folder: Path, name: str, index: dict[str, Any], dtype: torch.dtype) -> Any:
    """One component of a model folder, in `dtype`; raise `ModelError` unless every tensor is there and whole."""
    class_name = (index.get(name) or (None, None))[1]
    if class_name is None:
        there = ", ".join(key for key, value in sorted(index.items()) if isinstance(value, list) and value[0])
        raise ModelError(f"{folder} has no {name}, only {there}; choose a head that does without it, or another model")
    if class_name not in CLASSES:
        raise ModelError(f"{folder}: {name} is a {class_name}, which this version does not know; upgrade latentsr")
    check_hashes(folder, name)
    cls = CLASSES[class_name]
    if not issubclass(cls, nn.Module):
        return cls.from_pretrained(folder / name)
    try:
        with _no_bars():
            network, report = cls.from_pretrained(
                folder / name, torch_dtype=dtype, use_safetensors=True, output_loading_info=True, local_files_only=True
            )
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"{folder / name} cannot be loaded: {reason}; copy the folder anew") from error
    wrong = {k: sorted(map(str, v)) for k, v in report.items() if v}
    if wrong:
        raise ModelError(f"{folder / name} does not fit its config: {wrong}; copy the folder anew")
    return network.eval().requires_grad_(False)


@contextmanager
def _no_bars() -> Iterator[None]:
    """Without the progress bars of the libraries, which last a moment here and look like trouble in a log."""
    shown = [library for library in (diffusers_logging, transformers_logging) if library.is_progress_bar_enabled()]
    for library in shown:
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library in shown:
            library.enable_progress_bar()


def forget_paths(folder: Path) -> None:
    """Take out of the components' configs where they were loaded from, which is this machine's business."""
    for path in folder.glob("*/config.json"):
        config = json.loads(path.read_text(encoding="utf-8"))
        if config.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def write_hashes(folder: Path) -> None:
    """Write sha256.json over all other files of a model folder."""
    files = sorted(p for p in folder.rglob("*") if p.suffix in (".safetensors", ".json") and p.name != HASHES)
    hashes = {p.relative_to(folder).as_posix(): sha256(p) for p in files}
    (folder / HASHES).write_text(json.dumps(hashes, indent=1) + "\n", encoding="utf-8")


def check_hashes(folder: Path, name: str) -> None:
    """Raise `ModelError` where a file of the component differs from what sha256.json says. Without one, no check."""
    if not (folder / HASHES).is_file():
        return
    for file, digest in json.loads((folder / HASHES).read_text(encoding="utf-8")).items():
        if file.split("/")[0] != name:
            continue
        path = folder / file
        if not path.is_file():
            raise ModelError(f"{path} is missing; copy the folder anew")
        if sha256(path) != digest:
            raise ModelError(f"{path} is damaged (its hash differs from {HASHES}); copy the folder anew")


def sha256(path: Path) -> str:
    """Hash of a file, read in blocks: a shard may be larger than what is left of the memory."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
