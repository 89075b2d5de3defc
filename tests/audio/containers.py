"""A second of one sound in every container and codec that can be made here: by libsndfile, PyAV and hand."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import soundfile

RATE_HZ = 48_000


@dataclass(frozen=True)
class Case:
    """A file to make: `format` and `codec` as libsndfile or FFmpeg's muxer call them; `change` patches the bytes."""

    name: str
    format: str
    codec: str
    by: str = "PyAV"
    rate_hz: int = RATE_HZ
    channels: int = 2
    options: dict[str, str] = field(default_factory=dict)
    video: bool = False
    change: Callable[[bytes], bytes] | None = None
    copies: int = 1  # of the sound, after `change`
    unknown: bool = False  # its length is not declared
    bit_rate: int | None = None

    @property
    def wave(self) -> np.ndarray:
        """What is encoded. (C, T) float32, a second"""
        rng = np.random.default_rng(1)
        spectrum = np.fft.rfft(rng.standard_normal((self.channels, self.rate_hz)))
        hz = np.fft.rfftfreq(self.rate_hz, 1 / self.rate_hz)
        wave = np.fft.irfft(spectrum * (hz < 3_000) / np.maximum(hz, 300), n=self.rate_hz)
        return (0.4 * wave / np.abs(wave).max()).astype(np.float32)

    def make(self, folder: Path) -> Path:
        """The file; skips the test where its encoder is missing."""
        path = folder / self.name
        if self.by == "libsndfile":
            soundfile.write(path, self.wave.T, self.rate_hz, format=self.format, subtype=self.codec)
        elif self.by == "PyAV":
            _encode(path, self)
        if self.change is not None:
            path.write_bytes(self.change(path.read_bytes() if path.exists() else _by_hand(self)))
        return path


def _encode(path: Path, case: Case) -> None:
    av = pytest.importorskip("av")
    layout = "mono" if case.channels == 1 else "stereo"
    try:
        with av.open(str(path), "w", format=case.format, options=case.options) as out:
            picture = _picture_track(out) if case.video else None
            stream = out.add_stream(case.codec, rate=case.rate_hz, layout=layout)
            if case.bit_rate:
                stream.bit_rate = case.bit_rate
            context = stream.codec_context
            if picture is not None:
                _pictures(out, picture)
            shaper = av.AudioResampler(
                format=context.format, layout=layout, rate=case.rate_hz, frame_size=context.frame_size or 1_024
            )
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(case.wave), format="fltp", layout=layout)
            frame.sample_rate, frame.pts = case.rate_hz, 0
            for part in [*shaper.resample(frame), *shaper.resample(None), None]:
                for packet in stream.encode(part):
                    out.mux(packet)
    except (av.FFmpegError, ValueError) as error:
        pytest.skip(f"FFmpeg here has no {case.codec} in {case.format}: {error}")


def _picture_track(out):
    stream = out.add_stream("mpeg2video" if out.format.name in ("mpegts", "mpeg") else "flv" if out.format.name == "flv"
                            else "mpeg4", rate=25)  # fmt: skip
    stream.width = stream.height = 64
    stream.pix_fmt = "yuv420p"
    return stream


def _pictures(out, stream) -> None:
    import av

    for number in range(25):
        frame = av.VideoFrame.from_ndarray(np.zeros((96, 64), np.uint8), format="yuv420p")
        frame.pts = number
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


def id3(size: int) -> bytes:
    """An ID3v2 tag whose content is `size` zeros."""
    return b"ID3\4\0\0" + bytes(size >> shift & 127 for shift in (21, 14, 7, 0)) + bytes(size)


def ape(size: int) -> bytes:
    """An APEv2 tag with one item."""
    item = struct.pack("<II", size, 0) + b"Lyrics\0" + b"x" * size
    parts = [struct.pack("<8sIIII8x", b"APETAGEX", 2000, len(item) + 32, 1, flags) for flags in (0xA0000000, 2**31)]
    return parts[0] + item + parts[1]


def _twice(data: bytes) -> bytes:
    return data + data


def _piped_wav(data: bytes) -> bytes:
    at = data.index(b"data") + 4
    return data[:4] + b"\xff" * 4 + data[8:at] + b"\xff" * 4 + data[at + 4 :]


def _piped_flac(data: bytes) -> bytes:
    return data[:21] + bytes([data[21] & 0xF0, 0, 0, 0, 0]) + data[26:]


