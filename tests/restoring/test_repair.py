"""Repair: the holes of a codec are filled, what was not coded stays as it is, and windows, blocks and files agree."""

import sys

import numpy as np
import pytest
import soundfile
import torch

from holed import RATE, holed
from latentsr import Pipeline, audio
from latentsr.apps import cli
from latentsr.evaluation.filters import lowpass
from latentsr.options import Options
from latentsr.restoring.analysis import NO_HOLES, hear
from latentsr.restoring.engine import Restorer
from latentsr.signal.codecs import round_trip
from latentsr.signal.degrade import Recipe
from wide import music_like

LOW_HZ = 5_000  # where the holes begin


@pytest.fixture(scope="module")
def pipe():
    pipe = Pipeline.from_pretrained(heads=["mamba-gan"])
    pipe.set_progress_bar_config(disable=True)
    return pipe


def truth(seconds=6.0, seed=0):
    return (0.05 * music_like(seconds, seed))[None].astype(np.float32)


def with_holes(wave, **how):
    return np.stack([holed(channel, LOW_HZ, 12_000, **how) for channel in wave])


def lsd(one, other, to_hz=20_000):
    """2048 / 512, up to so many Hz, of the first channels."""
    window = np.hanning(2049)[:-1]
    frames = (np.lib.stride_tricks.sliding_window_view(wave[0], 2048)[::512] * window for wave in (one, other))
    logs = [np.log10(np.maximum(np.square(np.abs(np.fft.rfft(each))), 1e-8)) for each in frames]
    bins = round(to_hz / RATE * 2048)
    return np.sqrt(np.square(logs[0] - logs[1])[:, :bins].mean(axis=1)).mean()


def changed_db(made, given, to_hz):
    """Energy of the change below so many Hz, against the recording there."""
    spectra = [np.abs(np.fft.rfft(wave)) ** 2 for wave in (made - given, given)]
    low = np.fft.rfftfreq(given.shape[-1], 1 / RATE) < to_hz
    return 10 * np.log10(spectra[0][:, low].sum() / spectra[1][:, low].sum())


@pytest.mark.parametrize("end_hz", [24_000, 6_000])
def test_what_was_not_coded_stays_as_it_is(pipe, tmp_path, end_hz):
    wave = truth() if end_hz == 24_000 else lowpass(truth(), Recipe("cheby1", 8, end_hz)).astype(np.float32)
    plain, repaired = pipe(wave, sample_rate=RATE), pipe(wave, sample_rate=RATE, repair=True)
    assert np.array_equal(plain.audio, repaired.audio)
    assert NO_HOLES in repaired.note and repaired.holes_hz == (None,)
    audio.write(audio.Target.of(tmp_path / "a.wav", subtype="FLOAT"), wave, RATE)
    for name, words in {"b.wav": {}, "c.wav": {"repair": True}}.items():
        done = pipe.restore_file(tmp_path / "a.wav", tmp_path / name, **words)
    assert np.array_equal(*(audio.read(tmp_path / name).samples for name in ("b.wav", "c.wav")))
    assert NO_HOLES in done.notes
    streams = [list(pipe.stream([wave], RATE, repair=repair)) for repair in (False, True)]
    assert np.array_equal(*(np.concatenate(blocks, axis=1) for blocks in streams))


def test_holes_are_filled_and_the_rest_is_kept(pipe):
    wave = truth()
    given = with_holes(wave)
    out = pipe(given, sample_rate=RATE, repair=True)
    assert out.holes_hz[0] == pytest.approx(LOW_HZ, abs=750) and "holes of a codec were filled from 5" in out.note
    assert lsd(out.audio, wave) < 0.6 * lsd(given, wave)
    assert changed_db(out.audio, given, 0.8 * LOW_HZ) < -60
    missing, added = wave - given, out.audio - given
    level_db = 10 * np.log10(np.square(added).sum() / np.square(missing).sum())
    assert -12 < level_db < 0  # too loud a fill is worse than a hole


