"""A recording that comes in blocks: listen first, then restore as it comes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from latentsr.config import AUDIO
from latentsr.heads import Head
from latentsr.signal.image import Image
from latentsr.signal.lines import find_lines
from latentsr.source import estimate, floor_of, image_of, peak_of
from latentsr.windowed import Diffusion, Restorer, Setting


def stream(
    blocks: Iterator[Tensor],
    head: Head,
    diffusion: Diffusion | None,
    cutoff_hz: float | None,
    peak: float | None,
    seed: int,
    denoise: bool,
    steps: int | None,
    image: Image | None = None,
) -> Iterator[np.ndarray]:
    """Blocks (C, n) at 48 kHz in, restored blocks out.

    Cutoff, peak and image, unless given, are those of the first blocks, as many as the restorer waits for anyway; so
    are the steady lines and hiss that `denoise` takes out.
    """
    latency = Restorer(head, diffusion, Setting(0.0, 0.0)).latency_samples
    first: list[Tensor] = []
    for block in blocks:
        first.append(block)
        if sum(b.shape[-1] for b in first) >= latency:
            break
    if not first:
        return
    heard = torch.cat(first, dim=-1)
    lines_hz = find_lines(heard, AUDIO.sample_rate) if denoise else ()
    floor = floor_of(heard) if denoise else 0.0
    end_hz = estimate(heard, floor, lines_hz) if cutoff_hz is None else cutoff_hz
    if end_hz >= AUDIO.sample_rate / 2 and not denoise:
        yield heard.numpy()
        for block in blocks:
            yield block.numpy()
        return
    image = image_of(heard, end_hz) if image is None else image
    setting = Setting(end_hz, peak_of(heard) if peak is None else peak, seed, denoise, steps, lines_hz, floor, image)
    restorer = Restorer(head, diffusion, setting)
    yield from _run(restorer, heard)
    for block in blocks:
        yield from _run(restorer, block)
    yield from _run(restorer, None)


def _run(restorer: Restorer, block: Tensor | None) -> list[np.ndarray]:
    """Push a block, or finish. Inference mode must not stay on while a generator waits for its caller."""
    with torch.inference_mode():
        pieces = restorer.finish() if block is None else restorer.push(block)
        return [piece.numpy() for piece in pieces]
