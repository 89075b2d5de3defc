"""Model folders (the layout of diffusers): strict loading, no pickles, every file held to its hash.

diffusers itself falls back to pickles, only warns of missing tensors, and loads flipped bits in silence.

Whether a network's config fits its weights is found out before any memory is taken for it.
"""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks

from latentsr.model_folder.tensorfiles import (
    ANEW,
    ModelError,
    StoredTensor,
    first_line,
    header,
    inside,
    read_json,
    weight_files,
)
from latentsr.models.fastconv import speed_up
from latentsr.models.network import Network
from latentsr.wholefiles import sha256

__all__ = [
    "ModelError", "check_hashes", "find", "load_component", "load_network", "read_index", "sha256", "write_hashes",
]  # fmt: skip

INDEX = "model_index.json"
HASHES = "sha256.json"
HASHED = (".safetensors", ".json")
EMBEDDED = Path(__file__).parents[1] / "weights"
MAX_SHARD_BYTES = 15 * 2**20
DOWNLOADED = ["*.json", "*.safetensors", "*.md"]  # of a Hub repository: no pickles, no code
PUBLISHED = ("haoheliu/audiosr_basic", "haoheliu/audiosr_speech")  # AudioSR's own on the Hub, in another layout
# Keys and files by which the libraries would fetch or run something else.
REFUSED_KEYS = ("auto_map", "quantization_config")
REFUSED_FILE = "adapter_config.json"

# A folder names its classes; only these are ever built, whatever it says, and none is imported before it is asked for.
CLASSES = {
    "MambaGenerator": "latentsr.models.mamba_gan",
    "ExcitationGenerator": "latentsr.models.excited",
    "LiveGenerator": "latentsr.models.live",
    "DiffWaveMamba": "latentsr.models.diffwave_mamba",
    "AeroMamba": "latentsr.models.aeromamba",
    "MambaWave": "latentsr.models.mambawave",
    "ISTFTVocoder": "latentsr.models.vocos",
    "MelAutoencoderKL": "latentsr.models.vae",
    "LatentUNet": "latentsr.models.unet",
    "AutoencoderKL": "diffusers",
    "AudioLDM2UNet2DConditionModel": "diffusers",
    "SpeechT5HifiGan": "transformers",
    "DDIMScheduler": "diffusers",
    "DPMSolverMultistepScheduler": "diffusers",
    "FlowMatchEulerDiscreteScheduler": "diffusers",
}
# A weight norm or an attention that is split registers a parameter more than once; windows and bases are not stored.
SPARE_FACTOR, SPARE_TENSORS, SPARE_ELEMENTS = 4, 256, 2**24
MAX_NUMBER = 2**17  # in a config; the largest in use is the sampling rate
MAX_STEPS = 100_000  # of a noise schedule; every one in use has 1000


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
            folder = Path(snapshot_download(str(model), local_files_only=local_files_only, allow_patterns=DOWNLOADED))
        except Exception as error:  # the hub's many errors, all of which mean the same to the caller
            remedy = (
                "without local_files_only it is downloaded" if local_files_only else "check the name and the network"
            )
            raise ModelError(
                f"cannot fetch {model} from the Hub ({type(error).__name__}); {remedy}, or pass a folder"
            ) from error
    if not (folder / INDEX).is_file():
        raise ModelError(
            f"{folder} holds no {INDEX}, so this is no model folder; "
            "pass a folder that holds one, or a Hub id user/name"
        )
    return folder


def read_index(folder: Path) -> dict[str, Any]:
    """The parsed model_index.json."""
    index = read_json(folder / INDEX)
    for key, low, high in (("default_steps", 1, 1000), ("default_guidance_scale", 0, 100)):
        value = index.get(key, low)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise ModelError(f"{folder / INDEX}: {key} must be {low} to {high}, got {str(value)[:40]!r}; {ANEW}")
    return index


def load_component(folder: Path, name: str, index: dict[str, Any], dtype: torch.dtype) -> Any:
    """One component of a model folder, in `dtype`; raise `ModelError` unless every tensor is there and whole.

    What is loaded is known before: a class of `CLASSES`, files within the folder that are those of sha256.json where
    there is one, and a network no larger than its weights.
    """
    entry = index.get(name)
    class_name = entry[1] if isinstance(entry, list) and len(entry) == 2 else None
    if class_name is None:
        there = ", ".join(key for key, value in sorted(index.items()) if isinstance(value, list) and any(value))
        raise ModelError(f"{folder} has no {name}, only {there}; choose a head that needs none, or another model")
    if not isinstance(class_name, str) or class_name not in CLASSES:
        raise ModelError(
            f"{folder}: {name} is a {str(class_name)[:60]}, which this version does not know; upgrade latentsr"
        )
    cls, component = class_named(class_name), folder / name
    check_hashes(folder, name)
    return _network(cls, component, dtype) if issubclass(cls, nn.Module) else _scheduler(cls, component)


