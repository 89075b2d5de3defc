"""Decoding through PyAV (extra `av`) what libsndfile cannot, or does not read right: see `kinds`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from latentsr.audio import mp4, mpeg
from latentsr.audio.kinds import Kind
from latentsr.audio.spans import size_of, tags_begin, tags_end
from latentsr.audio.tags import av_tags
from latentsr.errors import AudioError, TruncatedAudio, UnsupportedAudio

EXACT = ("mov", "wv", "ape", "dsf", "tta")  # demuxers whose length is written in the file, not guessed from a bit rate
NEARLY = ("matroska", "asf")  # those whose length is of the container, right to a codec's frame
SLACK_S = 0.1  # seconds by which a container's declared length may exceed what its codec delivers
# Demuxers whose packets are the whole file but its tags: what is in no packet was not read.
BARE = ("aac", "ac3", "eac3", "dts", "truehd", "mlp", "loas", "g722", "gsm")
# Demuxers with a time line, which may begin late and have holes.
TIMED = ("mov", "matroska", "mpegts", "mpeg", "flv", "nut", "mxf", "avi", "asf")
ABSOLUTE = ("mov", "matroska", "nut", "avi")  # those whose time line begins at 0
# Samples by which what these codecs decode to is late, by their definition or, MP3, in nearly all encoders: taken off
# where the container does not say by how much.
DELAYS = {"ac3": 256, "eac3": 256, "aac": 1024, "aac_latm": 1024, "amrwb": 95, "libopencore_amrwb": 95,
          "g722": 22, "real_144": 160}  # fmt: skip
SPEEX_DELAYS = {8_000: 79, 16_000: 222, 32_000: 507}  # look-ahead of its encoder and decoder
UNFRAMED = ("aac", "vorbis", "speex")  # codecs whose packets need a container that tells their lengths
HOLE_S = 0.015  # less than this is rounding of time stamps; the shortest packet has 20 ms
PRIMING_S = 0.05  # less than this in front of sound alone is what its encoder is late by
MAX_SILENCE_S = 3_600.0  # of one hole
LATE = "it begins late"


@dataclass(frozen=True)
class Which:
    """Which sound of a file: the track, from 1 on, and whether silence stands where the time line has no sound."""

    track: int = 1
    timeline: bool = True


class Decoder:
    """An audio stream of a file, read block by block up to the first damage, which `damage` then names.

    FFmpeg gets the open file and the one demuxer that may be tried; no name, which could lead it to other files.
    """

    name = "FFmpeg"
    delay = 0  # samples that the reader is to take off
    removed = 0
    last_frame: int | None = None

    def __init__(self, path: Path, file: BinaryIO, kind: Kind, which: Which = Which()) -> None:
        try:
            import av
        except ImportError:
            text = f"{path} is {kind.label}, which needs an extra: pip install 'latentsr[av]'"
            raise UnsupportedAudio(text, extra="av") from None
        self.notes = av_tags.losses(kind.demuxer, file)
        self._path, self._av, self._file, self._kind, self._which = path, av, file, kind, which
        if kind.demuxer == "mov":
            _check_mp4(path, file)
        self._streamed = kind.demuxer == "asf" and av_tags.is_streamed(file)
        file.seek(0)
        try:
            self._container = av.open(file, mode="r", format=kind.demuxer, metadata_errors="replace")
        except (av.FFmpegError, OSError, ValueError, MemoryError) as error:  # OSError: it sought where no byte is
            raise AudioError(f"{path} is {kind.label} that cannot be read ({_reason(error)}); fetch it again") from None
        try:
            self._start(kind, which)
        except BaseException:
            self.close()
            raise

    def _start(self, kind: Kind, which: Which) -> None:
        tracks = self._container.streams.audio
        if not tracks:
            raise AudioError(f"{self._path} has no audio track; choose a file that holds sound")
        if which.track > len(tracks):
            there = f"{len(tracks)} audio track{'s' * (len(tracks) > 1)}"
            raise AudioError(f"{self._path} has {there}, and no track {which.track}; choose another with --track")
        stream = tracks[which.track - 1]
        if stream.codec_context is None:
            raise UnsupportedAudio(
                f"{self._path} is {kind.label} in a coding that cannot be decoded here; convert it first: "
                "ffmpeg -i IN OUT.flac"
            )
        if len(tracks) > 1:
            self.notes.append(
                f"it has {len(tracks)} audio tracks, of which track {which.track} was read; choose with --track N"
            )
        if kind.demuxer == "caf" and stream.codec_context.name == "alac":
            # Its last packet decodes to what it holds; FFmpeg would take the table's remainder off that once more.
            stream.codec_context.flags2 |= self._av.codec.context.Flags2.skip_manual
        self.damage: str | None = None
        self.overrun = False  # more came than the header declares
        self.unread = 0  # bytes in no packet, known at the end
        self.metadata = av_tags.collect(self._container, stream)  # pictures come before all sound
        self.left_out = self._late = 0  # samples of the time line that were not put in; those put in front of all
        self._done = 0
        self._frames = self._decoded(stream)
        # The rate in the header of an AAC stream can be half of what its decoder delivers: the first frame knows.
        self.samplerate, self.channels = stream.rate or 0, stream.channels
        first = next(self._frames, None)
        self._rest = np.empty((0, self.channels), dtype=np.float32) if first is None else first
        streamed = self._streamed
        self.length = None if streamed else _declared_frames(self._container, stream, kind.demuxer, self.samplerate)
        if self.length is not None and kind.demuxer in EXACT:  # which is that of the sound alone
            self.length += self._late
        self._limit = self.length if kind.demuxer in EXACT else None
        self.slack = round(SLACK_S * self.samplerate)  # samples by which `frames` may be too many
        self.format = kind.label
        self.subtype: str = av_tags.subtype(stream)

    def read_block(self, frames: int) -> np.ndarray:
        """The next (n, C) samples, n <= `frames`; n = 0 at the end or where nothing more can be decoded."""
        left = frames if self._limit is None else self._limit - self._done - self.left_out
        # Near the declared end a look ahead: a codec's last frame is padded beyond it, but a header may also lie.
        wanted = frames if left > frames else left + self.slack + 1 if self._limit is not None else frames
        blocks, have = [self._rest], len(self._rest)
        while have < wanted and (block := next(self._frames, None)) is not None:
            blocks.append(block)
            have += len(block)
        joined = np.concatenate(blocks)
        if self._limit is not None and len(joined) > left:
            if len(joined) > left + self.slack:
                self._limit, self.overrun = None, True
            else:
                joined = joined[:left]
        self._rest = joined[frames:]
        self._done += min(frames, len(joined))
        return joined[:frames]

    def close(self) -> None:
        """Let go of FFmpeg's memory."""
        self._container.close()

    def _decoded(self, stream: Any) -> Iterator[np.ndarray]:
        """Packed samples (n, C), and silence where the time line has none."""
        resampler = self._av.AudioResampler(format="flt")  # PyAV 18 reads past the 8th plane of planar frames
        shape, size, packets, first, clock = None, 0, 0, None, _Clock(self._container, stream, self._kind.demuxer)
        try:
            for packet in self._container.demux(stream):
                if packet.size == 0 and packet.dts is not None:  # no sound, but a header that changed
                    continue
                first = first or (packet.pts, bytes(packet)[:2])
                packets += 1
                size += packet.size
                for frame in packet.decode():
                    now = frame.sample_rate, len(frame.layout.channels)
                    missing = clock.hole(frame, first[0])
                    if shape is None:
                        shape = self.samplerate, self.channels = now
                        if not missing or not self._which.timeline:  # else its place counts what a codec is late by
                            told = packets > 1 or (first[0] is not None and (first[0] < 0 or frame.pts != first[0]))
                            self.delay = _delay(self._kind.demuxer, stream, first[1], told)
                        what = LATE
                    elif now != shape:
                        self.damage = f"it goes on with {now[1]} channels at {now[0]} Hz"
                        return
                    yield from self._silent(missing, now, what)
                    what = "its time line has a hole"
                    if frame.format.name == "fltp" and now[1] <= 8:
                        yield frame.to_ndarray().T
                        continue
                    for packed in resampler.resample(frame):
                        yield packed.to_ndarray().reshape(-1, now[1])
            if self._kind.demuxer in BARE:
                end = tags_begin(self._file, 0, size_of(self._file))
                self.unread = max(end - tags_end(self._file, 0) - size, 0)
        except (self._av.FFmpegError, ValueError, MemoryError) as error:
            codec = stream.codec_context.name
            if self._kind.demuxer == "wav" and codec in UNFRAMED:
                raise UnsupportedAudio(
                    f"{self._path} is WAV that holds {codec} without saying where its packets begin, which no decoder "
                    "finds out; export it again as FLAC, with the program that wrote it"
                ) from None
            self.damage = _reason(error)

    def _silent(self, samples: int, shape: tuple[int, int], what: str) -> Iterator[np.ndarray]:
        """So much silence, if it is wanted and believed, and a note of it."""
        if samples == 0:
            return
        rate_hz, channels = shape
        if not self._which.timeline or samples > MAX_SILENCE_S * rate_hz:
            self.notes.append(f"{what}: {samples / rate_hz:.3f} s without sound, which were left out")
            self.left_out += 0 if what == LATE and self._kind.demuxer in EXACT else samples  # declared without it
            return
        self.notes.append(f"{what}: {samples / rate_hz:.3f} s of silence stand there; --no-timeline leaves them out")
        self._late = samples if what == LATE else self._late
        while samples:
            count = min(samples, rate_hz)
            samples -= count
            yield np.zeros((count, channels), dtype=np.float32)


