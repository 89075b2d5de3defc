"""Models of hearing that live in packages of the extra `eval`: Zimtohrli, and what makes ViSQOL affordable.

ViSQOL's port computes a gammatone spectrogram of both waves, and again of every patch that it aligns. The reference's
half of that is the same for every row of the table: `RememberingBuilder` computes it once. With numba installed (it is
in the extra) the port compiles its loops. Both give the figures of the plain call.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

RATE = 48_000  # of both models
MIN_SECONDS = 1.0  # ViSQOL finds no patch to compare below; Zimtohrli corrupts memory on waves of some 2000 samples
REMEMBERED_BYTES = 64 * 2**20


class RememberingBuilder:
    """A spectrogram builder that gives what it gave before for the same samples; the least used are forgotten first."""

    def __init__(self, builder: Any, max_bytes: int = REMEMBERED_BYTES) -> None:
        self._builder, self._max_bytes = builder, max_bytes
        self._kept: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
        self._bytes = 0
        self.computed = 0  # how often it had to

    def __getattr__(self, name: str) -> Any:
        return getattr(self._builder, name)

    def build(self, signal: Any, window: Any) -> Any:
        """The port's signature: a signal with `data` and `sample_rate`, a window with `size` and `overlap`."""
        digest = hashlib.sha1(signal.data.tobytes(), usedforsecurity=False).digest()
        key = (digest, signal.sample_rate, window.size, window.overlap)
        if key in self._kept:
            self._kept.move_to_end(key)
        else:
            self.computed += 1
            self._keep(key, self._builder.build(signal, window))
        found = self._kept[key]
        return type(found)(found.data.copy(), found.center_freq_bands.copy())  # nobody can spoil what is kept

    def _keep(self, key: tuple[Any, ...], spectrogram: Any) -> None:
        self._kept[key] = spectrogram
        self._bytes += spectrogram.data.nbytes
        while self._bytes > self._max_bytes and len(self._kept) > 1:
            self._bytes -= self._kept.popitem(last=False)[1].data.nbytes


def visqol_api() -> Any | None:
    """The port's interface in audio mode, with a builder that remembers; None where it is not installed."""
    try:
        from visqol import VisqolApi
    except ModuleNotFoundError:
        return None
    api = VisqolApi()
    api.create(mode="audio")
    manager = getattr(api, "_manager", None)
    if manager is not None and hasattr(
        manager, "spect_builder"
    ):  # another version may keep it elsewhere, and be slower
        manager.spect_builder = RememberingBuilder(manager.spect_builder)
    return api


_visqol_api = cache(visqol_api)


@cache
def _zimtohrli() -> Any | None:
    try:
        import zimtohrli as package
    except ModuleNotFoundError:
        return None
    return package


def visqol_installed() -> bool:
    """Whether the package is there."""
    return _visqol_api() is not None


def zimtohrli_installed() -> bool:
    """Whether the package is there."""
    return _zimtohrli() is not None


def visqol(reference: Tensor, estimate: Tensor, sample_rate: int = RATE) -> float | None:
    """ViSQOL v3 in audio mode: predicted opinion from 1 to about 4.73, higher is better. Two (T,) -> figure.

    None where it is not installed (extra `eval`), where the waves are shorter than a second, or silent.
    """
    waves, api = _waves(reference, estimate, sample_rate, np.float64), _visqol_api()
    return None if waves is None or api is None else float(api.measure_from_arrays(*waves, sample_rate).moslqo)


def zimtohrli(reference: Tensor, estimate: Tensor, sample_rate: int = RATE) -> tuple[float, float] | tuple[None, None]:
    """Zimtohrli's distance (0 is the same, lower is better) and its mapping to an opinion (5 best). Two (T,).

    None, twice, where it is not installed (extra `eval`), and for waves shorter than a second or silent.
    """
    waves, package = _waves(reference, estimate, sample_rate, np.float32), _zimtohrli()
    if waves is None or package is None:
        return None, None
    distance = float(package.Pyohrli().distance(*waves))
    return distance, float(package.mos_from_zimtohrli(distance))


def _waves(reference: Tensor, estimate: Tensor, sample_rate: int, dtype: type) -> list[NDArray[Any]] | None:
    """Both as arrays; None where there is too little to hear."""
    if sample_rate != RATE:
        raise ValueError(f"models of hearing run at {RATE} Hz, got {sample_rate} Hz; resample first")
    if reference.shape != estimate.shape or reference.ndim != 1:
        raise ValueError(f"need two waves (T,) of one shape, got {tuple(reference.shape)} and {tuple(estimate.shape)}")
    waves: list[NDArray[Any]] = [x.detach().cpu().numpy().astype(dtype) for x in (reference, estimate)]
    return waves if len(reference) >= MIN_SECONDS * RATE and all(wave.any() for wave in waves) else None
