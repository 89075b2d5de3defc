"""Signals with a flat spectrum, made of the low band and of noise, that the network's amplitudes shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import uniform_filter1d

Array = np.ndarray


class Excitation:
    """What `latentsr.models.excitation` does in torch, by the numbers of a description."""

    def __init__(self, about: dict[str, Any], rate: int) -> None:
        self.about, self.rate = about, rate
        self.frame, self.hop = about["frame"], about["hop"]
        self.bins = self.frame // 2 + 1
        self.window = np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.frame) / self.frame)).astype(np.float32)

    def spectra(self, wave: Array) -> Array:
        """(C, T) -> (C, T / hop, bins), frame l centred on sample (l + 1/2) hop."""
        edge = (self.frame - self.hop) // 2
        frames = sliding_window_view(np.pad(wave, ((0, 0), (edge, edge))), self.frame, axis=1)[:, :: self.hop]
        return scipy.fft.rfft(frames * self.window, axis=-1)

    def heard(self, low: Array, spectra: Array) -> Array:
        """Log amplitudes of the low band, normalised: of each band, and of each part of a frame. (C, L, F)"""
        knots = np.array(self.about["knots_hz"])
        bins_hz = np.linspace(0, self.rate / 2, self.bins)
        weights = np.stack([np.interp(bins_hz, knots, row) for row in np.eye(len(knots))])
        power = (spectra.real**2 + spectra.imag**2) / np.float32(self.frame / 2)
        bands = power @ (weights / weights.sum(axis=1, keepdims=True)).T.astype(np.float32)
        count = self.about["parts"]
        parts = np.square(low.reshape(len(low), -1, count, self.hop // count)).mean(axis=-1)
        amplitude = 0.5 * np.log(np.concatenate([bands, parts], axis=2) + np.float32(self.about["silent"]))
        return ((amplitude - self.about["power_mean"]) / self.about["power_std"]).astype(np.float32)

    def shaped(self, low: Array, spectra: Array, cutoff_hz: float, noise: Array, amplitudes: Array) -> Array:
        """The wave (C, T) of the excitations of low bands (C, T), each with its amplitudes (K, C, L, bins)."""
        noise = np.broadcast_to(noise, low.shape).astype(np.float32)
        turned = noise * np.resize(np.float32([1, -1]), low.shape[1])
        frames = scipy.fft.irfft(spectra, n=self.about["oversampled"] * self.frame, axis=-1)
        rectified = scipy.fft.rfft(np.abs(frames), axis=-1)[..., : self.bins]
        copied = spectra[..., self._copied_from(cutoff_hz)]
        total = np.zeros_like(spectra)
        excitations = (self.spectra(noise), self.spectra(turned * self._envelope(low)), rectified, copied)
        for excitation, amplitude in zip(excitations, amplitudes, strict=True):
            power = excitation.real**2 + excitation.imag**2
            reach = self.about["whitened_bins"]
            inside = uniform_filter1d(np.ones(self.bins, np.float32), reach, mode="constant")
            smooth = uniform_filter1d(power.astype(np.float64), reach, axis=-1, mode="constant") / inside
            total += excitation * (amplitude / np.sqrt(smooth + self.about["silent"])).astype(np.float32)
        made = scipy.fft.irfft(total, n=self.frame, axis=-1) * self.window
        halves = np.zeros((len(low), made.shape[1] + 1, self.hop), np.float32)
        halves[:, :-1] += made[..., : self.hop]
        halves[:, 1:] += made[..., self.hop :]
        return halves.reshape(len(low), -1)[:, self.hop // 2 : -self.hop // 2]

    def _copied_from(self, cutoff_hz: float) -> Array:
        """Which bin of the low band each bin takes."""
        edge = np.float32(cutoff_hz) / (self.rate / 2) * (self.bins - 1)
        shift = 2 * max(np.round(self.about["copied_share"] / 2 * edge), 1)
        bins = np.arange(self.bins)
        above = np.maximum(np.ceil((bins - np.floor(self.about["copied_to"] * edge)) / shift), 0)
        return np.maximum(bins - above * shift, 0).astype(int)

    def _envelope(self, low: Array) -> Array:
        """Root mean square over 1 ms, (C, T)."""
        hop, reach = self.about["envelope_hop"], self.about["envelope_reach"]
        padded = np.pad(np.square(low), ((0, 0), (hop, hop)))
        power = sliding_window_view(padded, reach, axis=1)[:, ::hop].mean(axis=-1)
        place = np.clip((np.arange(low.shape[1]) + 0.5) * power.shape[1] / low.shape[1] - 0.5, 0, power.shape[1] - 1)
        rows = [np.interp(place, np.arange(power.shape[1]), row) for row in power]
        return np.sqrt(np.stack(rows) + self.about["silent"]).astype(np.float32)
