"""How the text-to-audio models and pipelines of transformers hand out what they make.

A model is an entry in `MODELS`. Nothing is imported: the classes are known by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from torch import Tensor

from latentsr.audio import output_length
from latentsr.config import AUDIO
from latentsr.plugins.rates import rate_of
from latentsr.plugins.wrapper import Adapter, Call, Upscaled


def musicgen(output: Any, call: Call) -> Any:
    """`generate`: a tensor (B, C, T), or an output with it as `sequences`."""
    if isinstance(output, Tensor):
        return call.restored(output)
    return _with(output, sequences=call.restored(output.sequences))


def bark(output: Any, call: Call) -> Any:
    """`generate`: a tensor (B, T), with `return_output_lengths` and the lengths."""
    if isinstance(output, tuple):
        return _with_lengths(output, call)
    return call.restored(output, "BT")


def vits(output: Any, call: Call) -> Any:
    """`forward`: waveform (B, T) and sequence_lengths (B,), as fields or first in a tuple."""
    if isinstance(output, tuple):
        return _with_lengths(output, call)
    waveform, lengths = _restored_with_lengths(output.waveform, output.sequence_lengths, call)
    return _with(output, waveform=waveform, sequence_lengths=lengths)


def speecht5(output: Any, call: Call) -> Any:
    """`generate`, `generate_speech`: (T,) or (B, T) of the vocoder in the call, with what else was asked for."""
    vocoder = call.arguments.get("vocoder")
    if vocoder is None:
        raise ValueError(
            "SpeechT5 makes a spectrogram unless the call names a vocoder: pass vocoder=SpeechT5HifiGan(...)"
        )
    if isinstance(vocoder, Upscaled):
        return output  # it is at 48 kHz already
    rate = rate_of(vocoder)
    if not isinstance(output, tuple):
        return call.restored(output, "BT", rate=rate)
    if call.arguments.get("return_output_lengths"):
        return _with_lengths(output, call, rate)
    return (call.restored(output[0], "BT", rate=rate), *output[1:])


def fastspeech2(output: Any, call: Call) -> Any:
    """`forward`: waveform (B, T) as a field or last in a tuple, as long as the durations of the phonemes say."""
    if isinstance(output, tuple):  # ..., durations, pitch, energy, waveform
        lengths = _fastspeech2_lengths(output[-1], output[-4], call)
        return (*output[:-1], call.restored(output[-1], "BT", lengths=lengths))
    lengths = _fastspeech2_lengths(output.waveform, output.duration_outputs, call)
    return _with(output, waveform=call.restored(output.waveform, "BT", lengths=lengths))


def vocoder(output: Any, call: Call) -> Any:
    """A spectrogram's wave: (T,) or (B, T)."""
    return call.restored(output, "BT")


def text_to_audio(output: Any, call: Call) -> Any:
    """A pipeline's {"audio", "sampling_rate"}, a list of them, or an iterator that makes them one after the other."""
    if isinstance(output, dict):
        return _restored_entry(output, call)
    if isinstance(output, list):
        return [text_to_audio(one, call) for one in output]
    return _each(output, call)


MODELS: dict[str, Adapter] = {
    "MusicgenForConditionalGeneration": Adapter(("generate",), musicgen),
    "BarkModel": Adapter(("generate",), bark),
    "VitsModel": Adapter(("__call__", "forward"), vits),
    "SpeechT5ForTextToSpeech": Adapter(("generate", "generate_speech"), speecht5, needs_rate=False),
    "FastSpeech2ConformerWithHifiGan": Adapter(("__call__", "forward"), fastspeech2),
    "SpeechT5HifiGan": Adapter(("__call__", "forward"), vocoder),
    "FastSpeech2ConformerHifiGan": Adapter(("__call__", "forward"), vocoder),
}
PIPELINE = Adapter(("__call__",), text_to_audio, needs_rate=False)


def _with(output: Any, **changed: Any) -> Any:
    """An output of the same class, with other values in some fields."""
    return type(output)(**{**output, **changed})


def _with_lengths(output: tuple[Any, ...], call: Call, rate: int | None = None) -> tuple[Any, ...]:
    """(waveform, lengths, ...), restored and scaled."""
    return (*_restored_with_lengths(output[0], output[1], call, rate), *output[2:])


def _restored_with_lengths(waveform: Tensor, lengths: Any, call: Call, rate: int | None = None) -> tuple[Any, Any]:
    """A padded batch (B, T) and the lengths of its items, a tensor or a list."""
    told = lengths.tolist() if isinstance(lengths, Tensor) else list(lengths)
    restored = call.restored(waveform, "BT", rate=rate, lengths=told)
    hz = call.sample_rate or rate
    assert hz is not None, "without a rate nothing was restored"
    scaled = [output_length(int(length), hz, AUDIO.sample_rate) for length in told]
    return restored, lengths.new_tensor(scaled) if isinstance(lengths, Tensor) else scaled


def _fastspeech2_lengths(waveform: Tensor, durations: Tensor, call: Call) -> list[int] | None:
    """Samples of each item; None where the durations are not those that were played (they were given, say)."""
    speed = float(call.generator.config.model_config.speaking_speed)
    frames = durations if speed == 1 else (durations.float() * speed).round()
    frames = frames.long().sum(dim=1)
    per_frame = int(np.prod(call.generator.config.vocoder_config.upsample_rates))
    played = int(frames.max()) * per_frame
    return (frames * per_frame).tolist() if played == waveform.shape[-1] else None


def _restored_entry(entry: dict[str, Any], call: Call) -> dict[str, Any]:
    audio, rate = entry["audio"], entry["sampling_rate"]
    several = _two_axes(call.generator.model)
    restored: Callable[[Any], Any] = lambda one: call.restored(one, several, rate=rate)  # noqa: E731
    audio = [restored(one) for one in audio] if isinstance(audio, list) else restored(audio)
    return {**entry, "audio": audio, "sampling_rate": AUDIO.sample_rate}


def _two_axes(model: Any) -> str | None:
    """The pipeline squeezes what its model makes: what two axes that remain are."""
    if type(model).__name__ not in MODELS:
        return None
    channels = getattr(getattr(model.config, "decoder", None), "audio_channels", 1)
    return "CT" if channels > 1 else "BT"


def _each(outputs: Any, call: Call) -> Iterator[Any]:
    for output in outputs:
        yield text_to_audio(output, call)
