"""Official AudioSR checkpoints: into memory (`load`), or into a model folder (`convert`).

Of the 6.18 GB of a file 2.69 GB are used: the raw weights of the UNet, the decoder and the vocoder of the first stage,
and the encoder of the condition stage, with the scale factor and the noise schedule.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias, cast

import diffusers
import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, SchedulerMixin
from torch import Tensor, nn
from transformers import PreTrainedModel

from latentsr import __version__, dtypes
from latentsr.convert.audiosr_arch import Architecture, architecture
from latentsr.convert.audiosr_file import PUBLISHED_SHA256, REPOSITORIES, Checkpoint, check_variant
from latentsr.convert.audiosr_folder import new_folder, write_json, write_tensors
from latentsr.convert.audiosr_names import CONSTANTS, FIRST_STAGE, name_map, their_shapes
from latentsr.diffusion.sampling import ZERO_SNR
from latentsr.model_folder.loading import INDEX, ModelError, write_hashes

__all__ = ["DEFAULTS", "DTYPES", "Architecture", "architecture", "convert", "first_stage_encoder", "load", "name_map"]

Source: TypeAlias = str | os.PathLike[str]
AudioSRConfig: TypeAlias = Mapping[str, Any] | Source | None
Progress: TypeAlias = Callable[[int, int], None]  # (bytes done, bytes in all)

# What the pipeline does where nothing else is asked for. AudioSR marks "no condition" by the log-mel of silence, put
# into (unscaled) latent space.
DEFAULTS: dict[str, float] = {
    "default_steps": 10,
    "default_guidance_scale": 3.5,
    "default_temperature": 1.0,
    "unconditional_latent": -11.4981,
}
DTYPES = tuple(getattr(torch, name) for name in dtypes.DTYPES)  # that a folder can have
ORIGIN = "conversion.json"


def load(
    checkpoint: Source | Checkpoint, config: AudioSRConfig = None, dtype: torch.dtype = torch.float32
) -> dict[str, Any]:
    """The components of a checkpoint, and the pipeline's defaults for them.

    Weights that the file holds in `dtype` stay views of the file, which must not be changed meanwhile.

    Args:
        checkpoint: a file of torch.save, or safetensors, in the official layout.
        config: the configuration of audiosr, or a JSON file of it; None is the official one.
        dtype: of the networks.

    Returns:
        {vae, unet, scheduler, vocoder} and the `DEFAULTS`: what `Pipeline` takes.

    Raises:
        ModelError: the file is damaged, or not such a checkpoint.
    """
    sizes, file = architecture(config), _opened(checkpoint)
    names = name_map(sizes)
    file.check(their_shapes(sizes, names))
    networks = {name: _filled(network, file, names[name], dtype) for name, network in sizes.build().items()}
    networks["vae"].register_to_config(scaling_factor=file.scale_factor)
    return {**networks, "scheduler": scheduler(file.betas), **DEFAULTS}


def first_stage_encoder(checkpoint: Source | Checkpoint, config: AudioSRConfig = None) -> AutoencoderKL:
    """The first stage as a whole, fp32: its encoder too, which inference does without."""
    sizes, file = architecture(config), _opened(checkpoint)
    names = name_map(sizes, encoder=FIRST_STAGE)
    file.check(their_shapes(sizes, name_map(sizes)) | their_shapes(sizes, names))
    vae = _filled(sizes.build()["vae"], file, names["vae"], torch.float32)
    vae.register_to_config(scaling_factor=file.scale_factor)
    return cast(AutoencoderKL, vae)


def convert(
    checkpoint: Source | Checkpoint,
    out_dir: Source,
    config: AudioSRConfig | Architecture = None,
    dtype: torch.dtype = torch.float32,
    overwrite: bool = False,
    on_progress: Progress | None = None,
) -> Path:
    """Write a checkpoint as a model folder, for `Pipeline.from_pretrained`. It is complete, or not there.

    The file is mapped, not read into memory; the tensors of one shard (256 MiB) exist at a time.

    Args:
        checkpoint: a file of torch.save, or safetensors, in the official layout; a `Checkpoint` may say which one it is
            said to be.
        out_dir: the folder to make.
        config: the configuration of audiosr, a JSON file of it, or what `architecture` made of it; None is the official
            one.
        dtype: of the files: float32, float16 or bfloat16.
        overwrite: replace a model folder of that name.
        on_progress: called with (bytes written, bytes in all).

    Returns:
        `out_dir`.

    Raises:
        ModelError: the file is damaged, or another model's, or the folder cannot be written.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(map(str, DTYPES))}, got {dtype}")
    target, file = Path(out_dir), _opened(checkpoint)
    sizes = config if isinstance(config, Architecture) else architecture(config)
    names = name_map(sizes)
    file.check(their_shapes(sizes, names))
    if target.resolve() in file.path.resolve().parents:
        raise ModelError(f"{file.path} lies in {target}, which would be replaced; choose another folder")
    networks = sizes.build()
    networks["vae"].register_to_config(scaling_factor=file.scale_factor)
    total = sum(sum(_bytes(network, dtype).values()) for network in networks.values())
    done = 0

    def on_shard(count: int) -> None:
        nonlocal done
        done += count
        if on_progress is not None:
            on_progress(done, total)

    with new_folder(target, total, overwrite) as folder:
        check_variant(file)  # here, since it may read the whole file
        for name, network in networks.items():
            stem = _write_config(network, folder / name, dtype)
            tensors = _Tensors(network, file, names[name], dtype, copy=True)  # so that the pages read can go
            write_tensors(folder / name, stem, _bytes(network, dtype), tensors, on_shard)
        steps = scheduler(file.betas)
        steps.save_pretrained(folder / "scheduler")
        write_json(folder / INDEX, _index({**networks, "scheduler": steps}))
        _write_origin(folder, file, dtype)
        write_hashes(folder)
    return target


