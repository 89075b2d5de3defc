"""Official AudioSR checkpoints: into memory (`load`), or into a model folder (`convert`).

Of the 6.18 GB of a file 2.69 GB are used: the raw weights of the UNet, the decoder and the vocoder of the first stage,
and the encoder of the condition stage, with the scale factor and the noise schedule.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, TypeAlias, cast

import torch
from diffusers import AutoencoderKL, DDIMScheduler
from torch import Tensor, nn

from latentsr.convert.audiosr_arch import Architecture, architecture
from latentsr.convert.audiosr_file import Checkpoint
from latentsr.convert.audiosr_names import CONSTANTS, FIRST_STAGE, name_map, their_shapes
from latentsr.sampling import ZERO_SNR

__all__ = ["DEFAULTS", "Architecture", "architecture", "first_stage_encoder", "load", "name_map"]

Source: TypeAlias = str | os.PathLike[str]

# What the pipeline does where nothing else is asked for. AudioSR marks "no condition" by the log-mel of silence, put
# into (unscaled) latent space.
DEFAULTS: dict[str, float] = {
    "default_steps": 10,
    "default_guidance_scale": 3.5,
    "default_temperature": 1.0,
    "unconditional_latent": -11.4981,
}


def load(
    checkpoint: Source, config: Mapping[str, Any] | Source | None = None, dtype: torch.dtype = torch.float32
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
    sizes, file = architecture(config), Checkpoint(checkpoint)
    names = name_map(sizes)
    file.check(their_shapes(sizes, names))
    networks = {name: filled(network, file, names[name], dtype) for name, network in sizes.build().items()}
    networks["vae"].register_to_config(scaling_factor=file.scale_factor)
    return {**networks, "scheduler": scheduler(file.betas), **DEFAULTS}


def first_stage_encoder(checkpoint: Source, config: Mapping[str, Any] | Source | None = None) -> AutoencoderKL:
    """The first stage as a whole, fp32: its encoder too, which inference does without."""
    sizes, file = architecture(config), Checkpoint(checkpoint)
    names = name_map(sizes, encoder=FIRST_STAGE)
    file.check(their_shapes(sizes, name_map(sizes)) | their_shapes(sizes, names))
    vae = filled(sizes.build()["vae"], file, names["vae"], torch.float32)
    vae.register_to_config(scaling_factor=file.scale_factor)
    return cast(AutoencoderKL, vae)


def filled(network: nn.Module, file: Checkpoint, names: Mapping[str, str], dtype: torch.dtype) -> Any:
    """`network`, built on meta, with the tensors of the file."""
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    network.load_state_dict({name: tensor(file, names, name, shape, dtype) for name, shape in shapes.items()},
                            assign=True)  # fmt: skip
    return network.eval().requires_grad_(False)


def tensor(file: Checkpoint, names: Mapping[str, str], name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Our tensor `name`, from the file, or constant where no checkpoint holds it."""
    if name in CONSTANTS:
        return torch.full(shape, CONSTANTS[name], dtype=dtype)
    return file.tensor(names[name], shape, dtype)


def scheduler(betas: list[float]) -> DDIMScheduler:
    """The schedule of the checkpoint for few steps: they start at pure noise and end at no noise.

    `rescale_betas_zero_snr` changes nothing where the signal is zero at the last step already, but a scheduler that is
    put in this one's place must know of it.
    """
    settings = ZERO_SNR | {"rescale_betas_zero_snr": betas[-1] == 1.0, "num_train_timesteps": len(betas)}
    return DDIMScheduler(trained_betas=betas, clip_sample=False, set_alpha_to_one=True, **settings)
