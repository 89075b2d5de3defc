"""Samples as generators hand them out, and as we restore them: axes, types and devices, there and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from latentsr.audio import EmptyAudio, InvalidAudio
from latentsr.audio.decoders import HIGHEST_RATE_HZ, LOWEST_RATE_HZ, MAX_CHANNELS

Samples: TypeAlias = np.ndarray | Tensor

# B items, C channels, T samples: what each axis is.
LAYOUTS = ("T", "CT", "TC", "BT", "BCT")
# Full scale of integer PCM, and what is silence in it.
PCM = {torch.int16: (2.0**15, 0), torch.int32: (2.0**31, 0), torch.uint8: (2.0**7, 2**7)}
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def layout_of(samples: Samples, layout: str | None, two_axes: str | None = None) -> str:
    """What the axes are: as told, or where only one reading exists.

    Args:
        samples: an array.
        layout: what the caller said, one of LAYOUTS.
        two_axes: how two axes are read where the caller said nothing; None: only a single row is, as (1, T).

    Raises:
        ValueError: the array does not have these axes, or could be read in two ways.
    """
    shape = tuple(samples.shape)
    if layout is None:
        two_axes = "CT" if shape[:1] == (1,) else two_axes
        layout = {1: "T", 2: two_axes, 3: "BCT"}.get(len(shape))
        if layout is None and len(shape) == 2:
            raise ValueError(
                f"{shape} may be {shape[0]} channels or {shape[0]} items; "
                'say which with layout="CT" or layout="BT" ("TC": samples first)'
            )
    if layout is None or len(layout) != len(shape):
        raise ValueError(
            f"audio of shape {shape} is not {layout or '(T,), (C, T), (B, T) or (B, C, T)'}; "
            f"layout= is one of {', '.join(LAYOUTS)}"
        )
    channels = shape[layout.index("C")] if "C" in layout else 1
    if channels > MAX_CHANNELS:
        raise ValueError(
            f"{channels} channels of {shape[layout.index('T')]} samples, in {shape} read as {layout}; "
            f'are the axes swapped? Say layout="{"TC" if layout == "CT" else "CT"}", or transpose'
        )
    return layout


def checked_layout(layout: str | None) -> str | None:
    if layout is not None and layout not in LAYOUTS:
        raise ValueError(f"unknown layout {layout!r}; choose one of {', '.join(LAYOUTS)}")
    return layout


def checked_rate(sample_rate: float) -> int:
    """Whole Hz."""
    whole = isinstance(sample_rate, (int, float, np.integer, np.floating)) and not isinstance(sample_rate, bool)
    if not whole or not LOWEST_RATE_HZ <= sample_rate <= HIGHEST_RATE_HZ or sample_rate != int(sample_rate):
        raise ValueError(
            f"sample_rate must be whole Hz from {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ}, got {sample_rate!r}"
        )
    return int(sample_rate)


@dataclass(frozen=True)
class Batch:
    """A batch (B, C, T) in main memory, of the type that it came with, and the way back to what it came as."""

    items: Tensor
    back: Callable[[Tensor], Samples]

    @classmethod
    def of(cls, samples: Samples, layout: str) -> Batch:
        """Take apart what a generator made; float samples have full scale 1.0, integers that of their type.

        Raises:
            TypeError: these are no samples.
            EmptyAudio: there are none.
        """
        tensor = _tensor(samples)
        device = tensor.device
        if tensor.numel() == 0:
            raise EmptyAudio(f"the generator made no audio: its output has the shape {tuple(tensor.shape)}")

        def back(items: Tensor) -> Samples:
            axes = _from_items(items, layout).contiguous()
            return axes.to(device) if isinstance(samples, Tensor) else axes.numpy()

        return cls(_to_items(tensor.detach().cpu(), layout), back)

    def wave(self, item: int, samples: int) -> Tensor:
        """The first samples of an item as floats. (C, n)"""
        wave = self.items[item, :, :samples]
        if wave.dtype not in PCM:
            return wave.float()
        scale, silence = PCM[wave.dtype]
        return (wave.double().sub(silence) / scale).float()

    def encoded(self, wave: Tensor) -> Tensor:
        """Floats (C, n) in the type that the batch came with; for PCM turned down where they pass full scale."""
        kind = self.items.dtype
        if kind not in PCM:
            return wave.to(kind)
        scale, silence = PCM[kind]
        room = 1 - 1 / scale  # the largest value of PCM
        wave = wave.double()
        wave = wave * (room / wave.abs().max().clamp(min=room))
        return (wave * scale + silence).round().to(kind)

    def silence(self, samples: int) -> Tensor:
        """(B, C, samples)"""
        value = PCM.get(self.items.dtype, (1.0, 0))[1]
        return torch.full((*self.items.shape[:2], samples), value, dtype=self.items.dtype)


def repaired(wave: Tensor, name: str, on_nonfinite: str) -> Tensor:
    """A wave (C, T) without samples that are NaN or infinite: with zeros in their place, or an error."""
    bad = ~torch.isfinite(wave)
    if not (count := int(bad.sum())):
        return wave
    if on_nonfinite == "zero":
        return torch.where(bad, torch.zeros(()), wave)
    first = int(bad.any(dim=0).nonzero()[0])
    raise InvalidAudio(
        f"{count} of the {wave.numel()} samples that {name} made are NaN or infinite, the first at {first}; half "
        'precision overflows so: run it in float32 or bfloat16, or put zeros there with on_nonfinite="zero"',
        count,
        first,
    )


def _tensor(samples: Samples) -> Tensor:
    if isinstance(samples, np.ndarray):
        if samples.dtype.kind not in "fiu":
            raise TypeError(f"samples are float or integer PCM, not {samples.dtype}")
        native = np.array(samples, dtype=samples.dtype.newbyteorder("="), order="C")  # torch wants it writable
        if str(native.dtype) not in ("float16", "float32", "float64", "int16", "int32", "uint8"):
            raise TypeError(_unknown(str(native.dtype)))
        samples = torch.from_numpy(native)
    if samples.dtype not in FLOATS and samples.dtype not in PCM:
        raise TypeError(_unknown(str(samples.dtype).removeprefix("torch.")))
    return samples


def _unknown(kind: str) -> str:
    return (
        f"samples of type {kind} have no full scale that is agreed on; "
        "make them float within 1.0, or PCM in int16, int32 or uint8"
    )


def _to_items(samples: Tensor, layout: str) -> Tensor:
    """(B, C, T)"""
    if layout == "TC":
        samples = samples.T
    if "B" not in layout:
        samples = samples[None]
    return samples if "C" in layout else samples.unsqueeze(-2)


def _from_items(items: Tensor, layout: str) -> Tensor:
    samples = items if "C" in layout else items.squeeze(-2)
    if "B" not in layout:
        samples = samples[0]
    return samples.T if layout == "TC" else samples