def _by_hand(case: Case) -> bytes:
    pcm = np.rint(case.wave * 127).astype(np.int8)

    def chunk(name: bytes, data: bytes) -> bytes:
        return name + struct.pack(">I", len(data)) + data + b"\0" * (len(data) % 2)

    head = chunk(b"VHDR", struct.pack(">IIIHBBI", pcm.shape[1], 0, 0, case.rate_hz, 1, 0, 0x10000))
    body = b"8SVX" + head + chunk(b"CHAN", struct.pack(">I", 6)) + chunk(b"BODY", pcm.tobytes())
    return b"FORM" + struct.pack(">I", len(body)) + body


def _sphere24(data: bytes) -> bytes:
    head = (
        b"NIST_1A\n   1024\nsample_count -i %d\nsample_n_bytes -i 3\nchannel_count -i 2\nsample_byte_format -s2 01\n"
        b"sample_rate -i 48000\nsample_coding -s3 pcm\nend_head\n" % RATE_HZ
    )
    wave = np.rint(CASES["wav"].wave.T * (2**23 - 1)).astype("<i4").reshape(-1, 1).view(np.uint8).reshape(-1, 4)[:, :3]
    return head.ljust(1024, b"\0") + wave.tobytes()


def _same(data: bytes) -> bytes:
    return data


