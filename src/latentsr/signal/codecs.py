"""Round trips through lossy codecs, in memory: MP3, Vorbis, Opus and a telephone line in place, and FFmpeg's."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.fft
import soundfile
import soxr
from numpy.typing import NDArray
from scipy import signal

from latentsr.config import AUDIO

Wave = NDArray[np.float32]  # (T,), full scale 1

RATE = AUDIO.sample_rate
TELEPHONE_RATE_HZ = 8_000
TELEPHONE_BAND_HZ = (300.0, 3_400.0)  # 3 dB down
TELEPHONE_ORDER = 12  # of a Butterworth band-pass, run forwards and backwards: lines fall steeply (ITU-T G.712)
MU = 255  # ITU-T G.711
HIGHEST_LEVEL = 0.999  # libsndfile refuses 1 where a bitrate mode is set
PADDING_S = 0.1  # of silence around what is encoded: encoders fade in, and cut their last frame
LONGEST_DELAY_S = 0.1
ALIGNED_BELOW_HZ = 3_000  # Opus codes the bands of its lower rates apart, up to two samples from each other
# Nominal rates of Vorbis' quality steps 0 to 5 (two channels); its real rate follows the music.
VORBIS_STEPS = {64: 0.0, 80: 0.1, 96: 0.2, 112: 0.3, 128: 0.4, 160: 0.5}


@dataclass(frozen=True)
class Codec:
    """How libsndfile is asked for it: `level` is its compression level (0 = largest file) at a rate in kb/s."""

    format: str
    subtype: str
    level: Callable[[float], float]
    rates_kbps: tuple[int, ...]  # that recipes draw from
    bitrate_mode: str | None = None
    gain: float = 1.0  # that the encoder applies on its own, and that is undone


CODECS = {
    "mp3": Codec(
        "MP3", "MPEG_LAYER_III", lambda kbps: min(1 - (kbps - 32) / 288, 0.999), (32, 48, 64, 96, 128), "CONSTANT", 0.95
    ),
    "vorbis": Codec("OGG", "VORBIS", lambda kbps: 1 - VORBIS_STEPS[int(kbps)], (64, 80, 96, 128)),
    "opus": Codec("OGG", "OPUS", lambda kbps: 1 - (kbps - 6) / 250, (12, 16, 24, 32, 48, 64)),
}


@dataclass(frozen=True)
class AvCodec:
    """How FFmpeg is asked for a codec: container, rates of file in Hz, bit rates in kb/s."""

    container: str
    rates: tuple[int, ...]
    kbps: tuple[float, ...]


AV_CODECS = {
    "aac": AvCodec("adts", (44_100, 48_000, 32_000), (24, 32, 48, 64, 96, 128)),
    "ac3": AvCodec("ac3", (48_000,), (40, 64, 96, 128)),
    "mp2": AvCodec("mp2", (44_100, 48_000), (32, 56, 64, 96, 128)),
    "wmav2": AvCodec("asf", (44_100, 22_050), (24, 32, 48, 64, 96)),
    "libopencore_amrnb": AvCodec("amr", (8_000,), (4.75, 7.4, 12.2)),
    "g722": AvCodec("wav", (16_000,), (64,)),
    "libopus": AvCodec("ogg", (48_000,), (6, 8, 10, 12, 14, 16, 20, 24, 32, 48)),
    "libmp3lame": AvCodec("mp3", (44_100, 48_000, 32_000, 22_050), (24, 32, 48, 64, 80, 96, 112, 128, 160)),
    "nellymoser": AvCodec("flv", (22_050,), (32,)),
    "adpcm_ima_wav": AvCodec("wav", (11_025, 22_050), (88,)),
    "pcm_mulaw": AvCodec("wav", (8_000,), (64,)),
}


def round_trip(wave: Wave, name: str, kbps: float, sample_rate: int) -> Wave:
    """Encode and decode one channel; what comes back lies where it was, to the sample, and is as long.

    Args:
        wave: (T,). Beyond full scale it is encoded at a lower level, and brought back.
        name: key of CODECS.
        kbps: rate in kb/s, one of the codec's `rates_kbps` or between them (Vorbis: of VORBIS_STEPS).
        sample_rate: Hz.

    Returns:
        (T,)
    """
    delay = _delay_samples(name, kbps, sample_rate)
    padding = round(PADDING_S * sample_rate)
    scale = max(1.0, float(np.abs(wave).max(initial=0.0)) / 0.99)
    decoded = _coded(np.pad(wave / scale, padding).astype(np.float32), name, kbps, sample_rate)
    first = padding + delay
    placed = np.zeros(len(wave), dtype=np.float32)
    kept = decoded[first : first + len(wave)]
    placed[: len(kept)] = kept
    return placed * np.float32(scale / CODECS[name].gain)


def ffmpeg_round_trip(wave: NDArray[np.float64], name: str, rate: int, kbps: float) -> NDArray[np.float64]:
    """Encode and decode one channel (T,) at 48 kHz by FFmpeg; what comes back may lie some milliseconds later."""
    whole, decoded_rate = ffmpeg_coded(wave, name, rate, kbps)
    return soxr.resample(whole, decoded_rate, RATE, quality="VHQ") if decoded_rate != RATE else whole


def ffmpeg_coded(wave: NDArray[np.float64], name: str, rate: int, kbps: float) -> tuple[NDArray[np.float64], int]:
    """The same as FFmpeg's decoder gives it, at its own rate.

    Args:
        wave: (T,) at 48 kHz.
        name: key of AV_CODECS.
        rate: Hz at which it is encoded, one of the codec's `rates`.
        kbps: rate in kb/s.

    Returns:
        (T',) and its rate.
    """
    import av

    codec, peak = AV_CODECS[name], max(1.0, float(np.abs(wave).max(initial=0)) / 0.99)
    narrow = soxr.resample(wave / peak, RATE, rate, quality="HQ") if rate != RATE else wave / peak
    samples = np.clip(np.rint(narrow * 32_767), -32_768, 32_767).astype(np.int16)[None]
    file, out = io.BytesIO(), list[NDArray[Any]]()
    with av.open(file, "w", format=codec.container) as container:
        stream: Any = container.add_stream(name, rate=rate, layout="mono")
        stream.bit_rate = round(kbps * 1000)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate = rate
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    file.seek(0)
    decoded_rate = rate
    with av.open(file, "r") as coded:
        for decoded in coded.decode(audio=0):
            block = decoded.to_ndarray()
            out.append((block / 32_768 if block.dtype == np.int16 else block).mean(axis=0))
            decoded_rate = decoded.sample_rate
    return np.concatenate(out).astype(np.float64) * peak if out else np.zeros(len(samples[0])), decoded_rate


@lru_cache(maxsize=64)
def codec_edge_hz(name: str, kbps: float, sample_rate: int) -> float:
    """Where the codec's own low-pass is 3 dB down, on white noise, to 50 Hz; half the rate where it has none."""
    noise = _probe(sample_rate)
    gains = []
    for wave in (noise, round_trip(noise, name, kbps, sample_rate)):
        power = np.square(np.abs(np.fft.rfft(wave)))
        width = round(100 * len(noise) / sample_rate)  # bins in 100 Hz
        gains.append(np.convolve(power, np.ones(width) / width, "same"))
    freqs_hz = np.fft.rfftfreq(len(noise), 1 / sample_rate)
    ratio = gains[1] / gains[0]
    ratio /= np.median(ratio[(freqs_hz > 500) & (freqs_hz < 3_000)])
    passed = np.flatnonzero((ratio >= 0.5) & (freqs_hz < 0.995 * sample_rate / 2))
    edge_hz = float(freqs_hz[passed[-1]])
    return sample_rate / 2 if edge_hz > 0.99 * sample_rate / 2 else 50 * round(edge_hz / 50)


def telephone(wave: Wave, sample_rate: int) -> Wave:
    """300 to 3400 Hz, 8000 samples a second, 8 bits of the mu-law that ITU-T G.711 makes segments of. (T,) -> (T,)"""
    if not len(wave):
        return wave
    low_hz, high_hz = TELEPHONE_BAND_HZ
    width_hz = (high_hz - low_hz) / (2**0.5 - 1) ** (0.5 / TELEPHONE_ORDER)  # run twice, it is narrower than designed
    top_hz = width_hz / 2 + (width_hz**2 / 4 + low_hz * high_hz) ** 0.5
    sos = signal.butter(TELEPHONE_ORDER, (top_hz - width_hz, top_hz), "bandpass", fs=sample_rate, output="sos")
    longest = 3 * (2 * len(sos) + 1)  # samples that sosfiltfilt extends the wave by at each end
    narrow = signal.sosfiltfilt(sos, wave, padlen=min(longest, len(wave) - 1))
    narrow = soxr.resample(narrow, sample_rate, TELEPHONE_RATE_HZ, quality="VHQ")
    scale = max(1.0, float(np.abs(narrow).max(initial=0.0)))
    companded = np.sign(narrow) * np.log1p(MU * np.abs(narrow / scale)) / np.log1p(MU)
    steps = np.round(companded * 127.5 - 0.5) + 0.5
    quantised = np.sign(steps) * np.expm1(np.abs(steps) / 127.5 * np.log1p(MU)) / MU * scale
    back = soxr.resample(quantised, TELEPHONE_RATE_HZ, sample_rate, quality="VHQ")
    placed = np.zeros(len(wave), dtype=np.float32)
    placed[: min(len(wave), len(back))] = back[: len(wave)]
    return placed


def _coded(wave: Wave, name: str, kbps: float, sample_rate: int) -> Wave:
    codec = CODECS[name]
    file = io.BytesIO()
    with soundfile.SoundFile(
        file, "w", sample_rate, 1, format=codec.format, subtype=codec.subtype,
        compression_level=min(codec.level(kbps), HIGHEST_LEVEL), bitrate_mode=codec.bitrate_mode,
    ) as encoder:  # fmt: skip
        encoder.write(wave)
    file.seek(0)
    decoded, rate = soundfile.read(file, dtype="float32")
    if rate != sample_rate:  # LAME resamples at low rates
        decoded = soxr.resample(decoded, rate, sample_rate, quality="VHQ")
    return np.asarray(decoded, dtype=np.float32)


@lru_cache(maxsize=64)
def _delay_samples(name: str, kbps: float, sample_rate: int) -> int:
    """Samples by which a decoded wave comes late: files without LAME's tag keep the delay of encoder and decoder."""
    noise = _probe(sample_rate)
    decoded = _coded(noise, name, kbps, sample_rate)
    length = scipy.fft.next_fast_len(len(noise) + len(decoded))
    spectrum = scipy.fft.rfft(noise, length).conj() * scipy.fft.rfft(decoded, length)
    spectrum[round(ALIGNED_BELOW_HZ / sample_rate * length) :] = 0
    furthest = round(LONGEST_DELAY_S * sample_rate)
    correlation = np.roll(scipy.fft.irfft(spectrum, length), furthest)[: 2 * furthest]
    return int(np.argmax(correlation)) - furthest


def _probe(sample_rate: int) -> Wave:
    return np.random.default_rng(0).normal(0, 0.1, 2 * sample_rate).astype(np.float32)