class _Clock:
    """Where in time the next sample belongs, by the time stamps of a container."""

    def __init__(self, container: Any, stream: Any, demuxer: str | None) -> None:
        self._tick = float(stream.time_base) if demuxer in TIMED and stream.time_base else None
        only = all(one.type == "audio" or av_tags.is_picture(one) for one in container.streams)
        self._next = 0.0 if demuxer in ABSOLUTE else (container.start_time or 0) / 1e6  # s
        self._begun = False
        self._least_s = PRIMING_S if only else HOLE_S

    def hole(self, frame: Any, first_pts: int | None) -> int:
        """Samples without sound before this frame; `first_pts`: of the first packet, which may give no frame."""
        if self._tick is None or frame.pts is None:
            return 0
        at_s = before_s = frame.pts * self._tick
        if not self._begun and first_pts is not None:
            before_s = first_pts * self._tick
        missing_s, self._next = before_s - self._next, at_s + frame.samples / frame.sample_rate
        least_s, self._begun, self._least_s = self._least_s, True, HOLE_S
        return round(missing_s * frame.sample_rate) if missing_s > least_s else 0


def _delay(demuxer: str | None, stream: Any, head: bytes, told: bool) -> int:
    """Samples to take off. `told`: the first samples are gone, or are to be placed before 0: the container said it."""
    name = stream.codec_context.name
    if name == "speex":  # Ogg says its encoder's half alone, and FFmpeg leaves even that in
        return SPEEX_DELAYS.get(stream.rate, 0)
    if demuxer == "caf" or (told and demuxer not in BARE):
        return 0
    if name.startswith(("mp1", "mp2", "mp3")):  # FFmpeg calls all layers MP3 where it has seen little
        return mpeg.DELAYS.get(4 - (head[1] >> 1 & 3), 0) if len(head) == 2 else 0
    return DELAYS.get(name, 0)


def _check_mp4(path: Path, file: BinaryIO) -> None:
    if mp4.index_is_lost(file):
        raise TruncatedAudio(
            f"{path} is cut short: its index (moov) is missing, and nothing can be decoded without; fetch a whole copy"
        )
    if (lie := mp4.lie(file)) is not None:
        raise AudioError(f"{path} is damaged: {lie}; fetch it again")


def _declared_frames(container: Any, stream: Any, demuxer: str | None, rate_hz: int) -> int | None:
    if demuxer in EXACT and stream.duration and stream.time_base:
        return int(stream.duration * stream.time_base * rate_hz)
    if demuxer in NEARLY and container.duration is not None and len(container.streams) == 1:
        return int(container.duration / 1e6 * rate_hz)
    return None


def _reason(error: Exception) -> str:
    text = str(getattr(error, "strerror", None) or error).rstrip(". ")
    if "patches welcome" in text:  # comfort noise in AMR, say
        return "FFmpeg has no decoder for what stands there; convert it with another program: sox IN OUT.wav"
    return "its decoder refuses a packet" if text.startswith("Error number") else text  # a code without words
