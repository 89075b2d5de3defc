"""A checkpoint as AEROMamba's training code names it: every tensor, with random values."""

from __future__ import annotations

import math

import torch
from torch import Tensor

STRIDES = (4, 4, 2, 2)
Shapes = dict[str, tuple[int, ...]]


def authors_shapes(channels: int = 48, n_fft: int = 512) -> Shapes:
    """Every tensor of the original, in the words of its code."""
    shapes: Shapes = {}
    bins, width = n_fft // 2, 2
    for i, stride in enumerate(STRIDES):
        C, enc, dec = channels * 2**i, f"encoder.{i}", f"decoder.{3 - i}"
        if i == 0:
            shapes |= _layer(f"{enc}.pre_conv", (C, 2, 1, 1))
        D = C if i == 0 else width
        block = f"{enc}.freq_attn_block"
        shapes |= _layer(f"{block}.conv1.0", (5, D, 1, 1)) | _batch_norm(f"{block}.conv1.1", 5)
        shapes |= _layer(f"{block}.conv1d.0", (D, 5 * bins, 9)) | _batch_norm(f"{block}.conv1d.1", D)
        shapes |= {f"{block}.freq_fc.weight": (bins, bins)}
        shapes |= _layer(f"{block}.conv2.0", (D, 2 * D, 1, 1)) | _batch_norm(f"{block}.conv2.1", D)
        shapes |= _layer(f"{enc}.conv", (C, D, 8, 1)) | _layer(f"{enc}.rewrite", (2 * C, C, 1, 1))
        shapes |= _layer(f"{dec}.conv_tr", (2 * C, width, 8, 1)) | _layer(f"{dec}.rewrite", (4 * C, 2 * C, 3, 3))
        if i >= 2:
            for name, size in (
                (f"{enc}.norm1", C),
                (f"{enc}.norm2", 2 * C),
                (f"{dec}.norm1", 4 * C),
                (f"{dec}.norm2", width),
            ):
                shapes |= _layer(name, (size,))
        bins //= stride
        for j in (0, 1):
            layer, H, R = f"{enc}.dconv.layers.{j}", C // 4, -(-C // 16)
            shapes |= _layer(f"{layer}.conv1.0", (H, C, 3)) | _layer(f"{layer}.conv1.1", (H,))
            shapes |= {f"{layer}.act.a": (bins,), f"{layer}.conv2.3.scale": (C,)}
            shapes |= _layer(f"{layer}.conv2.0", (2 * C, H, 1)) | _layer(f"{layer}.conv2.1", (2 * C,))
            mamba = f"{layer}.mamba"
            shapes |= {f"{mamba}.A_log": (2 * C, 16), f"{mamba}.D": (2 * C,), f"{mamba}.in_proj.weight": (4 * C, C)}
            shapes |= _layer(f"{mamba}.conv1d", (2 * C, 1, 4)) | {f"{mamba}.x_proj.weight": (R + 32, 2 * C)}
            shapes |= _layer(f"{mamba}.dt_proj", (2 * C, R), 2 * C) | {f"{mamba}.out_proj.weight": (C, 2 * C)}
        width = C
    return shapes | {"freq_emb.embedding.weight": (n_fft // 2 // STRIDES[0], channels)}


def _layer(name: str, weight: tuple[int, ...], bias: int = 0) -> Shapes:
    size = weight[1] if "conv_tr" in name else weight[0]
    return {f"{name}.weight": weight, f"{name}.bias": (bias or size,)}


def _batch_norm(name: str, size: int) -> Shapes:
    buffers = {f"{name}.running_mean": (size,), f"{name}.running_var": (size,), f"{name}.num_batches_tracked": ()}
    return _layer(name, (size,)) | buffers


def synthetic(shapes: Shapes) -> dict[str, Tensor]:
    """Random tensors of a size at which signals neither die nor explode; Mamba as it is built."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in shapes.items():
        x = torch.randn(shape, generator=generator)
        fan_in = math.prod(shape[1:]) or 1
        if name.endswith("num_batches_tracked"):
            x = torch.tensor(7)
        elif name.endswith("A_log"):
            x = torch.arange(1, shape[1] + 1).log().repeat(shape[0], 1)
        elif name.endswith("mamba.D"):
            x = torch.ones(shape)
        elif name.endswith(("running_var", "act.a")):
            x = 0.5 + x.abs()
        else:
            x = x / fan_in**0.5
        state[name] = x
    return state
