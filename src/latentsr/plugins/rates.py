"""The sampling rate of what a generator makes, as its configs tell."""

from __future__ import annotations

from typing import Any

# Where to look, in this order. AudioLDM 2 also has a feature extractor at 48 kHz, which listens and makes nothing:
# parts that do not make the wave must not be asked.
PLACES = (
    "",  # VITS, and every vocoder
    "audio_encoder",  # MusicGen: its EnCodec
    "codec_config",
    "vocoder_config",  # FastSpeech 2 with its HiFi-GAN
    "vocoder",  # AudioLDM, AudioLDM 2
    "vae",  # Stable Audio
    "unet",  # Dance Diffusion
)
NAMES = ("sampling_rate", "sample_rate")


def rate_of(generator: Any) -> int | None:
    """Hz, of the first place that says so: attributes, `config` and `generation_config`; None where none does."""
    for place in PLACES:
        for part in (getattr(generator, place, None) if place else generator, _config(generator, place)):
            for holder in (part, _config(part), getattr(part, "generation_config", None)):
                for name in NAMES:
                    if isinstance(rate := _get(holder, name), (int, float)) and not isinstance(rate, bool):
                        return int(rate)
    return None


def _config(part: Any, name: str = "") -> Any:
    config = getattr(part, "config", None)
    return _get(config, name) if name else config


def _get(holder: Any, name: str) -> Any:
    """A value of a config, whether it is an object (transformers) or a mapping (diffusers)."""
    return holder.get(name) if isinstance(holder, dict) else getattr(holder, name, None)
