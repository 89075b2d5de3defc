"""Stage 3: diffusion in the VAE's latents, conditioned on the latents of the degraded mel (v-prediction, zero SNR)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import AudioLDM2UNet2DConditionModel
from torch import Tensor, nn

from latentsr.data.dataset import Batch
from latentsr.evaluation.metrics import lsd
from latentsr.folder import EMBEDDED
from latentsr.models.hifigan import load_vocoder, vocode
from latentsr.models.unet import UNETS, LatentUNet, predict_v, rows_known, zero_output
from latentsr.models.vae import mode, to_mel
from latentsr.sampling import sample, training_scheduler
from latentsr.signal.lowband import merge
from latentsr.signal.mel import MelSpectrogram, bands_below
from latentsr.training.hifigan import high_band_ratio_db
from latentsr.training.stage import Degraded, Stage, StageConfig, Validation, degraded
from latentsr.training.vae import load_vae, mel_lsd


class LdmStageConfig(StageConfig):
    architecture: Literal["latent", "audioldm2"] = "latent"  # a key of models.unet.UNETS
    model: dict[str, Any] = {}  # arguments of its constructor
    vae: str = ""  # folder of a finished VAE; train_ldm.py fills it in and says which
    vocoder: str = ""  # folder of a finished vocoder, to listen at validation
    unconditional_share: float = 0.1  # of the examples, for classifier-free guidance
    last_step_share: float = 0.15  # of the examples at pure noise, which every few-step sampler starts from
    known_row_weight: float = 0.2  # loss weight of latent rows below the cutoff, whose mel is put back anyway
    # A bandwidth that is always told gives away which recordings an example resembles: the lossless ones, which alone
    # reach 24 kHz, are bright, and asking for 24 kHz then draws a top that is 10 to 20 dB too loud.
    told_bandwidth_share: float = 0.1  # of the examples; the others are told 24 kHz, as at inference
    validation_steps: int = 8


@dataclass
class LdmInputs:
    target: Tensor  # (B, Z, l, m) scaled latents of the wide mel
    condition: Tensor  # (B, Z, l, m) scaled latents of the degraded mel, zeros where it is dropped
    cutoff_hz: Tensor  # (B,)
    bandwidth_hz: Tensor  # (B,)


class LdmStage(Stage):
    """latents, noise, time -> velocity."""

    config: LdmStageConfig

    def __init__(self, config: LdmStageConfig) -> None:
        config = config.model_copy(update={"vae": str(find_vae(config.vae))})
        super().__init__(config)
        self.mel = MelSpectrogram(config.audio)
        self.vae = load_vae(config.vae)
        self.scheduler = training_scheduler()
        self.vocoder = load_vocoder(Path(config.vocoder)) if config.vocoder else None
        if config.initial_weights:
            start = f"{config.initial_weights}/unet"
            kind = LatentUNet if config.architecture == "latent" else AudioLDM2UNet2DConditionModel
            self.unet = kind.from_pretrained(
                start, torch_dtype=torch.float32, use_safetensors=True, local_files_only=True
            )
        else:
            self.unet = UNETS[config.architecture](latent_channels=self.vae.config.latent_channels, **config.model)
            zero_output(self.unet)

    def trained(self) -> Mapping[str, nn.Module]:
        return {"unet": self.unet}

    def _encode(self, wave: Tensor) -> Tensor:
        mel = self.mel(wave)  # in fp32: autocast would round the filterbank's products
        with torch.autocast(wave.device.type, dtype=torch.bfloat16, enabled=self.config.precision == "bf16"):
            return mode(self.vae, mel).float()

    @torch.no_grad()
    def prepare(self, batch: Batch, generator: torch.Generator) -> LdmInputs:
        example = degraded(batch, self.config, generator)
        latents = self._encode(torch.cat([example.wide, example.low]))
        target, condition = latents.chunk(2)
        kept = torch.rand(target.shape[0], generator=generator) >= self.config.unconditional_share
        condition = condition * kept.to(condition)[:, None, None, None]
        return LdmInputs(target, condition, example.cutoff_hz, example.bandwidth_hz)

    def losses(self, phase: str, inputs: LdmInputs, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        x0 = inputs.target
        noise = torch.randn(x0.shape, generator=generator).to(x0.device)
        last = self.scheduler.config.num_train_timesteps - 1
        t = torch.randint(0, last + 1, (x0.shape[0],), generator=generator)
        t[torch.rand(x0.shape[0], generator=generator) < self.config.last_step_share] = last
        t = t.to(x0.device)
        noisy = self.scheduler.add_noise(x0, noise, t)
        velocity = self.scheduler.get_velocity(x0, noise, t)
        told = torch.rand(x0.shape[0], generator=generator) < self.config.told_bandwidth_share
        full_hz = torch.full_like(inputs.bandwidth_hz, self.config.audio.sample_rate / 2)
        wanted_hz = torch.where(told.to(x0.device), inputs.bandwidth_hz, full_hz)
        v = predict_v(self.unet, noisy, inputs.condition, t, inputs.cutoff_hz, wanted_hz, self.config.audio)
        weight = self._row_weights(inputs, x0.shape[-1])
        return {"velocity": ((v.float() - velocity).square().mean(dim=(1, 2)) * weight).sum() / weight.sum()}

    def _row_weights(self, inputs: LdmInputs, rows: int) -> Tensor:
        """(B, rows): little where the mel is known, nothing where the file itself has no content."""
        known = rows_known(inputs.cutoff_hz, rows, self.config.audio)
        real = rows_known(inputs.bandwidth_hz, rows, self.config.audio)
        return real * (1 - (1 - self.config.known_row_weight) * known)

    @torch.no_grad()
    def validate(self, batch: Batch, generator: torch.Generator) -> Validation:
        audio = self.config.audio
        example = degraded(batch, self.config, generator)
        low_mel, wide_mel = self.mel(example.low), self.mel(example.wide)
        mel = self._restore(example, low_mel, generator)
        known = bands_below(example.cutoff_hz, audio)[:, None, None, :]
        result = Validation({"mel_lsd": mel_lsd(wide_mel, torch.where(known, low_mel, mel))})
        result.sample_rate = audio.sample_rate
        if self.vocoder is not None:
            wave = vocode(self.vocoder, torch.where(known, low_mel, mel), audio).float()
            wave = merge(example.low, wave, example.cutoff_hz, audio.sample_rate)
            distances = lsd(example.wide[:, 0], wave[:, 0], high_hz=example.bandwidth_hz)
            result.metrics["lsd"] = float(distances.mean())
            result.metrics["energy_db"] = high_band_ratio_db(example.wide, wave)
            result.waves = {"low": example.low[0, 0], "restored": wave[0, 0], "truth": example.wide[0, 0]}
        return result

    def _restore(self, example: Degraded, low_mel: Tensor, generator: torch.Generator) -> Tensor:
        condition = mode(self.vae, low_mel)
        noise = torch.randn(condition.shape, generator=generator).to(condition.device)
        wanted_hz = torch.full_like(example.cutoff_hz, self.config.audio.sample_rate / 2)

        def denoiser(x: Tensor, t: Tensor) -> Tensor:
            return predict_v(self.unet, x, condition, t, example.cutoff_hz, wanted_hz, self.config.audio)

        latents = sample(denoiser, noise, self.scheduler, self.config.validation_steps)
        return to_mel(self.vae, latents)


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
