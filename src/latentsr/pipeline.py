"""The pipeline: the flow of `restoring.flow` with networks held as diffusers holds them.

What happens to a recording stands in `restoring/flow.py`, on one page.
"""

from __future__ import annotations

import torch
from torch import Tensor

from latentsr.components import Components
from latentsr.config import AUDIO
from latentsr.diffusion.drawing import Diffusion
from latentsr.options import Options
from latentsr.restoring.chain import EDGE_SAMPLES
from latentsr.restoring.flow import Restores
from latentsr.restoring.output import RestorationOutput
from latentsr.signal.chunks import take
from latentsr.signal.level import network_gain

__all__ = ["Pipeline", "RestorationOutput"]


class Pipeline(Components, Restores):
    """Restores recordings: wide-band audio at 48 kHz, with what was there untouched.

    >>> from latentsr import Pipeline
    >>> pipe = Pipeline.from_pretrained()  # the embedded default
    >>> out = pipe(array, sample_rate=16_000)  # doctest: +SKIP
    """

    @torch.inference_mode()
    def reconstruct(self, wave: Tensor) -> Tensor:
        """Wide-band waves (B, 1, T) through VAE and vocoder alone: the ceiling of every diffusion row."""
        options = Options(head="vocoder")
        parts = self.load(options.kind.needs())
        decoder = options.kind.load()(vae=self.vae, vocoder=self.vocoder, device=self.execution_device)
        diffusion = Diffusion.of(self, parts, options)
        hop, samples = diffusion.stride * AUDIO.hop_length, wave.shape[-1]
        made = []
        for one in wave:
            gain = network_gain(float(one.abs().max()))
            whole = take(one, -EDGE_SAMPLES, -(-(samples + EDGE_SAMPLES) // hop) * hop)[:, None] * gain
            latents = diffusion.encode(whole)
            wide = decoder(whole.to(latents.device), torch.zeros(1).to(latents), latents, keep_known=False)
            made.append(wide.float().cpu()[..., EDGE_SAMPLES : EDGE_SAMPLES + samples] / gain)
        self.rest()
        return torch.cat(made)
