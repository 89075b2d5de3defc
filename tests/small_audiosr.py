"""A small checkpoint in AudioSR's layout, made here: nothing of it comes from a file."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import soundfile
import torch
from torch import Tensor

from latentsr.convert.audiosr import architecture, name_map
from latentsr.convert.audiosr_names import CONSTANTS, their_shapes
from wide import music_like

SCALE_FACTOR = 0.3342401385307312


@dataclass(frozen=True)
class Official:
    """Configuration and tensors as audiosr has them."""

    config: dict[str, Any]
    state: dict[str, Tensor]

    def write(self, path: Path, **changes: Any) -> Path:
        """Save as audiosr does, some tensors replaced, added, or (None) left out; dots in names are written __."""
        changes = {name.replace("__", "."): value for name, value in changes.items()}
        state = {name: value for name, value in {**self.state, **changes}.items() if value is not None}
        torch.save({"state_dict": state}, path)
        return path


def make(levels: int = 2) -> Official:
    """As few levels, where the official has four, with everything that the official file holds and nobody reads."""
    config = configuration(levels)
    sizes = architecture(config)
    names = name_map(sizes)
    shapes = their_shapes(sizes, names)
    torch.manual_seed(0)
    state = {
        names[component][ours]: tensor.clone().reshape(shapes[names[component][ours]])
        for component, network in sizes.build("cpu").items()
        for ours, tensor in network.state_dict().items()
        if ours not in CONSTANTS
    }
    steps = torch.arange(1001, dtype=torch.float64) / 1000
    bar = torch.cos((steps + 0.008) / 1.008 * torch.pi / 2) ** 2
    bar[-1] = 0.0
    nan = torch.full((3,), torch.nan)
    state |= {
        "betas": (1 - bar[1:] / bar[:-1]).float(),
        "alphas_cumprod": (bar[1:] / bar[0]).float(),
        "scale_factor": torch.tensor(SCALE_FACTOR),
        "logvar": torch.zeros(1000),
        "model_ema.num_updates": torch.tensor(0, dtype=torch.int32),
        "model_ema.diffusion_modelout2bias": nan,
        "clap.model.text_branch.embeddings.position_ids": torch.arange(4),
        "cond_stage_models.0.vae.decoder.conv_in.weight": nan,
        "cond_stage_models.0.vae.vocoder.conv_pre.bias": nan,
        "first_stage_model.quant_conv.bias": nan,
    }
    return Official(config, state)


def write_folder(folder: Path) -> Path:
    """A checkpoint with as many levels as the official one, its configuration, and a recording of 3.2 s at 16 kHz.

    Its weights are so large that each layer hands on what it gets: a vocoder as torch makes it is silent.
    """
    official = make(levels=4)
    state = {name: _lively(value) if value.ndim > 2 else value for name, value in official.state.items()}
    Official(official.config, state).write(folder / "pytorch_model.bin", scale_factor=torch.tensor(0.41))
    (folder / "config.json").write_text(json.dumps(official.config))
    soundfile.write(folder / "input_16k.wav", music_like(3.2, seed=1)[:51_200], 16_000)
    return folder


def _lively(weight: Tensor) -> Tensor:
    return weight / weight.std().clamp(min=1e-9) / weight[0].numel() ** 0.5


def configuration(levels: int) -> dict[str, Any]:
    """AudioSR's configuration of such a checkpoint."""
    widths = [1] + [2] * (levels - 1)
    ddconfig = {"double_z": True, "z_channels": 4, "in_channels": 1, "out_ch": 1, "ch": 32, "ch_mult": widths,
                "num_res_blocks": 1, "attn_resolutions": []}  # fmt: skip
    first_stage = {"params": {"embed_dim": 4, "ddconfig": ddconfig}}
    attended = [2**i for i in range(1, levels)]
    unet = {"in_channels": 8, "out_channels": 4, "model_channels": 32, "attention_resolutions": attended,
            "num_res_blocks": 1, "channel_mult": widths, "num_head_channels": 16, "extra_sa_layer": True,
            "use_spatial_transformer": True, "transformer_depth": 1}  # fmt: skip
    condition = {"concat_lowpass_cond": {"params": {"first_stage_config": first_stage}}}
    return {
        "preprocessing": {
            "audio": {"sampling_rate": 48000},
            "stft": {"filter_length": 2048, "hop_length": 480, "win_length": 2048},
            "mel": {"n_mel_channels": 256, "mel_fmin": 20, "mel_fmax": 24000},
        },
        "model": {
            "params": {
                "first_stage_config": first_stage,
                "cond_stage_config": condition,
                "unet_config": {"params": unet},
                "parameterization": "v",
                "timesteps": 1000,
            }
        },
        "vocoder": {
            "resblock": "1",
            "num_mels": 256,
            "upsample_initial_channel": 32,
            "upsample_rates": [6, 5, 4, 2, 2],
            "upsample_kernel_sizes": [12, 10, 8, 4, 4],
            "resblock_kernel_sizes": [3, 5],
            "resblock_dilation_sizes": [[1, 3], [1, 3]],
        },
    }
