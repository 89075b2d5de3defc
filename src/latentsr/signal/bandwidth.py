"""Where the programme's pass band ends: a first version, by the steepest fall of the smoothed long-term spectrum."""

from __future__ import annotations

import torch
from torch import Tensor


def estimate_cutoff_hz(wave: Tensor, sample_rate: int = 48_000) -> Tensor:
    """End of the pass band in Hz; `sample_rate / 2` means full band (or silence). (B, 1, T) -> (B,)"""
    samples = wave.shape[-1]
    frames = torch.nn.functional.pad(wave[:, 0], (0, max(0, 2048 - samples))).unfold(-1, 2048, 1024)
    window = torch.hann_window(2048, device=wave.device)
    power = torch.fft.rfft(frames * window).abs().square().mean(1)[:, :1024]  # (B, F)
    level_db = 10 * torch.log10(power.clamp_min(1e-12))
    padded = torch.nn.functional.pad(level_db[:, None], (8, 8), mode="replicate")[:, 0]
    smooth_db = padded.unfold(-1, 17, 1).median(-1).values
    padded = torch.nn.functional.pad(smooth_db[:, None], (20, 20), mode="replicate")[:, 0]
    fall_db = padded[:, :-40] - padded[:, 40:]  # over 0.94 kHz, centred
    fall_db[:, :40] = 0
    deepest, place = fall_db.max(-1)
    hz = place * (sample_rate / 2048)
    low = (place[:, None] - 40 + torch.arange(20, device=wave.device)).clamp_min(0)
    reference_db = smooth_db.gather(-1, low).mean(-1)
    bins = torch.arange(1024, device=wave.device)
    inside = (bins >= place[:, None] - 30) & (smooth_db < reference_db[:, None] - 3)
    hz = torch.where(inside.any(-1), inside.float().argmax(-1) * (sample_rate / 2048), hz)
    return torch.where(deepest > 12, hz, torch.full_like(hz, sample_rate / 2))
