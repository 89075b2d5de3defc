"""`denoise`: the known band filtered by the gain that the model's clean mel implies; phase and detail survive."""

from __future__ import annotations

import torch
from torch import Tensor

from latentsr.signal.mel import MelSpectrogram

LOWEST_GAIN = 0.03  # -30 dB: deeper holes sound worse than the noise they remove
SMALL = 1e-9
HOP_SHARE = 4  # analysis hop = n_fft / 4


def filter_by_mel(noisy: Tensor, clean: Tensor, mel: MelSpectrogram) -> Tensor:
    """Filter `noisy` (B, 1, T) so that its mel comes down to that of `clean` (B, 1, T), a wave of the model.

    The gain per band and frame is min(1, clean / noisy), spread over the STFT bins by the mel filterbank's own weights.
    """
    config = mel.config
    n_fft, hop, samples = config.n_fft, config.n_fft // HOP_SHARE, noisy.shape[-1]
    spectra = [
        torch.stft(w[:, 0], n_fft, hop, window=mel.window, return_complex=True, pad_mode="constant")
        for w in (noisy, clean)
    ]
    noisy_mel, clean_mel = (mel.filterbank @ s.abs() + config.floor for s in spectra)
    gain = (clean_mel / noisy_mel).clamp(LOWEST_GAIN, 1.0)
    coverage = mel.filterbank.sum(dim=0)
    weights = mel.filterbank / coverage.clamp(min=SMALL)
    weights[0, 0] = weights[-1, -1] = 1.0  # no triangle covers 0 Hz and the highest bin
    per_bin = weights.T @ gain
    return torch.istft(spectra[0] * per_bin, n_fft, hop, window=mel.window, length=samples)[:, None]
