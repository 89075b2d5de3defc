"""Stage 3: diffusion in the VAE's latents, conditioned on the latents of the degraded mel (v-prediction or a flow)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import SchedulerMixin
from torch import Tensor, nn

from latentsr.config import ConfigError
from latentsr.data.dataset import Batch
from latentsr.diffusion.sampling import OBJECTIVES, sample
from latentsr.evaluation.metrics import validation_lsd
from latentsr.model_folder.loading import EMBEDDED, load_network
from latentsr.models.hifigan import vocode
from latentsr.models.unet import UNETS, Bands, DenoisingUNet, predict_v, rows_known, zero_output
from latentsr.models.vae import mode, to_mel
from latentsr.signal.lowband import merge
from latentsr.signal.mel import MelSpectrogram, bands_below
from latentsr.training.draws import Draws
from latentsr.training.stage import Degraded, Stage, StageConfig, Validation, degraded
from latentsr.training.vae import load_vae, load_vocoder, mel_lsd


class LatentStageConfig(StageConfig):
    vae: str = ""  # folder of a finished VAE; train_ldm.py fills it in and says which
    vocoder: str = ""  # folder of a finished vocoder, to look and listen at validation; "": the embedded one
    known_row_weight: float = 0.2  # loss weight of latent rows below the cutoff, whose mel is put back anyway


class LdmStageConfig(LatentStageConfig):
    architecture: Literal["latent", "audioldm2"] = "latent"  # a key of models.unet.UNETS
    model: dict[str, Any] = {}  # arguments of its constructor
    objective: Literal["velocity", "flow"] = "velocity"  # a key of sampling.OBJECTIVES
    timesteps: Literal["uniform", "logit_normal"] = "uniform"  # how they are drawn
    loss_weighting: Literal["none", "min_snr"] = "none"  # by time step
    unconditional_share: float = 0.1  # of the examples, for classifier-free guidance
    last_step_share: float = 0.15  # of the examples at pure noise, which every few-step sampler starts from
    # A bandwidth that is always told gives away which recordings an example resembles: the lossless ones, which alone
    # reach 24 kHz, are bright, and asking for 24 kHz then draws a top that is 10 to 20 dB too loud.
    told_bandwidth_share: float = 0.1  # of the examples; the others are told 24 kHz, as at inference
    validation_steps: int = 8


MIN_SNR_GAMMA = 5.0


@dataclass
class LdmInputs:
    target: Tensor  # (B, Z, l, m) scaled latents of the wide mel
    condition: Tensor  # (B, Z, l, m) scaled latents of the degraded mel, zeros where it is dropped
    cutoff_hz: Tensor  # (B,)
    bandwidth_hz: Tensor  # (B,)


class LatentStage(Stage):
    """What the stages that train a denoiser of latents have in common."""

    config: LatentStageConfig
    unet: DenoisingUNet
    scheduler: SchedulerMixin  # how the trained network is sampled

    def __init__(self, config: LatentStageConfig) -> None:
        super().__init__(config)
        self.mel = MelSpectrogram(config.audio)
        self.vae = load_vae(config.vae)
        self.vocoder = load_vocoder(config.vocoder)

    def trained(self) -> Mapping[str, nn.Module]:
        return {"unet": self.unet}

    def export(self, folder: Path) -> None:
        """Weights, and the scheduler beside them: only it tells how they are to be sampled."""
        super().export(folder)
        self.scheduler.save_pretrained(folder / "scheduler")

    @torch.no_grad()
    def prepare(self, batch: Batch, draws: Draws) -> LdmInputs:
        example = degraded(batch, self.config, draws)
        target, condition = self._encode(torch.cat([example.wide, example.low])).chunk(2)
        return LdmInputs(target, condition, example.cutoff_hz, example.bandwidth_hz)

    def _encode(self, wave: Tensor) -> Tensor:
        mel = self.mel(wave)  # in fp32: autocast would round the filterbank's products
        with torch.autocast(wave.device.type, dtype=torch.bfloat16, enabled=self.config.precision == "bf16"):
            return mode(self.vae, mel).float()

    def _full_hz(self, like: Tensor) -> Tensor:
        """(B,): the bandwidth that is told at inference."""
        return torch.full_like(like, self.config.audio.sample_rate / 2)

    def _row_weights(self, inputs: LdmInputs | Degraded, rows: int) -> Tensor:
        """(B, rows): little where the mel is known, nothing where the file itself has no content."""
        known = rows_known(inputs.cutoff_hz, rows, self.config.audio)
        real = rows_known(inputs.bandwidth_hz, rows, self.config.audio)
        return real * (1 - (1 - self.config.known_row_weight) * known)

    def _judge(self, example: Degraded, latents: Tensor) -> Validation:
        """Compare what latents (B, Z, l, m) decode to with the truth, as mels and as waves."""
        audio = self.config.audio
        low_mel, wide_mel = self.mel(example.low), self.mel(example.wide)
        known = bands_below(example.cutoff_hz, audio)[:, None, None, :]
        mel = torch.where(known, low_mel, to_mel(self.vae, latents))
        result = Validation({"mel_lsd": mel_lsd(wide_mel, mel)}, sample_rate=audio.sample_rate)
        wave = merge(example.low, vocode(self.vocoder, mel, audio).float(), example.cutoff_hz, audio.sample_rate)
        result.metrics |= validation_lsd(example.wide, wave, example.cutoff_hz, example.bandwidth_hz)
        result.waves = {"low": example.low[0, 0], "restored": wave[0, 0], "truth": example.wide[0, 0]}
        return result


class LdmStage(LatentStage):
    """latents, noise, time -> velocity."""

    config: LdmStageConfig

    def __init__(self, config: LdmStageConfig) -> None:
        if config.loss_weighting == "min_snr" and config.objective != "velocity":
            raise ConfigError("loss_weighting: min_snr needs objective: velocity; use none, or timesteps: logit_normal")
        super().__init__(config.model_copy(update={"vae": str(find_vae(config.vae))}))
        self.objective = OBJECTIVES[config.objective]()
        self.scheduler = self.objective.scheduler
        if config.initial_weights:
            self.unet = load_unet(Path(config.initial_weights))
        else:
            self.unet = UNETS[config.architecture](latent_channels=self.vae.config.latent_channels, **config.model)
            zero_output(self.unet)

    @torch.no_grad()
    def prepare(self, batch: Batch, draws: Draws) -> LdmInputs:
        inputs = super().prepare(batch, draws)
        dropped = draws.chosen(self.config.unconditional_share).to(inputs.condition.device)
        inputs.condition = inputs.condition * ~dropped[:, None, None, None]
        return inputs

    def losses(self, phase: str, inputs: LdmInputs, step: int, draws: Draws) -> dict[str, Tensor]:
        x0 = inputs.target
        noise = draws.normal(*x0.shape[1:]).to(x0.device)
        t = self._draw_times(draws).to(x0.device)
        noisy, velocity = self.objective.diffuse(x0, noise, t)
        told = draws.chosen(self.config.told_bandwidth_share).to(x0.device)
        wanted_hz = torch.where(told, inputs.bandwidth_hz, self._full_hz(inputs.bandwidth_hz))
        v = predict_v(self.unet, noisy, inputs.condition, t, Bands(inputs.cutoff_hz, wanted_hz), self.config.audio)
        error = mean_by_rows((v.float() - velocity).square(), self._row_weights(inputs, x0.shape[-1]))
        if self.config.loss_weighting == "min_snr":
            error = error * min_snr_weight(self.scheduler.alphas_cumprod.to(x0.device)[t])
        return {"velocity": error.mean()}

    def _draw_times(self, draws: Draws) -> Tensor:
        """(B,) times, in the denoiser's own count."""
        # Logit-normal (Esser et al. 2024, section 3.1): most in the middle of the path.
        share = draws.normal().sigmoid() if self.config.timesteps == "logit_normal" else draws.uniform()
        last = draws.chosen(self.config.last_step_share)
        return self.objective.times(torch.where(last, 1.0, share))

    @torch.no_grad()
    def validate(self, batch: Batch, draws: Draws) -> Validation:
        example = degraded(batch, self.config, draws)
        condition = mode(self.vae, self.mel(example.low))
        noise = draws.normal(*condition.shape[1:]).to(condition.device)
        bands = Bands(example.cutoff_hz, self._full_hz(example.cutoff_hz))

        def denoiser(x: Tensor, t: Tensor) -> Tensor:
            return predict_v(self.unet, x, condition, t, bands, self.config.audio)

        return self._judge(example, sample(denoiser, noise, self.scheduler, self.config.validation_steps))


