"""MambaWave, trained and sampled on one schedule: the wave at half its rate in, the wide-band wave out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from diffusers import SchedulerMixin
from torch import Tensor, nn
from torch.nn import functional as F

from latentsr.data.dataset import Batch
from latentsr.diffusion.sampling import sample, training_scheduler
from latentsr.evaluation.metrics import validation_lsd
from latentsr.models.mambawave import MambaWave
from latentsr.signal.lowband import merge
from latentsr.signal.spectral import half_rate
from latentsr.training.draws import Draws
from latentsr.training.stage import Degraded, Stage, StageConfig, Validation, degraded

QUIETEST_PEAK = 1e-3  # of full scale: silence is not blown up further


class MambaWaveStageConfig(StageConfig):
    architecture: Literal["mambawave"] = "mambawave"
    model: dict[str, Any] = {}  # arguments of MambaWave
    validation_steps: int = 5


@dataclass
class MambaWaveInputs:
    wide: Tensor  # (B, 1, T) the truth, at the gain that brings the low band's peak to 1
    half: Tensor  # (B, 1, T / 2) the low band at half the rate, at the same gain
    gain: Tensor  # (B, 1, 1)


class MambaWaveStage(Stage):
    """half-rate wave, noise, time -> velocity of the wide-band wave."""

    config: MambaWaveStageConfig

    def __init__(self, config: MambaWaveStageConfig) -> None:
        super().__init__(config)
        self.scheduler = training_scheduler()
        if config.initial_weights:
            self.network = MambaWave.from_pretrained(f"{config.initial_weights}/mambawave")
        else:
            self.network = MambaWave(**config.model)

    def trained(self) -> Mapping[str, nn.Module]:
        return {"mambawave": self.network}

    @torch.no_grad()
    def prepare(self, batch: Batch, draws: Draws) -> MambaWaveInputs:
        return self._inputs(degraded(batch, self.config, draws))

    def _inputs(self, example: Degraded) -> MambaWaveInputs:
        gain = 1 / example.low.abs().amax(dim=-1, keepdim=True).clamp(min=QUIETEST_PEAK)
        half = half_rate(example.low, self.config.audio.sample_rate)
        return MambaWaveInputs(gain * example.wide, gain * half, gain)

    def losses(self, phase: str, inputs: MambaWaveInputs, step: int, draws: Draws) -> dict[str, Tensor]:
        wide = inputs.wide
        noise = draws.normal(*wide.shape[1:]).to(wide.device)
        times = self.scheduler.config.num_train_timesteps
        t = draws.integers(times).to(wide.device)
        noisy = self.scheduler.add_noise(wide, noise, t)
        velocity = self.scheduler.get_velocity(wide, noise, t)
        return {"velocity": F.mse_loss(self.network(noisy, t, inputs.half).float(), velocity)}

    @torch.no_grad()
    def validate(self, batch: Batch, draws: Draws) -> Validation:
        example = degraded(batch, self.config, draws)
        inputs = self._inputs(example)
        noise = draws.normal(*inputs.wide.shape[1:]).to(inputs.wide.device)
        made = restore(self.network, self.scheduler, inputs.half, noise, self.config.validation_steps) / inputs.gain
        rate = self.config.audio.sample_rate
        waves = {"input": example.low, "made": made, "merged": merge(example.low, made, example.cutoff_hz, rate)}
        result = Validation(sample_rate=rate)
        for name, wave in waves.items():
            figures = validation_lsd(example.wide, wave, example.cutoff_hz, example.bandwidth_hz)
            result.metrics |= {f"{figure}_{name}": figures[figure] for figure in ("lsd", "lsd_lf", "hf_energy_db")}
        result.waves = {name: wave[0, 0] for name, wave in {**waves, "truth": example.wide}.items()}
        return result


def restore(network: MambaWave, scheduler: SchedulerMixin, half: Tensor, noise: Tensor, steps: int) -> Tensor:
    """Wide-band wave (B, 1, T) of one at half the rate (B, 1, T / 2) and noise (B, 1, T) of unit variance."""
    return sample(lambda x, t: network(x, t, half).float(), noise, scheduler, steps)
