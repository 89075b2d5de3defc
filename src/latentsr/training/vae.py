"""Stage 1: the mel autoencoder, on clean and degraded mels: its encoder supplies the diffusion's condition."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import trange

from latentsr.data.dataset import Batch, Corpus
from latentsr.evaluation.metrics import lsd
from latentsr.models.hifigan import load_vocoder, vocode
from latentsr.models.vae import MelAutoencoderKL
from latentsr.signal.mel import MelSpectrogram
from latentsr.training.draws import Draws
from latentsr.training.losses import kl_to_standard_normal
from latentsr.training.stage import Stage, StageConfig, Validation, degraded

NATS_TO_LOG10_POWER = 2 / math.log(10)  # natural log of magnitude to log10 of power, the unit of LSD


class VaeStageConfig(StageConfig):
    model: dict[str, Any] = {}  # arguments of MelAutoencoderKL
    degraded_share: float = 0.5  # of the examples of a batch
    statistics_batches: int = 64  # for the latents' scale and shift
    vocoder: str = ""  # folder of a finished vocoder, to look and listen at validation


class VaeStage(Stage):
    """mel -> posterior -> sample -> mel."""

    config: VaeStageConfig

    def __init__(self, config: VaeStageConfig) -> None:
        super().__init__(config)
        self.mel = MelSpectrogram(config.audio)
        if config.initial_weights:
            self.vae = MelAutoencoderKL.from_pretrained(
                f"{config.initial_weights}/vae", torch_dtype=torch.float32, use_safetensors=True, local_files_only=True
            )
        else:
            self.vae = MelAutoencoderKL(**config.model)
        self.vocoder = load_vocoder(Path(config.vocoder)) if config.vocoder else None

    def trained(self) -> Mapping[str, nn.Module]:
        return {"vae": self.vae}

    @torch.no_grad()
    def prepare(self, batch: Batch, draws: Draws) -> Tensor:
        """Log-mels (B, 1, L, M); a share of them of degraded waves."""
        chosen, wave = draws.chosen(self.config.degraded_share), batch.wide
        if bool(chosen.any()):
            wave = wave.clone()
            wave[chosen] = degraded(batch.part(chosen), self.config, draws.part(chosen)).low
        return self.mel(wave)

    def losses(self, phase: str, inputs: Tensor, step: int, draws: Draws) -> dict[str, Tensor]:
        posterior = self.vae.encode(inputs).latent_dist
        mean, log_variance = posterior.mean.float(), posterior.logvar.float()
        noise = draws.normal(*mean.shape[1:]).to(mean.device)
        reconstruction = self.vae.decode(mean + noise * (0.5 * log_variance).exp()).sample.float()
        return {"mel": F.l1_loss(reconstruction, inputs), "kl": kl_to_standard_normal(mean, log_variance)}

    @torch.no_grad()
    def validate(self, batch: Batch, draws: Draws) -> Validation:
        mel = self.mel(batch.wide)
        reconstruction = self.vae.decode(self.vae.encode(mel).latent_dist.mode()).sample
        result = Validation({"mel_l1": float(F.l1_loss(reconstruction, mel)), "mel_lsd": mel_lsd(mel, reconstruction)})
        if self.vocoder is not None:
            wave = vocode(self.vocoder, reconstruction, self.config.audio).float()
            result.metrics["lsd"] = float(lsd(batch.wide[:, 0], wave[:, 0]).mean())
            result.waves = {"truth": batch.wide[0, 0], "reconstruction": wave[0, 0]}
            result.sample_rate = self.config.audio.sample_rate
        return result

    @torch.no_grad()
    def finish(self, corpus: Corpus) -> None:
        """Scale and shift of the posterior means over the training set, into the VAE's config."""
        self.vae.eval()
        device = next(self.vae.parameters()).device
        total = squares = count = 0.0
        for at in trange(self.config.statistics_batches, desc="latent statistics", mininterval=5):
            batch = corpus.batch(at, self.config.batch_size, self.config.samples, seed=self.config.seed + 1)
            mean = self.vae.encode(self.mel(batch.wide.to(device))).latent_dist.mean.double()
            total, squares, count = total + mean.sum(), squares + mean.square().sum(), count + mean.numel()
        shift = float(total / count)
        scale = float((squares / count - shift**2) ** -0.5)
        self.vae.register_to_config(scaling_factor=scale, shift_factor=shift)


def mel_lsd(reference: Tensor, estimate: Tensor) -> float:
    """Log-spectral distance on mel bands (log10 of power): root of the mean over bands, mean over frames."""
    difference = (reference - estimate) * NATS_TO_LOG10_POWER
    return float(difference.square().mean(dim=-1).sqrt().mean())


def load_vae(folder: str, device: Any = None) -> MelAutoencoderKL:
    """A finished VAE, frozen, in fp32. Raises ValueError where it has no measured scale."""
    vae = MelAutoencoderKL.from_pretrained(
        folder, torch_dtype=torch.float32, use_safetensors=True, local_files_only=True
    )
    if vae.config.scaling_factor is None:
        raise ValueError(f"{folder} has no scaling_factor; finish its training with train_vae.py, which measures it")
    return vae.requires_grad_(False).eval().to(device)
