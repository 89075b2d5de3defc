"""What every adversarial stage does with its discriminators."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from latentsr.config import Config, ConfigError
from latentsr.training.stage import Stage

FILE = "discriminators.safetensors"  # beside the components that the pipeline loads


class DiscriminatorSize(Config):
    periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    period_channels: tuple[int, ...] = (16, 64, 256, 256)
    resolutions: tuple[int, ...] = (512, 1024, 2048)
    resolution_channels: int = 32
    scales: int = 0  # MelGAN has 3
    scale_channels: int = 16
    scale_max_channels: int = 1024
    scale_layers: int = 4
    emphasis: float = 0.0


class AdversarialStage(Stage):
    """A generator, which `averaged` names, against discriminators, which are kept beside it."""

    discriminators: Any

    @abstractmethod
    def averaged(self) -> Mapping[str, nn.Module]: ...

    def trained(self) -> Mapping[str, nn.Module]:
        return {**self.averaged(), "discriminators": self.discriminators}

    def networks(self, phase: str) -> list[nn.Module]:
        return [self.discriminators] if phase == "discriminator" else list(self.averaged().values())

    def active_phases(self, step: int) -> tuple[str, ...]:
        alone = step < getattr(self.config, "adversarial_from_step", 0)
        return ("generator",) if alone else self.phases

    def export(self, folder: Path) -> None:
        super().export(folder)
        save_discriminators(self.discriminators, folder)


def features_for_generator(discriminators: nn.Module, real: Tensor, fake: Tensor, *told: Tensor) -> tuple[Any, Any]:
    """Features of two waves (B, 1, T) for the generator's losses: gradients reach `fake` and no parameter.

    `told`: what the discriminators get besides a wave.
    """
    discriminators.requires_grad_(False)
    try:
        with torch.no_grad():
            real_features = discriminators(real, *told)
        return real_features, discriminators(fake, *told)
    finally:
        discriminators.requires_grad_(True)


def load_discriminators(discriminators: nn.Module, folder: Path) -> None:
    """Take up the discriminators of a finished run, where its folder holds them.

    Raises:
        ConfigError: they are of other sizes.
    """
    if not (folder / FILE).is_file():
        return
    try:
        discriminators.load_state_dict({k: v.float() for k, v in load_file(folder / FILE).items()})
    except RuntimeError:
        raise ConfigError(
            f"{folder / FILE} holds discriminators of other sizes; give the same `discriminators`, or remove that file "
            "to begin with new ones"
        ) from None


def save_discriminators(discriminators: nn.Module, folder: Path) -> None:
    """In half precision: to go on from, not for the pipeline."""
    state = {k: v.half().cpu().contiguous() for k, v in discriminators.state_dict().items()}
    save_file(state, folder / FILE)
