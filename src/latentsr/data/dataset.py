"""The training corpus: random access to examples by step number.

Example g of step k depends on (seed, k, g) alone, through a counter-based generator (Philox): a run
that resumes needs only its step, and the global batch is the same however it is shared out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from latentsr.config import AUDIO
from latentsr.data import augment
from latentsr.data.augment import AugmentConfig
from latentsr.data.decode import Recording
from latentsr.data.manifest import DataError
from latentsr.data.prefetch import prefetch
from latentsr.data.sources import SourceConfig, open_recordings, split_recordings

__all__ = ["AugmentConfig", "Batch", "Corpus", "DataConfig", "prefetch"]


class DataConfig(SourceConfig):
    """Where examples come from and how they are drawn."""

    validation_share: float = 0.03  # of each kind's files, where the layout has no validation split
    weights: dict[str, float] = {}  # share of each kind; empty: by the square root of its duration
    clip_floor_s: float = 1.0  # within a kind a clip is drawn by its duration, held between these two,
    clip_cap_s: float = 60.0  # so that neither clicks are lost nor one long file dominates
    silence_db: float = -60.0  # a crop with a lower RMS (dBFS) is drawn again,
    redraws: int = 4  # this many times at most
    brightened: list[str] = []  # kinds that `augment.brighten` may raise; empty: all
    augment: AugmentConfig = AugmentConfig()


@dataclass(frozen=True)
class Batch:
    """Examples and where they came from."""

    wide: Tensor  # (B, 1, T) float32, 48 kHz
    bandwidth_hz: Tensor  # (B,) where the content of each example ends
    kinds: list[str]
    clip: Tensor  # (B,) int64 index into the corpus' recordings
    offset: Tensor  # (B,) int64 first sample in the clip; negative where silence comes first
    low: Tensor | None = None  # (B, 1, T) the degraded partner of `wide`, where the data are pairs

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with the tensors that a network needs on `device`."""
        wide = self.wide.to(device, non_blocking=True)
        low = None if self.low is None else self.low.to(device, non_blocking=True)
        return replace(self, wide=wide, low=low, bandwidth_hz=self.bandwidth_hz.to(device, non_blocking=True))

    def part(self, chosen: Tensor) -> Batch:
        """Some of the examples, (B,) bool."""
        low = None if self.low is None else self.low[chosen]
        kinds = [kind for kind, wanted in zip(self.kinds, chosen.tolist(), strict=True) if wanted]
        return Batch(
            self.wide[chosen], self.bandwidth_hz[chosen], kinds, self.clip[chosen], self.offset[chosen], low
        )  # fmt: skip


@dataclass(frozen=True)
class _Example:
    waves: np.ndarray  # (C, T) float32: C = 1, or 2 where a degraded partner goes along
    bandwidth_hz: float
    clip: int
    offset: int


@dataclass(frozen=True)
class Share:
    """Part `rank` of the `world_size` that a global batch is divided into."""

    rank: int
    world_size: int

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"rank {self.rank} is not below world_size {self.world_size}")


