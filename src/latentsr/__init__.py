"""latentsr restores sound: recordings that lost their top come back at 48 kHz, with what was there untouched.

>>> from latentsr import Pipeline
>>> pipe = Pipeline.from_pretrained()  # the embedded default: no network
>>> pipe("old.wav").save("new.wav")  # doctest: +SKIP

Importing this package imports neither torch nor diffusers; asking it for `Pipeline` does.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from latentsr._torchaudio import repair

if TYPE_CHECKING:
    from latentsr.audio import AudioError, EmptyAudio, InvalidAudio, TruncatedAudio, UnsupportedAudio
    from latentsr.bandwidth import estimate_cutoff
    from latentsr.pipeline import Pipeline, RestorationOutput
    from latentsr.restoring.live import Live

__version__ = "0.1.0"
_ERRORS = ("AudioError", "EmptyAudio", "InvalidAudio", "TruncatedAudio", "UnsupportedAudio")
__all__ = [
    "AudioError",
    "EmptyAudio",
    "InvalidAudio",
    "Live",
    "Pipeline",
    "RestorationOutput",
    "TruncatedAudio",
    "UnsupportedAudio",
    "__version__",
    "estimate_cutoff",
]

repair()  # here, since every module of ours that imports diffusers imports this one first


def __getattr__(name: str) -> Any:
    if name in ("Pipeline", "RestorationOutput"):
        return getattr(import_module("latentsr.pipeline"), name)
    if name == "Live":
        return import_module("latentsr.restoring.live").Live
    if name == "estimate_cutoff":
        return import_module("latentsr.bandwidth").estimate_cutoff
    if name in _ERRORS:
        return getattr(import_module("latentsr.errors"), name)
    raise AttributeError(f"module 'latentsr' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