def load_network(component: Path, dtype: torch.dtype = torch.float32) -> Any:
    """A network in a folder of its own, of the class that its config names, as a run of training writes it."""
    config = read_json(inside(component, "config.json"))
    named = config.get("_class_name", config.get("architectures"))
    class_name = named[0] if isinstance(named, list) and named else named
    if not isinstance(class_name, str) or class_name not in CLASSES:
        raise ModelError(f"{component} is a {str(class_name)[:60]}, which this version does not know; upgrade latentsr")
    return _network(class_named(class_name), component, dtype)


def class_named(name: str) -> Any:
    """The class of a name in `CLASSES`."""
    return getattr(import_module(CLASSES[name]), name)


def prepared(name: str, component: Any) -> Any:
    """A component as inference wants it, in memory of its own.

    A library's network fresh from a file is views of it; ours has copies. Copied a tensor at a time, they let go of the
    file's pages, and memory never holds both for long.
    """
    if isinstance(component, nn.Module):
        # The denoiser's convolutions are too small to gain: 0.98 s as they are, 1.05 s by fewer multiplications.
        if name != "unet":
            speed_up(component)
        for activation in (m for m in component.modules() if name == "vae" and isinstance(m, nn.SiLU)):
            activation.inplace = True  # always of a fresh tensor there, of 134 MB in AudioSR's decoder
        for tensor in () if isinstance(component, Network) else chain(component.parameters(), component.buffers()):
            tensor.data = tensor.data.clone(memory_format=torch.preserve_format)
    return component


def _network(cls: Any, component: Path, dtype: torch.dtype) -> nn.Module:
    config, files = _config(component, cls, "config.json"), weight_files(component)
    network: Any = check_sizes(cls, config, component, files)
    try:
        ours = isinstance(network, Network)
        network = network.fill(files, dtype) if ours else _read_by_library(cls, component, dtype)
    except Exception as error:  # the libraries' many errors, all of which mean the same to the caller
        raise ModelError(f"{component} cannot be loaded: {first_line(error)}; {ANEW}") from error
    return network.eval().requires_grad_(False)


def _read_by_library(cls: Any, component: Path, dtype: torch.dtype) -> Any:
    """A network by the reader of its library, diffusers or transformers; ValueError where tensors are left over."""
    with _no_bars("transformers" if hasattr(cls, "config_class") else "diffusers"):
        network, report = cls.from_pretrained(
            component, torch_dtype=dtype, use_safetensors=True, output_loading_info=True, local_files_only=True
        )
    wrong = {k: sorted(map(str, v)) for k, v in report.items() if v}
    if wrong:
        raise ValueError(f"what is stored does not fit its config: {wrong}")
    return network


def _config(component: Path, cls: type, name: str) -> dict[str, Any]:
    """A component's config; raise `ModelError` where it is another class's, or asks for code or another model."""
    path = inside(component, name)
    config = read_json(path)
    named = config.get("_class_name", config.get("architectures", [cls.__name__]))
    if named not in (cls.__name__, [cls.__name__]):
        raise ModelError(f"{path} is of a {str(named)[:60]}, {INDEX} says {cls.__name__}; {ANEW}")
    refused = [key for key in REFUSED_KEYS if config.get(key) is not None]
    if refused or os.path.lexists(component / REFUSED_FILE):
        what = refused[0] if refused else REFUSED_FILE
        raise ModelError(
            f"{component} asks for {what}, which latentsr does not run; take a model that asks for nothing of the kind"
        )
    return config


def _scheduler(cls: Any, component: Path) -> Any:
    config = _config(component, cls, "scheduler_config.json")
    check_scheduler(config, component / "scheduler_config.json")
    try:
        return cls.from_config(config)
    except Exception as error:  # whatever its class raises where a value makes no sense
        raise ModelError(f"{component} makes no scheduler: {first_line(error)}; {ANEW}") from error


@contextmanager
def _no_bars(library: str) -> Iterator[None]:
    """Without the progress bars of a library, which last a moment here and look like trouble in a log."""
    logging = import_module(f"{library}.utils.logging")
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def forget_paths(folder: Path) -> None:
    """Take out of the components' configs where they were loaded from, which is this machine's business."""
    for path in folder.glob("*/config.json"):
        config = json.loads(path.read_text(encoding="utf-8"))
        if config.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def write_hashes(folder: Path) -> None:
    """Write sha256.json over all other files of a model folder."""
    files = sorted(p for p in folder.rglob("*") if p.suffix in HASHED and p.name != HASHES)
    hashes = {p.relative_to(folder).as_posix(): sha256(p) for p in files}
    (folder / HASHES).write_text(json.dumps(hashes, indent=1) + "\n", encoding="utf-8")


