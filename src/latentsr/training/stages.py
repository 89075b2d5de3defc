"""The stages that can be trained, one entry each: a new one is a file, a line here, a config, and a test id."""

from __future__ import annotations

import torch

from latentsr.training.aeromamba import AeroMambaStage, AeroMambaStageConfig
from latentsr.training.cutoff import CutoffStage, CutoffStageConfig
from latentsr.training.diffwave_mamba import DiffWaveMambaStage, DiffWaveMambaStageConfig
from latentsr.training.distill import DistillStage, DistillStageConfig
from latentsr.training.excitation import ExcitationStage, ExcitationStageConfig
from latentsr.training.hifigan import VocoderStage, VocoderStageConfig
from latentsr.training.ldm import LdmStage, LdmStageConfig
from latentsr.training.mamba_gan import MambaGanStage, MambaGanStageConfig
from latentsr.training.mambawave import MambaWaveStage, MambaWaveStageConfig
from latentsr.training.stage import Stage, StageConfig
from latentsr.training.vae import VaeStage, VaeStageConfig

STAGES: dict[str, tuple[type[Stage], type[StageConfig]]] = {
    "cutoff": (CutoffStage, CutoffStageConfig),
    "vae": (VaeStage, VaeStageConfig),
    "vocoder": (VocoderStage, VocoderStageConfig),
    "ldm": (LdmStage, LdmStageConfig),
    "distill": (DistillStage, DistillStageConfig),
    "excitation": (ExcitationStage, ExcitationStageConfig),
    "mamba_gan": (MambaGanStage, MambaGanStageConfig),
    "aeromamba": (AeroMambaStage, AeroMambaStageConfig),
    "diffwave_mamba": (DiffWaveMambaStage, DiffWaveMambaStageConfig),
    "mambawave": (MambaWaveStage, MambaWaveStageConfig),
}

# configs/ has a file for each, with which `latentsr train NAME` trains it unless told otherwise.
CONFIGS = {
    "cutoff": "cutoff/small.yaml",
    "vae": "vae/small.yaml",
    "vocoder": "vocoder/istft.yaml",
    "ldm": "ldm/small.yaml",
    "distill": "ldm/distill.yaml",
    "excitation": "vocoder/excitation.yaml",
    "mamba_gan": "vocoder/mamba_gan.yaml",
    "aeromamba": "vocoder/aeromamba.yaml",
    "diffwave_mamba": "vocoder/diffwave_mamba.yaml",
    "mambawave": "vocoder/mambawave.yaml",
}

# Stages that train the same component: which one, a config's key `architecture` says.
ARCHITECTURES = {
    "ldm": {"latent": "ldm", "audioldm2": "ldm", "distill": "distill"},
    "mamba_gan": {"fast": "mamba_gan", "excitation": "excitation", "aeromamba": "aeromamba"},
    "diffwave_mamba": {"fast": "diffwave_mamba", "mambawave": "mambawave"},
}


def build_stage(stage: type[Stage], config: StageConfig) -> Stage:
    """The stage with the initial weights that the config's seed gives, whatever was drawn before."""
    torch.manual_seed(config.seed)
    return stage(config)
