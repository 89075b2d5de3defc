"""The signal processing around the graphs, in numpy and scipy: what `latentsr.signal` does in torch.

Every number comes from the description that `latentsr export` writes beside the graphs (or into them).
"""

from __future__ import annotations

import math
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import scipy.fft
import soxr
from band import Band
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import minimum_filter1d, uniform_filter, uniform_filter1d

Array = np.ndarray


def resample(samples: Array, from_hz: int, to_hz: int, lead_s: float, edge: int) -> Array:
    """soxr VHQ, both ends extended oddly; as long as the recording, rounded half up. (C, T) -> (C, T')

    `edge` samples at either end are held below what was near.
    """
    if from_hz == to_hz:
        return samples
    length = (2 * samples.shape[1] * to_hz + from_hz) // (2 * from_hz)
    unit = from_hz // math.gcd(from_hz, to_hz)
    before = -(-round(lead_s * from_hz) // unit) * unit
    whole = np.concatenate([lead_in(samples, before), samples, lead_in(samples[:, ::-1], before)[:, ::-1]], axis=1)
    made, first = soxr.resample(np.ascontiguousarray(whole.T), from_hz, to_hz, quality="VHQ"), before * to_hz // from_hz
    made = np.ascontiguousarray(made[first : first + length].T)
    for end, near in ((np.s_[:, :edge], samples[:, :before]), (np.s_[:, -edge:], samples[:, -before:])):
        limit = np.abs(near).max(axis=1, keepdims=True, initial=0)
        made[end] = np.clip(made[end], -limit, limit)
    return made


def lead_in(wave: Array, count: int) -> Array:
    """`count` samples before (C, T): its start turned about the first sample, and what is lacking, held."""
    turned = 2 * wave[:, :1] - wave[:, 1 : count + 1][:, ::-1]
    held = (turned if turned.size else wave)[:, :1].repeat(count - turned.shape[1], axis=1)
    return np.concatenate([held, turned], axis=1)


def hann(length: int) -> Array:
    """Periodic, as torch's and scipy's for spectra."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)).astype(np.float32)


def take(wave: Array, first: int, last: int) -> Array:
    """Samples [first, last) of (C, T); beyond the ends reflected once, and silent after that."""
    total = wave.shape[1]
    inside = wave[:, max(first, 0) : max(min(last, total), 0)]
    before, after = min(max(-first, 0), last - first), min(max(last - total, 0), last - first)
    if inside.shape[1] == 0:
        return np.zeros((len(wave), last - first), np.float32)
    mirrored = [min(before, inside.shape[1] - 1), min(after, inside.shape[1] - 1)]
    made = np.pad(inside, ((0, 0), mirrored), mode="reflect")
    return np.pad(made, ((0, 0), (before - mirrored[0], after - mirrored[1])))


def overlap_add(frames: Array, hop: int) -> Array:
    """(C, L, n) -> (C, (L - 1) hop + n)"""
    channels, count, size = frames.shape
    pieces = -(-size // hop)
    padded = frames
    if size % hop:
        padded = np.zeros((channels, count, pieces * hop), frames.dtype)
        padded[..., :size] = frames
    out = np.zeros((channels, count + pieces - 1, hop), frames.dtype)
    for piece in range(pieces):
        out[:, piece : piece + count] += padded[:, :, piece * hop : (piece + 1) * hop]
    return out.reshape(channels, -1)[:, : (count - 1) * hop + size]


@lru_cache(maxsize=8)  # windows of a recording are of two or three lengths
def envelope(length: int, count: int, hop: int) -> Array:
    """Sum of the squared windows of `count` frames."""
    return overlap_add(np.broadcast_to(hann(length) ** 2, (1, count, length)), hop)[0]


def stft(wave: Array, window: Array, hop: int) -> Array:
    """(C, T) -> (C, L, bins)"""
    frames = sliding_window_view(wave, len(window), axis=1)[:, ::hop]
    return scipy.fft.rfft(frames * window, axis=-1)


def istft(spectra: Array, window: Array, hop: int) -> Array:
    """(C, L, bins) -> (C, (L - 1) hop + n), divided by the windows' envelope."""
    frames = scipy.fft.irfft(spectra, n=len(window), axis=-1) * window
    return overlap_add(frames, hop) / np.maximum(envelope(len(window), spectra.shape[1], hop), 1e-11)


class Processing:
    """All of it, by the numbers of one description."""

    def __init__(self, about: dict[str, Any]) -> None:
        self.about, self.audio = about, about["audio"]
        self.rate, self.hop = self.audio["sample_rate"], self.audio["hop_length"]

    # --- low band and mel ------------------------------------------------------------------------------------------

    def cut_sharply(self, wave: Array, cutoff_hz: Array) -> Array:
        """What lies below the cutoffs. (C, T), (C,) -> (C, T)"""
        about = self.about["low_band"]
        samples = wave.shape[1]
        edge = min(samples - 1, round(about["edge_s"] * self.rate))
        length = scipy.fft.next_fast_len(max(samples + 2 * edge, 2), real=True)
        head = 2 * wave[:, :1] - wave[:, edge:0:-1]
        tail = 2 * wave[:, -1:] - wave[:, -2 : -edge - 2 : -1]
        spectrum = scipy.fft.rfft(np.concatenate([head, wave, tail], axis=1), n=length, axis=1)
        place = (np.arange(length // 2 + 1) * (self.rate / length) - cutoff_hz[:, None]) / about["skirt_hz"]
        gain = 0.5 - 0.5 * np.sin(np.clip(place, -1, 1) * (math.pi / 2))
        filtered = scipy.fft.irfft(spectrum * gain.astype(np.float32), n=length, axis=1)
        return filtered[:, edge : edge + samples]

    @cached_property
    def filters(self) -> Array:
        """(bins, M) mel filters."""
        sparse = self.about["mel_filters"]
        filters = np.zeros((self.audio["n_mels"], self.audio["n_fft"] // 2 + 1), np.float32)
        for row, first, weights in zip(filters, sparse["first_bin"], sparse["weights"], strict=True):
            row[first : first + len(weights)] = weights
        return np.ascontiguousarray(filters.T)

    def log_mel(self, wave: Array) -> Array:
        """(C, T) -> (C, T / hop, M)"""
        padding = self.audio["padding"]
        padded = np.pad(wave, ((0, 0), (padding, padding)), mode="reflect")
        spectra = stft(padded, hann(self.audio["n_fft"]), self.hop)
        magnitude = np.sqrt(spectra.real**2 + spectra.imag**2)  # np.abs guards against overflow, and is slower
        return np.log(np.maximum(magnitude @ self.filters, np.float32(self.audio["floor"])))

    # --- wave ------------------------------------------------------------------------------------------------------

    def wave_of(self, real: Array, imag: Array) -> Array:
        """Wave (C, L * hop) of spectra (C, L, bins); frame l is centred on sample (l + 1/2) hop."""
        about = self.about["inverse_stft"]
        spectra = np.empty(real.shape, np.complex64)
        spectra.real, spectra.imag = real, imag
        window, hop = hann(about["n_fft"]), about["hop_length"]
        frames = scipy.fft.irfft(spectra, n=len(window), axis=-1) * window
        trim = (len(window) - hop) // 2
        made, weight = overlap_add(frames, hop), np.maximum(envelope(len(window), real.shape[1], hop), 1e-4)
        return (made / weight)[:, trim : made.shape[1] - trim]

    def as_noise(self, wave: Array, noise: Array) -> Array:
        """A share of the wave's power replaced by noise under its own envelope. (C, T), (C, T) or (1, T) -> (C, T)"""
        about = self.about["texture"]
        share = about["share"]
        if not share:
            return wave
        window, hop = hann(about["n_fft"]), about["hop"]
        half = len(window) // 2
        spectra, noises = (stft(np.pad(x, ((0, 0), (half, half)), mode="reflect"), window, hop) for x in (wave, noise))
        power = _smoothed(spectra.real**2 + spectra.imag**2, about["smoothed"]) / float((window**2).sum())
        made = istft(noises * np.sqrt(power + np.float32(about["silent"])), window, hop)[:, half : half + wave.shape[1]]
        return np.float32((1 - share) ** 0.5) * wave + np.float32(share**0.5) * made

    def merge(self, low: Array, wide: Array, band: Band) -> Array:
        """What lies below the cutoffs from `low`, the rest from `wide`. (C, T), (C, T) -> (C, T)"""
        about = self.about["low_band"]
        size, hop, begin = about["merge_frame"], about["merge_hop"], about["merge_from"]
        freqs_hz = np.arange(size // 2 + 1) * (self.rate / size)
        share = 1 - _rise(freqs_hz / band.cutoff_hz[:, None], begin, 1)
        raised = np.zeros_like(share)  # gain of the recording, less 1
        for row in np.flatnonzero(band.known):
            bins_hz = np.arange(band.kept.shape[1]) * about["skirt_bin_hz"]
            kept, raise_db = (np.interp(freqs_hz, bins_hz, each[row]) for each in (band.kept, band.raise_db))
            depth = _rise(freqs_hz / band.cutoff_hz[row], about["skirt_from"], about["skirt_in"])
            share[row] = 1 - depth * (1 - kept)
            raised[row] = 10 ** (depth * raise_db / 20) - 1
        samples, half, window = low.shape[1], size // 2, hann(size)
        edge = min(about["merge_context"], (samples - 1) // hop * hop)

        def extended(wave: Array) -> Array:
            before, after = (lead_in(each, edge) for each in (wave, wave[:, ::-1]))
            return np.pad(np.concatenate([before, wave, after[:, ::-1]], axis=1), ((0, 0), (half, size + half)))

        differing, known = extended(low - wide), extended(low)
        spectra = stft(differing, window, hop) * np.float32(share)[:, None]
        if band.known.any():
            spectra += stft(known, window, hop) * np.float32(share * raised)[:, None]
        merged = wide + istft(spectra, window, hop)[:, half + edge : half + edge + samples]
        ramp = min(about["end_fade"], samples // 2)
        rise = (0.5 - 0.5 * np.cos((np.arange(ramp) + 0.5) * (math.pi / about["end_fade"]))).astype(np.float32)
        faded = np.ones(samples, np.float32)  # into both ends, beyond which the filter knows nothing
        faded[:ramp], faded[samples - ramp :] = rise, rise[::-1]
        return low + faded * (merged - low)

    def turn_down(self, source: Array, restored: Array, ceiling: float) -> Array:
        """Hold the output below the ceiling by turning down what was added. (C, T), (C, T) -> (C, T)"""
        if np.abs(restored).max(initial=0) <= ceiling:
            return restored
        added, reach = restored - source, self.about["level"]["limiter_samples"]
        room = np.maximum(np.where(added > 0, ceiling - source, ceiling + source), 0)
        over = np.abs(restored) > ceiling
        gain = np.minimum(np.where(over, room / np.maximum(np.abs(added), 1e-9), 1).min(axis=0), 1)
        lowest = minimum_filter1d(gain, 2 * reach + 1, mode="constant", cval=1.0)
        window = np.hanning(2 * reach + 1)
        smooth = np.convolve(np.pad(lowest, reach, mode="edge"), window / window.sum(), mode="valid")
        return np.clip(source + np.minimum(smooth, gain).astype(np.float32) * added, -ceiling, ceiling)

    # --- noise -----------------------------------------------------------------------------------------------------

    def noise(self, seed: int, first: int, frames: int, channels: int, rows: int, offset: int = 0) -> Array:
        """Standard normal (channels, frames, rows) of the frames from `first` on, as `latentsr` draws it."""
        about = self.about["noise"]
        size = about["block_frames"]
        blocks = range(first // size, (first + frames - 1) // size + 1)
        drawn = [_normal(seed * about["seed_stride"] + block + offset, (channels, size, rows)) for block in blocks]
        start = first - blocks[0] * size
        return np.concatenate(drawn, axis=1)[:, start : start + frames]


def _rise(place: Array, first: float, last: float) -> Array:
    """0 up to `first`, 1 from `last` on, a raised cosine between them."""
    return 0.5 - 0.5 * np.cos(np.clip((place - first) / (last - first), 0, 1) * math.pi)


def _smoothed(power: Array, size: list[int]) -> Array:
    """Mean over bins x frames; at the edges over what there is. (C, L, bins)"""
    _, frames, bins = power.shape
    sums = uniform_filter(power, (1, size[1], size[0]), mode="constant")
    inside = (
        uniform_filter1d(np.ones(n, np.float32), k, mode="constant") for n, k in ((frames, size[1]), (bins, size[0]))
    )
    return np.maximum(sums, 0) / np.outer(*inside)


def torch_words(seed: int, count: int) -> Array:
    """The first words of torch's generator on a CPU, which is the Mersenne Twister that numpy has."""
    state = np.random.RandomState(seed % 2**32)
    return np.frombuffer(state.bytes(4 * count), np.uint32)


def head_seed(seed: int) -> int:
    """The seed that a head draws by: torch.randint(2**62) of a generator with this seed."""
    high, low = (int(word) for word in torch_words(seed, 2))
    return ((high << 32) | low) % 2**62


def _normal(seed: int, shape: tuple[int, ...]) -> Array:
    """torch.randn(shape) of a generator with this seed: Box and Muller's, 16 numbers at a time."""
    count = math.prod(shape)
    if count % 16:
        raise ValueError(f"noise is drawn 16 numbers at a time, got {shape}")
    uniform = (torch_words(seed % 2**63, count) & 0xFFFFFF).astype(np.float32) * np.float32(2**-24)
    first, second = uniform.reshape(-1, 2, 8).swapaxes(0, 1)
    radius = np.sqrt(-2 * np.log(1 - first))
    angle = np.float32(2 * np.pi) * second
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(shape)
