"""Examples for the cutoff estimator: a wide recording, cut in one of the ways of the world, as a file would hold it.

What was done is known, and where the band ends is measured on it, before noise and rounding: the first frequency above
1 kHz from which the recording stays 3 dB under what it was.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import scipy.fft
import torch
from numpy.typing import NDArray
from scipy import signal

from latentsr.config import AUDIO, Config, ConfigError
from latentsr.signal import cuts
from latentsr.signal.bandend import WELCH, freqs_hz, smooth_db, spectra
from latentsr.signal.bandframes import BIN_HZ, BINS, FLOAT_DB, FrameMaker, Frames, dust_db
from latentsr.signal.cuts import SHAPERS, Wave
from latentsr.signal.floor import OVER_TO_SEE, find_floors, subtract_floors
from latentsr.signal.mel import MelSpectrogram
from latentsr.training.cutoff_cuts import WAYS, Cut, log_uniform, pick, shelf, tilted

RATE = AUDIO.sample_rate
FILE_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 37_800, 44_056, 88_200, 96_000)
SHARP = 0.945  # of the lower Nyquist frequency: where soxr VHQ, there and back, is 3 dB down


class CutConfig(Config):
    """How often each way of cutting, and what befalls a recording behind it. Shares need not sum to 1."""

    kinds: dict[str, float] = {"none": 0.22, "filter": 0.37, "through": 0.28, "codec": 0.13}
    second: float = 0.2  # probability of another cut behind the first
    same_rate: float = 0.65  # of the files, at 44.1 or 48 kHz
    noise: float = 0.3  # probability of hiss
    hiss_db: tuple[float, float] = (-75.0, -6.0)  # against the recording
    cleaned: float = 0.2  # of the recordings with hiss: it has been taken out again, as `denoise` does
    lines: float = 0.12
    hum: float = 0.1
    clicks: float = 0.05
    clipping: float = 0.04
    holes: float = 0.06  # bands that are missing in mid spectrum, as codecs leave them
    gates: float = 0.12  # pauses of digital silence
    tilts: float = 0.25  # a steady slope, as dull or bright masters have
    shelf: float = 0.06  # of the uncut: its top is quieter, as bands that were made often are
    synthetic: float = 0.15  # of the recordings: noises and notes, as test signals and synthesisers have them
    nothing: float = 0.04  # tones, hum or dust alone
    restored: float = 0.04  # of the examples: what the embedded default made of a cut one, which is not cut any more
    depths: dict[str, float] = {"16": 0.5, "24": 0.12, "8": 0.08, "float": 0.3}
    level_db: tuple[float, float] = (-60.0, 0.0)  # peak, dBFS

    def check(self) -> None:
        """Raise ConfigError where codecs are asked for that need a library which is not there."""
        if self.kinds.get("codec") and find_spec("av") is None:
            raise ConfigError("kinds.codec needs PyAV: pip install 'latentsr[av]', or set kinds.codec to 0")


@dataclass(frozen=True)
class Example:
    """What the network hears, and what it should say."""

    frames: Frames  # (1, L, BINS)
    end_hz: float  # where the band was cut; inf: it was not
    own_hz: float  # where the recording itself ends
    heard: bool  # false: there is nothing to hear
    loss_db: NDArray[Any]  # (BINS,) that the cut took; NaN where it cannot be told
    hidden: bool = False  # hiss or rounding lie over the end and all that is missing: nothing is to be made


def draw(wide: Wave, own_hz: float, config: CutConfig, rng: np.random.Generator, *, uncut: bool = False) -> Example:
    """One example of a wide recording (T,) at 48 kHz that ends at `own_hz`; `uncut`: nothing may be cut from it."""
    if not uncut and rng.random() < config.nothing:
        return _nothing(len(wide), config, rng)
    if not uncut and rng.random() < config.synthetic:
        wide, own_hz = _synthetic(len(wide), rng), RATE / 2
    wide = tilted(wide, rng) if rng.random() < config.tilts else wide
    kind = "none" if uncut else pick(config.kinds, rng)
    rate = file_rate(config, rng, 40_000 if uncut else 0)
    cut = Cut(wide, rate / 2 if rng.random() < 0.8 else RATE / 2)
    if kind == "none" and rng.random() < config.shelf:
        cut.filter(shelf(rng), counts=False)
    for _ in range(0 if kind == "none" else 1 + (rng.random() < config.second)):
        WAYS[kind](cut, rng)
        kind = pick({name: share for name, share in config.kinds.items() if name != "none"}, rng)
    end_hz, loss_db = cut.measured(own_hz)
    hiss = _hiss(cut.wave, config, rng)
    filing = Filing.draw(float(np.abs(cut.wave).max(initial=0)), rate, config, rng)
    cleaned = hiss.any() and rng.random() < config.cleaned
    hidden, seen_hz = _under_noise(cut, end_hz, own_hz, hiss, filing)
    hidden, end_hz = (False, end_hz) if cleaned else (hidden, seen_hz)
    narrow = _dirtied(_cleaned(cut.wave + hiss) if cleaned else cut.wave + hiss, config, rng)
    return as_file_shows(Example(filing.frames(narrow, rng), end_hz, own_hz, True, loss_db, hidden))


def as_file_shows(example: Example) -> Example:
    """The file's own rate ends a band too, whatever noise hides; the loss is not known where nothing can be there."""
    nyquist_hz = example.frames.nyquist_hz
    known = np.arange(BINS) * BIN_HZ < min(nyquist_hz, example.own_hz) * 0.93
    loss_db = np.where(known, example.loss_db, np.nan).astype(np.float32)
    if nyquist_hz >= 20_000:
        return replace(example, loss_db=loss_db)
    end_hz = SHARP * nyquist_hz if example.hidden else min(example.end_hz, SHARP * nyquist_hz)
    return replace(example, end_hz=end_hz, loss_db=loss_db, hidden=False)


