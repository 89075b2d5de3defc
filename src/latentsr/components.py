"""What a pipeline is made of: networks by name, loaded when they are asked for, saved, moved and offloaded."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import DiffusionPipeline, SchedulerMixin
from torch import nn

from latentsr.convert import audiosr
from latentsr.convert.audiosr import AudioSRConfig
from latentsr.head_kinds import DEFAULT_HEAD
from latentsr.model_folder import loading as folders
from latentsr.options import Options
from latentsr.restoring.model import ModelValues, Place, default_head, embedded_or, find

P = TypeVar("P", bound="Components")


class Components(DiffusionPipeline):
    """The half of `Pipeline` that holds its networks."""

    _optional_components = [
        "vae",
        "unet",
        "scheduler",
        "vocoder",
        "mamba_gan",
        "diffwave_mamba",
        "live",
        "aeromamba",
        "mambawave",
    ]
    model_cpu_offload_seq = "vae->unet->vocoder->mamba_gan->diffwave_mamba->live->aeromamba->mambawave"

    def __init__(
        self,
        vae: nn.Module | None = None,
        unet: nn.Module | None = None,
        scheduler: SchedulerMixin | None = None,
        vocoder: nn.Module | None = None,
        mamba_gan: nn.Module | None = None,
        diffwave_mamba: nn.Module | None = None,
        live: nn.Module | None = None,
        aeromamba: nn.Module | None = None,
        mambawave: nn.Module | None = None,
        default_steps: int = 4,
        default_guidance_scale: float = 1.0,
        default_temperature: float = 1.0,
        unconditional_latent: float = 0.0,
        default_head: str = DEFAULT_HEAD,
    ) -> None:
        super().__init__()
        self.register_modules(
            vae=vae, unet=unet, scheduler=scheduler, vocoder=vocoder, mamba_gan=mamba_gan,
            diffwave_mamba=diffwave_mamba, live=live, aeromamba=aeromamba, mambawave=mambawave,
        )  # fmt: skip
        self.register_to_config(
            default_steps=default_steps,
            default_guidance_scale=default_guidance_scale,
            default_temperature=default_temperature,
            unconditional_latent=unconditional_latent,
            default_head=default_head,
        )
        self.default_head = default_head
        self._folders: dict[str, Path] = {}  # where components that are not loaded yet lie
        self._dtype = torch.float32
        self._offload: Callable[..., None] | None = None  # how networks are offloaded

    @classmethod
    def from_pretrained(
        cls: type[P],
        path: Place = None,
        heads: Sequence[str] | None = None,
        *,
        vocoder: Place = None,
        torch_dtype: torch.dtype = torch.float32,
        local_files_only: bool = False,
        **unknown: Any,
    ) -> P:
        """Load a model: the embedded default, a folder, or (only when asked by name) one of the Hub.

        Args:
            path: None, a folder in diffusers' layout with a model_index.json, or a Hub id. AudioSR's own,
                haoheliu/audiosr_basic and haoheliu/audiosr_speech, are converted once and kept.
            heads: whose networks to load now; None: those of the model's default head. Others are loaded when first
                called. A call that names no head takes the model's default where it is among these, else the first.
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
        kinds = [Options(head=head).kind for head in heads or ()]  # refuses unknown names
        source = find(path, local_files_only)
        values = ModelValues.of(folders.read_index(source))
        pipe = cls(**vars(values))
        pipe.default_head = default_head(values.default_head, heads)
        pipe._dtype = torch_dtype
        pipe._folders = dict.fromkeys(cls._optional_components, source)
        if vocoder is not None:
            pipe._folders["vocoder"] = find(embedded_or(vocoder), local_files_only)
        for kind in [Options(head=values.default_head).kind] if heads is None else kinds:
            pipe.load(kind.needs())
        return pipe

    @classmethod
    def from_audiosr(
        cls: type[P],
        path: str | os.PathLike[str],
        config: AudioSRConfig = None,
        *,
        vocoder: Place = None,
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
        pipe = cls(**{name: folders.prepared(name, part) for name, part in parts.items()})
        pipe._dtype = torch_dtype
        if vocoder is not None:
            pipe._folders["vocoder"] = find(embedded_or(vocoder))
            pipe.load(Options(head=DEFAULT_HEAD).kind.needs())
        return pipe

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        dtype: torch.dtype | None = None,
        *,
        safe_serialization: bool = True,
        variant: str | None = None,
    ) -> None:
        """Write a model folder: safetensors in shards of at most 15 MB, and a hash of every file.

        Args:
            save_directory: the folder.
            dtype: of the files; None keeps the networks' own.
            safe_serialization: True; `push_to_hub`, which calls this, says so.
            variant: None; likewise.
        """
        if self._offload is not None:
            raise ValueError("offloaded networks cannot be saved; call remove_all_hooks() first")
        if not safe_serialization or variant is not None:
            raise ValueError(
                "a model folder holds one variant in safetensors; leave safe_serialization and variant out"
            )
        folder = Path(save_directory)
        for name, part in self.components.items():
            if isinstance(part, nn.Module):
                _save_network(part, folder / name, dtype)
            elif part is not None:
                part.save_pretrained(folder / name)
        self.save_config(folder)
        folders.forget_paths(folder)
        folders.write_hashes(folder)

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

    def load(self, names: Sequence[str]) -> dict[str, Any]:
        """Components by name; those that are not there yet are loaded from the folders the pipeline came from."""
        missing = [name for name in dict.fromkeys(names) if getattr(self, name) is None]
        if not set(missing) <= set(self._folders):
            raise ValueError(
                f"this pipeline has no {', '.join(missing)}; "
                "pass these networks to Pipeline(), or use from_pretrained()"
            )
        networks = [part for part in self.components.values() if isinstance(part, nn.Module)]
        device, dtype = (self.device, self.dtype) if networks else (torch.device("cpu"), self._dtype)
        for name in missing:
            folder = self._folders[name]
            component = folders.prepared(name, folders.load_component(folder, name, folders.read_index(folder), dtype))
            self.register_modules(**{name: component})
            if isinstance(component, nn.Module) and self._offload is None:
                component.to(device)
        if missing and self._offload is not None:
            self._offload(device=self._offload_device)  # hooks for what has come
        return {name: getattr(self, name) for name in names}

    @property
    def execution_device(self) -> torch.device:
        """Where networks run: not where they lie while they are offloaded."""
        return self._execution_device

    def rest(self) -> None:
        """Let offloaded networks leave the GPU."""
        self.maybe_free_model_hooks()

    @property
    def offloaded(self) -> bool:
        """Whether networks come to the GPU only when they run."""
        return self._offload is not None


def _save_network(network: Any, folder: Path, dtype: torch.dtype | None) -> None:
    """Write one network; diffusers, which writes its own and transformers', would leave ours out."""
    for stale in folder.glob("*.safetensors*"):
        stale.unlink()  # shards of another size would be taken for ours
    if dtype is not None:
        network = nn.Module.to(copy.deepcopy(network), dtype=dtype)  # a cast cannot be undone: a copy is cast
    network.save_pretrained(folder, max_shard_size=folders.MAX_SHARD_BYTES)
