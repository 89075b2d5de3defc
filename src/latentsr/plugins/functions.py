"""Any function or torch module that returns samples."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from latentsr.config import AUDIO
from latentsr.plugins.wrapper import Adapter, Call

AUDIO_KEYS = ("audio", "waveform")
RATE_KEYS = ("sampling_rate", "sample_rate")


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
