"""Recordings, and what is none, for the tests of the demo."""

import struct
from pathlib import Path

import numpy as np
import soundfile

RATE_HZ = 16_000
WRONG = ("paper.pdf", "empty.wav", "text.wav", "nan.wav", "cut.wav", "silent.wav")


def programme(seconds: float, rate_hz: int = RATE_HZ, cutoff_hz: float = 3_500, seed: int = 0) -> np.ndarray:
    """Noise bursts below a cutoff. (T,)"""
    rng = np.random.default_rng(seed)
    samples = round(seconds * rate_hz)
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    frequencies = np.fft.rfftfreq(samples, 1 / rate_hz)
    spectrum *= (frequencies < cutoff_hz) / np.maximum(frequencies, 100)
    wave = np.fft.irfft(spectrum, n=samples) * (1 + 0.8 * np.sin(np.arange(samples) * (12 / rate_hz)))
    return 0.4 * wave / np.abs(wave).max()


def make(folder: Path, name: str, seconds: float = 3.0, rate_hz: int = RATE_HZ, seed: int = 0) -> Path:
    """A recording in the format of its name."""
    path = folder / name
    kind = {"opus": {"format": "OGG", "subtype": "OPUS"}}.get(path.suffix[1:], {})
    soundfile.write(path, programme(seconds, rate_hz, seed=seed), rate_hz, **kind)
    return path


def wrong(folder: Path, name: str) -> Path:
    """One of WRONG."""
    path = folder / name
    if name == "paper.pdf":
        path.write_bytes(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<</Type/Catalog>>\nendobj\n" + b"0" * 4096)
    elif name == "empty.wav":
        path.write_bytes(b"")
    elif name == "text.wav":
        path.write_text("Dear diary, today I renamed a text file.\n" * 40)
    elif name == "nan.wav":
        wave = programme(1.0)
        wave[100:103] = np.nan
        soundfile.write(path, wave, RATE_HZ, subtype="FLOAT")
    elif name == "cut.wav":
        make(folder, name)
        path.write_bytes(path.read_bytes()[:60_000])
    elif name == "silent.wav":
        soundfile.write(path, np.zeros(0), RATE_HZ)
    return path


def long_opus(folder: Path, hours: float = 2.1) -> Path:
    """Hours of Opus in a few megabytes: the pages of a minute over and over, numbered and summed up anew."""
    path = folder / "long.opus"
    minute = folder / "minute.opus"
    with soundfile.SoundFile(minute, "w", 8_000, 1, "OPUS", format="OGG", compression_level=1.0) as file:
        file.write(1e-4 * np.random.default_rng(0).standard_normal(60 * 8_000))
    pages = _pages(minute.read_bytes())
    heads, bodies = pages[:2], pages[2:]
    length = struct.unpack("<q", bodies[-2][6:14])[0]  # of the last but one: the last may be padded
    out, number = [*heads], len(heads)
    for turn in range(round(hours * 60)):
        for page in bodies[:-1]:
            granule = struct.unpack("<q", page[6:14])[0] + turn * length
            out.append(_page(page, granule, number, last=False))
            number += 1
    out[-1] = _page(out[-1], struct.unpack("<q", out[-1][6:14])[0], number - 1, last=True)
    path.write_bytes(b"".join(bytes(page) for page in out))
    minute.unlink()
    return path


def band_db(wave: np.ndarray, rate_hz: int, low_hz: float, high_hz: float) -> float:
    """Energy of a band under a Hann window, without which the high band leaks into the low. dB. (T,)"""
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave)))) ** 2
    frequencies = np.fft.rfftfreq(len(wave), 1 / rate_hz)
    return float(10 * np.log10(spectrum[(frequencies >= low_hz) & (frequencies < high_hz)].sum() + 1e-30))


def _pages(data: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(data):
        segments = data[at + 27 : at + 27 + data[at + 26]]
        end = at + 27 + len(segments) + sum(segments)
        found.append(data[at:end])
        at = end
    return found


def _page(page: bytes, granule: int, number: int, *, last: bool) -> bytes:
    flags = (page[5] & ~4) | (4 if last else 0)
    body = bytearray(page[:5] + bytes([flags]) + struct.pack("<q", granule) + page[14:18])
    body += struct.pack("<II", number, 0) + page[26:]
    body[22:26] = struct.pack("<I", _checksum(body))
    return bytes(body)


def _table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1) ^ (0x04C11DB7 if value & 0x80000000 else 0)
        table.append(value & 0xFFFFFFFF)
    return table


_TABLE = _table()


def _checksum(page: bytes) -> int:
    """Ogg's CRC-32."""
    value = 0
    for byte in page:
        value = ((value << 8) & 0xFFFFFFFF) ^ _TABLE[(value >> 24) ^ byte]
    return value
