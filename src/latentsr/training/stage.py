"""What a stage of training is: what lives, what one step does, what it returns. `fit` does the rest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from latentsr.bandwidth import cutoffs_hz
from latentsr.config import AUDIO, AudioConfig, Config, ConfigError
from latentsr.data.dataset import Batch, Corpus, DataConfig
from latentsr.signal.degrade import Recipe, cutoff_3db_hz, degrade
from latentsr.signal.floor import OVER_TO_SEE, find_floors, subtract_floors
from latentsr.signal.lowband import cut_sharply
from latentsr.signal.mel import MelSpectrogram
from latentsr.signal.recipes import DegradeConfig, draw_recipe
from latentsr.training.draws import Draws

SHOWN = "_shown"  # ends the name of a figure that is in the log alone, and no loss
KNOWN_SHARE = 0.8  # of a cutoff: filters are flat below it


class OptimizerConfig(Config):
    learning_rate: float = 5e-4
    warmup_steps: int = 100
    final_rate: float = 0.1  # share of the learning rate left at the last step (cosine)
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    clip_norm: float = 1.0
    phase_rates: dict[str, float] = {}  # factors of the learning rate, by phase; 1 where a phase is not named


class StageConfig(Config):
    """What every stage needs: data, steps, optimiser, and the weights of its losses by name."""

    data: str = ""  # folder or manifest
    out: str = ""  # run folder; "" = runs/<stage>
    audio: AudioConfig = AUDIO
    corpus: DataConfig = DataConfig()
    degrade: DegradeConfig = DegradeConfig()
    heard_share: float = 1.0  # of the examples, the cutoff is what the estimator says; of the others, the truth
    cleaned_share: float = 0.7  # of the examples, a steady floor is taken away before the networks, as `denoise` does
    optimizer: OptimizerConfig = OptimizerConfig()
    loss_weights: dict[str, float]
    seed: int = 0
    steps: int = 100_000
    batch_size: int = 16  # over all processes
    frames: int = 256  # mel frames of one example
    accumulation: int = 1
    precision: Literal["fp32", "bf16"] = "fp32"  # of autocast; fp16 would need loss scaling
    ema_decay: float = 0.999
    log_every: int = 20
    validate_every: int = 500
    save_every: int = 500
    validation_examples: int = 8
    keep: int = 2
    best_metric: str | None = None  # of validation: the weights where it was best are kept too, in RUN/best
    best_mode: Literal["min", "max"] | None = None  # what is best; None: min
    initial_weights: str = ""  # folder of a finished run's weights to start from

    @property
    def samples(self) -> int:
        return self.frames * self.audio.hop_length


@dataclass
class Degraded:
    """A training example of the front: the wide-band truth and the low band as the networks get it."""

    wide: Tensor  # (B, 1, T)
    low: Tensor  # (B, 1, T), cut sharply at the estimated cutoff
    cutoff_hz: Tensor  # (B,), as estimated from the degraded wave
    bandwidth_hz: Tensor  # (B,), where the content of the wide wave ends
    edge_hz: Tensor  # (B,), 0.8 of where the low band ends in truth: below it, it is the wide wave, but for noise
    recipes: list[Recipe]  # none where the data are pairs


@dataclass
class Validation:
    """What a stage shows: figures, and waves (name -> (T,)) to look at and listen to."""

    metrics: dict[str, float] = field(default_factory=dict)
    waves: dict[str, Tensor] = field(default_factory=dict)
    sample_rate: int = AUDIO.sample_rate


class Stage(nn.Module, ABC):
    """One stage of training. Subclasses name their networks in `trained` and compute losses."""

    phases: tuple[str, ...] = ("model",)  # optimised in turn within a step

    def __init__(self, config: StageConfig) -> None:
        super().__init__()
        self.config = config

    @abstractmethod
    def trained(self) -> Mapping[str, nn.Module]:
        """Networks that are optimised and saved, by component name."""

    def networks(self, phase: str) -> list[nn.Module]:
        """The trained networks that one phase optimises."""
        return list(self.trained().values())

    def averaged(self) -> Mapping[str, nn.Module]:
        """Networks whose exponential moving average is what is exported."""
        return self.trained()

    def active_phases(self, step: int) -> tuple[str, ...]:
        return self.phases

    @abstractmethod
    def prepare(self, batch: Batch, draws: Draws) -> Any:
        """Inputs of the step, computed once and handed to each phase."""

    @abstractmethod
    def losses(self, phase: str, inputs: Any, step: int, draws: Draws) -> dict[str, Tensor]:
        """Losses of a phase by name; each name has a weight in the config."""

    @abstractmethod
    def validate(self, batch: Batch, draws: Draws) -> Validation:
        """What to show of a fixed batch."""

    def finish(self, corpus: Corpus) -> None:
        """Measurements that belong into the exported weights."""

    def export(self, folder: Path) -> None:
        """Write the components for the pipeline, each in its own subfolder."""
        for name, network in self.averaged().items():
            cast(Any, network).save_pretrained(folder / name)

    def total(self, losses: dict[str, Tensor]) -> Tensor:
        """Sum of the losses, weighted by name. A name without a weight is an error."""
        missing = losses.keys() - self.config.loss_weights.keys()
        if missing:
            raise ConfigError(f"no weight for the losses {sorted(missing)}; add them to loss_weights")
        return torch.stack([self.config.loss_weights[name] * value for name, value in losses.items()]).sum()


def degraded(batch: Batch, config: StageConfig, draws: Draws) -> Degraded:
    """Degrade a batch by drawn recipes; the cutoff is what the estimator says, as at inference, or in a share of the
    examples the truth, which costs nothing.

    Half of the examples are rounded to 16 bit first, so that dust above the cutoff tells nothing. Pairs bring their
    degraded half along: nothing is drawn for them.
    """
    rate = config.audio.sample_rate
    wide = batch.wide
    if batch.low is None:
        recipes = [draw_recipe(config.degrade, generator) for generator in draws.generators]
        narrow = degrade(wide, recipes, rate)
        edge_hz = torch.tensor([cutoff_3db_hz(recipe, rate) for recipe in recipes]).to(wide)
    else:
        recipes, narrow, edge_hz = [], batch.low, None
    rounded = draws.chosen(0.5)
    narrow = torch.where(rounded.to(wide.device)[:, None, None], round_to_16_bit(narrow), narrow)
    heard = torch.ones(len(wide), dtype=torch.bool) if edge_hz is None else draws.chosen(config.heard_share)
    narrow, cutoff_hz = _cleaned(narrow, config, draws, heard, edge_hz)
    edge_hz = KNOWN_SHARE * (cutoff_hz if edge_hz is None else torch.minimum(cutoff_hz, edge_hz))
    return Degraded(wide, cut_sharply(narrow, cutoff_hz, rate), cutoff_hz, batch.bandwidth_hz, edge_hz, recipes)


def _cleaned(
    narrow: Tensor, config: StageConfig, draws: Draws, heard: Tensor, ends_hz: Tensor | None
) -> tuple[Tensor, Tensor]:
    """As `denoise` hands it on, for a share of the examples: without a steady floor, the cutoff heard without it."""
    rate, mel = config.audio.sample_rate, MelSpectrogram(config.audio).to(narrow.device)
    floors = find_floors(narrow[:, 0], mel) * draws.chosen(config.cleaned_share).to(narrow.device)
    cutoff_hz = torch.zeros(len(narrow), device=narrow.device) if ends_hz is None else ends_hz.clone()
    if heard.any():
        rows = heard.to(narrow.device)
        quiet = subtract_floors(narrow[rows], floors[rows], mel, OVER_TO_SEE, power=1.0)
        cutoff_hz[rows] = cutoffs_hz(quiet, rate).to(cutoff_hz)
    return subtract_floors(narrow, floors, mel), cutoff_hz


def round_to_16_bit(wave: Tensor) -> Tensor:
    return (wave * 32768).round() / 32768
