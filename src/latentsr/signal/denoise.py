"""`denoise`: the known band filtered by the gain that the model's clean mel implies; phase and detail survive.

The gain lies on the frames of the mel itself, so that what the network says of a frame is done to that frame. Steady
lines (`signal/lines.py`) and a steady floor (`signal/floor.py`) are taken out before: a network need not guess those.
"""

from __future__ import annotations

from torch import Tensor

from latentsr.signal.mel import MelSpectrogram

LOWEST_GAIN = 0.003  # -50 dB


def mel_gain(clean: Tensor, noisy: Tensor) -> Tensor:
    """Amplitude gain of each band and frame, clean / noisy, at most 1. Two log-mels (B, L, M) -> (B, L, M)"""
    return (clean - noisy).clamp(max=0.0).exp().clamp(min=LOWEST_GAIN)


def filter_by_mel(noisy: Tensor, clean: Tensor, mel: MelSpectrogram) -> Tensor:
    """Bring the mel of a wave down to that of the clean recording.

    Args:
        noisy: (B, 1, T), T a multiple of the hop.
        clean: (B, T / hop, M) log-mel.
        mel: whose frames and bands they are.

    Returns:
        (B, 1, T)
    """
    spectrum = mel.complex(noisy)
    given = mel.of_magnitude(spectrum.abs())
    gain = mel.gain_of_bins(mel_gain(clean.to(given), given))
    return mel.inverse(spectrum * gain, noisy.shape[-1])
