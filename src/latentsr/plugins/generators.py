"""`upscale`: which kind of generator this is, and the wrapper for it.

A function or torch module is one too. The audio pipelines of diffusers hand out `audios` of an output, or a tuple.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from latentsr.config import AUDIO
from latentsr.plugins import transformers_audio
from latentsr.plugins.rates import rate_of
from latentsr.plugins.samples import checked_layout, checked_rate
from latentsr.plugins.upscaler import Upscaler
from latentsr.plugins.wrapper import Adapter, Call, Upscaled

if TYPE_CHECKING:
    from latentsr.pipeline import Pipeline

AUDIO_KEYS = ("audio", "waveform")
RATE_KEYS = ("sampling_rate", "sample_rate")


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
        return PIPELINE
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
    return FUNCTION


def _is(generator: Any, package: str, name: str) -> bool:
    """Whether this is an instance of a class, of which nothing is imported here."""
    return any(kind.__name__ == name and kind.__module__.split(".")[0] == package for kind in type(generator).__mro__)


def _name(generator: Any) -> str:
    if isinstance(generator, Upscaled):
        return _name(generator.__wrapped__)
    return getattr(generator, "__name__", None) or type(generator).__name__


def function(output: Any, call: Call) -> Any:
    """Samples, a list of them, (samples, rate), or a mapping with both: the same comes back, at 48 kHz.

    Where the user gave a rate, that one holds.
    """
    if isinstance(output, (np.ndarray, Tensor)):
        return call.restored(output)
    if isinstance(output, tuple) and len(output) == 2 and isinstance(output[1], (int, float, np.number)):
        return call.restored(output[0], rate=float(output[1])), AUDIO.sample_rate
    if isinstance(output, (list, tuple)) and output and all(isinstance(one, (np.ndarray, Tensor)) for one in output):
        return type(output)([call.restored(one) for one in output])
    if isinstance(output, dict) and (audio_key := _first(AUDIO_KEYS, output)):
        rate_key = _first(RATE_KEYS, output)
        restored = {audio_key: call.restored(output[audio_key], rate=output[rate_key] if rate_key else None)}
        return {**output, **restored, **({rate_key: AUDIO.sample_rate} if rate_key else {})}
    raise TypeError(
        f"{call.upscaler.name} returned {_in_words(output)}; wrap a function that returns samples (numpy or torch), "
        "a list of them, or (samples, sample_rate)"
    )


FUNCTION = Adapter(("__call__", "forward"), function, needs_rate=False)


def _first(keys: tuple[str, ...], mapping: dict[str, Any]) -> str | None:
    return next((key for key in keys if key in mapping), None)


def _in_words(output: Any) -> str:
    if isinstance(output, (list, tuple)):
        return f"a {type(output).__name__} of {', '.join(type(one).__name__ for one in output[:4]) or 'nothing'}"
    return "nothing" if output is None else f"an object of type {type(output).__name__}"


def audio_pipeline(output: Any, call: Call) -> Any:
    """AudioPipelineOutput(audios) or (audios,): (B, T) or (B, C, T), numpy or torch. Latents come as they are."""
    if call.arguments.get("output_type") == "latent":
        return output
    if isinstance(output, tuple):
        return (_audios(output[0], call), *output[1:])
    if getattr(output, "audios", None) is None:
        raise TypeError(f"{call.upscaler.name} made {type(output).__name__}, which has no audios; it makes no audio")
    return type(output)(**{**output, "audios": _audios(output.audios, call)})


def _audios(audios: Any, call: Call) -> Any:
    if isinstance(audios, list):
        return [call.restored(one, "CT") for one in audios]
    return call.restored(audios, "BT")


PIPELINE = Adapter(("__call__",), audio_pipeline)
