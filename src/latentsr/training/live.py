"""The causal generator: it regresses the band that is missing, on top of what a filter left of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentsr.bandwidth import cutoffs_hz
from latentsr.data.dataset import Batch
from latentsr.evaluation.metrics import lsd
from latentsr.models.excitation import HOP
from latentsr.models.live import DELAY, LiveGenerator, band_of
from latentsr.signal.degrade import cutoff_3db_hz, degrade
from latentsr.signal.lowband import MERGE_FROM, filter_zero_phase
from latentsr.signal.recipes import draw_recipe
from latentsr.training.draws import Draws
from latentsr.training.hifigan import high_band_ratio_db
from latentsr.training.losses import patch_losses
from latentsr.training.stage import Stage, StageConfig, Validation, round_to_16_bit

TOP_HZ = 300.0  # over which what is judged fades out at the end of a file's own band


class LiveStageConfig(StageConfig):
    model: dict[str, Any] = {}  # arguments of LiveGenerator
    stft_sizes: tuple[int, ...] = (128, 512, 2048)
    cutoff_octaves: float = 0.1  # the cutoff that is told errs by up to so much
    too_low_share: float = 0.12  # of the examples, it is far too low, down to 0.4 of the truth,
    whole_share: float = 0.05  # of the examples, nothing was cut at all: nothing is to be added


@dataclass
class LiveInputs:
    wide: Tensor  # (B, 1, T) the truth
    narrow: Tensor  # (B, 1, T) what comes in
    noise: Tensor  # (B, T)
    cutoff_hz: Tensor  # (B,) as it is told
    bandwidth_hz: Tensor  # (B,) where the content of the truth ends


class LiveStage(Stage):
    """What comes in -> what is added to it; the sum is judged above the cutoff."""

    config: LiveStageConfig

    def __init__(self, config: LiveStageConfig) -> None:
        super().__init__(config)
        start = config.initial_weights
        self.generator = LiveGenerator.from_pretrained(f"{start}/live") if start else LiveGenerator(**config.model)

    def trained(self) -> Mapping[str, nn.Module]:
        return {"live": self.generator}

    @torch.no_grad()
    def prepare(self, batch: Batch, draws: Draws) -> LiveInputs:
        config, rate = self.config, self.config.audio.sample_rate
        wide, narrow = batch.wide, batch.low
        if narrow is None:
            recipes = [draw_recipe(config.degrade, generator) for generator in draws.generators]
            narrow = degrade(wide, recipes, rate)
            cutoff_hz = torch.tensor([cutoff_3db_hz(recipe, rate) for recipe in recipes]).to(wide)
        else:
            cutoff_hz = cutoffs_hz(narrow, rate)
        rounded, whole, too_low = (
            draws.chosen(p).to(wide.device) for p in (0.5, config.whole_share, config.too_low_share)
        )
        error = torch.where(too_low, draws.uniform().to(wide) * 0.6 + 0.4, 1.0)
        error = error * torch.exp2(config.cutoff_octaves * (2 * draws.uniform().to(wide) - 1))
        narrow = torch.where(whole[:, None, None], wide, narrow)
        narrow = torch.where(rounded[:, None, None], round_to_16_bit(narrow), narrow)
        noise = draws.normal(wide.shape[-1]).to(wide)
        return LiveInputs(wide, narrow, noise, (cutoff_hz * error).clamp(max=rate / 2 - 1), batch.bandwidth_hz)

    def _restored(self, inputs: LiveInputs) -> Tensor:
        """(B, 1, T) what came in and what is added to it."""
        count = len(inputs.wide)
        wave, noise = (F.pad(each, (0, DELAY)) for each in (inputs.narrow[:, 0], inputs.noise))
        cutoff_hz = inputs.cutoff_hz[:, None].expand(-1, wave.shape[-1] // HOP)
        made, _ = self.generator(wave, noise, band_of(cutoff_hz), self.generator.start(count))
        return inputs.narrow + made[:, None, DELAY:]

    def _judged(self, wave: Tensor, inputs: LiveInputs) -> Tensor:
        """What lies above the cutoff, up to where the truth has content."""
        rate = self.config.audio.sample_rate
        cutoff_hz, top_hz = inputs.cutoff_hz[:, None], inputs.bandwidth_hz[:, None]

        def gain_at(hz: Tensor) -> Tensor:
            hz = hz.to(wave)
            rise = ((hz / cutoff_hz - MERGE_FROM) / (1 - MERGE_FROM)).clamp(0, 1)
            return rise * ((top_hz - hz) / TOP_HZ + 1).clamp(0, 1)

        return filter_zero_phase(wave, gain_at, rate)

    def losses(self, phase: str, inputs: LiveInputs, step: int, draws: Draws) -> dict[str, Tensor]:
        with torch.autocast(inputs.wide.device.type, enabled=False):
            real, fake = self._judged(inputs.wide, inputs), self._judged(self._restored(inputs), inputs)
            return patch_losses(real, fake, self.config.stft_sizes)

    @torch.no_grad()
    def validate(self, batch: Batch, draws: Draws) -> Validation:
        rate = self.config.audio.sample_rate
        inputs = self.prepare(batch, draws)
        restored = self._restored(inputs)
        result = Validation(sample_rate=rate)
        for name, wave in (("", restored), ("_input", inputs.narrow)):
            distance = lsd(inputs.wide[:, 0], wave[:, 0], high_hz=inputs.bandwidth_hz)
            result.metrics[f"lsd{name}"] = float(distance.mean())
        judged = [self._judged(wave, inputs) for wave in (inputs.wide, restored)]
        result.metrics["energy_db"] = high_band_ratio_db(*judged)
        result.waves = {"low": inputs.narrow[0, 0], "truth": inputs.wide[0, 0], "restored": restored[0, 0]}
        return result
