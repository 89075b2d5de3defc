"""What a head is given and what it gives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class LowBand:
    """One window of a recording, and what a head may want to know of it.

    Attributes:
        wave: (B, 1, T) at 48 kHz, fp32, on the head's device; T is a multiple of the hop.
        cutoff_hz: (B,) where it ends.
        latents: (B, Z, l, m) that the diffusion made of it, in the head's dtype; None: there are none.
        seed: of what the head draws. Neighbouring windows draw the same, by their place in the recording:
        first_frame: the mel frame at which the window begins.
        noise_mix: (B, K) how alike the noises of the waves are (see `signal.correlation`); None: all get the same.
        steps: as asked for, of a head that samples the wave itself; None: its own number.
        keep_known: put what is known of the band below the cutoff in the place of what was made there.
        ignored: of so many frames at the start and at the end the wave is not looked at, and may be anything.
    """

    wave: Tensor
    cutoff_hz: Tensor
    latents: Tensor | None = None
    seed: int = 0
    first_frame: int = 0
    noise_mix: Tensor | None = None
    steps: int | None = None
    keep_known: bool = True
    ignored: tuple[int, int] = (0, 0)

    def check_latents(self, latents: Tensor, hop_length: int, frames_each: int) -> None:
        """Raise `ValueError` unless there is a latent for every so many mel frames."""
        frames = self.wave.shape[-1] // hop_length
        if latents.shape[2] * frames_each != frames:
            raise ValueError(
                f"{latents.shape[2]} latent frames are not {frames} mel frames / {frames_each}; "
                "these latents are of another VAE"
            )

    def split(self, rows: int) -> Iterable[LowBand]:
        """The same in parts of at most so many rows; the mix of noises is the whole's."""
        latents = [None] * len(self.wave) if self.latents is None else self.latents.split(rows)
        for parts in zip(self.wave.split(rows), self.cutoff_hz.split(rows), latents, strict=False):
            yield replace(self, wave=parts[0], cutoff_hz=parts[1], latents=parts[2])


class Head(ABC):
    """Makes the wide-band wave of a window, (B, 1, T) of `LowBand.wave` (B, 1, T).

    It is built of the networks that its `HeadKind` names and of `device`, where it runs: not where its networks lie
    while they are offloaded. What it computes near the ends of a window is thrown away, as far as `context_frames` mel
    frames.
    """

    context_frames: int
    device: torch.device
    dtype: torch.dtype

    @abstractmethod
    def decode(self, low: LowBand) -> tuple[Tensor, Tensor | None]:
        """The wave (B, 1, T), and the clean log-mel (B, L, M) where the head knows it below the cutoff too."""

    def __call__(self, wave: Tensor, cutoff_hz: Tensor, latents: Tensor | None = None, **facts: Any) -> Tensor:
        """The wave alone, of the fields of a `LowBand`."""
        return self.decode(LowBand(wave, cutoff_hz, latents, **facts))[0]
