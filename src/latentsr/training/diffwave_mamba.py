"""The DiffWave-Mamba: a prior of loudness and a diffusion of what the low band lacks, trained together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentsr.config import ConfigError
from latentsr.data.dataset import Batch, Corpus
from latentsr.diffusion.sampling import training_scheduler
from latentsr.evaluation.metrics import validation_lsd
from latentsr.heads.diffwave_mamba import diffuse
from latentsr.models.diffwave_mamba import LATENT_FRAMES, Condition, DiffWaveMamba, smooth_log_energy
from latentsr.models.mdct import MDCT
from latentsr.models.vae import mode, strides
from latentsr.signal.lowband import merge
from latentsr.signal.mel import MelSpectrogram
from latentsr.training.draws import Draws
from latentsr.training.ldm import find_vae
from latentsr.training.stage import Degraded, Stage, StageConfig, Validation, degraded
from latentsr.training.vae import load_vae

NATS_PER_BEL = 2.302585  # the unit of the LSD
LOUDEST = 8.0  # of whitened coefficients: a prior that has learnt nothing yet leaves some of any size


class DiffWaveMambaStageConfig(StageConfig):
    architecture: Literal["fast"] = "fast"
    model: dict[str, Any] = {}  # arguments of DiffWaveMamba
    latents: bool = True  # train on the latents of a VAE too
    vae: str = ""  # folder of that VAE; empty: the newest finished run's, else the embedded one
    latents_share: float = 0.5  # of the examples, where `latents` is on; the others know the low band alone
    last_step_share: float = 0.15  # of the examples at pure noise, which every few-step sampler starts from
    validation_steps: int = 5
    # The prior is fitted to log-energies, whose median lies below the energy's mean: what is drawn by it is too quiet.
    # Added once it is trained; louder is nearer in energy, and farther in LSD where the prior was right.
    loudness_nats: float = 0.0


@dataclass
class DiffWaveMambaInputs:
    low: Tensor  # (B, L, N) coefficients of the low band
    missing: Tensor  # (B, L, N) coefficients of wide - low
    cutoff_hz: Tensor  # (B,)
    bandwidth_hz: Tensor  # (B,)
    latents: Tensor | None  # (B, Z, l, m) of the wide mel
    told: Tensor  # (B,) whether the example knows them


class DiffWaveMambaStage(Stage):
    """low band, noise, time -> velocity of the whitened coefficients that are missing."""

    config: DiffWaveMambaStageConfig

    def __init__(self, config: DiffWaveMambaStageConfig) -> None:
        if config.latents:
            config = config.model_copy(update={"vae": str(find_vae(config.vae))})
        super().__init__(config)
        self.mel = MelSpectrogram(config.audio)
        self.vae = load_vae(config.vae) if config.latents else None
        self.scheduler = training_scheduler()
        if config.initial_weights:
            self.network = DiffWaveMamba.from_pretrained(f"{config.initial_weights}/diffwave_mamba")
        else:
            self.network = DiffWaveMamba(latent_size=self._latent_size(), **config.model)
        self.mdct = MDCT(self.network.config.bands)

    def trained(self) -> Mapping[str, nn.Module]:
        return {"diffwave_mamba": self.network}

    def _latent_size(self) -> int | None:
        if self.vae is None:
            return None
        frames, mel_stride = strides(self.vae)
        if frames != LATENT_FRAMES:
            raise ConfigError(
                f"{self.config.vae} has a latent every {frames} mel frames; choose one with {LATENT_FRAMES}"
            )
        rows = self.config.audio.n_mels // mel_stride
        return int(self.vae.config.latent_channels * rows)

    @torch.no_grad()
    def prepare(self, batch: Batch, draws: Draws) -> DiffWaveMambaInputs:
        example = degraded(batch, self.config, draws)
        told = draws.chosen(self.config.latents_share)
        return self._inputs(example, told)

    def _inputs(self, example: Degraded, told: Tensor) -> DiffWaveMambaInputs:
        low, wide = self.mdct(torch.cat([example.low, example.wide])).chunk(2)
        latents = None if self.vae is None else mode(self.vae, self.mel(example.wide)).float()
        return DiffWaveMambaInputs(
            low, wide - low, example.cutoff_hz, example.bandwidth_hz, latents, told.to(low.device)
        )

    def losses(self, phase: str, inputs: DiffWaveMambaInputs, step: int, draws: Draws) -> dict[str, Tensor]:
        condition = self.network.condition(inputs.low, inputs.cutoff_hz, inputs.latents, inputs.told)
        weight = self._weights(condition, inputs)
        log_energy = smooth_log_energy(inputs.missing * condition.made)
        excess = log_energy - condition.log_energy  # nats
        prior = F.smooth_l1_loss(excess / NATS_PER_BEL, torch.zeros_like(excess), reduction="none")
        scale = condition.scale.detach()
        x0 = (inputs.missing / scale.clamp(min=1e-8)).clamp(-LOUDEST, LOUDEST) * condition.made
        noise = draws.normal(*x0.shape[1:]).to(x0.device)
        t = self._times(draws).to(x0.device)
        noisy = self.scheduler.add_noise(x0, noise, t)
        velocity = self.scheduler.get_velocity(x0, noise, t)
        error = (self.network(noisy, t, condition) - velocity).square()
        # Where the truth is louder than the prior the error is relative to it: else a few onsets are all that counts.
        calm = (-excess.detach()).exp().clamp(max=1.0)
        return {"velocity": _mean(error * calm, weight), "prior": _mean(prior, weight)}

    def _times(self, draws: Draws) -> Tensor:
        last = self.scheduler.config.num_train_timesteps - 1
        t = draws.integers(last + 1)
        t[draws.chosen(self.config.last_step_share)] = last
        return t

    def _weights(self, condition: Condition, inputs: DiffWaveMambaInputs) -> Tensor:
        """(B, 1, N): 1 from the cutoff to where the file itself has content."""
        centres_hz = self.mdct.centres_hz(self.config.audio.sample_rate)
        return condition.made * (centres_hz < inputs.bandwidth_hz[:, None])[:, None]

    @torch.no_grad()
    def validate(self, batch: Batch, draws: Draws) -> Validation:
        example = degraded(batch, self.config, draws)
        nothing = torch.zeros(example.wide.shape[0], dtype=torch.bool)
        inputs = self._inputs(example, nothing)
        noise = draws.normal(*inputs.low.shape[1:]).to(inputs.low.device)
        condition = self.network.condition(inputs.low, inputs.cutoff_hz)
        waves = {"input": example.low, "prior": self._wave(example, noise * condition.scale)}
        for name, latents in {"low": None, "latents": inputs.latents}.items():
            if name == "low" or latents is not None:
                steps = self.config.validation_steps
                known = self.network.condition(inputs.low, inputs.cutoff_hz, latents)
                made = diffuse(self.network, self.scheduler, known, noise, steps)
                waves[f"from_{name}"] = self._wave(example, made)
        result = Validation(sample_rate=self.config.audio.sample_rate)
        for name, wave in waves.items():
            figures = validation_lsd(example.wide, wave, example.cutoff_hz, example.bandwidth_hz)
            chosen = ("lsd",) if name == "input" else ("lsd", "hf_energy_db", "hf_spread")
            result.metrics |= {f"{figure}_{name}": figures[figure] for figure in chosen}
        result.waves = {name: wave[0, 0] for name, wave in {**waves, "truth": example.wide}.items()}
        return result

    @torch.no_grad()
    def finish(self, corpus: Corpus) -> None:
        """Raise the prior by `loudness_nats`."""
        self.network.louder(self.config.loudness_nats)

    def _wave(self, example: Degraded, made: Tensor) -> Tensor:
        wave = example.low + self.mdct.inverse(made)
        return merge(example.low, wave, example.cutoff_hz, self.config.audio.sample_rate)


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    """Mean over the examples of the mean of (B, L, N) by the weights (B, 1, N)."""
    return ((values.mean(dim=1) * weight[:, 0]).sum(dim=1) / weight[:, 0].sum(dim=1).clamp(min=1.0)).mean()