def test_what_lame_took_is_put_back(pipe, shared):
    """A clip of the development set whose top comes and goes in MP3 at 64 kb/s."""
    recording = audio.read(shared / "data" / "dev" / "music" / "visqol_contrabassoon.flac")
    wave = audio.resample(recording.samples.mean(axis=0, keepdims=True), recording.sample_rate, RATE)
    coded = round_trip(wave[0], "mp3", 64, RATE)[None]
    plain, repaired = (pipe(coded, sample_rate=RATE, repair=repair).audio for repair in (False, True))
    assert lsd(repaired, wave) < 0.75 * lsd(plain, wave)


def test_only_channels_with_holes_are_filled(pipe):
    wave = np.concatenate([truth(), truth(seed=1)])
    given = np.concatenate([with_holes(wave[:1]), wave[1:]])
    out = pipe(given, sample_rate=RATE, repair=True)
    assert out.holes_hz[1] is None and np.array_equal(out.audio[1], given[1])
    assert not np.array_equal(out.audio[0], given[0])


def test_nothing_but_the_repair_is_left_of_an_amount_of_0(pipe):
    given = with_holes(lowpass(truth(), Recipe("cheby1", 8, 9_000)).astype(np.float32))
    alone = pipe(given, sample_rate=RATE, repair=True, amount=0).audio
    whole = pipe(given, sample_rate=RATE, repair=True).audio
    assert changed_db(alone, whole, 7_500) < -60 < changed_db(alone, given, 7_500)
    spectrum = np.square(np.abs(np.fft.rfft(alone - given)))
    hz = np.fft.rfftfreq(given.shape[-1], 1 / RATE)
    assert spectrum[:, hz > 10_000].sum() < 1e-3 * spectrum.sum()


def test_files_and_streams_are_what_a_call_gives(pipe, tmp_path):
    given = with_holes(lowpass(truth(8.0), Recipe("cheby1", 8, 9_000)).astype(np.float32))
    out = pipe(given, sample_rate=RATE, repair=True)
    soundfile.write(tmp_path / "a.wav", given.T, RATE, "FLOAT")
    done = pipe.restore_file(tmp_path / "a.wav", tmp_path / "b.wav", repair=True, format="wav", subtype="FLOAT")
    assert np.array_equal(audio.read(tmp_path / "b.wav").samples, out.audio) and done.holes_hz == out.holes_hz
    assert any(note in out.note for note in done.notes if "holes" in note)
    blocks = pipe.stream(np.array_split(given, 37, axis=1), RATE, repair=True)
    assert np.array_equal(np.concatenate(list(blocks), axis=1), out.audio)
    assert pipe.stream_latency_s(repair=True) > 2 * pipe.stream_latency_s() - 0.1


def test_windows_join_without_a_seam(pipe):
    """16 s in windows of 5.12 s beside the same in one: the fill is the same, and nothing clicks."""
    given, made = torch.from_numpy(with_holes(truth(16.0))), []
    asked = Options(head="mamba-gan", repair=True, cutoff_hz=24_000.0)
    heard = hear(lambda: [given], [given], None, asked)
    for core in (64, 10_000):
        restorer = Restorer(pipe.chains(asked)(heard))
        restorer.repaired.cores["decoding"] = core
        with torch.inference_mode():
            made.append(restorer.whole(given)[0] - given.numpy())
    error_db = 10 * np.log10(np.square(made[0] - made[1]).sum() / np.square(made[1]).sum())
    jumps = [np.abs(np.diff(wave, n=2)).max() for wave in made]
    print(error_db, jumps)
    assert error_db < -15 and jumps[0] < 1.2 * jumps[1]


def test_the_command_says_what_was_done(tmp_path, capsys, monkeypatch):
    audio.write(audio.Target.of(tmp_path / "a.wav", subtype="FLOAT"), with_holes(truth()), RATE)
    words = ["restore", str(tmp_path / "a.wav"), "-o", str(tmp_path / "b.wav"), "--repair"]
    monkeypatch.setattr(sys, "argv", ["latentsr", *words])
    with pytest.raises(SystemExit):
        cli.main()
    said = capsys.readouterr()
    assert "cutoff 24000 Hz: repaired" in said.out and "holes of a codec were filled" in said.err
