"""What can be exported: each graph is a module that maps tensors to tensors, with names for what goes in and out.

STFT and inverse STFT, windows, noise and the scheduler's loop stay outside: a runner does them (`examples/onnx`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from latentsr.config import AUDIO
from latentsr.models.mamba_gan import MambaGenerator
from latentsr.models.ssm import Mamba
from latentsr.models.unet import DenoisingUNet, LatentUNet, frame_multiple, predict_v
from latentsr.models.vae import mode, strides, to_mel
from latentsr.models.vocos import ISTFTVocoder, cartesian
from latentsr.signal.bandwidth import CutoffEstimator, cutoff_of_power

Shape = tuple[int | str, ...]  # of a tensor; a name: any size, a multiple of `Graph.multiple` for the frames


@dataclass(frozen=True)
class Graph:
    """A module to export.

    `inputs` and `outputs` name the tensors and their axes. `example(batch, length)` makes inputs with `length` times
    `multiple` frames, as the module sees them in use.
    """

    module: nn.Module
    inputs: Mapping[str, Shape]
    outputs: tuple[str, ...]
    example: Callable[[int, int], tuple[Tensor, ...]]
    multiple: int = 1
    loops: bool = False  # whether it has any of `loops.py`


class MambaGanSpectra(nn.Module):
    """Log-mel (B, L, M) and cutoffs (B,) -> spectra (B, L, n_fft / 2 + 1), real and imaginary, and the wide log-mel."""

    def __init__(self, network: MambaGenerator) -> None:
        super().__init__()
        self.network = network

    def forward(self, mel: Tensor, cutoff_hz: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        spectra, wide = self.network.spectra(mel, cutoff_hz)
        return (*cartesian(*spectra.chunk(2, dim=-1)), wide)


class VocoderSpectra(nn.Module):
    """Log-mel (B, L, M) -> spectra (B, L, n_fft / 2 + 1), real and imaginary."""

    def __init__(self, network: ISTFTVocoder) -> None:
        super().__init__()
        self.network = network

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        return cartesian(*self.network.spectra(mel).chunk(2, dim=-1))


class VocoderWave(nn.Module):
    """Log-mel (B, L, M) -> wave (B, L * hop_length)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, mel: Tensor) -> Tensor:
        return self.network(mel)[:, : mel.shape[1] * AUDIO.hop_length]


class VaeEncoder(nn.Module):
    """Log-mel (B, 1, L, M) -> scaled latents (B, Z, l, m): the posterior's mean."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, mel: Tensor) -> Tensor:
        return mode(self.vae, mel)


class VaeDecoder(nn.Module):
    """Scaled latents (B, Z, l, m) -> log-mel (B, 1, L, M)."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, latents: Tensor) -> Tensor:
        return to_mel(self.vae, latents)


class Denoiser(nn.Module):
    """One evaluation of the denoiser: latents (B, Z, l, m), times and cutoffs (B,) -> velocity (B, Z, l, m)."""

    def __init__(self, unet: DenoisingUNet) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, noisy: Tensor, condition: Tensor, timestep: Tensor, cutoff_hz: Tensor) -> Tensor:
        wanted = torch.full_like(cutoff_hz, AUDIO.sample_rate / 2)
        return predict_v(self.unet, noisy, condition, timestep, cutoff_hz, wanted)


class PlainDenoiser(Denoiser):
    """The same for a denoiser that is told no cutoff."""

    def forward(self, noisy: Tensor, condition: Tensor, timestep: Tensor) -> Tensor:  # type: ignore[override]
        return predict_v(self.unet, noisy, condition, timestep, timestep, timestep)


class CutoffOfPower(nn.Module):
    """Long-term power and squared power (C, F) of a recording's channels -> its cutoff in Hz (1,)."""

    def __init__(self) -> None:
        super().__init__()
        self.estimator = CutoffEstimator(AUDIO.sample_rate)

    def forward(self, power: Tensor, squared: Tensor) -> Tensor:
        return cutoff_of_power(power, squared, self.estimator.sample_rate, self.estimator.frame)


def mamba_gan(pipe: Any) -> Graph:
    """The Mamba-GAN without latents."""

    def example(batch: int, frames: int) -> tuple[Tensor, ...]:
        return _mel(batch, frames), _cutoffs(batch)

    inputs: dict[str, Shape] = {"mel": ("batch", "frames", AUDIO.n_mels), "cutoff_hz": ("batch",)}
    loops = any(isinstance(layer, Mamba) for layer in pipe.mamba_gan.modules())
    return Graph(MambaGanSpectra(pipe.mamba_gan), inputs, ("real", "imag", "wide_mel"), example, loops=loops)


