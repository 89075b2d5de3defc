"""The noise floor that a recording has in its pauses: how loud it would go on above where the recording was cut.

The floor of a microphone, a converter or rounding is white near the end of a band, and nearly all that is heard
between words or beats. A band that is made above it from sounds alone would fall silent there, and pump.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from latentsr.config import AUDIO
from latentsr.signal.transforms import power_of

FRAME = 2048  # samples, one after the other
BANDS_PER_OCTAVE, LOWEST_HZ = 3, 375.0
STEP_DB, QUIETEST_DB, STEPS = 0.02, -200.0, 16_000  # of the counted levels, dB of the power of a sample
LOOKED_AT, UP_TO = 4, 0.9  # so many bands, of which the highest ends below that share of the band's end
FEWEST_FRAMES = 20

# Chosen on 120 recordings that heads were trained on, at 4 and 8 kHz (docs/bandwidth.md). There is a floor where the
# quietest twentieth of the frames is alike in all bands to LEVEL_DB, a fifth of them lies within PAUSES_DB of it, and
# the loudest twentieth DEPTH_DB above: rain, an organ or a mix without pauses has none that could be told apart.
QUIET, LOW, LOUD = 0.05, 0.2, 0.95  # shares of the frames
LEVEL_DB, PAUSES_DB, DEPTH_DB = 5.0, 22.0, 35.0


class FloorFinder:
    """Hears a recording at 48 kHz in blocks and says how loud the noise floor of its channels is.

    The frames begin with each block, and what is left of a block is not heard: give it blocks of a size that does not
    depend on how the recording was read.
    """

    def __init__(self) -> None:
        self._window = torch.hann_window(FRAME)
        bands = int(BANDS_PER_OCTAVE * torch.tensor(AUDIO.sample_rate / 2 / LOWEST_HZ).log2())
        self._edges_hz = LOWEST_HZ * 2 ** (torch.arange(bands + 1) / BANDS_PER_OCTAVE)
        hz = torch.arange(FRAME // 2 + 1) * (AUDIO.sample_rate / FRAME)
        inside = ((hz >= self._edges_hz[:-1, None]) & (hz < self._edges_hz[1:, None])).float()
        self._mean = (inside / inside.sum(dim=1, keepdim=True) / self._window.square().sum()).T
        self._counts: Tensor | None = None  # (C, bands, STEPS) frames of each level

    def update(self, block: Tensor) -> None:
        """Hear samples (C, n). Frames of digital silence do not count: that is a gate, not a floor."""
        bands = self._mean.shape[1]
        if self._counts is None:
            self._counts = torch.zeros(len(block), bands, STEPS, dtype=torch.int32)
        if block.shape[-1] < FRAME:
            return
        for channel, counts in zip(block, self._counts, strict=True):
            power = power_of(torch.fft.rfft(channel.unfold(-1, FRAME, FRAME) * self._window)) @ self._mean
            level_db = 10 * power[(power > 0).all(dim=1)].double().log10()
            place = ((level_db - QUIETEST_DB) / STEP_DB).long().clamp(0, STEPS - 1) + STEPS * torch.arange(bands)
            counts += place.flatten().bincount(minlength=bands * STEPS).view(bands, STEPS)

    def result(self, ends_hz: Sequence[float]) -> tuple[float, ...]:
        """Standard deviation of the white noise that goes on above the end of each channel; 0: no floor was found."""
        counts = torch.zeros(len(ends_hz), 1, STEPS) if self._counts is None else self._counts
        return tuple(self._floor(channel, end_hz) for channel, end_hz in zip(counts, ends_hz, strict=True))

    def _floor(self, counts: Tensor, end_hz: float) -> float:
        """Of a channel, from the frames of each level (bands, STEPS) and where it ends."""
        last = int((self._edges_hz[1:] <= UP_TO * end_hz).sum())
        frames = int(counts[0].sum())
        if last < LOOKED_AT or frames < FEWEST_FRAMES:
            return 0.0
        so_far = counts[last - LOOKED_AT : last].cumsum(dim=1) / frames
        quiet, low, loud = (
            QUIETEST_DB + STEP_DB * (torch.searchsorted(so_far, torch.full((LOOKED_AT, 1), share))[:, 0] + 0.5)
            for share in (QUIET, LOW, LOUD)
        )
        pauses = float((low - quiet).median()) <= PAUSES_DB and float((loud - quiet).median()) >= DEPTH_DB
        level = float(quiet.max() - quiet.min()) <= LEVEL_DB
        return 10 ** (float(quiet.min()) / 20) if pauses and level else 0.0
