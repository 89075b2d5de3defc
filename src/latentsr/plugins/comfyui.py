"""The ComfyUI node: AUDIO in, AUDIO at 48 kHz out. `examples/comfyui/latentsr_nodes.py` is what goes into custom_nodes.

ComfyUI imports this when it starts and asks for INPUT_TYPES: what is slow to import waits for the first run.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from latentsr.plugins.upscaler import Progress, Upscaler

HEADS = ("mamba-gan", "live", "diffwave-mamba", "vocoder")  # the fastest first: ComfyUI takes it for the default
TICKS = 1000  # of the progress bar


class LatentsrRestore:
    """Raise audio of any rate to 48 kHz, with the band above its cutoff made anew and the band below as it was."""

    CATEGORY: ClassVar[str] = "audio"
    DESCRIPTION: ClassVar[str] = (
        "Raises audio to 48 kHz: the missing top is made anew, what was there stays. "
        "Behind the generator or Load Audio, before Save Audio."
    )
    FUNCTION: ClassVar[str] = "restore"
    RETURN_TYPES: ClassVar[tuple[str, ...]] = ("AUDIO",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, tuple[Any, ...]]]:  # noqa: N802, the name that ComfyUI calls
        return {
            "required": {
                "audio": ("AUDIO",),
                "head": (list(HEADS), {"tooltip": "which network makes the top; vocoder is AudioSR's way"}),
                "seed": ("INT", {"default": 0, "min": 0, "max": 2**64 - 1, "control_after_generate": True}),
                "steps": ("INT", {"default": 0, "min": 0, "max": 1000, "tooltip": "of diffusion; 0: the model's own"}),
                "denoise": ("BOOLEAN", {"default": False, "tooltip": "takes hiss and hum out of what was there, too"}),
                "cutoff_hz": (
                    "FLOAT",
                    {
                        "default": 0.0, "min": 0.0, "max": 24_000.0, "step": 100.0,
                        "tooltip": "where what is there ends; 0: estimated",
                    },
                ),
            }
        }  # fmt: skip

    def restore(
        self, audio: dict[str, Any] | None, head: str, seed: int, steps: int, denoise: bool, cutoff_hz: float
    ) -> tuple[dict[str, Any]]:
        """Restore an AUDIO, {"waveform": (B, C, T) float, "sample_rate": Hz}.

        Args:
            audio: what is connected; None where that has no sound, as a silent video.
            head: one of `HEADS`.
            seed: same seed, same result.
            steps: of the diffusion; 0 takes the model's own.
            denoise: filter the band that was there, too.
            cutoff_hz: where that ends; 0 estimates it.

        Raises:
            ValueError: there is no audio.
        """
        if audio is None:
            raise ValueError("there is no audio: what is connected has no sound")
        waveform = _upscaler().restore(
            audio["waveform"], audio["sample_rate"], "BCT", device=_device(), progress=_progress(),
            head=head, seed=seed, steps=steps or None, denoise=denoise, cutoff_hz=cutoff_hz or None,
        )  # fmt: skip
        return ({**audio, "waveform": waveform, "sample_rate": _upscaler().output_sample_rate},)


NODE_CLASS_MAPPINGS = {"LatentsrRestore": LatentsrRestore}
NODE_DISPLAY_NAME_MAPPINGS = {"LatentsrRestore": "Restore to 48 kHz (latentsr)"}


@cache
def _upscaler() -> Upscaler:
    from latentsr.plugins.upscaler import Upscaler

    return Upscaler(name="what is connected")


def _device() -> str | None:
    """ComfyUI's device, where this runs in ComfyUI, which has imported its own modules long before a node runs."""
    management = sys.modules.get("comfy.model_management")
    return None if management is None else str(management.get_torch_device())


def _progress() -> Progress | None:
    """ComfyUI's progress bar, which also ends the run when the user cancels it."""
    utils = sys.modules.get("comfy.utils")
    if utils is None:
        return None
    bar = utils.ProgressBar(TICKS)

    def tell(done_s: float, total_s: float) -> None:
        bar.update_absolute(round(TICKS * done_s / total_s) if total_s else TICKS, TICKS)

    return tell
