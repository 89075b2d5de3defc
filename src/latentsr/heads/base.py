"""What a head is: it makes the wide-band wave."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor


class Head(Protocol):
    """Wide-band wave (B, 1, T) of a low-band wave (B, 1, T) at 48 kHz, T a multiple of the hop.

    `components` are the networks of the pipeline that it is built from, by name, and `device`. `latents` (B, Z, l, m)
    are what the diffusion made of the low band; a head whose `needs_latents` is false can do without. What a head
    computes near the ends of its window is thrown away, as far as `context_frames` mel frames: `ignored` says of how
    many frames (first, last) the wave is not looked at, and may be anything.

    `takes_steps` says whether a number of steps means anything to it: to the diffusion that its latents come from, or
    to itself if it can do without them; `can_denoise`, whether it knows the clean band below the cutoff too, by which
    `denoise` filters: `decode` gives its log-mel (B, L, M) beside the wave, and None where it does not. What a head
    draws comes from `generator` and from where the window begins in the recording, `first_frame`, so that neighbouring
    windows draw the same. `noise_mix` (B, K) says how alike the noises of the waves are (see `signal.image`); without
    it all get the same.

    It runs on `device`, which is not where its networks lie while they are offloaded; it expects `low` there in fp32,
    and `latents` in `dtype`.
    """

    components: ClassVar[tuple[str, ...]]
    needs_latents: ClassVar[bool]
    takes_steps: ClassVar[bool]
    can_denoise: ClassVar[bool]
    context_frames: int
    device: torch.device
    dtype: torch.dtype

    def decode(
        self,
        low: Tensor,
        cutoff_hz: Tensor,
        latents: Tensor | None = None,
        *,
        steps: int | None = None,
        generator: torch.Generator | None = None,
        keep_known: bool = True,
        ignored: tuple[int, int] = (0, 0),
        first_frame: int = 0,
        noise_mix: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]: ...

    def __call__(self, low: Tensor, cutoff_hz: Tensor, latents: Tensor | None = None, **options: Any) -> Tensor: ...
