"""Recordings made to be read wrong: cut, lying, mixed up. Written by soundfile and PyAV, then patched byte by byte."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

RATE_HZ = 48_000

# name -> (soundfile's format and subtype) or (FFmpeg's muxer, its codec, options)
SOUNDFILE = {
    "wav": ("WAV", "PCM_16"),
    "wav24": ("WAV", "PCM_24"),
    "adpcm": ("WAV", "IMA_ADPCM"),
    "rf64": ("RF64", "PCM_16"),
    "w64": ("W64", "PCM_16"),
    "aiff": ("AIFF", "PCM_16"),
    "au": ("AU", "PCM_16"),
    "caf": ("CAF", "PCM_16"),
    "alac.caf": ("CAF", "ALAC_16"),
    "nist": ("NIST", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
}
FFMPEG = {
    "m4a": ("mp4", "aac", {"movflags": "faststart"}),
    "late.m4a": ("mp4", "aac", {}),  # the index at the end
    "fragmented.m4a": ("mp4", "aac", {"movflags": "frag_keyframe+empty_moov+default_base_moof"}),
    "alac.m4a": ("mp4", "alac", {"movflags": "faststart"}),
    "aac": ("adts", "aac", {}),
    "mkv": ("matroska", "aac", {}),
    "wv": ("wv", "wavpack", {}),
}
BIT_EXACT = ("wav", "wav24", "adpcm", "rf64", "w64", "aiff", "au", "caf", "alac.caf", "nist", "flac", "alac.m4a", "wv")


def noise(channels: int = 2, frames: int = RATE_HZ, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (channels, frames)).astype(np.float32)


def make(folder: Path, name: str, samples: np.ndarray | None = None) -> Path:
    """A file of the kind `name`, of a second of stereo noise if not given."""
    samples = noise() if samples is None else samples
    path = folder / f"whole.{name}"
    if name in SOUNDFILE:
        format, subtype = SOUNDFILE[name]
        soundfile.write(path, samples.T, RATE_HZ, format=format, subtype=subtype)
    else:
        _mux(path, *FFMPEG[name], samples)
    return path


def _mux(path: Path, muxer: str, codec: str, options: dict[str, str], samples: np.ndarray) -> None:
    av = pytest.importorskip("av")
    with av.open(str(path), "w", format=muxer, options=options) as out:
        stream = out.add_stream(codec, rate=RATE_HZ, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = RATE_HZ, 0
        resampler = av.AudioResampler(format=stream.codec_context.format, layout="stereo", rate=RATE_HZ)
        for converted in resampler.resample(frame):
            for packet in stream.encode(converted):
                out.mux(packet)
        for packet in stream.encode(None):
            out.mux(packet)


def cut(path: Path, share: float) -> Path:
    """The first `share` of a file, beside it."""
    data = path.read_bytes()
    short = path.with_name(f"cut.{path.name.partition('.')[2]}")
    short.write_bytes(data[: int(len(data) * share)])
    return short


def patched(path: Path, after: bytes, offset: int, layout: str, *values: float) -> Path:
    """A copy with `values` put `offset` bytes behind where `after` begins."""
    data = bytearray(path.read_bytes())
    struct.pack_into(layout, data, data.index(after) + offset, *values)
    lying = path.with_name(f"lying.{path.name.partition('.')[2]}")
    lying.write_bytes(data)
    return lying


def stream_info(
    path: Path, *, rate_hz: int | None = None, channels: int | None = None, frames: int | None = None
) -> Path:
    """A FLAC whose first block lies."""
    data = bytearray(path.read_bytes())
    bits = int.from_bytes(data[18:26], "big")
    for value, shift, width in ((rate_hz, 44, 20), (channels and channels - 1, 41, 3), (frames, 0, 36)):
        if value is not None:
            bits = bits & ~((2**width - 1) << shift) | value << shift
    data[18:26] = bits.to_bytes(8, "big")
    lying = path.with_name("lying.flac")
    lying.write_bytes(data)
    return lying


def ogg(path: Path, change: Callable[[bytearray], None], page: str = "first") -> Path:
    """An Ogg file whose first or last page was changed, its checksum put right."""
    data = bytearray(path.read_bytes())
    start = 0 if page == "first" else data.rindex(b"OggS")
    segments = data[start + 26]
    end = start + 27 + segments + sum(data[start + 27 : start + 27 + segments])
    body = data[start:end]
    change(body)
    body[22:26] = bytes(4)
    body[22:26] = struct.pack("<I", _ogg_checksum(body))
    data[start:end] = body
    lying = path.with_name("lying.ogg")
    lying.write_bytes(data)
    return lying


def _ogg_checksum(page: bytes) -> int:
    rest = 0
    for byte in page:
        rest ^= byte << 24
        for _ in range(8):
            rest = (rest << 1 ^ 0x04C11DB7 if rest & 0x80000000 else rest << 1) & 0xFFFFFFFF
    return rest
