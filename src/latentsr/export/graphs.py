"""What can be exported: each graph is a module that maps tensors to tensors, with names for what goes in and out.

STFT and inverse STFT, windows, noise and the scheduler's loop stay outside: a runner does them (`examples/onnx`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from latentsr.bandwidth import embedded_network, hear
from latentsr.config import AUDIO
from latentsr.models import excitation
from latentsr.models.cutoff import CutoffNet
from latentsr.models.excitation import HOP
from latentsr.models.excited import FEATURES, ExcitationGenerator
from latentsr.models.live import KINDS, LiveGenerator, State, band_of
from latentsr.models.mamba_gan import MambaGenerator
from latentsr.models.ssm import Mamba
from latentsr.models.unet import Bands, DenoisingUNet, LatentUNet, frame_multiple, predict_v
from latentsr.models.vae import mode, strides, to_mel
from latentsr.models.vocos import ISTFTVocoder, cartesian
from latentsr.signal.bandedges import skirts
from latentsr.signal.bandframes import BIN_HZ, BINS, FLOAT_DB

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
    loops: bool = False  # whether it has any of `scan.py`


class ExportError(RuntimeError):
    """Something cannot be exported, or was and does not compute what it should; one line that says what to do."""


class Traced(nn.Module):
    """What is done with a network, as a module that the exporter can trace."""

    def __init__(self, network: nn.Module, work: Callable[..., Any]) -> None:
        super().__init__()
        self.network, self.work = network, work

    def forward(self, *inputs: Tensor) -> Any:
        return self.work(self.network, *inputs)


def gan_spectra(network: MambaGenerator, mel: Tensor, cutoff_hz: Tensor) -> tuple[Tensor, ...]:
    """Log-mel (B, L, M) and cutoffs (B,) -> spectra (B, L, n_fft / 2 + 1), real and imaginary, and the wide log-mel."""
    spectra, wide = network.spectra(mel, cutoff_hz)
    return (*cartesian(*spectra.chunk(2, dim=-1)), wide)


def excitation_amplitudes(
    network: ExcitationGenerator, heard: Tensor, mel: Tensor, cutoff_hz: Tensor
) -> tuple[Tensor, ...]:
    """What is heard in the low band (B, 2 L, F), log-mel (B, L, M), cutoffs (B,) -> (K, B, 2 L, bins), wide log-mel."""
    return network.amplitudes(heard, mel, cutoff_hz)


def vocoder_spectra(network: ISTFTVocoder, mel: Tensor) -> tuple[Tensor, Tensor]:
    """Log-mel (B, L, M) -> spectra (B, L, n_fft / 2 + 1), real and imaginary."""
    return cartesian(*network.spectra(mel).chunk(2, dim=-1))


def vocoder_wave(network: nn.Module, mel: Tensor) -> Tensor:
    """Log-mel (B, L, M) -> wave (B, L * hop_length)."""
    return network(mel)[:, : mel.shape[1] * AUDIO.hop_length]


def denoise(
    network: DenoisingUNet, noisy: Tensor, condition: Tensor, timestep: Tensor, cutoff_hz: Tensor | None = None
) -> Tensor:
    """Latents (B, Z, l, m), times and cutoffs (B,) -> velocity (B, Z, l, m); some networks are told no cutoff."""
    if cutoff_hz is None:
        return predict_v(network, noisy, condition, timestep, Bands(timestep, timestep))
    wanted_hz = torch.full_like(cutoff_hz, AUDIO.sample_rate / 2)
    return predict_v(network, noisy, condition, timestep, Bands(cutoff_hz, wanted_hz))


def listen(network: CutoffNet, power_db: Tensor, nyquist_hz: Tensor, dust_db: Tensor) -> tuple[Tensor, ...]:
    """Frames of channels (C, L, BINS), heard as wholes: cutoffs (C,) in Hz, filters' losses and skirts (C, BINS)."""
    end_hz, loss_db = hear(network, power_db, nyquist_hz, dust_db)
    cutoff_hz = end_hz.float()
    return (cutoff_hz, loss_db, *skirts(power_db, loss_db, cutoff_hz, nyquist_hz, dust_db))


def mamba_gan(pipe: Any) -> Graph:
    """The Mamba-GAN without latents."""
    inputs: dict[str, Shape] = {"mel": ("batch", "frames", AUDIO.n_mels), "cutoff_hz": ("batch",)}
    loops = any(isinstance(layer, Mamba) for layer in pipe.mamba_gan.modules())
    if isinstance(pipe.mamba_gan, ExcitationGenerator):
        heard: dict[str, Shape] = {"heard": ("batch", "halves", FEATURES)}
        return Graph(
            Traced(pipe.mamba_gan, excitation_amplitudes), heard | inputs, ("amplitudes", "wide_mel"),
            lambda batch, frames: (torch.randn(batch, 2 * frames, FEATURES), _mel(batch, frames), _cutoffs(batch)),
            loops=loops,
        )  # fmt: skip
    return Graph(
        Traced(pipe.mamba_gan, gan_spectra), inputs, ("real", "imag", "wide_mel"),
        lambda batch, frames: (_mel(batch, frames), _cutoffs(batch)), loops=loops,
    )  # fmt: skip