def check_hashes(folder: Path, name: str) -> None:
    """Raise `ModelError` where the index or a file of the component is not what sha256.json says.

    The embedded model must have one. A folder of somebody else's may come without: its keys, shapes and sizes are
    checked all the same, flipped bits in it are not noticed.
    """
    if not (folder / HASHES).is_file():
        if folder == EMBEDDED:
            raise ModelError(f"{folder} has no {HASHES}; the installation is damaged, install latentsr again")
        return
    hashes = read_json(folder / HASHES)
    mine = {file: digest for file, digest in hashes.items() if file.split("/")[0] in (name, INDEX)}
    for file, digest in mine.items():
        path = inside(folder, file)
        if not path.is_file():
            raise ModelError(f"{path} is missing; {ANEW}")
        if sha256(path) != digest:
            raise ModelError(f"{path} is damaged (its hash differs from {HASHES}); {ANEW}")
    for path in (folder / name).glob("*"):
        if path.suffix in HASHED and path.relative_to(folder).as_posix() not in mine:
            raise ModelError(f"{path} is not in {HASHES}; remove the file, or {ANEW}")


class _TooLargeError(Exception):
    """More was built than the files hold."""


def check_sizes(cls: type[nn.Module], config: Mapping[str, Any], component: Path, files: list[Path]) -> nn.Module:
    """Raise `ModelError` unless `config` makes a network of `cls` whose tensors have the shapes that are stored.

    The network is built on torch's meta device, without memory, and building stops once it is larger than the files:
    a config may claim any width or depth. It is returned as it was built.
    """
    check_numbers(config, component / "config.json")
    stored: dict[str, StoredTensor] = {}
    for file in files:
        stored |= header(file)
    elements = sum(math.prod(tensor.shape) for tensor in stored.values())
    try:
        most = SPARE_FACTOR * len(stored) + SPARE_TENSORS, SPARE_FACTOR * elements + SPARE_ELEMENTS
        with _at_most(*most), torch.device("meta"):
            kind: Any = cls
            if hasattr(cls, "config_class"):  # of transformers
                network = kind(kind.config_class.from_dict(dict(config)))
            else:
                network = kind.from_config(dict(config))
    except _TooLargeError:
        raise ModelError(f"{component} is described as larger than its weights ({elements} numbers); {ANEW}") from None
    except Exception as error:  # whatever its class raises where a size makes no sense
        raise ModelError(f"{component / 'config.json'} makes no network: {first_line(error)}; {ANEW}") from error
    wrong = [
        f"{name} is {stored[name].shape} instead of {tuple(tensor.shape)}"
        for name, tensor in network.state_dict().items()
        if name in stored and stored[name].shape != tuple(tensor.shape)
    ]
    if wrong:
        raise ModelError(f"{component} does not fit its config: {wrong[0]} ({len(wrong)} such in all); {ANEW}")
    return network


def check_scheduler(config: Mapping[str, Any], path: Path) -> None:
    """Raise `ModelError` where a noise schedule claims numbers that nobody can mean: it is computed when it is made."""
    steps = config.get("num_train_timesteps", 1000)
    if type(steps) is not int or not 1 <= steps <= MAX_STEPS:
        raise ModelError(f"{path}: num_train_timesteps must be 1 to {MAX_STEPS}, got {_short(steps)}; {ANEW}")
    check_numbers(config, path)


def check_numbers(value: Any, path: Path, name: str = "") -> None:
    """Raise `ModelError` where a number in a config is not finite or beyond any size that a network here has."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            check_numbers(inner, path, str(key))
    elif isinstance(value, list):
        for inner in value:
            check_numbers(inner, path, name)
    elif isinstance(value, (int, float)) and not abs(value) <= MAX_NUMBER:  # a NaN is not either
        if name == "lambda_min_clipped" and value == -math.inf:  # diffusers' own "not clipped"
            return
        raise ModelError(f"{path}: {name[:40]} is {_short(value)}, at most {MAX_NUMBER} makes sense; {ANEW}")


def _short(value: object) -> str:
    return repr(value)[:40]


@contextmanager
def _at_most(tensors: int, elements: int) -> Iterator[None]:
    """Stop the building of networks in this thread at so many tensors, or so many numbers in them."""
    mine, made, numbers = threading.get_ident(), 0, 0

    def count(_module: nn.Module, _name: str, tensor: Tensor | None) -> None:
        nonlocal made, numbers
        if tensor is not None and threading.get_ident() == mine:
            made, numbers = made + 1, numbers + math.prod(tensor.shape)
            if made > tensors or numbers > elements:
                raise _TooLargeError

    handles = [
        hooks.register_module_parameter_registration_hook(count),
        hooks.register_module_buffer_registration_hook(count),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
