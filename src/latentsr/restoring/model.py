"""A model folder's networks by name, each loaded when it is first asked for; nothing of diffusers unless it must be."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from latentsr.head_kinds import DEFAULT_HEAD
from latentsr.model_folder import loading
from latentsr.options import Options
from latentsr.restoring.flow import Restores

Place = str | os.PathLike[str] | None  # of a model: a folder, a Hub id, or None: the embedded default


@dataclass(frozen=True)
class ModelValues:
    """What a model says of itself beside its networks, in its index."""

    default_steps: int = 4
    default_guidance_scale: float = 1.0
    default_temperature: float = 1.0
    unconditional_latent: float = 0.0
    default_head: str = DEFAULT_HEAD

    @classmethod
    def of(cls, index: dict[str, Any]) -> ModelValues:
        """Those of a model_index.json."""
        return cls(**{each.name: index[each.name] for each in fields(cls) if each.name in index})


class Model(Restores):
    """Restores recordings as `Pipeline` does, without being a pipeline of diffusers.

    Args:
        place: None: the embedded default; a folder in diffusers' layout with a model_index.json, or a Hub id.
        heads: whose networks to load now; None: the default head's. Others are loaded when first called.
        vocoder: take the vocoder of another model: "embedded", a folder, or a Hub id.
        dtype: of all networks, whatever the files hold.
        device: where they run.
        local_files_only: take a Hub id from the cache, without network.

    Raises:
        ModelError: the folder is incomplete, damaged, or not a model.
    """

    def __init__(
        self,
        place: Place = None,
        heads: Sequence[str] | None = None,
        *,
        vocoder: Place = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        local_files_only: bool = False,
    ) -> None:
        folder = find(place, local_files_only)
        self._index = loading.read_index(folder)
        self.config = ModelValues.of(self._index)
        self.default_head = default_head(self.config.default_head, heads)
        self._folder, self._dtype, self.execution_device = folder, dtype, torch.device(device)
        self._vocoder = None if vocoder is None else find(embedded_or(vocoder), local_files_only)
        self._loaded: dict[str, Any] = {}
        for head in [self.default_head] if heads is None else heads:
            self.load(Options(head=head).kind.needs())

    def load(self, names: Sequence[str]) -> dict[str, Any]:
        for name in names:
            if name not in self._loaded:
                other = self._vocoder if name == "vocoder" else None
                folder, index = (self._folder, self._index) if other is None else (other, loading.read_index(other))
                component = loading.prepared(name, loading.load_component(folder, name, index, self._dtype))
                self._loaded[name] = (
                    component.to(self.execution_device) if isinstance(component, nn.Module) else component
                )
        return {name: self._loaded[name] for name in names}

    def rest(self) -> None:
        """Networks stay where they are."""


def find(place: Place, local_files_only: bool = False) -> Path:
    """The folder of a model; AudioSR's own on the Hub are converted once and kept."""
    if str(place) in loading.PUBLISHED and not Path(str(place)).is_dir():
        from latentsr.convert import audiosr_hub  # it imports diffusers

        return audiosr_hub.fetch(str(place), local_files_only)
    return loading.find(place, local_files_only=local_files_only)


def embedded_or(place: Place) -> Place:
    """The word "embedded" means the embedded model."""
    return None if place == "embedded" else place


def default_head(own: str, heads: Sequence[str] | None) -> str:
    """The head of calls that name none: the model's own, or where `heads` restricts, the first of those."""
    return own if heads is None or own in heads or not heads else heads[0]


def default_head_of(place: Place) -> str:
    """The head that a model takes unless told otherwise, known without loading it or fetching an AudioSR."""
    if str(place) in loading.PUBLISHED and not Path(str(place)).is_dir():
        return DEFAULT_HEAD
    return ModelValues.of(loading.read_index(find(place))).default_head
