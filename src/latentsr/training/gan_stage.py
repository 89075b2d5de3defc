"""What the stages share whose generator is of the Mamba-GAN's kind: low band and its mel -> wave and mel."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from latentsr.data.dataset import Batch
from latentsr.evaluation.metrics import lsd
from latentsr.models.mamba_gan import MelFront
from latentsr.models.vae import mode
from latentsr.signal.lowband import cut_sharply, merge
from latentsr.signal.mel import MelSpectrogram, bands_below
from latentsr.training.adversarial import AdversarialStage, load_discriminators
from latentsr.training.draws import Draws
from latentsr.training.hifigan import high_band_ratio_db
from latentsr.training.losses import filtered_error
from latentsr.training.stage import Degraded, StageConfig, Validation
from latentsr.training.vae import load_vae


class GanStageConfig(StageConfig):
    model: dict[str, Any] = {}  # arguments of the generator
    adversarial_from_step: int = 0  # the generator learns alone before
    adversarial_frames: int = 0  # of each example the discriminators hear so many mel frames; 0: all
    vae: str = ""  # folder of a finished VAE: learn to decode its latents too


@dataclass
class GanInputs:
    """A step's inputs."""

    wide: Tensor  # (B, 1, T) the truth
    low: Tensor  # (B, 1, T)
    edge_hz: Tensor  # (B,) up to here it is the truth, but for noise
    mel: Tensor  # (B, L, M) of the low band
    true_mel: Tensor  # (B, L, M)
    cutoff_hz: Tensor  # (B,)
    bandwidth_hz: Tensor  # (B,)
    latents: Tensor | None  # (B, Z, l, m) of the truth
    told: Tensor  # (B,) true where the generator gets them


class GanStage(AdversarialStage):
    """A generator that is exported as `mamba_gan`, and its discriminators.

    Both are the finished run's where the config names one; `fresh` makes a generator otherwise.
    """

    config: GanStageConfig
    kind: type[MelFront]  # of the generator

    def __init__(self, config: GanStageConfig, discriminators: nn.Module) -> None:
        super().__init__(config)
        self.mel, self.discriminators = MelSpectrogram(config.audio), discriminators
        self.vae = load_vae(config.vae) if config.vae else None
        if config.initial_weights:
            start = Path(config.initial_weights)
            self.generator: Any = self.kind.from_pretrained(start / "mamba_gan")
            load_discriminators(self.discriminators, start)
        else:
            self.generator = self.fresh()

    @abstractmethod
    def fresh(self) -> MelFront:
        """A new generator."""

    def averaged(self) -> Mapping[str, nn.Module]:
        return {"mamba_gan": self.generator}

    def shared_inputs(self, example: Degraded, told: Tensor) -> dict[str, Any]:
        """The fields of `GanInputs`, of an example."""
        low_mel, true_mel = (self.mel(wave)[:, 0] for wave in (example.low, example.wide))
        names = ("wide", "low", "edge_hz", "cutoff_hz", "bandwidth_hz")
        given = {name: getattr(example, name) for name in names}
        return {**given, "mel": low_mel, "true_mel": true_mel, "latents": self._latents(true_mel), "told": told}

    @abstractmethod
    def _generate(self, inputs: Any) -> tuple[Tensor, ...]:
        """Wave (B, 1, T), log-mel (B, L, M), and what else the losses of the stage need, in fp32."""

    def _latents(self, mel: Tensor) -> Tensor | None:
        if self.vae is None:
            return None
        with torch.autocast(mel.device.type, dtype=torch.bfloat16, enabled=self.config.precision == "bf16"):
            return mode(self.vae, mel[:, None]).float()

    def _front_loss(self, mel: Tensor, inputs: GanInputs) -> Tensor:
        """L1 in nats between log-mels, up to the band in which the file's own content ends."""
        real = bands_below(inputs.bandwidth_hz, self.config.audio)[:, None].to(mel)
        return (((mel - inputs.true_mel).abs() * real).mean(dim=1).sum(dim=1) / real.sum(dim=(1, 2))).mean()

    def _heard(self, draws: Draws, samples: int) -> slice:
        """The part of the examples that the discriminators get."""
        length = min(self.config.adversarial_frames * self.config.audio.hop_length or samples, samples)
        start = int(torch.randint(0, samples - length + 1, (1,), generator=draws.shared))
        return slice(start, start + length)

    @torch.no_grad()
    def validate(self, batch: Batch, draws: Draws) -> Validation:
        """What the merge makes of the generator's wave, without the latents and with them."""
        rate = self.config.audio.sample_rate
        inputs = self.prepare(batch, draws)
        ends, result = inputs.bandwidth_hz, Validation(sample_rate=rate)
        result.waves = {"low": inputs.low[0, 0], "truth": inputs.wide[0, 0]}
        for name, latents in {"": None, "_latents": inputs.latents}.items():
            if name and latents is None:
                continue
            inputs.latents, inputs.told = latents, torch.ones_like(inputs.told)
            wave, mel, *_ = self._generate(inputs)
            wave = merge(inputs.low, wave, inputs.cutoff_hz, rate)
            left = filtered_error(inputs.low, inputs.wide, mel, inputs.edge_hz, self.mel)
            result.metrics[f"filtered{name}"] = float(left)
            result.metrics[f"lsd{name}"] = float(lsd(inputs.wide[:, 0], wave[:, 0], high_hz=ends).mean())
            result.metrics[f"energy_db{name}"] = high_band_ratio_db(
                cut_sharply(inputs.wide, ends, rate), cut_sharply(wave, ends, rate)
            )
            result.waves[f"restored{name}"] = wave[0, 0]
        return result
