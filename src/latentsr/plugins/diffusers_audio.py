"""How the audio pipelines of diffusers hand out what they make: `audios` of an output, or a tuple."""

from __future__ import annotations

from typing import Any

from latentsr.plugins.wrapper import Adapter, Call


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
