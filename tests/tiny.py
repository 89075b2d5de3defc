"""A pipeline of tiny random networks, and something to restore: for what must hold whatever the networks say."""

import numpy as np
import torch

from latentsr import Pipeline
from latentsr.diffusion.sampling import training_scheduler
from latentsr.models.hifigan import build_vocoder
from latentsr.models.unet import LatentUNet
from latentsr.models.vae import MelAutoencoderKL

RATE = 48_000


def tiny_pipeline():
    torch.manual_seed(0)
    vae = MelAutoencoderKL(latent_channels=4, block_out_channels=(8, 8), norm_num_groups=4, patch_frames=4,
                           patch_bands=8, scaling_factor=1.0, shift_factor=0.0)  # fmt: skip
    unet = LatentUNet(latent_channels=4, block_out_channels=(8, 16), attention_levels=(1,), attention_head_dim=8,
                      norm_num_groups=4)  # fmt: skip
    vocoder = build_vocoder("istft", channels=16, hidden=32, layers=1)
    pipe = Pipeline(vae=vae.eval(), unet=unet.eval(), scheduler=training_scheduler(), vocoder=vocoder.eval())
    pipe.set_progress_bar_config(disable=True)
    return pipe


def programme(seconds, channels=1, seed=0, cutoff_hz=4000):
    """Noise bursts cut at 4 kHz. (C, T)"""
    rng = np.random.default_rng(seed)
    samples = round(seconds * RATE)
    spectrum = np.fft.rfft(rng.standard_normal((channels, samples)))
    frequencies = np.fft.rfftfreq(samples, 1 / RATE)
    spectrum *= (frequencies < cutoff_hz) / np.maximum(frequencies, 100)
    wave = np.fft.irfft(spectrum, n=samples) * (1 + 0.8 * np.sin(np.arange(samples) / 4000))
    return (0.3 * wave / np.abs(wave).max()).astype(np.float32)
