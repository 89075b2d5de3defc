"""A video's sound stands where its time line has it: late starts and holes are silence, further tracks are named."""

import numpy as np
import pytest
from containers import CASES

from latentsr.audio import AudioError, Reader, read

av = pytest.importorskip("av")
RATE_HZ = 48_000
FRAME = 1_024  # samples
# muxer: (audio codec, video codec)
MUXERS = {
    "matroska": ("pcm_s16le", "mpeg4"), "mov": ("pcm_s16le", "mpeg4"), "mp4": ("aac", "mpeg4"),
    "mpegts": ("aac", "mpeg2video"), "flv": ("aac", "flv"), "nut": ("pcm_s16le", "mpeg4"),
}  # fmt: skip


def video(path, muxer, *, late_s=0.0, hole=None, tracks=1, picture=True):
    """Two seconds of pictures, and of noise from `late_s` on, without the frames of `hole` (first, last) s."""
    codec, video_codec = MUXERS[muxer]
    with av.open(str(path), "w", format=muxer) as out:
        pictures = None
        if picture:
            pictures = out.add_stream(video_codec, rate=25)
            pictures.width = pictures.height = 64
            pictures.pix_fmt = "yuv420p"
        streams = [out.add_stream(codec, rate=RATE_HZ, layout="mono") for _ in range(tracks)]
        packets = []
        for number in range(50 if picture else 0):
            frame = av.VideoFrame.from_ndarray(np.zeros((96, 64), np.uint8), format="yuv420p")
            frame.pts = number
            packets += pictures.encode(frame)
        packets += pictures.encode(None) if picture else []
        for track, stream in enumerate(streams):
            noise = 0.2 * np.random.default_rng(track).standard_normal((1, 2 * RATE_HZ)).astype(np.float32)
            shaper = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=RATE_HZ)
            for at in range(round(late_s * RATE_HZ) // FRAME * FRAME, 2 * RATE_HZ - FRAME, FRAME):
                frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(noise[:, at : at + FRAME]), format="fltp",
                                                   layout="mono")  # fmt: skip
                frame.sample_rate, frame.pts = RATE_HZ, at
                for converted in shaper.resample(frame):
                    packets += stream.encode(converted)
            packets += stream.encode(None)
        start, end = hole or (9, 9)
        for packet in sorted(packets, key=lambda one: float(one.dts * one.time_base)):
            at_s = float(packet.pts * packet.time_base)
            if packet.stream.type == "video" or not start <= at_s < end:
                out.mux(packet)
    return path


def silences(samples):
    """(first, last) s of what is zero for 50 ms and more."""
    quiet = np.concatenate([[False], np.abs(samples) < 1e-3, [False]])
    edges = np.flatnonzero(np.diff(quiet.astype(int))).reshape(-1, 2)
    return [(start / RATE_HZ, end / RATE_HZ) for start, end in edges if end - start > 0.05 * RATE_HZ]


@pytest.mark.parametrize("muxer", MUXERS)
def test_a_late_start_is_silence(tmp_path, muxer):
    path = video(tmp_path / "a", muxer, late_s=0.5)
    got, whole = read(path), read(video(tmp_path / "b", muxer))
    late_s = round(0.5 * RATE_HZ) // FRAME * FRAME / RATE_HZ
    assert abs(got.samples.shape[1] - whole.samples.shape[1]) <= 2 * FRAME
    [(start_s, end_s)] = silences(got.samples[0])
    assert start_s == 0 and end_s == pytest.approx(late_s, abs=0.025)
    assert any(note.startswith("it begins late: 0.") and "--no-timeline" in note for note in got.notes)
    short = read(path, no_timeline=True)
    assert short.samples.shape[1] == pytest.approx(got.samples.shape[1] - late_s * RATE_HZ, abs=FRAME + 100)
    assert any("without sound, which were left out" in note for note in short.notes)


@pytest.mark.parametrize("muxer", sorted(MUXERS.keys() - {"mov"}))  # which counts samples of PCM, and has no holes
def test_a_hole_is_silence(tmp_path, muxer):
    path = video(tmp_path / "a", muxer, hole=(0.8, 1.2))
    got = read(path)
    [(start_s, end_s)] = silences(got.samples[0])
    assert start_s == pytest.approx(0.8, abs=0.05) and end_s - start_s == pytest.approx(0.4, abs=0.05)
    assert any(note.startswith("its time line has a hole: 0.") for note in got.notes)
    assert abs(got.samples.shape[1] - read(video(tmp_path / "b", muxer)).samples.shape[1]) <= 2 * FRAME
    assert silences(read(path, no_timeline=True).samples[0]) == []


@pytest.mark.parametrize("muxer", ["matroska", "mov", "mpegts"])
def test_without_a_late_start_there_is_no_note(tmp_path, muxer):
    got = read(video(tmp_path / "a", muxer))
    assert got.notes == [] and silences(got.samples[0]) == []


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.copies == 1])
def test_no_plain_container_has_a_hole(tmp_path, name):
    assert [note for note in read(CASES[name].make(tmp_path)).notes if "silence" in note or "late" in note] == []


@pytest.mark.parametrize("muxer", ["matroska", "mov", "mpegts"])
def test_tracks_are_said_and_chosen(tmp_path, muxer):
    path = video(tmp_path / "a", muxer, tracks=3)
    first, third = read(path), read(path, track=3)
    assert first.notes == ["it has 3 audio tracks, of which track 1 was read; choose with --track N"]
    assert not np.allclose(first.samples[:, :9_000], third.samples[:, :9_000], atol=0.1)
    with pytest.raises(AudioError, match="has 3 audio tracks, and no track 4; choose another with --track"):
        Reader(path, track=4)


def test_one_track_where_a_second_is_asked_for(tmp_path):
    for name in ("wav", "flac", "mp3"):
        with pytest.raises(AudioError, match="no track 2; choose another with --track"):
            Reader(CASES[name].make(tmp_path), track=2)


def test_a_jump_of_days_is_no_silence(tmp_path):
    path = tmp_path / "a.nut"
    with av.open(str(path), "w", format="nut") as out:
        stream = out.add_stream("pcm_s16le", rate=RATE_HZ, layout="mono")
        for at in (0, 5_000 * RATE_HZ):
            frame = av.AudioFrame.from_ndarray(np.ones((1, FRAME), np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts = RATE_HZ, at
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    got = read(path)
    assert got.samples.shape[1] == 2 * FRAME
    assert got.notes[0].startswith("its time line has a hole: 4999.979 s without sound, which were left out")
