"""AEROMamba (arXiv 2411.07364): 11.025 kHz in, 44.1 kHz out, spectrally and adversarially from the first step on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from latentsr.convert import aeromamba as authors
from latentsr.data.dataset import Batch
from latentsr.evaluation.metrics import band_energy_ratio_db, lsd_bands
from latentsr.models.aeromamba import AeroMamba
from latentsr.models.discriminators import Discriminators
from latentsr.signal.lowband import cut_sharply
from latentsr.signal.spectral import resample
from latentsr.training.adversarial import (
    AdversarialStage,
    DiscriminatorSize,
    features_for_generator,
    load_discriminators,
)
from latentsr.training.draws import Draws
from latentsr.training.losses import (
    RESOLUTIONS,
    Resolution,
    hinge_adversarial_loss,
    hinge_discriminator_loss,
    resolution_losses,
    scale_feature_loss,
)
from latentsr.training.stage import StageConfig, Validation


class AeroMambaStageConfig(StageConfig):
    """`initial_weights` may also be a checkpoint file of the authors' training code."""

    architecture: Literal["aeromamba"] = "aeromamba"
    model: dict[str, Any] = {}  # arguments of AeroMamba
    discriminators: DiscriminatorSize = DiscriminatorSize(periods=(), resolutions=(), scales=3)
    resolutions: tuple[Resolution, ...] = RESOLUTIONS  # of the spectral losses


@dataclass
class AeroMambaInputs:
    low: Tensor  # (B, 1, T) at the lower rate
    wide: Tensor  # (B, 1, scale T), up to where the recording's content ends
    bandwidth_hz: Tensor  # (B,)
    made: Tensor | None = None  # (B, 1, scale T) what the step's generator phase made, without a gradient


class AeroMambaStage(AdversarialStage):
    """Wave at the lower rate -> wave at `scale` times that rate."""

    config: AeroMambaStageConfig
    # As in the original, the discriminators judge what the generator made before its step: one pass serves both.
    phases = ("generator", "discriminator")

    def __init__(self, config: AeroMambaStageConfig) -> None:
        super().__init__(config)
        self.discriminators = Discriminators(**config.discriminators.model_dump())
        start = Path(config.initial_weights)
        if not config.initial_weights:
            self.aeromamba = AeroMamba(**config.model)
        elif start.is_file():
            self.aeromamba = authors.load(start, **config.model)
        else:
            self.aeromamba = AeroMamba.from_pretrained(start / "aeromamba")
            load_discriminators(self.discriminators, start)
        sizes = self.aeromamba.config
        self.scale, self.sample_rate = int(sizes.scale), int(sizes.sample_rate)  # of the output, Hz

    def averaged(self) -> Mapping[str, nn.Module]:
        return {"aeromamba": self.aeromamba}

    @torch.no_grad()
    def prepare(self, batch: Batch, draws: Draws) -> AeroMambaInputs:
        wide = resample(batch.wide, self.config.audio.sample_rate, self.sample_rate)
        wide = wide[..., : wide.shape[-1] // self.scale * self.scale]
        low = resample(wide, self.sample_rate, self.sample_rate // self.scale)
        return AeroMambaInputs(low, cut_sharply(wide, batch.bandwidth_hz, self.sample_rate), batch.bandwidth_hz)

    def _generate(self, inputs: AeroMambaInputs) -> Tensor:
        """(B, 1, scale T) in fp32, no higher in frequency than the recording: above it nobody knows what is right."""
        wave = self.aeromamba(inputs.low).float()
        with torch.autocast(wave.device.type, enabled=False):
            return cut_sharply(wave, inputs.bandwidth_hz, self.sample_rate)

    def losses(self, phase: str, inputs: AeroMambaInputs, step: int, draws: Draws) -> dict[str, Tensor]:
        if phase == "discriminator":
            assert inputs.made is not None, "the generator phase comes first"
            scores = self.discriminators(inputs.wide), self.discriminators(inputs.made)
            return {"discriminator": hinge_discriminator_loss(*scores)}
        made = self._generate(inputs)
        inputs.made = made.detach()
        with torch.autocast(made.device.type, enabled=False):
            losses = resolution_losses(inputs.wide, made, self.config.resolutions)
        real, fake = features_for_generator(self.discriminators, inputs.wide, made)
        return losses | {"adversarial": hinge_adversarial_loss(fake), "features": scale_feature_loss(real, fake)}

    @torch.no_grad()
    def validate(self, batch: Batch, draws: Draws) -> Validation:
        """LSD at the output's rate, of the whole and of the part above the input's band, which is restored."""
        inputs, rate = self.prepare(batch, draws), self.sample_rate
        made, low_rate = self._generate(inputs), rate // self.scale
        pair, new = (inputs.wide[:, 0], made[:, 0]), (low_rate / 2, inputs.bandwidth_hz)
        whole, above = lsd_bands(*pair, [(0.0, inputs.bandwidth_hz), new], sample_rate=rate)
        figures = {"lsd": whole, "lsd_hf": above, "hf_energy_db": band_energy_ratio_db(*pair, *new, rate)}
        waves = {"low": resample(inputs.low, low_rate, rate)[0, 0], "restored": made[0, 0], "truth": inputs.wide[0, 0]}
        return Validation({name: float(values.nanmean()) for name, values in figures.items()}, waves, rate)
