"""What a runner must know besides the graphs: the numbers of the flow, as JSON, from where they live in the code."""

from __future__ import annotations

from typing import Any

import numpy as np
from diffusers import DDIMScheduler

from latentsr import __version__
from latentsr import windowed as w
from latentsr.config import AUDIO
from latentsr.export.errors import ExportError
from latentsr.export.graphs import HEAD_PARTS, latent_shape
from latentsr.heads import HEADS
from latentsr.models.unet import LatentUNet, frame_multiple
from latentsr.models.vae import strides
from latentsr.models.vocos import ISTFTVocoder
from latentsr.sampling import GUIDANCE_RESCALE, NOISE_BLOCK, SOURCE_STRIDE
from latentsr.signal import bandwidth, image, level, lowband, texture
from latentsr.signal.mel import mel_edges_hz, mel_filterbank

FORMAT = 1


def describe(pipe: Any, head: str, model_hash: str, sampled: bool = True) -> dict[str, Any]:
    """All of it for one head. Units are in the names; samples and frames are at 48 kHz and its hop.

    Args:
        pipe: with the head's networks loaded.
        head: a key of `HEAD_PARTS`.
        model_hash: of the model.
        sampled: say how latents are drawn, if the head needs them.

    Raises:
        ExportError: the runner cannot draw latents as this model wants them drawn.
    """
    kind = HEADS[head]
    decoder = kind(**{name: getattr(pipe, name) for name in kind.components})
    estimator = bandwidth.CutoffEstimator(AUDIO.sample_rate)
    about: dict[str, Any] = {
        "format": FORMAT,
        "latentsr": __version__,
        "model": model_hash,
        "head": head,
        "parts": list(HEAD_PARTS[head]),
        "audio": {**AUDIO.model_dump(), "padding": AUDIO.padding},
        "mel_filters": _sparse(mel_filterbank(AUDIO).numpy()),
        "mel_band_ends_hz": mel_edges_hz(AUDIO)[2:].tolist(),
        "level": {"network_peak": level.NETWORK_PEAK, "largest_gain": level.LARGEST_GAIN,
                  "limiter_samples": level.LIMITER_SAMPLES},
        "windows": {"core": w.CORE, "margin": w.MARGIN, "fade": w.FADE, "stride": w.WAVE_STRIDE,
                    "seam_samples": w.SEAM_SAMPLES, "edge_samples": w.EDGE_SAMPLES,
                    "context_frames": decoder.context_frames},
        "low_band": {"edge_s": lowband.EDGE_S, "skirt_hz": lowband.SKIRT_HZ, "merge_frame": lowband.MERGE_FRAME,
                     "merge_hop": lowband.MERGE_HOP, "merge_from": lowband.MERGE_FROM},
        "cutoff": {"frame": estimator.frame, "window": list(bandwidth.BLACKMAN_HARRIS),
                   "steady": bandwidth.STEADY, "fewest_frames": bandwidth.FEWEST_FRAMES},
        "image": {"n_fft": image.N_FFT, "hop": image.HOP, "band_bins": image.BAND_BINS, "from": image.FROM,
                  "to": image.TO, "alike": image.ALIKE},
        "noise": {"block_frames": NOISE_BLOCK, "source_stride": SOURCE_STRIDE, "seed_stride": 1_000_003},
    }  # fmt: skip
    network = pipe.mamba_gan if head == "mamba-gan" else pipe.vocoder
    if head == "mamba-gan" or isinstance(network, ISTFTVocoder):
        about["inverse_stft"] = {"n_fft": network.config.n_fft, "hop_length": network.config.hop_length}
    if head == "mamba-gan":
        about["texture"] = {"n_fft": texture.N_FFT, "hop": texture.HOP, "smoothed": list(texture.SMOOTHED),
                            "silent": texture.SILENT, "share": network.config.noise_share}  # fmt: skip
    if head == "vocoder" and sampled:
        about["diffusion"] = _diffusion(pipe)
    if head == "vocoder":
        about["windows"]["stride"] = strides(pipe.vae)[0]
    return about


def _diffusion(pipe: Any) -> dict[str, Any]:
    """The schedule, as numbers, and how the model is sampled unless told otherwise."""
    scheduler, config = pipe.scheduler, pipe.scheduler.config
    usual = {"prediction_type": "v_prediction", "timestep_spacing": "trailing", "clip_sample": False}
    if type(scheduler) is not DDIMScheduler or any(config.get(key) != value for key, value in usual.items()):
        raise ExportError(
            f"the runner samples with DDIM, v-prediction and trailing times; this model's scheduler is "
            f"{type(scheduler).__name__} ({config.get('prediction_type')}); export its parts one by one with --part"
        )
    depth, rows = latent_shape(pipe.vae)
    return {
        "latent_channels": depth,
        "latent_rows": rows,
        "multiple": frame_multiple(pipe.unet),
        "told_cutoff": isinstance(pipe.unet, LatentUNet),
        "alphas_cumprod": scheduler.alphas_cumprod.tolist(),
        "final_alpha": float(scheduler.final_alpha_cumprod),
        "default_steps": pipe.config.default_steps,
        "default_temperature": pipe.config.default_temperature,
        "default_guidance_scale": pipe.config.default_guidance_scale,
        "guidance_rescale": GUIDANCE_RESCALE,
        "unconditional": pipe.config.unconditional_latent * (pipe.vae.config.scaling_factor or 1.0),
        "scaling_factor": pipe.vae.config.scaling_factor,
        "shift_factor": pipe.vae.config.shift_factor or 0.0,
    }


def _sparse(filters: np.ndarray) -> dict[str, Any]:
    """Of each band its first bin and its weights from there on."""
    spans = [np.flatnonzero(row) for row in filters]
    ends = [(int(span[0]), int(span[-1]) + 1) if span.size else (0, 0) for span in spans]
    weights = [row[first:last].tolist() for row, (first, last) in zip(filters, ends, strict=True)]
    return {"first_bin": [first for first, _ in ends], "weights": weights}
