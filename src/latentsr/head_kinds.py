"""What can make the wide-band wave, by name: a head is one entry here and one file in `heads/`. Nothing is imported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:  # they import torch
    from latentsr.heads.base import Head

DEFAULT_HEAD = "vocoder"  # of a model that names none
DIFFUSION = ("vae", "unet", "scheduler")  # the components that make latents


@dataclass(frozen=True)
class HeadKind:
    """What is known of a head before anything of it is imported.

    Attributes:
        place: module and class.
        components: the networks of a model that it is built from, by name.
        needs_latents: whether it decodes the diffusion's latents always; else it can do without.
        takes_latents: whether it can decode them at all.
        takes_steps: whether a number of steps means something to it: to the diffusion that its latents come from, or
            to itself where it can do without them.
        steps: the fewest and the most that it takes.
        draws: whether another seed makes another band.
        can_denoise: whether it knows the clean band below the cutoff too, by which `denoise` filters.
        can_repair: whether what it makes above any cutoff may fill a codec's holes.
        live: whether it restores a recording as it comes, without windows: see `latentsr.Live`.
    """

    place: str
    components: tuple[str, ...]
    needs_latents: bool = False
    takes_latents: bool = True
    takes_steps: bool = False
    steps: tuple[int, int] = (1, 1000)
    draws: bool = True
    can_denoise: bool = True
    can_repair: bool = False
    live: bool = False

    def load(self) -> Callable[..., Head]:
        """The class itself: it takes its components by name, and `device`."""
        module, name = self.place.split(":")
        return cast("Callable[..., Head]", getattr(import_module(module), name))

    def needs(self, use_latents: bool = False) -> tuple[str, ...]:
        """The components of a model that a restoration needs."""
        return self.components + (DIFFUSION if self.needs_latents or use_latents else ())


HEADS = {
    "vocoder": HeadKind("latentsr.heads.vocoder:VocoderHead", ("vae", "vocoder"), needs_latents=True, takes_steps=True),
    "mamba-gan": HeadKind("latentsr.heads.mamba_gan:MambaGanHead", ("mamba_gan",), can_repair=True),
    # In one step from pure noise comes the mean of all waves, which is silence.
    "diffwave-mamba": HeadKind(
        "latentsr.heads.diffwave_mamba:DiffWaveMambaHead", ("diffwave_mamba",),
        takes_steps=True, steps=(2, 1000), can_denoise=False,
    ),
    "live": HeadKind("latentsr.heads.live:LiveHead", ("live",), takes_latents=False, can_denoise=False, live=True),
    # Two papers' own systems, for folders that were converted or trained: the embedded model has neither.
    "aeromamba": HeadKind(
        "latentsr.heads.aeromamba:AeroMambaHead", ("aeromamba",), takes_latents=False, draws=False, can_denoise=False
    ),
    "mambawave": HeadKind(
        "latentsr.heads.mambawave:MambaWaveHead", ("mambawave",),
        takes_latents=False, takes_steps=True, can_denoise=False,
    ),
}  # fmt: skip
