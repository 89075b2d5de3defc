"""Post-processors: what other generators make comes at 48 kHz.

>>> from latentsr.plugins import upscale
>>> speak = upscale(pipeline("text-to-speech", model="facebook/mms-tts-eng"))  # doctest: +SKIP
>>> speak("Hello.")["sampling_rate"]  # doctest: +SKIP
48000

`upscale` wraps a generator, `Upscaler` works on arrays, `comfyui` holds the nodes. Importing this package imports
neither torch, transformers nor diffusers.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latentsr.plugins.generators import upscale
    from latentsr.plugins.upscaler import Upscaler
    from latentsr.plugins.wrapper import Upscaled

_HOMES = {"upscale": "generators", "Upscaler": "upscaler", "Upscaled": "wrapper"}
__all__ = ["Upscaled", "Upscaler", "upscale"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"latentsr.plugins.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'latentsr.plugins' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
