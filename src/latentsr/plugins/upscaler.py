"""Arrays in, arrays at 48 kHz out: what every wrapper of a generator does with what it made."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Unpack, cast

import torch
from torch import Tensor

from latentsr.audio import output_length
from latentsr.config import AUDIO
from latentsr.options import Choices, Options
from latentsr.plugins.samples import Batch, Samples, checked_layout, checked_rate, layout_of, repaired
from latentsr.restoring.flow import Restores
from latentsr.restoring.model import Model
from latentsr.restoring.output import RestorationOutput

logger = logging.getLogger(__name__)

RINGING_S = 0.05  # of a filter after the last sound: what is silent from there on is padding
Progress = Callable[[float, float], None]  # (seconds done, seconds in all)


class Upscaler:
    """Restores arrays of samples to 48 kHz; called as a pedalboard plug-in is: `upscaler(samples, sample_rate)`.

    Args:
        restorer: a `latentsr.Pipeline`, a model folder or Hub id, or None: the embedded model, one for all upscalers,
            loaded when first called, on the CPU or on the CUDA device that the samples or the generator are on.
        name: who made the samples, for messages.
        choices: of every call: head, steps, guidance_scale, temperature, seed, denoise, repair, cutoff_hz,
            use_latents, amount, tilt, sibilance, ceiling_hz, no_floor, batch_size and on_nonfinite, as
            `latentsr.options.Options` has them.

    >>> import numpy as np
    >>> up = Upscaler(seed=1)
    >>> up(np.zeros((2, 16_000), np.float32), 16_000).shape
    (2, 48000)
    """

    def __init__(
        self,
        restorer: Restores | str | os.PathLike[str] | None = None,
        *,
        name: str = "the generator",
        **choices: Unpack[Choices],
    ) -> None:
        self.options = Options().but(**choices)
        self.name = name
        self._restorer = _checked_restorer(restorer)

    @property
    def output_sample_rate(self) -> int:
        """Hz of what a call returns."""
        return AUDIO.sample_rate

    def __call__(
        self, samples: Samples, sample_rate: float, *, layout: str | None = None, **choices: Unpack[Choices]
    ) -> Samples:
        """Restore (T,), (C, T) or (B, C, T) samples.

        Args:
            samples: numpy or torch. Float with full scale 1.0, or PCM in int16, int32 or uint8, full scale that of its
                type.
            sample_rate: theirs, Hz.
            layout: what the axes are: one of T, CT, TC, BT, BCT. None takes one axis for T, two for CT (where
                pedalboard guesses), three for BCT.
            choices: those of the constructor, for this call.

        Returns:
            The same axes, type and device at 48 kHz, T x 48000 / sample_rate samples rounded half up.

        Raises:
            AudioError: samples are NaN or infinite, or there are none.
            TypeError: these are no samples.
            ValueError: shape, rate or option are out of range.
        """
        layout = layout_of(_checked_samples(samples), checked_layout(layout), two_axes="CT")
        return self.restore(samples, sample_rate, layout, **choices)

    def restore(
        self,
        samples: Samples,
        sample_rate: float,
        layout: str,
        *,
        lengths: Sequence[int] | None = None,
        device: torch.device | str | None = None,
        progress: Progress | None = None,
        **choices: Unpack[Choices],
    ) -> Samples:
        """Restore samples whose axes are known, and of which the items may be padded.

        Args:
            samples: with the axes that `layout` says.
            sample_rate: theirs, Hz.
            layout: one of T, CT, TC, BT, BCT.
            lengths: samples of each item; what follows is padding and comes back as silence.
            device: of the generator, for the embedded model; None: that of the samples.
            progress: called with (seconds done, seconds in all) of the batch.
            choices: as in a call.
        """
        chosen, rate = self.options.but(**choices), checked_rate(sample_rate)
        batch = Batch.of(samples, layout)
        whole = batch.items.shape[-1]
        ends = [whole] * len(batch.items) if lengths is None else [min(int(end), whole) for end in lengths]
        restorer = self._model(_device(samples, device), chosen.head)
        made = batch.silence(output_length(whole, rate, AUDIO.sample_rate))
        for item, end in enumerate(ends):
            wave = repaired(batch.wave(item, end), self.name, chosen.on_nonfinite)
            wave = wave[:, : _end_of_sound(wave, rate)]
            if not wave.numel():
                continue
            told = None if progress is None else _share_of(progress, item, len(ends))
            out = _restored(restorer, wave, rate, chosen, told)
            restored = torch.from_numpy(out.audio)
            as_it_was = not chosen.denoise and not any(out.holes_hz)
            if rate == AUDIO.sample_rate and as_it_was and out.cutoff_hz >= AUDIO.sample_rate / 2:
                made[item] = batch.items[item]  # nothing was missing: not even the type is rounded
            else:
                made[item, :, : restored.shape[-1]] = batch.encoded(restored)
        return batch.back(made)

    def _model(self, device: str, head: str | None) -> Restores:
        if self._restorer is None:
            return _embedded(device, head)
        if isinstance(self._restorer, (str, os.PathLike)):
            self._restorer = Model(self._restorer, None if head is None else [head], device=device)
        return self._restorer

    def __repr__(self) -> str:
        return f"Upscaler({self.options.in_words()})"


@cache
def _embedded(device: str, head: str | None) -> Model:
    """The embedded model on a device: one for all upscalers, its networks loaded when their head is first asked for."""
    return Model(heads=None if head is None else [head], device=device)


def _restored(
    model: Restores, wave: Tensor, rate: int, options: Options, progress: Progress | None
) -> RestorationOutput:
    made = model(wave.numpy(), sample_rate=rate, options=options, progress=progress or _unheard)
    out = cast(RestorationOutput, made)
    logger.info("%.2f s, cutoff %.0f Hz%s", out.seconds, out.cutoff_hz, f": {out.note}" if out.note else "")
    return out


def _end_of_sound(wave: Tensor, rate: int) -> int:
    """Samples up to where nothing but zeros follows, with room for filters to ring."""
    sounding = wave.ne(0).any(dim=0).nonzero()
    return min(int(sounding[-1]) + 1 + round(RINGING_S * rate), wave.shape[-1]) if len(sounding) else 0


def _device(samples: Samples, device: torch.device | str | None) -> str:
    """Where to run the embedded model: elsewhere than on a CPU or with CUDA nobody has tried."""
    if device is None:
        device = samples.device if isinstance(samples, Tensor) else "cpu"
    return str(device) if torch.device(device).type == "cuda" else "cpu"


def _share_of(progress: Progress, item: int, items: int) -> Progress:
    def tell(done_s: float, total_s: float) -> None:
        progress(item * total_s + done_s, items * total_s)

    return tell


def _unheard(done_s: float, total_s: float) -> None:
    """No bar in the middle of a generator's."""


def _checked_samples(samples: Any) -> Samples:
    import numpy as np

    if not isinstance(samples, (np.ndarray, Tensor)):
        raise TypeError(f"samples are a numpy array or a torch tensor, not {type(samples).__name__}")
    return samples


def _checked_restorer(restorer: Any) -> Any:
    if restorer is not None and not isinstance(restorer, (Restores, str, os.PathLike)):
        raise TypeError(
            f"restorer is a latentsr.Pipeline, a model folder or a Hub id, not {type(restorer).__name__}; "
            "options are given by name (head=, seed=)"
        )
    return restorer
