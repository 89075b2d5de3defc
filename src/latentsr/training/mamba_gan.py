"""The Mamba-GAN: the low band in, the wide band out in one pass; spectral losses first, then adversarially."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentsr.config import ConfigError
from latentsr.data.dataset import Batch, Corpus
from latentsr.models.discriminators import Discriminators
from latentsr.models.mamba_gan import MambaGenerator
from latentsr.models.vocos import ISTFTVocoder
from latentsr.signal.lowband import cut_sharply, merge
from latentsr.training.adversarial import DiscriminatorSize, features_for_generator
from latentsr.training.draws import Draws
from latentsr.training.gan_stage import GanInputs, GanStage, GanStageConfig
from latentsr.training.losses import adversarial_loss, discriminator_loss, feature_loss, filtered_error, spectral_losses
from latentsr.training.stage import degraded


class MambaGanStageConfig(GanStageConfig):
    architecture: Literal["fast"] = "fast"
    discriminators: DiscriminatorSize = DiscriminatorSize()
    stft_sizes: tuple[int, ...] = (512, 1024, 2048)
    latents_share: float = 0.3  # of the examples, where `vae` is given
    # Of the examples, the losses judge the band above the cutoff alone, as the merge keeps nothing else; from the
    # others the generator learns the clean low band, which `denoise` filters by.
    merged_share: float = 0.75
    # Of the made power, so much is replaced by noise under its own envelope when the head is used: what magnitudes
    # alone have taught beats with the frames. Written into the generator's config; the losses hear the wave itself.
    noise_share: float = 0.0
    vocoder: str = ""  # folder of a finished iSTFT vocoder of the same sizes, whose layers the back starts from
    vocoder_blocks: tuple[int, ...] = (4, 5, 7)  # of its blocks; left out without training, the others cost least


@dataclass
class MambaGanInputs(GanInputs):
    merged: Tensor  # (B,) true where only the band above the cutoff is judged


class MambaGanStage(GanStage):
    """Low band -> wave, judged by spectra and by discriminators."""

    config: MambaGanStageConfig
    kind = MambaGenerator
    discriminators: Discriminators
    phases = ("discriminator", "generator")

    def __init__(self, config: MambaGanStageConfig) -> None:
        super().__init__(config, Discriminators(**config.discriminators.model_dump()))

    def fresh(self) -> MambaGenerator:
        generator, config = MambaGenerator(**self.config.model), self.config
        if config.vocoder:
            start_from_vocoder(generator, Path(config.vocoder), config.vocoder_blocks)
        return generator

    @torch.no_grad()
    def prepare(self, batch: Batch, draws: Draws) -> MambaGanInputs:
        config = self.config
        example = degraded(batch, config, draws)
        merged, told = (
            draws.chosen(share).to(example.wide.device) for share in (config.merged_share, config.latents_share)
        )
        return MambaGanInputs(**self.shared_inputs(example, told), merged=merged)

    def _generate(self, inputs: MambaGanInputs) -> tuple[Tensor, Tensor]:
        """Wave (B, 1, T) and log-mel (B, L, M), both in fp32."""
        wave, mel = self.generator(inputs.mel, inputs.cutoff_hz, inputs.latents, inputs.told)
        return wave.float()[:, None], mel.float()

    def _judged(self, wave: Tensor, inputs: MambaGanInputs) -> Tensor:
        """What losses and discriminators hear of a made wave: no more than what the truth has in that place."""
        rate = self.config.audio.sample_rate
        merged = merge(inputs.wide, wave, inputs.cutoff_hz, rate)
        return cut_sharply(torch.where(inputs.merged[:, None, None], merged, wave), inputs.bandwidth_hz, rate)

    def losses(self, phase: str, inputs: MambaGanInputs, step: int, draws: Draws) -> dict[str, Tensor]:
        real = cut_sharply(inputs.wide, inputs.bandwidth_hz, self.config.audio.sample_rate)
        if phase == "discriminator":
            with torch.no_grad():
                wave = self._generate(inputs)[0]
            with torch.autocast(wave.device.type, enabled=False):
                fake = self._judged(wave, inputs)
            heard = self._heard(draws, real.shape[-1])
            real_scores, scores = (self.discriminators(wave[..., heard]) for wave in (real, fake))
            return {"discriminator": discriminator_loss(real_scores, scores)}
        wave, mel = self._generate(inputs)
        with torch.autocast(wave.device.type, enabled=False):
            fake = self._judged(wave, inputs)
            losses = spectral_losses(real, fake, self.config.stft_sizes)
            losses["mel"] = F.l1_loss(self.mel(fake), self.mel(real))
            losses["front"] = self._front_loss(mel, inputs)
            losses["filtered"] = filtered_error(inputs.low, inputs.wide, mel, inputs.edge_hz, self.mel)
        if step >= self.config.adversarial_from_step:
            heard = self._heard(draws, real.shape[-1])
            real_scores, scores = features_for_generator(self.discriminators, real[..., heard], fake[..., heard])
            losses |= {"adversarial": adversarial_loss(scores), "features": feature_loss(real_scores, scores)}
        return losses

    def finish(self, corpus: Corpus) -> None:
        self.generator.register_to_config(noise_share=self.config.noise_share)


def start_from_vocoder(generator: MambaGenerator, folder: Path, blocks: tuple[int, ...]) -> None:
    """Copy the layers of a finished iSTFT vocoder into the generator's back, of its blocks the named ones."""
    vocoder = ISTFTVocoder.from_pretrained(folder)
    if len(blocks) != len(generator.blocks):
        raise ConfigError(
            f"vocoder_blocks names {len(blocks)} blocks, the generator has {len(generator.blocks)} layers"
        )
    pairs = [(getattr(vocoder, name), getattr(generator, name)) for name in ("embed", "norm_in", "norm_out", "head")]
    pairs += [(vocoder.blocks[i], block) for i, block in zip(blocks, generator.blocks, strict=True)]
    try:
        for theirs, ours in pairs:
            cast(nn.Module, ours).load_state_dict(theirs.state_dict())
    except RuntimeError as error:
        raise ConfigError(f"the vocoder in {folder} has other sizes than the generator: {error}") from None