def vocoder(pipe: Any) -> Graph:
    """The vocoder: spectra of one that ends in an inverse STFT, else the wave."""
    inputs: dict[str, Shape] = {"mel": ("batch", "frames", AUDIO.n_mels)}

    def example(batch: int, frames: int) -> tuple[Tensor, ...]:
        return (_mel(batch, frames),)

    if isinstance(pipe.vocoder, ISTFTVocoder):
        return Graph(VocoderSpectra(pipe.vocoder), inputs, ("real", "imag"), example)
    return Graph(VocoderWave(pipe.vocoder), inputs, ("wave",), example)


def vae_encoder(pipe: Any) -> Graph:
    """The encoder, whose latents are the condition of the diffusion."""
    inputs: dict[str, Shape] = {"mel": ("batch", 1, "frames", AUDIO.n_mels)}
    stride = strides(pipe.vae)[0]

    def example(batch: int, length: int) -> tuple[Tensor, ...]:
        return (_mel(batch, length * stride)[:, None],)

    return Graph(VaeEncoder(pipe.vae), inputs, ("latents",), example, stride)


def vae_decoder(pipe: Any) -> Graph:
    """The decoder of what the diffusion draws."""
    depth, rows = latent_shape(pipe.vae)

    def example(batch: int, length: int) -> tuple[Tensor, ...]:
        return (_noise(batch, depth, length, rows),)

    return Graph(VaeDecoder(pipe.vae), {"latents": ("batch", depth, "frames", rows)}, ("mel",), example)


def unet(pipe: Any) -> Graph:
    """One evaluation of the denoiser."""
    depth, rows = latent_shape(pipe.vae)
    multiple, told = frame_multiple(pipe.unet), isinstance(pipe.unet, LatentUNet)
    latents: Shape = ("batch", depth, "frames", rows)
    inputs: dict[str, Shape] = {"noisy": latents, "condition": latents, "timestep": ("batch",)}

    def example(batch: int, length: int) -> tuple[Tensor, ...]:
        shape = batch, depth, length * multiple, rows
        times = torch.linspace(999, 250, batch).long()
        cutoffs = (_cutoffs(batch),) if told else ()
        return (_noise(*shape), _noise(*shape, seed=1), times, *cutoffs)

    if told:
        inputs |= {"cutoff_hz": ("batch",)}
    module = Denoiser(pipe.unet) if told else PlainDenoiser(pipe.unet)
    return Graph(module, inputs, ("velocity",), example, multiple)


def cutoff(_pipe: Any) -> Graph:
    """The inner half of the cutoff estimate; its front, a long-term spectrum, is a runner's."""
    module = CutoffOfPower()
    bins = module.estimator.frame // 2 + 1

    def example(channels: int, length: int) -> tuple[Tensor, ...]:
        """A programme that falls by 6 dB per octave and ends, with white noise under it."""
        place = torch.linspace(0, 1, bins)
        programme = 1e-3 / (0.01 + place) ** 2 * 1e-6 ** ((place - 0.1 * length).clamp(min=0) * 40).clamp(max=2)
        grain = torch.rand(channels, bins, generator=torch.Generator().manual_seed(length)) + 0.5
        power = programme * grain + 1e-8
        return power, 2 * power.square()

    inputs: dict[str, Shape] = {"power": ("channels", bins), "squared": ("channels", bins)}
    return Graph(module, inputs, ("cutoff_hz",), example, loops=True)


PARTS: dict[str, Callable[[Any], Graph]] = {
    "mamba-gan": mamba_gan,
    "vae-encoder": vae_encoder,
    "unet": unet,
    "vae-decoder": vae_decoder,
    "vocoder": vocoder,
    "cutoff": cutoff,
}
# What a runner of each head needs.
HEAD_PARTS: dict[str, tuple[str, ...]] = {
    "mamba-gan": ("mamba-gan", "cutoff"),
    "vocoder": ("vae-encoder", "unet", "vae-decoder", "vocoder", "cutoff"),
}


def latent_shape(vae: AutoencoderKL) -> tuple[int, int]:
    """(Z, m): channels and rows of latents."""
    return int(vae.config.latent_channels), AUDIO.n_mels // strides(vae)[1]


def _mel(batch: int, frames: int) -> Tensor:
    """Log-mels as loud as those of recordings, which end half-way up."""
    mel = _noise(batch, frames, AUDIO.n_mels) * 1.5 - 4
    mel[..., AUDIO.n_mels * 3 // 5 :] = -11.5
    return mel


def _noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _cutoffs(batch: int) -> Tensor:
    return torch.linspace(4_000, 8_000, batch)