def scheduler(betas: list[float]) -> SchedulerMixin:
    """The schedule of the checkpoint for few steps: they start at pure noise and end at no noise.

    DPM-Solver++ of second order (Lu et al. 2022) comes as close to 500 steps in 10 as DDIM does in 20
    (`benchmarks/audiosr_steps.py`). `rescale_betas_zero_snr` changes nothing where the last step has no signal already,
    but keeps the solver from dividing by it.
    """
    settings = ZERO_SNR | {"rescale_betas_zero_snr": betas[-1] == 1.0, "num_train_timesteps": len(betas)}
    return DPMSolverMultistepScheduler(trained_betas=betas, **settings)


def _opened(checkpoint: Source | Checkpoint) -> Checkpoint:
    return checkpoint if isinstance(checkpoint, Checkpoint) else Checkpoint(checkpoint)


class _Tensors:
    """Our tensors by our names, read when asked for, in the shapes of a network built on meta."""

    def __init__(
        self, network: nn.Module, file: Checkpoint, names: Mapping[str, str], dtype: torch.dtype, copy: bool = False
    ) -> None:
        self.file, self.names, self.dtype, self.copy = file, names, dtype, copy
        self.shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}

    def __call__(self, name: str) -> Tensor:
        if name in CONSTANTS:
            return torch.full(self.shapes[name], CONSTANTS[name], dtype=self.dtype)
        return self.file.tensor(self.names[name], self.shapes[name], self.dtype, self.copy)


def _filled(network: nn.Module, file: Checkpoint, names: Mapping[str, str], dtype: torch.dtype) -> Any:
    """`network`, built on meta, with the tensors of the file."""
    tensors = _Tensors(network, file, names, dtype)
    network.load_state_dict({name: tensors(name) for name in tensors.shapes}, assign=True)
    return network.eval().requires_grad_(False)


def _bytes(network: nn.Module, dtype: torch.dtype) -> dict[str, int]:
    """Sizes of the tensors in the order in which they are written.

    Constants come last, into the smallest shard: transformers keeps the files of the buffers that it loads mapped.
    """
    sizes = {name: tensor.numel() * dtype.itemsize for name, tensor in network.state_dict().items()}
    return dict(sorted(sizes.items(), key=lambda size: size[0] in CONSTANTS))


def _write_config(network: Any, folder: Path, dtype: torch.dtype) -> str:
    """Write a network's config.json; return what its library calls the files of weights."""
    if isinstance(network, PreTrainedModel):
        network.config.architectures = [type(network).__name__]
        network.config.dtype = dtype
        network.config.save_pretrained(folder)
        return "model"
    network.save_config(folder)
    return "diffusion_pytorch_model"


def _index(components: Mapping[str, Any]) -> dict[str, Any]:
    """The model_index.json, as `Pipeline.save_pretrained` writes it."""
    classes = {name: [type(c).__module__.split(".")[0], type(c).__name__] for name, c in components.items()}
    absent = {name: [None, None] for name in ("mamba_gan", "diffwave_mamba")}
    entries = {**DEFAULTS, **classes, **absent}
    return {"_class_name": "Pipeline", "_diffusers_version": diffusers.__version__, **dict(sorted(entries.items()))}


def _write_origin(folder: Path, file: Checkpoint, dtype: torch.dtype) -> None:
    """Say what the folder was made from, for programs (conversion.json) and for people (README.md)."""
    published = PUBLISHED_SHA256.get(file.sha256)
    repository = REPOSITORIES[published] if published else None
    origin = {
        "source_file": file.path.name,
        "source_bytes": file.path.stat().st_size,
        "source_sha256": file.sha256,
        "published_as": repository,
        "scale_factor": file.scale_factor,
        "dtype": dtypes.name_of(dtype),
        "latentsr_version": __version__,
    }
    write_json(folder / ORIGIN, origin)
    title = repository or file.path.name
    facts = "\n".join(f"- {key.replace('_', ' ')}: {value}" for key, value in origin.items() if value is not None)
    text = f"""# {title}, converted for latentsr

The weights of AudioSR (Liu et al. 2023, arXiv 2309.07314) that inference uses, in the layout of diffusers. They stay
under the licence of the checkpoint that they come from.

{facts}

    latentsr restore IN --model PATH_OF_THIS_FOLDER
"""
    (folder / "README.md").write_text(text, encoding="utf-8")
