"""Stage 2: a vocoder of the table, by spectral losses first, then adversarially; it finishes on VAE-decoded mels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentsr.data.dataset import Batch
from latentsr.evaluation.metrics import lsd
from latentsr.model_folder.loading import load_network
from latentsr.models.discriminators import Discriminators
from latentsr.models.hifigan import build_vocoder, vocode
from latentsr.models.vae import mode, to_mel
from latentsr.signal.mel import MelSpectrogram, bands_below
from latentsr.training.adversarial import (
    AdversarialStage,
    DiscriminatorSize,
    features_for_generator,
    load_discriminators,
)
from latentsr.training.draws import Draws
from latentsr.training.losses import adversarial_loss, discriminator_loss, feature_loss, spectral_losses
from latentsr.training.stage import StageConfig, Validation
from latentsr.training.vae import load_vae


class VocoderStageConfig(StageConfig):
    kind: str = "istft"  # a key of models.hifigan.VOCODERS
    model: dict[str, Any] = {}  # arguments of that vocoder
    discriminators: DiscriminatorSize = DiscriminatorSize()
    adversarial_from_step: int = 0  # spectral losses alone before
    stft_sizes: tuple[int, ...] = (512, 1024, 2048)
    vae: str = ""  # folder of a finished VAE: train on its decoded mels too
    decoded_share: float = 0.5  # of the examples, where `vae` is given
    known_cutoff_hz: tuple[float, float] = (2_000.0, 16_000.0)  # below it the true mel stands in a decoded one


@dataclass
class VocoderInputs:
    mel: Tensor  # (B, 1, L, M) what the vocoder gets
    true_mel: Tensor  # (B, 1, L, M)
    wave: Tensor  # (B, 1, T)


class VocoderStage(AdversarialStage):
    """mel -> wave, judged by spectra and by discriminators."""

    config: VocoderStageConfig
    phases = ("discriminator", "generator")

    def __init__(self, config: VocoderStageConfig) -> None:
        super().__init__(config)
        self.mel = MelSpectrogram(config.audio)
        self.vocoder = build_vocoder(config.kind, **config.model)
        self.discriminators = Discriminators(**config.discriminators.model_dump())
        self.vae = load_vae(config.vae) if config.vae else None
        if config.initial_weights:
            start = Path(config.initial_weights)
            self.vocoder = load_network(start / "vocoder").requires_grad_(True)
            load_discriminators(self.discriminators, start)

    def averaged(self) -> Mapping[str, nn.Module]:
        return {"vocoder": self.vocoder}

    @torch.no_grad()
    def prepare(self, batch: Batch, draws: Draws) -> VocoderInputs:
        true_mel = self.mel(batch.wide)
        if self.vae is None:
            return VocoderInputs(true_mel, true_mel, batch.wide)
        low_hz, high_hz = self.config.known_cutoff_hz
        cutoff_hz = low_hz + (high_hz - low_hz) * draws.uniform()
        chosen = draws.chosen(self.config.decoded_share)
        known = bands_below(cutoff_hz[chosen], self.config.audio).to(true_mel.device)[:, None, None, :]
        mel = true_mel.clone()
        mel[chosen] = torch.where(known, true_mel[chosen], self._through_vae(true_mel[chosen]))
        return VocoderInputs(mel, true_mel, batch.wide)

    def _through_vae(self, mel: Tensor) -> Tensor:
        assert self.vae is not None
        return to_mel(self.vae, mode(self.vae, mel))

    def losses(self, phase: str, inputs: VocoderInputs, step: int, draws: Draws) -> dict[str, Tensor]:
        if phase == "discriminator":
            with torch.no_grad():
                fake = vocode(self.vocoder, inputs.mel, self.config.audio).float()
            return {"discriminator": discriminator_loss(self.discriminators(inputs.wave), self.discriminators(fake))}
        fake = vocode(self.vocoder, inputs.mel, self.config.audio).float()
        with torch.autocast(fake.device.type, enabled=False):
            losses = spectral_losses(inputs.wave, fake, self.config.stft_sizes)
            losses["mel"] = F.l1_loss(self.mel(fake), inputs.true_mel)
        if step >= self.config.adversarial_from_step:
            real, scores = features_for_generator(self.discriminators, inputs.wave, fake)
            losses |= {"adversarial": adversarial_loss(scores), "features": feature_loss(real, scores)}
        return losses

    @torch.no_grad()
    def validate(self, batch: Batch, draws: Draws) -> Validation:
        wave, metrics = batch.wide, {}
        mels = {"mel": self.mel(wave)}
        if self.vae is not None:
            mels["decoded"] = self._through_vae(mels["mel"])
        waves = {"truth": wave[0, 0]}
        for name, mel in mels.items():
            made = vocode(self.vocoder, mel, self.config.audio).float()
            metrics[f"lsd_{name}"] = float(lsd(wave[:, 0], made[:, 0]).mean())
            metrics[f"energy_db_{name}"] = high_band_ratio_db(wave, made)
            waves[f"from_{name}"] = made[0, 0]
        return Validation(metrics, waves, self.config.audio.sample_rate)


def high_band_ratio_db(reference: Tensor, estimate: Tensor) -> float:
    """Energy of the upper two thirds of the spectrum against the reference's, dB, median over the batch."""
    energies = [torch.fft.rfft(w.float()).abs().square() for w in (reference, estimate)]
    start = energies[0].shape[-1] // 3
    a, b = (e[..., start:].sum(dim=-1).clamp(min=1e-12) for e in energies)
    return float((10 * (b / a).log10()).median())
