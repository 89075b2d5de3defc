"""The cutoff estimator: wide recordings cut in every way of the world, and where their band ends."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentsr.bandwidth import best_end_hz
from latentsr.data.dataset import Batch
from latentsr.heads.mamba_gan import MambaGanHead
from latentsr.model_folder.loading import EMBEDDED, load_component, read_index
from latentsr.models.cutoff import CELLS, CLASSES, NOTHING, UNCUT, CutoffNet, cells_hz
from latentsr.signal.bandframes import BINS, SILENT_DB
from latentsr.signal.lowband import cut_sharply, merge
from latentsr.training.cutoff_examples import CutConfig, Example, draw
from latentsr.training.cutoff_frames import Heard, recut
from latentsr.training.draws import Draws
from latentsr.training.stage import Stage, StageConfig, Validation

OWN = (0.95, 1.06)  # around where a recording ends by itself: an answer there is right
FULL_FROM_HZ = 20_000.0  # a recording that ends above has nothing missing
NARROW = 0.95  # of its own end: a cut above it does not show
SPREAD = 0.017  # of the end: standard deviation of the target
RAISED_DB = 25.0  # losses beyond are all alike
WHOLE = 0.5  # of the recuts are heard as wholes, the others in part
WINDOWS = (8, 48)  # frames of the stretches that are heard beside the whole example


class CutoffStageConfig(StageConfig):
    model: dict[str, Any] = {}  # arguments of CutoffNet
    cuts: CutConfig = CutConfig()
    windows: int = 2  # stretches of each example, beside the whole
    drawn: float = 1.0  # share of the recordings that are cut as samples, once each; the others in their frames,
    recuts: int = 6  # so many times


@dataclass
class CutoffInputs:
    """(N, ...) stretches: all examples as wholes, then parts of them."""

    power_db: Tensor  # (N, L, BINS)
    nyquist_hz: Tensor  # (N,)
    dust_db: Tensor  # (N,)
    accepted: (
        Tensor  # (N, CLASSES) how right an answer is: sums to 1 where one place is right, 1 each where several are
    )
    single: Tensor  # (N,) true where one place is right
    loss_db: Tensor  # (N, BINS), NaN where it is not known

    def to(self, device: torch.device) -> CutoffInputs:
        """The same on `device`."""
        return CutoffInputs(*(getattr(self, field.name).to(device) for field in fields(self)))


class CutoffStage(Stage):
    """Frames of a stretch -> where its band ends."""

    config: CutoffStageConfig

    def __init__(self, config: CutoffStageConfig) -> None:
        super().__init__(config)
        config.cuts.check()
        start = Path(config.initial_weights) / "cutoff"
        self.network = CutoffNet.from_pretrained(start) if config.initial_weights else CutoffNet(**config.model)
        self._restorer: MambaGanHead | None = None

    def trained(self) -> Mapping[str, nn.Module]:
        return {"cutoff": self.network}

    def export(self, folder: Path) -> None:
        copy.deepcopy(self.network).half().save_pretrained(folder / "cutoff")

    def prepare(self, batch: Batch, draws: Draws) -> CutoffInputs:
        as_samples = draws.chosen(self.config.drawn)
        rngs = _rngs(draws)
        chosen = [rng for rng, here in zip(rngs, as_samples.tolist(), strict=True) if here]
        stretches = []
        for example, rng in zip(self._examples(batch.part(as_samples), chosen), chosen, strict=True):
            stretches += [_whole(example), *(_part(example, rng) for _ in range(self.config.windows))]
        for n in torch.nonzero(~as_samples)[:, 0].tolist():
            heard = Heard.of(batch.wide[n, 0].cpu().numpy().astype(np.float64), float(batch.bandwidth_hz[n]))
            for _ in range(self.config.recuts):
                example = recut(heard, self.config.cuts, rngs[n])
                stretches.append(_whole(example) if rngs[n].random() < WHOLE else _part(example, rngs[n]))
        return _collate(stretches).to(batch.wide.device)

    def _examples(self, batch: Batch, rngs: Sequence[np.random.Generator]) -> list[Example]:
        cuts, examples = self.config.cuts, []
        for wave, own_hz, rng in zip(batch.wide[:, 0].cpu(), batch.bandwidth_hz.tolist(), rngs, strict=True):
            restored = rng.random() < cuts.restored
            if restored:
                wave, own_hz = self._restored(wave, float(np.exp(rng.uniform(math.log(2e3), math.log(16e3))))), 24_000.0
            examples.append(draw(wave.numpy().astype(np.float64), own_hz, cuts, rng, uncut=restored))
        return examples

    @torch.no_grad()
    def _restored(self, wave: Tensor, cutoff_hz: float) -> Tensor:
        """What the embedded default makes of a wave (T,) that is cut: such a band counts as one that is there."""
        if self._restorer is None:
            network = load_component(EMBEDDED, "mamba_gan", read_index(EMBEDDED), torch.float32)
            self._restorer = MambaGanHead(network)
        end, rate = torch.tensor([cutoff_hz]), self.config.audio.sample_rate
        low = cut_sharply(wave[None, None], end, rate)
        gain = 0.5 / max(float(low.abs().max()), 1e-6)
        return merge(low, self._restorer(low * gain, end) / gain, end, rate)[0, 0]

    def losses(self, phase: str, inputs: CutoffInputs, step: int, draws: Draws) -> dict[str, Tensor]:
        logits, loss_db = self.network(inputs.power_db, inputs.nyquist_hz, inputs.dust_db)
        return {"end": end_loss(logits, inputs.accepted, inputs.single), "loss": filter_loss(loss_db, inputs.loss_db)}

    @torch.no_grad()
    def validate(self, batch: Batch, draws: Draws) -> Validation:
        examples = self._examples(batch, _rngs(draws))
        inputs = _collate([_whole(example) for example in examples]).to(batch.wide.device)
        logits, loss_db = self.network(inputs.power_db, inputs.nyquist_hz, inputs.dust_db)
        ends_hz = best_end_hz(logits.log_softmax(1).cpu()).tolist()
        cut = [(end, e.end_hz) for end, e in zip(ends_hz, examples, strict=True) if _is_cut(e) and not e.hidden]
        share = np.array([min(end, 48e3) / truth for end, truth in cut] or [1.0])
        others = [
            end
            for end, e in zip(ends_hz, examples, strict=True)
            if e.heard and not _is_cut(e) and e.own_hz >= FULL_FROM_HZ
        ]
        shown = next((i for i, e in enumerate(examples) if _is_cut(e) and not e.hidden), 0)
        wave, rate = batch.wide[shown : shown + 1], self.config.audio.sample_rate
        kept_hz = {"truth": examples[shown].end_hz, "estimate": ends_hz[shown]}
        kept = {
            f"kept_by_{who}": cut_sharply(wave, torch.tensor([min(hz, rate / 2)]), rate)[0, 0]
            for who, hz in kept_hz.items()
        }
        return Validation(
            waves={"recording": wave[0, 0], **kept},
            metrics={
                "end": float(end_loss(logits, inputs.accepted, inputs.single)),
                "loss": float(filter_loss(loss_db, inputs.loss_db)),
                "within": float((np.abs(share - 1) < 0.1).mean()),
                "low": float((share < 0.9).mean()),
                "full_though_cut": float(np.mean([end >= 24e3 for end, _ in cut] or [False])),
                "cut_though_full": float(np.mean([end < 24e3 for end in others] or [False])),
            },
        )


def end_loss(logits: Tensor, accepted: Tensor, single: Tensor) -> Tensor:
    """Cross entropy where one place is right; else minus the logarithm of what is given to all that are right."""
    log_p = logits.log_softmax(1)
    one = -(accepted * log_p).sum(1)
    several = -(log_p.masked_fill(accepted <= 0, -1e9)).logsumexp(1)
    return torch.where(single, one, several).mean()


def filter_loss(made_db: Tensor, true_db: Tensor) -> Tensor:
    """Mean distance of the losses, in tens of dB, where the true one is known and the network need know it."""
    known = torch.isfinite(true_db)
    true_db = torch.where(known, true_db, 0.0).clamp(max=RAISED_DB)
    return (F.smooth_l1_loss(made_db.clamp(max=RAISED_DB + 5), true_db, reduction="none", beta=1.0) * known).sum() / (
        10 * known.sum().clamp(min=1)
    )


def _is_cut(example: Example) -> bool:
    return example.heard and example.end_hz < min(FULL_FROM_HZ, NARROW * example.own_hz)


def _accepted(example: Example, silent: bool) -> tuple[np.ndarray, bool]:
    """Which answers are right, (CLASSES,), and whether it is one place."""
    right, hz = np.zeros(CLASSES, np.float32), cells_hz().numpy()
    if silent or not example.heard:
        right[NOTHING] = 1
        return right, True
    if _is_cut(example) and not example.hidden:
        right[:CELLS] = np.exp(-0.5 * (np.log(hz / example.end_hz) / SPREAD) ** 2)
        return right / right.sum(), True
    if example.own_hz >= FULL_FROM_HZ or example.hidden:
        right[UNCUT] = 1
        return right, True
    low_rate = example.frames.nyquist_hz < FULL_FROM_HZ
    top = OWN[1] * max(example.own_hz, min(example.end_hz, example.frames.nyquist_hz) if low_rate else 0)
    right[:CELLS] = (hz > OWN[0] * min(example.own_hz, top)) & (hz < top)
    right[UNCUT] = not low_rate
    return right, False


def _rngs(draws: Draws) -> list[np.random.Generator]:
    return [np.random.default_rng(int(torch.randint(2**62, (), generator=each))) for each in draws.generators]


def _whole(example: Example) -> tuple[Example, np.ndarray]:
    return example, example.frames.power_db[0]


def _part(example: Example, rng: np.random.Generator) -> tuple[Example, np.ndarray]:
    """A stretch of an example."""
    power_db = example.frames.power_db[0]
    length = int(rng.integers(WINDOWS[0], WINDOWS[1] + 1))
    start = int(rng.integers(0, max(len(power_db) - length, 0) + 1))
    return example, power_db[start : start + length]


def _collate(stretches: Sequence[tuple[Example, np.ndarray]]) -> CutoffInputs:
    longest = max(len(power_db) for _, power_db in stretches)
    padded = np.full((len(stretches), longest, BINS), SILENT_DB, np.float32)  # silent frames are not counted
    rights = []
    for row, (example, power_db) in zip(padded, stretches, strict=True):
        row[: len(power_db)] = power_db
        rights.append(_accepted(example, silent=not len(power_db) or power_db.max() <= SILENT_DB))
    return CutoffInputs(
        power_db=torch.from_numpy(padded),
        nyquist_hz=torch.tensor([e.frames.nyquist_hz for e, _ in stretches], dtype=torch.float32),
        dust_db=torch.tensor([e.frames.dust_db for e, _ in stretches], dtype=torch.float32),
        accepted=torch.from_numpy(np.stack([right for right, _ in rights])),
        single=torch.tensor([single for _, single in rights]),
        loss_db=torch.from_numpy(np.stack([e.loss_db for e, _ in stretches])),
    )