_SNDFILE = [
    ("wav", "WAV", "PCM_16"), ("u8.wav", "WAV", "PCM_U8"), ("24.wav", "WAV", "PCM_24"), ("float.wav", "WAV", "FLOAT"),
    ("ulaw.wav", "WAV", "ULAW"), ("alaw.wav", "WAV", "ALAW"), ("ima.wav", "WAV", "IMA_ADPCM"),
    ("ms.wav", "WAV", "MS_ADPCM"), ("rf64", "RF64", "PCM_16"), ("w64", "W64", "PCM_16"), ("aiff", "AIFF", "PCM_16"),
    ("float.aifc", "AIFF", "FLOAT"), ("au", "AU", "PCM_16"), ("ulaw.au", "AU", "ULAW"), ("caf", "CAF", "PCM_24"),
    ("alac.caf", "CAF", "ALAC_16"), ("flac", "FLAC", "PCM_16"), ("24.flac", "FLAC", "PCM_24"),
    ("mp3", "MP3", "MPEG_LAYER_III"), ("ogg", "OGG", "VORBIS"), ("opus", "OGG", "OPUS"), ("nist", "NIST", "PCM_16"),
    ("paf", "PAF", "PCM_16"), ("ircam", "IRCAM", "PCM_16"), ("pvf", "PVF", "PCM_16"), ("avr", "AVR", "PCM_16"),
]  # fmt: skip
_AMR = {"rate_hz": 8_000, "channels": 1, "bit_rate": 12_200, "unknown": True}
_LOW = {"rate_hz": 8_000, "channels": 1}
_WIDE = {"rate_hz": 16_000, "channels": 1}
_PYAV = [
    Case("gsm.wav", "WAV", "GSM610", by="libsndfile", **_LOW),
    Case("aac.m4a", "mp4", "aac"), Case("alac.m4a", "mp4", "alac"), Case("pcm.mov", "mov", "pcm_s24le"),
    Case("fragmented.m4a", "mp4", "aac", options={"movflags": "frag_keyframe+empty_moov+default_base_moof"}),
    Case("aac.3gp", "3gp", "aac"), Case("flac.mka", "matroska", "flac"),
    Case("ac3.mka", "matroska", "ac3"), Case("opus.webm", "webm", "libopus"),
    Case("wma2.wma", "asf", "wmav2", bit_rate=128_000),
    Case("wma1.wma", "asf", "wmav1", bit_rate=128_000), Case("aac", "adts", "aac", unknown=True),
    Case("latm", "latm", "aac", unknown=True),
    Case("ac3", "ac3", "ac3", unknown=True), Case("eac3", "eac3", "eac3", unknown=True), Case("wv", "wv", "wavpack"),
    Case("tta", "tta", "tta"), Case("amr", "amr", "libopencore_amrnb", **_AMR), Case("mp2", "mp2", "mp2", unknown=True),
    Case("flac.oga", "ogg", "flac"), Case("mp3.flv", "flv", "mp3", rate_hz=44_100), Case("mp2.ts", "mpegts", "mp2"),
    Case("mp2.mpg", "mpeg", "mp2"), Case("aac.ts", "mpegts", "aac"), Case("flac.nut", "nut", "flac"),
    Case("ac3.wav", "wav", "ac3"), Case("mp2.wav", "wav", "mp2"), Case("mp3.wav", "wav", "mp3"),
    Case("yamaha.wav", "wav", "adpcm_yamaha"), Case("g722.wav", "wav", "g722", **_WIDE),
    Case("g726.wav", "wav", "g726", bit_rate=32_000, **_LOW), Case("flac.wav", "wav", "flac"),
    Case("alac_av.caf", "caf", "alac"), Case("ima.caf", "caf", "adpcm_ima_qt"), Case("mp3.caf", "caf", "mp3"),
    Case("ima.aifc", "aiff", "adpcm_ima_qt"), Case("raw.g722", "g722", "g722", unknown=True, **_WIDE),
    Case("ra", "rm", "real_144", **_LOW), Case("voc", "voc", "pcm_s16le"), Case("sox", "sox", "pcm_s32le"),
    Case("bare.mp3", "mp3", "mp3", unknown=True,
         options={"write_xing": "0", "id3v2_version": "0"}),
    Case("pcm.avi", "avi", "pcm_s16le", video=True), Case("mp3.avi", "avi", "mp3", video=True),
    Case("pcm.mkv", "matroska", "pcm_s16le", video=True), Case("aac.mkv", "matroska", "aac", video=True),
    Case("aac.mp4", "mp4", "aac", video=True), Case("aac.mov", "mov", "aac", video=True),
    Case("mp3_video.flv", "flv", "mp3", rate_hz=44_100, video=True), Case("video.ts", "mpegts", "mp2", video=True),
    Case("video.mpg", "mpeg", "mp2", video=True), Case("video.wmv", "asf", "wmav2", video=True, bit_rate=128_000),
]  # fmt: skip
_CHANGED = [
    Case("piped.wav", "WAV", "PCM_16", "libsndfile", change=_piped_wav, unknown=True),
    Case("piped.flac", "FLAC", "PCM_16", "libsndfile", change=_piped_flac, unknown=True),
    Case("tagged.flac", "FLAC", "PCM_16", "libsndfile", change=lambda d: id3(73) + d + b"TAG".ljust(128, b"\0")),
    Case("cover.mp3", "mp3", "mp3", unknown=True, options={"write_xing": "0", "id3v2_version": "0"},
         change=lambda d: id3(150_000) + d + ape(2_000) + b"TAG".ljust(128, b"\0")),
    Case("tagged.aac", "adts", "aac", unknown=True, change=lambda d: id3(73) + d),
    Case("tagged.tta", "tta", "tta", change=lambda d: id3(73) + d + ape(100)),
    Case("twice.ogg", "OGG", "VORBIS", "libsndfile", change=_twice, copies=2, unknown=True),
    Case("twice.opus", "OGG", "OPUS", "libsndfile", change=_twice, copies=2, unknown=True),
    Case("twice.flac", "FLAC", "PCM_16", "libsndfile", change=_twice, copies=2, unknown=True),
    Case("twice.wav", "WAV", "PCM_16", "libsndfile", change=_twice, copies=2, unknown=True),
    Case("twice.w64", "W64", "PCM_16", "libsndfile", change=_twice, copies=2, unknown=True),
    Case("twice.aiff", "AIFF", "PCM_16", "libsndfile", change=_twice, copies=2, unknown=True),
    Case("twice.au", "AU", "PCM_16", "libsndfile", change=_twice, copies=2, unknown=True),
    Case("twice.caf", "CAF", "PCM_16", "libsndfile", change=_twice, copies=2, unknown=True),
    Case("twice.mp3", "MP3", "MPEG_LAYER_III", "libsndfile", change=lambda d: 2 * (id3(30) + d), copies=2,
         unknown=True),
    Case("twice.oga", "ogg", "flac", change=_twice, copies=2, unknown=True),
    Case("twice.m4a", "mp4", "alac", change=_twice, copies=2, unknown=True),
    Case("twice.mka", "matroska", "flac", change=_twice, copies=2, unknown=True),
    Case("twice.wv", "wv", "wavpack", change=_twice, copies=2, unknown=True),
    Case("twice.tta", "tta", "tta", change=_twice, copies=2, unknown=True),
    Case("twice.amr", "amr", "libopencore_amrnb", change=_twice, copies=2, **_AMR),
    Case("twice.wma", "asf", "wmav2", bit_rate=128_000, change=_twice, copies=2, unknown=True),
    Case("twice.voc", "voc", "pcm_s16le", change=_twice, copies=2, unknown=True),
    Case("stereo.8svx", "8SVX", "PCM_S8", "hand", rate_hz=22_050, change=_same),
    Case("24.sph", "NIST", "PCM_24", "hand", change=_sphere24),
]  # fmt: skip
CASES = {
    case.name: case
    for case in [*(Case(name, *how, by="libsndfile") for name, *how in _SNDFILE), *_PYAV, *_CHANGED]
}  # fmt: skip
