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
from latentsr.training.live import LiveStage, LiveStageConfig
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
    "live": (LiveStage, LiveStageConfig),
    "mamba_gan": (MambaGanStage, MambaGanStageConfig),
    "aeromamba": (AeroMambaStage, AeroMambaStageConfig),
    "diffwave_mamba": (DiffWaveMambaStage, DiffWaveMambaStageConfig),
    "mambawave": (MambaWaveStage, MambaWaveStageConfig),
}


def build_stage(stage: type[Stage], config: StageConfig) -> Stage:
    """The stage with the initial weights that the config's seed gives, whatever was drawn before."""
    torch.manual_seed(config.seed)
    return stage(config)
