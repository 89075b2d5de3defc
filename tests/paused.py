"""A recording with pauses: noise that comes twice a second over a steady white floor."""

import torch

RATE = 48_000


def white(seconds, db, seed=1):
    """White noise of that standard deviation, dB of full scale. (1, T)"""
    samples = round(seconds * RATE)
    return 10 ** (db / 20) * torch.randn(1, samples, generator=torch.Generator().manual_seed(seed))


def beats(seconds, decay_s=0.02, seed=9):
    """Bursts of 0.2 s that then decay. (1, T)"""
    t = torch.arange(round(seconds * RATE)) / RATE % 0.5
    swell = torch.where(t < 0.2, 1.0, torch.exp(-(t - 0.2) / decay_s))
    return swell * white(seconds, -20.0, seed)