def _under_noise(cut: Cut, end_hz: float, own_hz: float, hiss: Wave, filing: Filing) -> tuple[bool, float]:
    """Whether hiss or rounding hide the end, and where it is seen among them."""
    if math.isinf(end_hz) or (filing.dust_db == FLOAT_DB and not hiss.any()):
        return False, end_hz
    noise, given, _ = spectra(hiss, cut.wide)
    noise += filing.noise_power(freqs_hz(WELCH)) * (signal.get_window("blackmanharris", WELCH) ** 2).sum()
    seen_hz = cut.end_hz(10 ** ((smooth_db(noise) - smooth_db(given)) / 10), own_hz)
    return math.isinf(seen_hz), end_hz if math.isinf(seen_hz) else seen_hz


# --- what befalls it, and the file ------------------------------------------------------------------------------------


def _dirtied(wave: Wave, config: CutConfig, rng: np.random.Generator) -> Wave:
    """With tones, hum, clicks, clipping, holes and pauses, each now and then."""
    rms = float(np.sqrt((wave**2).mean())) + 1e-9
    wave = wave.copy()
    seconds = np.arange(len(wave)) / RATE
    if rng.random() < config.clipping:
        limit = np.abs(wave).max() * rng.uniform(0.3, 0.95)
        wave = np.clip(wave, -limit, limit)
    if rng.random() < config.lines:
        for _ in range(int(rng.integers(1, 4))):
            hz = (
                float(rng.choice([15_625, 15_734, 19_000, 16_000]))
                if rng.random() < 0.4
                else log_uniform(rng, 100, 22e3)
            )
            level = rms * 10 ** (rng.uniform(-60, 0) / 20)
            wave += level * np.sin(2 * np.pi * (hz * seconds + rng.random()))
    if rng.random() < config.hum:
        mains, level = float(rng.choice([50, 60])), rms * 10 ** (rng.uniform(-50, 0) / 20)
        for k in range(1, int(rng.integers(2, 20))):
            wave += level / k ** rng.uniform(0.5, 2) * np.sin(2 * np.pi * (mains * k * seconds + rng.random()))
    if rng.random() < config.clicks:
        at = rng.integers(0, len(wave), int(rng.integers(1, 40)))
        wave[at] += rng.normal(0, rms * 10 ** (rng.uniform(-10, 20) / 20), len(at))
    if rng.random() < config.holes:
        low = log_uniform(rng, 1_500, 16_000)
        holed, high = Cut(wave), low + rng.uniform(100, 450)
        holed.filter(lambda f: np.where((f > low) & (f < high), 10 ** (-rng.uniform(0.5, 4)), 1))
        wave = holed.wave
    if rng.random() < config.gates:
        start = int(rng.integers(0, len(wave)))
        wave[start : start + int(len(wave) * rng.uniform(0.05, 0.6))] = 0
    return wave


def _hiss(wave: Wave, config: CutConfig, rng: np.random.Generator) -> Wave:
    """Now and then noise, white or sloping by up to 6 dB an octave either way; else zeros."""
    if rng.random() >= config.noise:
        return np.zeros(len(wave))
    noise = rng.standard_normal(len(wave))
    if rng.random() < 0.5:
        cut, slope = Cut(noise), rng.uniform(-6, 4) / 6.02
        cut.filter(lambda f: np.maximum(f / 1_000, 0.03) ** slope)
        noise = cut.wave / (cut.wave.std() + 1e-9)
    return noise * np.sqrt((wave**2).mean()) * 10 ** (rng.uniform(*config.hiss_db) / 20)


def _cleaned(wave: Wave) -> Wave:
    """Without its steady floor, as the estimate gets it with `denoise`."""
    given, mel = torch.from_numpy(wave)[None].float(), MelSpectrogram(AUDIO)
    made = subtract_floors(given[:, None], find_floors(given, mel), mel, OVER_TO_SEE, power=1.0)
    return made[0, 0].double().numpy()


def file_rate(config: CutConfig, rng: np.random.Generator, lowest: int = 0) -> int:
    if rng.random() < config.same_rate:
        return int(rng.choice([44_100, 48_000]))
    rate = int(rng.choice(FILE_RATES)) if rng.random() < 0.8 else round(log_uniform(rng, 6_000, 48_000))
    return rate if rate >= lowest else 48_000


