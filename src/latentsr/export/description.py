"""What a runner must know besides the graphs: the numbers of the flow, as JSON, from where they live in the code."""

from __future__ import annotations

from typing import Any

import numpy as np
from diffusers import DDIMScheduler

from latentsr import __version__, bandwidth
from latentsr.audio.resampling import EDGE, LEAD_S
from latentsr.config import AUDIO
from latentsr.diffusion.sampling import GUIDANCE_RESCALE
from latentsr.export.graphs import HEAD_PARTS, ExportError, latent_shape
from latentsr.head_kinds import HEADS
from latentsr.models import excitation, excited
from latentsr.models.excited import ExcitationGenerator
from latentsr.models.live import DELAY
from latentsr.models.mamba_gan import MambaGenerator
from latentsr.models.unet import LatentUNet, frame_multiple
from latentsr.models.vae import strides
from latentsr.models.vocos import ISTFTVocoder
from latentsr.restoring import chain, engine
from latentsr.signal import bandframes as frames
from latentsr.signal import correlation, level, lowband, texture
from latentsr.signal.mel import mel_edges_hz, mel_filterbank
from latentsr.signal.noise import NOISE_BLOCK, SOURCE_STRIDE
from latentsr.signal.track import FULL_BAND_HZ, SKIRT_BIN_HZ

FORMAT = 3  # of the description; the runner is for one


def describe(pipe: Any, head: str, model_hash: str, sampled: bool = True) -> dict[str, Any]:
    """All of it for one head, whose networks are loaded. Units are in the names; samples and frames are at 48 kHz.

    `sampled`: say how latents are drawn, if the head needs them.

    Raises:
        ExportError: the runner cannot draw latents as this model wants them drawn.
    """
    kind = HEADS[head]
    if kind.live:
        return {
            "format": FORMAT, "latentsr": __version__, "model": model_hash, "head": head,
            "parts": list(HEAD_PARTS[head]), "sample_rate": AUDIO.sample_rate, "hop": excitation.HOP,
            "late": DELAY, "nothing_is_made_from_hz": FULL_BAND_HZ,
        }  # fmt: skip
    decoder = kind.load()(**pipe.load(kind.components))
    about: dict[str, Any] = {
        "format": FORMAT,
        "latentsr": __version__,
        "model": model_hash,
        "head": head,
        "parts": list(HEAD_PARTS[head]),
        "audio": {**AUDIO.model_dump(), "padding": AUDIO.padding},
        "resampling": {"lead_s": LEAD_S, "edge": EDGE},
        "mel_filters": _sparse(mel_filterbank(AUDIO).numpy()),
        "mel_band_ends_hz": mel_edges_hz(AUDIO)[2:].tolist(),
        "level": {"network_peak": level.NETWORK_PEAK, "largest_gain": level.LARGEST_GAIN,
                  "limiter_samples": level.LIMITER_SAMPLES},
        "windows": {"core": engine.CORE, "margin": engine.MARGIN, "fade": engine.FADE, "stride": chain.WAVE_STRIDE,
                    "seam_samples": engine.SEAM_SAMPLES, "edge_samples": chain.EDGE_SAMPLES,
                    "context_frames": decoder.context_frames},
        "low_band": {"edge_s": lowband.EDGE_S, "skirt_hz": lowband.SKIRT_HZ, "merge_frame": lowband.MERGE_FRAME,
                     "merge_hop": lowband.MERGE_HOP, "merge_from": lowband.MERGE_FROM,
                     "merge_context": lowband.MERGE_CONTEXT, "end_fade": lowband.END_FADE,
                     "skirt_from": lowband.SKIRT_FROM, "skirt_in": lowband.SKIRT_IN, "skirt_bin_hz": SKIRT_BIN_HZ},
        "frames": {"bin_hz": frames.BIN_HZ, "bins": frames.BINS, "window_s": frames.WINDOW_S, "hops": frames.HOPS,
                   "window": list(frames.BLACKMAN_HARRIS), "silent_db": frames.SILENT_DB, "most": bandwidth.MOST_FRAMES,
                   "heard_at_once": bandwidth.HEARD_AT_ONCE, "alike": bandwidth.ALIKE},
        "dust": {"coarsest_bits": frames.COARSEST_BITS, "finest_bits": frames.FINEST_BITS,
                 "grid_range": frames.GRID_RANGE, "float_db": frames.FLOAT_DB},
        "image": {"n_fft": correlation.N_FFT, "hop": correlation.HOP, "band_bins": correlation.BAND_BINS,
                  "from": correlation.FROM, "to": correlation.TO, "alike": correlation.ALIKE},
        "noise": {"block_frames": NOISE_BLOCK, "source_stride": SOURCE_STRIDE, "seed_stride": 1_000_003},
    }  # fmt: skip
    network = pipe.mamba_gan if head == "mamba-gan" else pipe.vocoder
    if isinstance(network, ExcitationGenerator):
        about["excitation"] = _excitation()
    elif head == "mamba-gan" or isinstance(network, ISTFTVocoder):
        about["inverse_stft"] = {"n_fft": network.config.n_fft, "hop_length": network.config.hop_length}
    if isinstance(network, MambaGenerator):
        about["texture"] = {"n_fft": texture.N_FFT, "hop": texture.HOP, "smoothed": list(texture.SMOOTHED),
                            "silent": texture.SILENT, "share": network.config.noise_share}  # fmt: skip
    if head == "vocoder" and sampled:
        about["diffusion"] = _diffusion(pipe)
    if head == "vocoder":
        about["windows"]["stride"] = strides(pipe.vae)[0]
    return about


def _excitation() -> dict[str, Any]:
    return {
        "frame": excitation.FRAME,
        "hop": excitation.HOP,
        "oversampled": excitation.OVERSAMPLED,
        "whitened_bins": excitation.WHITENED_BINS,
        "copied_share": excitation.COPIED_SHARE,
        "copied_to": excitation.COPIED_TO,
        "envelope_hop": excitation.ENVELOPE_HOP,
        "envelope_reach": excitation.ENVELOPE_REACH,
        "silent": excitation.SILENT,
        "knots_hz": excitation.knots_hz().tolist(),
        "parts": excited.PARTS,
        "power_mean": excited.POWER_MEAN,
        "power_std": excited.POWER_STD,
    }


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
