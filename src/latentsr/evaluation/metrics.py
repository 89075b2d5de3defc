"""Figures of merit: log-spectral distance in both definitions in use, and what it cannot see.

All functions are tensors in, one figure per example out, in the dtype and on the device of the input (the benchmark
passes float64). Bands are half open, (low_hz, high_hz], so that neighbours share no bin; the bin at 0 Hz belongs to a
band that starts at 0. Where a figure is not defined (an empty band, silence) it is NaN.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from latentsr.config import AUDIO, AudioConfig
from latentsr.evaluation.perceptual import visqol as visqol
from latentsr.evaluation.perceptual import visqol_installed as visqol_installed
from latentsr.signal.mel import MelSpectrogram, mel_edges_hz

Edge = float | Tensor  # Hz; one for the batch, or (B,)

POWER_FLOOR = 1e-8  # of |STFT|^2: below the dust of 16-bit rounding (6e-8 under a Hann window of 2048)
LIMIT_DB = 200.0  # an exact match gives this much, not infinity
TONE_WINDOW = 16_384  # samples: bins of 2.9 Hz at 48 kHz


# --- log-spectral distance ------------------------------------------------------------------------------------------


def _floored_power_ratio(reference: Tensor, estimate: Tensor) -> Tensor:
    """log10 max(P, 1e-8) - log10 max(P', 1e-8), P the power. Two magnitudes -> log10 ratio."""
    power, other = (x.square().clamp_min(POWER_FLOOR).log10() for x in (reference, estimate))
    return power - other


def _unfloored_power_ratio(reference: Tensor, estimate: Tensor) -> Tensor:
    """log10(T^2 / (E + 1e-12)^2 + 1e-12): digital silence in both scores 12 a bin, as it does in ssr_eval."""
    return (reference.square() / (estimate + 1e-12).square() + 1e-12).log10()


@dataclass(frozen=True)
class LsdPreset:
    """One definition of the distance: an STFT and a per-bin log ratio. The pooling is common to both."""

    n_fft: Callable[[int], int]  # of the sampling rate, samples
    hop_length: Callable[[int], int]  # of the sampling rate, samples
    centred: bool  # frames centred on multiples of the hop, with zeros beyond both ends
    log_ratio: Callable[[Tensor, Tensor], Tensor]


LSD_PRESETS: dict[str, LsdPreset] = {
    "2048/512": LsdPreset(lambda _: 2048, lambda _: 512, centred=False, log_ratio=_floored_power_ratio),
    "ssr_eval": LsdPreset(
        lambda rate: int(2048 / (44_100 / rate)),
        lambda rate: rate // 100,
        centred=True,
        log_ratio=_unfloored_power_ratio,
    ),
}


def lsd(
    reference: Tensor,
    estimate: Tensor,
    *,
    preset: str = "2048/512",
    low_hz: Edge = 0.0,
    high_hz: Edge | None = None,
    sample_rate: int = AUDIO.sample_rate,
) -> Tensor:
    """Log-spectral distance (log10 of power, no unit), lower is better. Figures of the two presets do not compare.

    Args:
        reference: (B, T) target audio.
        estimate: (B, T) audio to score.
        preset: '2048/512' (AERO, NU-Wave 2, AP-BWE) or 'ssr_eval' (NVSR, AudioSR).
        low_hz: bins above this frequency count (0 includes 0 Hz); one figure or (B,).
        high_hz: bins up to this frequency count; None is half the rate.
        sample_rate: Hz.

    Returns:
        (B,) distances.

    >>> wave = torch.randn(1, 4096, generator=torch.Generator().manual_seed(0))
    >>> lsd(wave, wave)
    tensor([0.])
    >>> lsd(wave, wave / 2)  # a gain g that keeps every bin above the floor adds |2 log10 g|
    tensor([0.6021])
    """
    return lsd_bands(reference, estimate, [(low_hz, high_hz)], preset=preset, sample_rate=sample_rate)[0]


def lsd_bands(
    reference: Tensor,
    estimate: Tensor,
    bands: Sequence[tuple[Edge, Edge | None]],
    *,
    preset: str = "2048/512",
    sample_rate: int = AUDIO.sample_rate,
) -> list[Tensor]:
    """`lsd` in several bands (low_hz, high_hz) for the price of one: mean over bins, square root, mean over frames."""
    if preset not in LSD_PRESETS:
        raise ValueError(f"unknown LSD preset {preset!r}; known: {', '.join(LSD_PRESETS)}")
    how = LSD_PRESETS[preset]
    n_fft, hop_length = how.n_fft(sample_rate), how.hop_length(sample_rate)
    spectra = [_stft(x, n_fft, hop_length, how.centred) for x in _same_shape(reference, estimate)]
    squares = how.log_ratio(*spectra).square()
    masks = [_band_mask(n_fft, sample_rate, low, high, squares) for low, high in bands]
    return [_masked_mean(squares, mask).sqrt().mean(-1) for mask in masks]


def validation_lsd(
    reference: Tensor,
    estimate: Tensor,
    cutoff_hz: Edge,
    bandwidth_hz: Edge | None = None,
    sample_rate: int = AUDIO.sample_rate,
) -> dict[str, float]:
    """The figures to log while training: means over a batch of (B, 1, T) waves, NaN examples left out.

    `lsd` counts up to `bandwidth_hz`, `lsd_hf` from the cutoff up to it, `lsd_lf` up to the cutoff; `hf_energy_db` is
    the energy of that high band against the reference's (a blur is below 0), `hf_spread` its liveliness (a blur is
    below 1).
    """
    pair = reference.squeeze(1), estimate.squeeze(1)
    bands = [(0.0, bandwidth_hz), (cutoff_hz, bandwidth_hz), (0.0, cutoff_hz)]
    figures = dict(zip(("lsd", "lsd_hf", "lsd_lf"), lsd_bands(*pair, bands, sample_rate=sample_rate), strict=True))
    figures["hf_energy_db"] = band_energy_ratio_db(*pair, cutoff_hz, bandwidth_hz, sample_rate)
    figures["hf_spread"] = band_spread_ratio(*pair, cutoff_hz, bandwidth_hz)
    return {name: float(values.nanmean()) for name, values in figures.items()}


# --- what LSD cannot see: energy, liveliness, and whether the given band was kept ------------------------------------


def band_energy_ratio_db(
    reference: Tensor, estimate: Tensor, low_hz: Edge, high_hz: Edge | None, sample_rate: int = AUDIO.sample_rate
) -> Tensor:
    """Energy of the estimate against the reference's in a band, dB. Two (B, T) -> (B,)"""
    energies = [_band_energy(x, low_hz, high_hz, sample_rate) for x in _same_shape(reference, estimate)]
    return 10 * (energies[1] / energies[0]).log10()


def band_spread_ratio(
    reference: Tensor, estimate: Tensor, low_hz: Edge, high_hz: Edge | None, config: AudioConfig = AUDIO
) -> Tensor:
    """Standard deviation over time of the log-mel bands between two frequencies, against the reference's.

    Below 1 is a blur. Two (B, T) -> (B,). Only mel bands that lie wholly inside count.
    """
    spreads = [_spectra.get(x, partial(_mel_spread, x, config), config) for x in _same_shape(reference, estimate)]
    edges = mel_edges_hz(config).to(reference)
    top = config.sample_rate / 2 if high_hz is None else high_hz
    inside = (edges[:-2] >= _column(low_hz, reference)) & (edges[2:] <= _column(top, reference) + 1e-6)
    truth, other = (_masked_mean(spread[..., None], inside[..., None])[:, 0] for spread in spreads)
    return torch.where(truth > 0, other / truth, torch.nan)


def _mel_spread(wave: Tensor, config: AudioConfig) -> Tensor:
    """Standard deviation over time of each log-mel band. (B, T) -> (B, M)"""
    mel = MelSpectrogram(config).to(wave)
    return mel(wave[:, None])[:, 0].std(dim=1, correction=0)


def level_error_db(source: Tensor, estimate: Tensor, high_hz: Edge, sample_rate: int = AUDIO.sample_rate) -> Tensor:
    """By how much the estimate moved the level of the band below `high_hz` that it was given, dB. Two (B, T) -> (B,)"""
    energies = [_band_energy(x, 0.0, high_hz, sample_rate, floor=0.0) for x in _same_shape(source, estimate)]
    return _ratio_db(energies[1], energies[0])


def kept_band_error_db(source: Tensor, estimate: Tensor, high_hz: Edge, sample_rate: int = AUDIO.sample_rate) -> Tensor:
    """Energy of (estimate - source) below `high_hz`, against the source's there, dB. Two (B, T) -> (B,)"""
    source, estimate = _same_shape(source, estimate)
    error, given = (_band_energy(x, 0.0, high_hz, sample_rate, floor=0.0) for x in (estimate - source, source))
    return _ratio_db(error, given)


# --- waveform distances: for the kept band and for denoising, not for bandwidth extension ---------------------------


def snr_db(reference: Tensor, estimate: Tensor) -> Tensor:
    """|r|^2 / |e - r|^2 in dB. Two (B, T) -> (B,)"""
    reference, estimate = _same_shape(reference, estimate)
    return _ratio_db(reference.square().sum(-1), (estimate - reference).square().sum(-1))


def si_sdr_db(
    reference: Tensor, estimate: Tensor, high_hz: float | None = None, sample_rate: int = AUDIO.sample_rate
) -> Tensor:
    """Scale-invariant signal-to-distortion ratio (Le Roux et al. 2019, eq. 3), no mean removed. Two (B, T) -> (B,)

    With `high_hz`, that of both waves cut there without a skirt: of the band that was given.
    """
    reference, estimate = _same_shape(reference, estimate)
    if high_hz is not None:
        reference, estimate = (_below(x, high_hz, sample_rate) for x in (reference, estimate))
    scale = (reference * estimate).sum(-1, keepdim=True) / reference.square().sum(-1, keepdim=True)
    target = scale * reference
    return _ratio_db(target.square().sum(-1), (estimate - target).square().sum(-1))


def _below(wave: Tensor, high_hz: float, sample_rate: int) -> Tensor:
    """The whole wave's spectrum up to `high_hz`, and nothing above. (B, T) -> (B, T)"""
    spectrum = torch.fft.rfft(wave)
    freqs_hz = torch.fft.rfftfreq(wave.shape[-1], 1 / sample_rate, dtype=torch.float64, device=wave.device)
    return torch.fft.irfft(torch.where(freqs_hz <= high_hz, spectrum, 0), n=wave.shape[-1])


def tone_level_db(source: Tensor, estimate: Tensor, tone_hz: float, sample_rate: int = AUDIO.sample_rate) -> Tensor:
    """Level of the estimate at one frequency against the source's there, dB. Two (B, T) -> (B,)

    Power of the bin nearest to it and of its two neighbours, in windows of a third of a second, mean over time. The
    floor is the dust of 16-bit rounding, so that silence against silence is 0.
    """
    waves = _same_shape(source, estimate)
    centre = min(round(tone_hz * TONE_WINDOW / sample_rate), TONE_WINDOW // 2)
    bins = slice(max(centre - 1, 0), centre + 2)
    levels = [_stft(x, TONE_WINDOW, TONE_WINDOW // 4, centred=True)[:, bins].square().sum(1).mean(-1) for x in waves]
    floor = 3 * POWER_FLOOR * TONE_WINDOW / 2048
    return _ratio_db(levels[1].clamp_min(floor), levels[0].clamp_min(floor))


# --- shared by the above ---------------------------------------------------------------------------------------------


def _same_shape(reference: Tensor, estimate: Tensor) -> tuple[Tensor, Tensor]:
    if reference.shape != estimate.shape or reference.shape[-1] == 0:
        raise ValueError(f"need two waves of one shape, got {tuple(reference.shape)} and {tuple(estimate.shape)}")
    return reference, estimate


class _Spectra:
    """The spectra of the last few waves, while somebody scores many estimates of one reference: see `remembering`."""

    SIZE = 10  # four of an estimate, three of its reference and one of its input, and two to spare

    def __init__(self) -> None:
        self.kept: OrderedDict[tuple[Any, ...], tuple[Tensor, Tensor]] | None = None

    def get(self, wave: Tensor, make: Callable[[], Tensor], *how: object) -> Tensor:
        if self.kept is None:
            return make()
        key = (wave.data_ptr(), wave.shape, wave.stride(), wave.dtype, how)
        if key not in self.kept:
            self.kept[key] = wave, make()  # the wave is held too, so that nothing else comes to lie there
        self.kept.move_to_end(key)
        while len(self.kept) > self.SIZE:
            self.kept.popitem(last=False)
        return self.kept[key][1]


_spectra = _Spectra()


@contextmanager
def remembering() -> Iterator[None]:
    """Within this, the spectrum of a wave that comes again is not computed again. Waves must not be written into."""
    _spectra.kept = OrderedDict()
    try:
        yield
    finally:
        _spectra.kept = None


def _stft(wave: Tensor, n_fft: int, hop_length: int, centred: bool) -> Tensor:
    """Hann magnitudes, not normalised. (B, T) -> (B, F, L); a wave shorter than a window is filled up with zeros."""
    return _spectra.get(wave, lambda: _new_stft(wave, n_fft, hop_length, centred), n_fft, hop_length, centred)


def _new_stft(wave: Tensor, n_fft: int, hop_length: int, centred: bool) -> Tensor:
    if wave.ndim != 2:
        raise ValueError(f"metrics take waves of shape (B, T), got {tuple(wave.shape)}; average the channels first")
    wave = torch.nn.functional.pad(wave, (0, max(0, n_fft - wave.shape[-1])))
    window = torch.hann_window(n_fft, dtype=wave.dtype, device=wave.device)
    return torch.stft(
        wave, n_fft, hop_length, window=window, center=centred, pad_mode="constant", return_complex=True
    ).abs()


def _band_mask(n_fft: int, sample_rate: int, low_hz: Edge, high_hz: Edge | None, like: Tensor) -> Tensor:
    """(B or 1, F, 1), true for bins in (low_hz, high_hz]."""
    bins_hz = torch.arange(n_fft // 2 + 1, dtype=torch.float64, device=like.device) * (sample_rate / n_fft)
    low = _column(low_hz, bins_hz)
    high = _column(sample_rate / 2 if high_hz is None else high_hz, bins_hz)
    return (((bins_hz > low) | ((bins_hz == 0) & (low <= 0))) & (bins_hz <= high))[..., None]


def _column(edge: Edge, like: Tensor) -> Tensor:
    return torch.as_tensor(edge).to(like).reshape(-1, 1)


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over axis 1 of (B, F, L) where the mask (B or 1, F, 1) is true; NaN where it is nowhere true."""
    return torch.where(mask, values, 0).sum(1) / mask.sum(1)


def _band_energy(
    wave: Tensor, low_hz: Edge, high_hz: Edge | None, sample_rate: int, floor: float = POWER_FLOOR
) -> Tensor:
    """Sum of |STFT|^2 (2048/512) in a band. (B, T) -> (B,); the floor, per bin, keeps ratios of silence finite."""
    power = _stft(wave, 2048, 512, centred=False).square().clamp_min(floor)
    mask = _band_mask(2048, sample_rate, low_hz, high_hz, power)
    energy = torch.where(mask, power, 0).sum((1, 2))
    return torch.where(mask.any(1)[:, 0], energy, torch.nan)


def _ratio_db(numerator: Tensor, denominator: Tensor) -> Tensor:
    """10 log10 of a ratio of energies, within +-200 dB; NaN for 0 / 0."""
    return (10 * (numerator / denominator).log10()).clamp(-LIMIT_DB, LIMIT_DB)
