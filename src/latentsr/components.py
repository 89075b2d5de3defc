"""What a pipeline is made of: networks by name, loaded when they are asked for, saved, moved and offloaded."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import DiffusionPipeline, SchedulerMixin
from torch import nn

from latentsr import folder as folders
from latentsr.convert import audiosr, audiosr_hub
from latentsr.convert.audiosr import AudioSRConfig
from latentsr.heads import DEFAULT_HEAD, HEADS
from latentsr.models.fastconv import speed_up

DIFFUSION = ("vae", "unet", "scheduler")  # the components that make latents
MODEL_VALUES = (
    "default_steps", "default_guidance_scale", "default_temperature", "unconditional_latent", "default_head"
)  # fmt: skip


P = TypeVar("P", bound="Components")


class Components(DiffusionPipeline):
    """The half of `Pipeline` that holds its networks."""

    _optional_components = ["vae", "unet", "scheduler", "vocoder", "mamba_gan", "diffwave_mamba"]
    model_cpu_offload_seq = "vae->unet->vocoder->mamba_gan->diffwave_mamba"

    def __init__(
        self,
        vae: nn.Module | None = None,
        unet: nn.Module | None = None,
        scheduler: SchedulerMixin | None = None,
        vocoder: nn.Module | None = None,
        mamba_gan: nn.Module | None = None,
        diffwave_mamba: nn.Module | None = None,
        default_steps: int = 4,
        default_guidance_scale: float = 1.0,
        default_temperature: float = 1.0,
        unconditional_latent: float = 0.0,
        default_head: str = DEFAULT_HEAD,
    ) -> None:
        super().__init__()
        self.register_modules(
            vae=vae, unet=unet, scheduler=scheduler, vocoder=vocoder, mamba_gan=mamba_gan, diffwave_mamba=diffwave_mamba
        )
        self.register_to_config(
            default_steps=default_steps,
            default_guidance_scale=default_guidance_scale,
            default_temperature=default_temperature,
            unconditional_latent=unconditional_latent,
            default_head=default_head,  # of the command line
        )
        self._folders: dict[str, Path] = {}  # where components that are not loaded yet lie
        self._dtype = torch.float32
        self._offload: Callable[..., None] | None = None  # how networks are offloaded

    @classmethod
    def from_pretrained(
        cls: type[P],
        path: str | os.PathLike[str] | None = None,
        heads: Sequence[str] | None = None,
        *,
        vocoder: str | os.PathLike[str] | None = None,
        torch_dtype: torch.dtype = torch.float32,
        local_files_only: bool = False,
        **unknown: Any,
    ) -> P:
        """Load a model: the embedded default, a folder, or (only when asked by name) one of the Hub.

        Args:
            path: None, a folder in diffusers' layout with a model_index.json, or a Hub id. AudioSR's own,
                haoheliu/audiosr_basic and haoheliu/audiosr_speech, are converted once and kept.
            heads: whose networks to load now; None: the default head's. Others are loaded when first called.
            vocoder: take the vocoder of another model of the same mel: "embedded", a folder, or a Hub id. The embedded
                one is a small fraction of AudioSR's cost.
            torch_dtype: of all networks, whatever the files hold.
            local_files_only: take a Hub id from the cache, without network.

        Raises:
            ModelError: the folder is incomplete, damaged, or not a model.
        """
        if unknown:
            raise TypeError(
                f"from_pretrained() takes path, heads, vocoder, torch_dtype, local_files_only; got {sorted(unknown)}"
            )
        source = _find(path, local_files_only)
        index = folders.read_index(source)
        pipe = cls(**{key: value for key, value in index.items() if key in MODEL_VALUES})
        pipe._dtype = torch_dtype
        pipe._folders = dict.fromkeys(cls._optional_components, source)
        if vocoder is not None:
            pipe._folders["vocoder"] = _find(None if vocoder == "embedded" else vocoder, local_files_only)
        for head in heads if heads is not None else [DEFAULT_HEAD]:
            pipe._load(components_of(head))
        return pipe

    @classmethod
    def from_audiosr(
        cls: type[P],
        path: str | os.PathLike[str],
        config: AudioSRConfig = None,
        *,
        vocoder: str | os.PathLike[str] | None = None,
        torch_dtype: torch.dtype = torch.float32,
    ) -> P:
        """Load an official AudioSR checkpoint as it is, without writing a folder.

        Args:
            path: the file, of torch.save or safetensors.
            config: audiosr's configuration as a mapping or a JSON file; None is the published one.
            vocoder: as in `from_pretrained`.
            torch_dtype: of the networks.

        Raises:
            ModelError: the file is damaged, or not such a checkpoint.
        """
        parts = audiosr.load(path, config, torch_dtype)
        if vocoder is not None:
            del parts["vocoder"]
        pipe = cls(**{name: _prepared(name, part) for name, part in parts.items()})
        pipe._dtype = torch_dtype
        if vocoder is not None:
            pipe._folders["vocoder"] = _find(None if vocoder == "embedded" else vocoder, local_files_only=False)
            pipe._load(components_of(DEFAULT_HEAD))
        return pipe

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], dtype: torch.dtype | None = None, **kwargs: Any
    ) -> None:
        """Write a model folder: safetensors in shards of at most 15 MB, and a hash of every file.

        `dtype` is that of the files; None keeps the networks' own.
        """
        if self._offload is not None:
            raise ValueError("offloaded networks cannot be saved; call remove_all_hooks() first")
        own = {name: c for name, c in self.components.items() if isinstance(c, nn.Module)}
        for stale in (f for name in own for f in Path(save_directory, name).glob("*.safetensors*")):
            stale.unlink()  # shards of another size would be taken for ours
        try:
            if dtype is not None:  # a cast cannot be undone: copies are cast
                cast = {name: nn.Module.to(copy.deepcopy(network), dtype=dtype) for name, network in own.items()}
                self.register_modules(**cast)
            super().save_pretrained(save_directory, max_shard_size=folders.MAX_SHARD_BYTES, **kwargs)
        finally:
            self.register_modules(**own)
        folders.forget_paths(Path(save_directory))
        folders.write_hashes(Path(save_directory))

    def enable_model_cpu_offload(self, gpu_id: int | None = None, device: torch.device | str | None = None) -> None:
        """Keep the networks in main memory and bring each whole to the GPU when it runs: see diffusers.

        Tried with the CPU and with torch's meta device in the GPU's place; on no GPU yet.
        """
        super().enable_model_cpu_offload(gpu_id, device)
        self._offload = self.enable_model_cpu_offload

    def enable_sequential_cpu_offload(
        self, gpu_id: int | None = None, device: torch.device | str | None = None
    ) -> None:
        """Bring each layer to the GPU when it runs, for the smallest memory and at the lowest speed: see diffusers.

        Tried as `enable_model_cpu_offload` was.
        """
        super().enable_sequential_cpu_offload(gpu_id, device)
        self._offload = self.enable_sequential_cpu_offload

    def remove_all_hooks(self) -> None:
        """End offloading; the networks stay in main memory until `to` moves them."""
        super().remove_all_hooks()
        self._offload = None

    def _load(self, names: Sequence[str]) -> None:
        """Load components that are not there yet, from the folders the pipeline came from."""
        missing = [name for name in dict.fromkeys(names) if getattr(self, name) is None]
        if not set(missing) <= set(self._folders):
            raise ValueError(
                f"this pipeline has no {', '.join(missing)}; pass it to Pipeline() or use from_pretrained()"
            )
        networks = [part for part in self.components.values() if isinstance(part, nn.Module)]
        device, dtype = (self.device, self.dtype) if networks else (torch.device("cpu"), self._dtype)
        for name in missing:
            folder = self._folders[name]
            component = folders.load_component(folder, name, folders.read_index(folder), dtype)
            component = _prepared(name, component)
            self.register_modules(**{name: component})
            if isinstance(component, nn.Module) and self._offload is None:
                component.to(device)
        if missing and self._offload is not None:
            self._offload(device=self._offload_device)  # hooks for what has come


def components_of(head: str, use_latents: bool = False) -> list[str]:
    """The components that a head needs, with those of the diffusion if it gets latents."""
    if head not in HEADS:
        raise ValueError(f"unknown head {head!r}; choose one of {', '.join(HEADS)}")
    return [*HEADS[head].components, *(DIFFUSION if HEADS[head].needs_latents or use_latents else ())]


def default_head(model: str | os.PathLike[str] | None) -> str:
    """The head that the command line takes for a model unless told otherwise; the model says so itself."""
    if model is not None and not Path(model).is_dir() and audiosr_hub.is_published(model):
        return DEFAULT_HEAD
    return str(folders.read_index(folders.find(model)).get("default_head", DEFAULT_HEAD))


def _find(model: str | os.PathLike[str] | None, local_files_only: bool) -> Path:
    """The folder of a model."""
    if model is not None and not Path(model).is_dir() and audiosr_hub.is_published(model):
        return audiosr_hub.fetch(str(model), local_files_only)
    return folders.find(model, local_files_only=local_files_only)


def _prepared(name: str, component: Any) -> Any:
    """A component as inference wants it, in memory of its own.

    A network fresh from a file is views of it. Copied a tensor at a time, they let go of the file's pages, and memory
    never holds both for long.
    """
    if isinstance(component, nn.Module):
        # The denoiser's convolutions are too small to gain: 0.98 s as they are, 1.05 s by fewer multiplications.
        if name != "unet":
            speed_up(component)
        for activation in (m for m in component.modules() if name == "vae" and isinstance(m, nn.SiLU)):
            activation.inplace = True  # always of a fresh tensor there, of 134 MB in AudioSR's decoder
        for tensor in chain(component.parameters(), component.buffers()):
            tensor.data = tensor.data.clone(memory_format=torch.preserve_format)
    return component