@dataclass(frozen=True)
class Filing:
    """The rate, level and depth of a file."""

    rate: int
    scale: float
    bits: int | None  # None: float
    dither: float
    shaper: str

    @classmethod
    def draw(cls, peak: float, rate: int, config: CutConfig, rng: np.random.Generator) -> Filing:
        low, high = config.level_db
        peak_db = high + (low - high) * rng.random() ** 2.5  # most are loud
        scale = 10 ** (peak_db / 20) / max(peak, 1e-9)
        depth = pick(config.depths, rng)
        shaper = str(rng.choice(list(SHAPERS))) if rng.random() < 0.3 else "none"
        return cls(rate, scale, None if depth == "float" else int(depth), float(rng.choice([0, 1, 1, 0.5])), shaper)

    @property
    def dust_db(self) -> float:
        return FLOAT_DB if self.bits is None else dust_db(self.bits - 1, self.rate)

    def noise_power(self, at_hz: Wave) -> Wave:
        """Of rounding, at some frequencies: as frames have it, of the wave before it is scaled."""
        at_hz = np.minimum(at_hz, self.rate / 2)
        shape = np.abs(signal.freqz(SHAPERS[self.shaper], 1, at_hz, fs=self.rate)[1]) ** 2
        return np.asarray(10 ** (self.dust_db / 10) / self.scale**2 * shape)

    def frames(self, wave: Wave, rng: np.random.Generator) -> Frames:
        """What a file of this wave (T,) at 48 kHz has."""
        wave = cuts.soxr_at("VHQ")(wave, RATE, self.rate) if self.rate != RATE else wave
        wave = wave * self.scale
        if self.bits is not None:
            wave = cuts.rounded(wave, self.bits, rng, self.dither, self.shaper)
        maker = FrameMaker(self.rate)
        maker.update(wave[None].astype(np.float32))
        return replace(maker.result(), dust_db=self.dust_db)


def _synthetic(samples: int, rng: np.random.Generator) -> Wave:
    """Noise of any slope, steady, in syllables or in bursts, and sometimes notes over it."""
    seconds, wave = np.arange(samples) / RATE, np.zeros(samples)
    if rng.random() < 0.85:
        cut, slope = Cut(rng.standard_normal(samples)), rng.uniform(-12, 2) / 6.02
        knots, bends = np.linspace(0, RATE / 2, 8), 10 ** (rng.normal(0, rng.choice([0, 3]), 8) / 20)
        cut.filter(lambda f: np.maximum(f / 100, 1) ** slope * np.interp(f, knots, bends))
        wave += cut.wave / cut.wave.std() * _envelope(seconds, rng)
    if rng.random() < 0.4 or not wave.any():
        for _ in range(int(rng.integers(1, 5))):
            hz, fall, bend = log_uniform(rng, 50, 900), rng.uniform(0.5, 1.8), rng.uniform(0, 0.02)
            turns = hz * (seconds + bend * np.sin(2 * np.pi * rng.uniform(1, 7) * seconds) / 10)
            partials = np.arange(1, int(23_000 / hz))
            period = np.zeros(8_193, complex)  # of a note with these partials, in 16,384 steps
            period[partials] = np.exp(2j * np.pi * rng.random(len(partials))) / partials**fall
            note = scipy.fft.irfft(period)[np.rint(turns * 16_384).astype(int) % 16_384] * 8_192
            start, decay = rng.uniform(0, seconds[-1]), log_uniform(rng, 0.3, 8)
            wave += note * np.where(seconds >= start, np.exp(-decay * (seconds - start)), 0) * rng.uniform(0.2, 2)
    return wave + 1e-9 * rng.standard_normal(samples)


def _envelope(seconds: Wave, rng: np.random.Generator) -> Wave:
    kind = rng.random()
    if kind < 0.35:
        return np.ones(len(seconds))
    if kind < 0.75:
        blocks = int(rng.integers(4, 80))
        return np.repeat(rng.uniform(rng.choice([0.0, 0.05, 0.3]), 1, blocks), -(-len(seconds) // blocks))[
            : len(seconds)
        ]
    period, decay = log_uniform(rng, 0.1, 2), log_uniform(rng, 1, 40)
    return np.exp(-decay * (seconds % period))


def _nothing(samples: int, config: CutConfig, rng: np.random.Generator) -> Example:
    """Tones, hum, or the dust of rounding alone."""
    seconds, wave = np.arange(samples) / RATE, np.zeros(samples)
    for _ in range(int(rng.integers(0, 5))):
        wave += rng.random() * np.sin(2 * np.pi * (log_uniform(rng, 30, 3_000) * seconds + rng.random()))
    if rng.random() < 0.3:
        wave *= np.exp(-seconds * rng.uniform(0, 4))
    rate = file_rate(config, rng)
    frames = Filing.draw(float(np.abs(wave).max(initial=0)), rate, config, rng).frames(wave, rng)
    return Example(frames, math.inf, 24_000.0, False, np.full(BINS, np.nan, np.float32))
