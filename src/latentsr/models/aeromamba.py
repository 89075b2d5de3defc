"""AEROMamba (arXiv 2411.07364): 11.025 kHz to 44.1 kHz in one pass, by AERO's network on complex spectra.

Its released code builds a Mamba per residual layer and calls none. `mamba` says which network is meant; see
docs/aeromamba.md.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentsr.models.aero_layers import DecoderLevel, EncoderLevel, MambaPlace
from latentsr.models.network import Network

EMBEDDING_SCALE = 10.0  # the embedding is stored this much smaller, which makes its steps that much larger
RESCALE = 0.1  # standard deviation that the weights of 1-d convolutions are drawn towards at the start


class AeroMamba(Network):
    """Low-rate wave (B, 1, T) -> wave (B, 1, scale T) of any length.

    The input is analysed with a window and hop `scale` times shorter than the output's, both at `n_fft` points: frames
    line up in time, and a bin is the same fraction of its own rate, so the network stretches the spectrum by `scale`.

    Args:
        mamba: "dead": the released network, with Mamba layers that keep their parameters and never run.
            "time": the same parameters, each layer run along time before the first convolution of its residual layer.
            "bottleneck": as in the authors' later code: smaller layers, between the two convolutions.
        channels: width of the first level; each further one is twice as wide.
        n_fft: samples of the output's window, and points of both transforms.
        hop_length: samples of the output per frame.
        scale: output rate over input rate.
        strides: along frequency, one per level.
        kernel_size: along frequency.
        norm_from_level: the first level with group normalisation.
        norm_groups: its groups.
        attention_channels: width inside the attention over frequency.
        compression: width of a level over that inside its residual layers.
        residual_layers: per level; dilations 1, 2, 4, ...
        embedding_weight: of the frequency embedding after the first level.
        sample_rate: of the output, Hz.

    >>> AeroMamba(channels=8, n_fft=128, hop_length=64).eval()(torch.zeros(1, 1, 700)).shape
    torch.Size([1, 1, 2800])
    """

    window_in: Tensor
    window_out: Tensor

    def __init__(
        self,
        mamba: MambaPlace = "dead",
        channels: int = 48,
        n_fft: int = 512,
        hop_length: int = 256,
        scale: int = 4,
        strides: tuple[int, ...] = (4, 4, 2, 2),
        kernel_size: int = 8,
        norm_from_level: int = 2,
        norm_groups: int = 4,
        attention_channels: int = 5,
        compression: int = 4,
        residual_layers: int = 2,
        embedding_weight: float = 0.2,
        sample_rate: int = 44_100,
    ) -> None:
        super().__init__()
        if mamba not in ("dead", "time", "bottleneck"):
            raise ValueError(f"mamba is {mamba!r}; it must be dead, time or bottleneck")
        encoder, decoder = [], []
        bins, width = n_fft // 2, 2  # real and imaginary parts
        for i, stride in enumerate(strides):
            wider = channels * 2**i
            groups = norm_groups if i >= norm_from_level else 0
            encoder.append(
                EncoderLevel(
                    width,
                    wider,
                    bins,
                    stride,
                    kernel_size,
                    groups,
                    first=i == 0,
                    attention_channels=attention_channels,
                    compression=compression,
                    depth=residual_layers,
                    place=mamba,
                )
            )
            decoder.append(DecoderLevel(wider, width, stride, kernel_size, groups, last=i == 0))
            bins, width = bins // stride, wider
        self.encoder = nn.ModuleList(encoder)
        self.decoder = nn.ModuleList(decoder[::-1])
        bins = n_fft // 2 // strides[0]
        # A random walk along frequency: neighbouring bins begin alike. The root keeps its size even.
        walk = torch.randn(bins, channels).cumsum(dim=0) / torch.arange(1, bins + 1)[:, None].sqrt()
        self.embedding = nn.Parameter(walk / EMBEDDING_SCALE)
        self.register_buffer("window_in", torch.hann_window(n_fft // scale, device="cpu"), persistent=False)
        self.register_buffer("window_out", torch.hann_window(n_fft, device="cpu"), persistent=False)
        for module in self.modules():
            if isinstance(module, nn.Conv1d):
                _rescale(module)

    def forward(self, wave: Tensor) -> Tensor:
        spectrum = self._analyse(wave)
        mean, std = spectrum.mean(dim=(1, 2, 3), keepdim=True), spectrum.std(dim=(1, 2, 3), keepdim=True)
        x = ((spectrum - mean) / (1e-5 + std)).to(self.embedding.dtype)
        skips: list[Tensor] = []
        for level in self.encoder:
            x = level(x)
            if not skips:
                x = x + self.config.embedding_weight * EMBEDDING_SCALE * self.embedding.T.unsqueeze(2)
            skips.append(x)
        y = None
        for level in self.decoder:
            y = level(y, skips.pop())
        assert y is not None
        return self._synthesise(y.float() * std + mean)[..., : self.config.scale * wave.shape[-1]]

    def _analyse(self, wave: Tensor) -> Tensor:
        """(B, 1, T) -> real and imaginary parts (B, 2, F, L), without the bin at half the rate."""
        n_fft, hop, length = self.config.n_fft, self.config.hop_length // self.config.scale, wave.shape[-1]
        # Whole hops, and more than half a window, which is what the transform reflects at the ends.
        frames = max(-(-length // hop), n_fft // 2 // hop + 1)
        wave = F.pad(wave.squeeze(1).float(), (0, frames * hop - length))
        window = self.window_in.float()
        spectrum = torch.stft(wave, n_fft, hop, len(window), window, normalized=True, return_complex=True)
        return torch.view_as_real(spectrum[:, :-1]).permute(0, 3, 1, 2)

    def _synthesise(self, parts: Tensor) -> Tensor:
        """(B, 2, F, L) -> (B, 1, hop_length (L - 1))."""
        n_fft, hop = self.config.n_fft, self.config.hop_length
        spectrum = F.pad(torch.complex(parts[:, 0], parts[:, 1]), (0, 0, 0, 1))
        return torch.istft(spectrum, n_fft, hop, n_fft, self.window_out.float(), normalized=True).unsqueeze(1)


@torch.no_grad()
def _rescale(conv: nn.Conv1d) -> None:
    """Halve, on a logarithmic scale, the way of the weights' deviation to `RESCALE` (HDemucs, arXiv 2111.03600)."""
    factor = (conv.weight.std() / RESCALE).sqrt()
    conv.weight.div_(factor)
    if conv.bias is not None:
        conv.bias.div_(factor)
