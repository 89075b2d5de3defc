"""`upscale`: which kind of generator this is, and the wrapper for it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from latentsr.plugins import diffusers_audio, functions, transformers_audio
from latentsr.plugins.rates import rate_of
from latentsr.plugins.samples import checked_layout, checked_rate
from latentsr.plugins.upscaler import Upscaler
from latentsr.plugins.wrapper import Adapter, Upscaled

if TYPE_CHECKING:
    from latentsr.pipeline import Pipeline


def upscale(
    generator: Any,
    restorer: Pipeline | str | os.PathLike[str] | None = None,
    *,
    sample_rate: float | None = None,
    layout: str | None = None,
    **options: Any,
) -> Upscaled:
    """Wrap a generator so that its audio comes at 48 kHz, in the container, type and shape that it has anyway.

    Known are transformers' text-to-audio pipeline, MusicGen, Bark, VITS, SpeechT5, FastSpeech2Conformer and their
    vocoders, diffusers' audio pipelines (AudioLDM, AudioLDM 2, Stable Audio, ...), and any torch module or function
    that returns samples, a list of them, (samples, rate), or a mapping with "audio" and "sampling_rate".

    Args:
        generator: the pipeline, model, module or function.
        restorer: as for `Upscaler`: a `latentsr.Pipeline`, a model folder, a Hub id; None: the embedded model.
        sample_rate: Hz of what the generator makes; None: its configs, or its output, tell. It holds against them.
        layout: what the axes of samples are where that is not plain: one of T, CT, TC, BT, BCT.
        options: head, seed, steps, denoise, cutoff_hz, ..., as `latentsr.options.Options` has them.
            A call overrides them by `restore={"seed": 3}`.

    Raises:
        TypeError: this makes no audio.
        ValueError: its rate is not known, or an option is out of range.

    >>> import numpy as np
    >>> beep = upscale(lambda seconds: np.zeros(int(16_000 * seconds), np.float32), sample_rate=16_000)
    >>> beep(0.5).shape
    (24000,)
    """
    name = _name(generator)
    adapter = _adapter(generator, name)
    rate = rate_of(generator) if sample_rate is None else checked_rate(sample_rate)
    if rate is None and adapter.needs_rate:
        raise ValueError(f"the configs of {name} do not say its sampling rate; give it: sample_rate=22_050, say")
    return Upscaled(generator, adapter, Upscaler(restorer, name=name, **options), rate, checked_layout(layout))


def _adapter(generator: Any, name: str) -> Adapter:
    if isinstance(generator, Upscaled):
        raise TypeError(f"{name} is upscaled already")
    if _is(generator, "latentsr", "Components"):
        raise TypeError("this is the restorer; upscale(generator, restorer) takes it second")
    if isinstance(getattr(generator, "vocoder", None), Upscaled):
        raise TypeError(f"the vocoder of {name} is upscaled already, and its config still says its own rate; unwrap it")
    if _is(generator, "transformers", "TextToAudioPipeline"):
        return transformers_audio.PIPELINE
    if _is(generator, "diffusers", "DiffusionPipeline"):
        return diffusers_audio.PIPELINE
    for model, adapter in transformers_audio.MODELS.items():
        if _is(generator, "transformers", model):
            return adapter
    if _is(generator, "transformers", "PreTrainedModel") or _is(generator, "transformers", "Pipeline"):
        raise TypeError(
            f"{name} is not known to make audio; if it does, wrap a function that returns its samples: "
            "upscale(lambda **inputs: model.generate(**inputs).audio, sample_rate=24_000)"
        )
    if not callable(generator):
        raise TypeError(f"{name} makes no audio: pass a pipeline, a model, a torch module or a function")
    return functions.FUNCTION


def _is(generator: Any, package: str, name: str) -> bool:
    """Whether this is an instance of a class, of which nothing is imported here."""
    return any(kind.__name__ == name and kind.__module__.split(".")[0] == package for kind in type(generator).__mro__)


def _name(generator: Any) -> str:
    if isinstance(generator, Upscaled):
        return _name(generator.__wrapped__)
    return getattr(generator, "__name__", None) or type(generator).__name__
