"""Every container and codec that can be made here, read sample for sample as FFmpeg decodes it, and from the start."""

from dataclasses import replace

import numpy as np
import pytest
from containers import CASES

from latentsr.audio import Reader, read

LATE = {"amr": 48, "wma2.wma": -2048, "wma1.wma": -2048, "video.wmv": -2048}  # FFmpeg's decoder drops two frames of WMA
LOSSY_PHASE = ("gsm.wav", "ra")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Makes a case once: its path."""
    folder, paths = tmp_path_factory.mktemp("containers"), {}

    def make(name):
        if name not in paths:
            paths[name] = CASES[name].make(folder)
        return paths[name]

    return make


def by_ffmpeg(path):
    """(C, T) float32 of FFmpeg's decoding, its guess of the demuxer included; None where it has none."""
    av = pytest.importorskip("av")
    blocks, resampler = [], av.AudioResampler(format="flt")
    try:
        with av.open(str(path)) as container:
            stream = container.streams.audio[0]
            for packet in container.demux(stream):
                if packet.size or packet.dts is None:
                    for frame in packet.decode():
                        for packed in resampler.resample(frame):
                            blocks.append(packed.to_ndarray().reshape(-1, len(frame.layout.channels)))
    except av.FFmpegError:
        return None
    return np.concatenate(blocks).T


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.copies == 1])
def test_it_is_what_ffmpeg_decodes(made, name):
    got, theirs = read(made(name)), by_ffmpeg(made(name))
    if theirs is None:
        pytest.skip("FFmpeg has no reader for it")
    account = got.account
    theirs = theirs[:, account.delay_removed :]
    frames = min(got.samples.shape[1], theirs.shape[1])
    assert got.samples.shape[0] == theirs.shape[0]
    assert CASES[name].rate_hz * 0.96 <= frames <= got.samples.shape[1] <= theirs.shape[1] + 1152
    exact = account.decoder == "FFmpeg" or not account.codec.startswith(("MPEG", "VORBIS", "OPUS"))
    least = 5e-3 if account.codec == "MS_ADPCM" else 2**-15 if exact else 2e-3  # there they round differently
    assert np.abs(got.samples[:, :frames] - theirs[:, :frames]).max() < least
    assert account.frames_decoded == got.samples.shape[1]
    assert account.bytes_unread == 0
    assert (account.frames_declared is None) or not CASES[name].unknown


@pytest.mark.parametrize("name", ["alac.caf", "alac_av.caf", "alac.m4a", "flac"])
def test_what_is_lossless_is_whole(made, name):
    wave, got = CASES[name].wave, read(made(name)).samples
    assert got.shape == wave.shape
    assert np.abs(got - wave).max() <= 2**-15


@pytest.mark.parametrize("name", CASES)
def test_it_starts_where_the_sound_starts(made, name):
    wave, got = CASES[name].wave[0], read(made(name)).samples[0]
    count = 2**18
    product = np.conj(np.fft.rfft(wave, count)) * np.fft.rfft(got[: len(wave) + 4_000], count)
    lag = int(np.argmax(np.abs(np.fft.irfft(product))))
    expected = LATE.get(name.removeprefix("twice."), 0) or LATE.get(f"{name.removeprefix('twice.')}2", 0)
    expected = -2048 if name.endswith(("wma", "wmv")) else expected
    assert (lag - count if lag > count // 2 else lag) == expected


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.copies == 2])
def test_what_is_joined_is_read_to_its_end(made, tmp_path, name):
    one = read(replace(CASES[name], change=None, copies=1).make(tmp_path)).samples
    got = read(made(name))
    assert np.array_equal(got.samples, np.tile(one, 2))
    assert got.account.parts == 2
    assert "it is 2 recordings joined; all were read, with the tags of the first" in got.notes


@pytest.mark.parametrize("name", ["wav", "twice.mp3", "aac.m4a", "video.ts", "bare.mp3"])
def test_blocks_are_the_whole(made, name):
    with Reader(made(name), block_frames=777) as reader:
        assert np.array_equal(np.concatenate(list(reader), axis=1), read(made(name)).samples)


def test_there_are_enough():
    assert len({(case.format, case.codec) for case in CASES.values()}) >= 40