class Corpus:
    """Recordings, divided into a training and a validation set."""

    def __init__(
        self,
        recordings: Sequence[Recording],
        config: DataConfig | None = None,
        left_out: Mapping[str, int] | None = None,  # files that are not among them, by reason
    ) -> None:
        self.config, self.left_out = config or DataConfig(), dict(left_out or {})
        self.train, self.validation = split_recordings(recordings, self.config.validation_share)
        if not self.train:
            raise DataError(
                f"no recording is left for training (of {len(recordings)}); lower validation_share, or add some"
            )
        self._unbrightened = self.config.augment.model_copy(update={"brighten": 0.0})
        self.kinds = sorted({r.clip.kind for r in self.train})
        self._members = {k: [i for i, r in enumerate(self.train) if r.clip.kind == k] for k in self.kinds}
        self._durations_s = {
            k: self._limited_durations_s([self.train[i] for i in self._members[k]]) for k in self.kinds
        }
        self._cumulative = {k: _cumulative(durations_s) for k, durations_s in self._durations_s.items()}

    @classmethod
    def open(cls, data: str | Path, config: DataConfig | None = None) -> Corpus:
        """Find the recordings of `data`, decode them if need be, and divide them; test sets stay out."""
        config = config or DataConfig()
        found = open_recordings(data, config)
        return cls(found.recordings, config, found.left_out)

    def __str__(self) -> str:
        return f"training on {self._kinds(self.train)}; validation on {self._count(self.validation)}"

    def overview(self) -> list[str]:
        """Lines that say how many recordings, minutes and kinds there are, and what is not trained on."""
        every = [*self.train, *self.validation]
        return [
            f"recordings: {self._count(every)}, {sum(r.seconds for r in every) / 60:.1f} min",
            f"  training  {self._kinds(self.train)}",
            f"  held out  {self._kinds(self.validation) or 'none'}",
            f"  left out  {', '.join(f'{count} {why}' for why, count in self.left_out.items()) or 'none'}",
        ]

    def _count(self, recordings: Sequence[Recording]) -> str:
        files, what = len({r.clip.path for r in recordings}), "pair" if self.train[0].low else "file"
        return f"{files} {what}{'' if files == 1 else 's'}"

    def _kinds(self, recordings: Sequence[Recording]) -> str:
        """Files and minutes of each kind."""
        by_kind: dict[str, list[Recording]] = {}
        for recording in sorted(recordings, key=lambda r: r.clip.kind):
            by_kind.setdefault(recording.clip.kind, []).append(recording)
        return "; ".join(
            f"{kind} {self._count(some)}, {sum(r.seconds for r in some) / 60:.1f} min" for kind, some in by_kind.items()
        )

    def batch(
        self,
        step: int,
        batch_size: int,
        samples: int,
        *,
        seed: int,
        share: Share | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> Batch:
        """Examples share.rank * batch_size ... + batch_size - 1 of the global batch of `step`.

        Args:
            step: number of the batch, from 0.
            batch_size: B, examples of this rank.
            samples: T, length of an example at 48 kHz.
            seed: of the run.
            share: which part of the global batch; None: it has one.
            weights: share of each kind; None takes the config's.

        Returns:
            B examples of T samples.
        """
        shares = _cumulative(self._shares(self.config.weights if weights is None else weights))
        first = 0 if share is None else share.rank * batch_size
        return self._collate(
            [self._example(_generator(seed, step, first + i), samples, shares) for i in range(batch_size)], self.train
        )

    def validation_batches(self, samples: int, count: int, batch_size: int = 16) -> list[Batch]:
        """`count` fixed examples of T `samples` of the validation set, not augmented: every kind in turn, fixed places.

        The batches are the same at every call; the last may be smaller.
        """
        if not self.validation:
            raise DataError("the corpus has no validation recordings; raise validation_share or add files")
        by_kind: dict[str, list[int]] = {}
        for i, recording in enumerate(self.validation):
            by_kind.setdefault(recording.clip.kind, []).append(i)
        groups = list(by_kind.values())
        examples = []
        for n in range(count):
            group = groups[n % len(groups)]
            visit, place = divmod(n // len(groups), len(group))
            examples.append(self._fixed_example(group[place], visit, samples))
        return [
            self._collate(examples[i : i + batch_size], self.validation) for i in range(0, len(examples), batch_size)
        ]

    def _example(self, rng: np.random.Generator, samples: int, shares: np.ndarray) -> _Example:
        example = self._crop(rng, samples, shares)
        kinds, kind = self.config.brightened, self.train[example.clip].clip.kind
        config = self.config.augment if not kinds or kind in kinds else self._unbrightened
        waves, bandwidth_hz = augment.flip_polarity(example.waves, config, rng), example.bandwidth_hz
        if rng.random() < config.mix:
            other = self._crop(rng, samples, shares)
            waves, bandwidth_hz = augment.mix(waves, other.waves, config, rng), min(bandwidth_hz, other.bandwidth_hz)
        waves = augment.cut_hits(augment.equalise(waves, config, rng), config, rng)
        if config.bursts and len(waves) == 1 and rng.random() < config.bursts:
            waves, bandwidth_hz = augment.draw_bursts(samples, config, rng), AUDIO.sample_rate / 2
        waves = augment.set_level(waves, config, rng)
        return replace(example, waves=waves, bandwidth_hz=bandwidth_hz)

    def _crop(self, rng: np.random.Generator, samples: int, shares: np.ndarray) -> _Example:
        """A piece of a random clip of a random kind, drawn again while it is nearly silent."""
        kind = self.kinds[_draw(shares, rng)]
        for _ in range(1 + self.config.redraws):
            index = self._members[kind][_draw(self._cumulative[kind], rng)]
            example = self._cut(rng, index, samples)
            if augment.rms(example.waves[0]) >= 10 ** (self.config.silence_db / 20):
                break
        return example

    def _cut(self, rng: np.random.Generator, index: int, samples: int) -> _Example:
        """`samples` of a clip from a random place on; a shorter clip lies at a random place in silence."""
        recording = self.train[index]
        factor = augment.draw_speed(self.config.augment, rng)
        needed = round(samples * factor)
        room = len(recording.samples) - needed
        offset = int(rng.integers(0, abs(room) + 1)) * (1 if room >= 0 else -1)
        waves = augment.change_speed(recording.waves(max(offset, 0), max(offset, 0) + needed), factor)
        bandwidth_hz = augment.changed_bandwidth_hz(recording.bandwidth_hz, factor)
        return _Example(_place(waves, round(max(-offset, 0) / factor), samples), bandwidth_hz, index, offset)

    def _fixed_example(self, index: int, visit: int, samples: int) -> _Example:
        """Visit v looks from the v-th point of a golden-ratio sequence on for a place that is not silent."""
        recording = self.validation[index]
        room = max(len(recording.samples) - samples, 0)
        for attempt in range(8):
            offset = int(room * ((0.5 + 0.6180339887 * (visit + attempt)) % 1.0))
            waves = recording.waves(offset, offset + samples)
            if augment.rms(waves[0]) >= 10 ** (self.config.silence_db / 20):
                break
        return _Example(_place(waves, 0, samples), recording.bandwidth_hz, index, offset)

    def _collate(self, examples: list[_Example], recordings: Sequence[Recording]) -> Batch:
        waves = torch.from_numpy(np.stack([e.waves for e in examples]))
        return Batch(
            wide=waves[:, :1].contiguous(),
            low=waves[:, 1:].contiguous() if waves.shape[1] == 2 else None,
            bandwidth_hz=torch.tensor([e.bandwidth_hz for e in examples], dtype=torch.float32),
            kinds=[recordings[e.clip].clip.kind for e in examples],
            clip=torch.tensor([e.clip for e in examples]),
            offset=torch.tensor([e.offset for e in examples]),
        )

    def _limited_durations_s(self, recordings: list[Recording]) -> np.ndarray:
        """The duration of each, held between the limits; segments of one file share what the whole file would get."""
        seconds = np.array([r.seconds for r in recordings])
        _, file = np.unique([str(r.clip.path) for r in recordings], return_inverse=True)
        whole_s = np.bincount(file, seconds)[file]
        return seconds / whole_s * np.clip(whole_s, self.config.clip_floor_s, self.config.clip_cap_s)

    def _shares(self, weights: Mapping[str, float]) -> np.ndarray:
        if not weights:
            return np.array([self._durations_s[kind].sum() ** 0.5 for kind in self.kinds])
        if set(weights) != set(self.kinds) or min(weights.values()) < 0 or sum(weights.values()) <= 0:
            raise DataError(f"weights must give each kind a share >= 0: kinds {self.kinds}, weights {dict(weights)}")
        return np.array([weights[kind] for kind in self.kinds])


def _generator(seed: int, step: int, example: int) -> np.random.Generator:
    """Philox with key (seed) and counter (step, example): 2**128 numbers that no other example shares."""
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, example, step]))


def _cumulative(shares: np.ndarray) -> np.ndarray:
    return np.cumsum(shares) / np.sum(shares)


def _draw(cumulative: np.ndarray, rng: np.random.Generator) -> int:
    return min(int(np.searchsorted(cumulative, rng.random(), side="right")), len(cumulative) - 1)


def _place(waves: np.ndarray, start: int, samples: int) -> np.ndarray:
    """(C, T) from `start` on in `samples` samples of silence; what does not fit is cut off."""
    placed = np.zeros((len(waves), samples), dtype=np.float32)
    fits = waves[:, : samples - start]
    placed[:, start : start + fits.shape[1]] = fits
    return placed