def mean_by_rows(error: Tensor, weight: Tensor) -> Tensor:
    """(B,) mean of the errors (B, Z, l, m) of each example, weighted by row (B, m); 0 for one without any weight.

    Each example has its own mean, so that gradients do not depend on what else is in its batch.
    """
    return (error.mean(dim=(1, 2)) * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1e-6)


def min_snr_weight(abar: Tensor) -> Tensor:
    """(B,) weight of the velocity's error where the signal has the power `abar` (B,) (Hang et al. 2023).

    Their min(SNR, gamma) / (SNR + 1), with SNR + 1 for SNR above the line too: as printed, the step at pure noise, from
    which every sampler starts, would weigh nothing.
    """
    return (MIN_SNR_GAMMA * (1 - abar)).clamp(max=1.0)  # SNR + 1 = 1 / (1 - abar)


def load_unet(weights: Path) -> DenoisingUNet:
    """The denoiser in a folder of weights, in fp32, of the class that it names."""
    if not (weights / "unet" / "config.json").is_file():
        raise ConfigError(f"{weights} holds no unet; name the folder of a model, or RUN/weights of a run")
    unet: DenoisingUNet = load_network(weights / "unet")
    return unet.requires_grad_(True)


def find_vae(given: str, runs: Path = Path("runs")) -> Path:
    """The VAE to train on: the given folder, else the newest finished run's, else the embedded one. Says which."""
    if given:
        return Path(given)
    finished = [f for f in runs.glob("*/weights/training.json") if (f.parent / "vae").is_dir()]
    finished = [f for f in finished if json.loads(f.read_text())["finished"]]
    newest = max(finished, key=lambda f: f.stat().st_mtime, default=None)
    vae = newest.parent / "vae" if newest else EMBEDDED / "vae"
    print(f"training on the VAE in {vae}" + ("" if newest else " (embedded: no finished VAE run was found)"))
    return vae