def vocoder(pipe: Any) -> Graph:
    """The vocoder: spectra of one that ends in an inverse STFT, else the wave."""
    ends = isinstance(pipe.vocoder, ISTFTVocoder)
    work, outputs = (vocoder_spectra, ("real", "imag")) if ends else (vocoder_wave, ("wave",))
    inputs: dict[str, Shape] = {"mel": ("batch", "frames", AUDIO.n_mels)}
    return Graph(Traced(pipe.vocoder, work), inputs, outputs, lambda batch, frames: (_mel(batch, frames),))


def vae_encoder(pipe: Any) -> Graph:
    """The encoder, whose latents are the condition: log-mel (B, 1, L, M) -> mean of the posterior (B, Z, l, m)."""
    inputs: dict[str, Shape] = {"mel": ("batch", 1, "frames", AUDIO.n_mels)}
    stride = strides(pipe.vae)[0]
    return Graph(
        Traced(pipe.vae, mode), inputs, ("latents",), lambda batch, length: (_mel(batch, length * stride)[:, None],),
        stride,
    )  # fmt: skip


def vae_decoder(pipe: Any) -> Graph:
    """The decoder of what the diffusion draws: scaled latents (B, Z, l, m) -> log-mel (B, 1, L, M)."""
    depth, rows = latent_shape(pipe.vae)
    inputs: dict[str, Shape] = {"latents": ("batch", depth, "frames", rows)}
    return Graph(
        Traced(pipe.vae, to_mel), inputs, ("mel",), lambda batch, length: (_noise(batch, depth, length, rows),)
    )


def unet(pipe: Any) -> Graph:
    """One evaluation of the denoiser."""
    depth, rows = latent_shape(pipe.vae)
    multiple, told = frame_multiple(pipe.unet), isinstance(pipe.unet, LatentUNet)
    latents: Shape = ("batch", depth, "frames", rows)
    inputs: dict[str, Shape] = {"noisy": latents, "condition": latents, "timestep": ("batch",)}
    if told:
        inputs["cutoff_hz"] = ("batch",)

    def example(batch: int, length: int) -> tuple[Tensor, ...]:
        shape = batch, depth, length * multiple, rows
        times = torch.linspace(999, 250, batch).long()
        cutoffs = (_cutoffs(batch),) if told else ()
        return (_noise(*shape), _noise(*shape, seed=1), times, *cutoffs)

    return Graph(Traced(pipe.unet, denoise), inputs, ("velocity",), example, multiple)


def cutoff(_pipe: Any) -> Graph:
    """The cutoff estimate; the frames that it hears are a runner's."""
    return cutoff_by(embedded_network())


def cutoff_by(network: CutoffNet) -> Graph:
    """The same by any network."""

    def example(channels: int, frames: int) -> tuple[Tensor, ...]:
        """A programme that falls and ends, with dust under it."""
        hz = torch.arange(BINS) * BIN_HZ
        ends_hz = torch.linspace(4_000, 8_000, channels)[:, None, None]
        lost = ((hz / ends_hz - 1) * 60).clamp(min=0)
        power_db = -20 - 20 * torch.log10(1 + hz / 500) - lost + 5 * _noise(channels, frames, BINS)
        return power_db.clamp(min=-95), torch.full((channels,), 22_050.0), torch.linspace(-96, FLOAT_DB, channels)

    inputs: dict[str, Shape] = {
        "power_db": ("channels", "frames", BINS), "nyquist_hz": ("channels",), "dust_db": ("channels",)
    }  # fmt: skip
    return Graph(Traced(network, listen), inputs, ("cutoff_hz", "loss_db", "raise_db", "kept"), example)


def live_hops(
    network: LiveGenerator, wave: Tensor, noise: Tensor, cutoff_hz: Tensor, *state: Tensor
) -> tuple[Tensor, ...]:
    """Hops of waves and noise (B, samples), cutoffs (B, hops), the state -> the made band (B, samples), the state."""
    made, after = network(wave, noise, band_of(cutoff_hz), cast(State, state))
    return (made, *after)


def live(pipe: Any) -> Graph:
    """The live head: its states are inputs and outputs, zeros before the first sample. Everything is inside."""
    network, names = pipe.live, ("last", "memory", "held", "overlap")
    layers, hidden = network.memory.num_layers, network.memory.hidden_size
    shapes: tuple[Shape, ...] = (
        (2, "batch", HOP), (layers, "batch", hidden), (KINDS, "batch", 1, excitation.BINS, 2), ("batch", HOP)
    )  # fmt: skip
    inputs: dict[str, Shape] = {
        "wave": ("batch", "samples"),
        "noise": ("batch", "samples"),
        "cutoff_hz": ("batch", "hops"),
    }
    inputs |= dict(zip(names, shapes, strict=True))

    def example(batch: int, hops: int) -> tuple[Tensor, ...]:
        wave, noise = 0.1 * _noise(batch, hops * HOP), _noise(batch, hops * HOP, seed=1)
        state = (0.1 * _noise(*each.shape, seed=2) for each in network.start(batch))
        return (wave, noise, _cutoffs(batch)[:, None].expand(-1, hops).contiguous(), *state)

    return Graph(Traced(network, live_hops), inputs, ("made", *(f"{name}_out" for name in names)), example, HOP)


PARTS: dict[str, Callable[[Any], Graph]] = {
    "live": live,
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
    "live": ("live",),
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
