"""A file restored into a file, in blocks: the same as the whole at once, at any rate, and nothing but whole files."""

import numpy as np
import pytest
import scipy.signal as ss
import soundfile
import torch

from latentsr import audio
from latentsr.audio import AudioError, InvalidAudio, TruncatedAudio, output_length, resample
from latentsr.bandwidth import BandEstimator
from latentsr.options import Options
from latentsr.restoring.analysis import gathered, hear, reblocked
from latentsr.restoring.files import mixed
from latentsr.restoring.source import resampled
from latentsr.signal.level import StreamTurnDown, turn_down
from tiny import RATE, programme, tiny_pipeline


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline()


def error_db(made, expected):
    return 10 * np.log10((np.square(made - expected).mean() + 1e-20) / np.square(expected).mean())


def write(path, seconds=7.0, rate=44_100, channels=2, subtype="PCM_16", peak=0.3, cutoff_hz=4000):
    wave = resample(programme(seconds, channels, cutoff_hz=cutoff_hz), RATE, rate) * (peak / 0.3)
    soundfile.write(path, wave.T, rate, subtype)
    return path


@pytest.mark.parametrize("denoise", [False, True])
@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_a_file_in_blocks_is_the_file_at_once(pipe, tmp_path, rate, denoise):
    source = write(tmp_path / "a.wav", rate=rate, cutoff_hz=3000)
    done = pipe.restore_file(source, tmp_path / "b.wav", subtype="FLOAT", steps=1, denoise=denoise)
    whole = pipe(source, steps=1, denoise=denoise)
    made = audio.read(tmp_path / "b.wav").samples
    assert done.cutoff_hz == pytest.approx(whole.cutoff_hz, abs=1)
    assert done.lines_hz == pytest.approx(whole.lines_hz)
    assert made.shape == whole.audio.shape == (done.channels, done.samples)
    assert error_db(made, whole.audio) < -80


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 96_000])
def test_at_its_own_rate_a_recording_keeps_its_own_samples(pipe, tmp_path, rate):
    source = write(tmp_path / "a.wav", rate=rate, subtype="PCM_24", cutoff_hz=2000)
    done = pipe.restore_file(source, tmp_path / "b.wav", steps=1, sample_rate="source", cutoff_hz=24_000.0)
    before, after = audio.read(source), audio.read(tmp_path / "b.wav")
    assert (done.sample_rate, done.subtype) == (rate, "PCM_24")
    assert np.array_equal(before.samples, after.samples)  # full band: nothing was added


@pytest.mark.parametrize(("from_hz", "rate"), [(96_000, "source"), (96_000, 88_200), (192_000, 96_000)])
def test_what_lies_above_24_khz_stays(pipe, tmp_path, from_hz, rate):
    """Noise from 26 to 40 kHz, behind a filter that falls by 120 dB between 24.0 and 24.8 kHz."""
    samples = 5 * from_hz // 2
    band = ss.firwin(1001, [26_000, 40_000], pass_zero=False, fs=from_hz, window=("kaiser", 12.0))
    noise = ss.oaconvolve(0.05 * np.random.default_rng(0).standard_normal(samples), band, mode="same")
    given = (resample(programme(2.5), RATE, from_hz)[0] + noise).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", given, from_hz, "FLOAT")
    done = pipe.restore_file(tmp_path / "a.wav", tmp_path / "b.wav", steps=1, sample_rate=rate, cutoff_hz=4000.0)
    wanted, made = resample(given[None], from_hz, done.sample_rate), audio.read(done.path).samples
    above = ss.firwin(4001, 24_800, pass_zero=False, fs=done.sample_rate, window=("kaiser", 12.0))
    wanted, difference = (ss.oaconvolve(x[0].astype(float), above, mode="same") for x in (wanted, made - wanted))
    assert 10 * np.log10(np.square(difference).sum() / np.square(wanted).sum()) < -100


@pytest.mark.parametrize("to_hz", [16_000, 44_100, 96_000])
def test_another_rate_is_the_result_resampled(pipe, tmp_path, to_hz):
    source = write(tmp_path / "a.wav", rate=32_000, subtype="FLOAT")
    done = pipe.restore_file(source, tmp_path / "b.wav", steps=1, sample_rate=to_hz, cutoff_hz=4000.0)
    made = audio.read(tmp_path / "b.wav")
    whole = resample(pipe(source, steps=1, cutoff_hz=4000.0).audio, RATE, to_hz)
    frames = audio.read(source).samples.shape[1]
    assert (made.sample_rate, done.samples) == (to_hz, output_length(frames, 32_000, to_hz))
    length = min(made.samples.shape[1], whole.shape[1])
    edge = to_hz // 100  # ends ring differently where two resamplers follow each other
    assert error_db(made.samples[:, edge : length - edge], whole[:, edge : length - edge]) < -60


@pytest.mark.parametrize("rate", [44_100, 48_000, "source", 96_000])
def test_loud_recordings_are_scaled_by_a_gain_that_is_told(pipe, tmp_path, rate):
    source = write(tmp_path / "a.wav", rate=32_000, subtype="FLOAT", peak=1.7)
    done = pipe.restore_file(source, tmp_path / "b.wav", subtype="PCM_16", steps=1, sample_rate=rate, cutoff_hz=4000.0)
    made = audio.read(tmp_path / "b.wav").samples
    assert 0.5 < done.gain < 1 / 1.6
    assert 0.9 < np.abs(made).max() <= 1.0


def test_a_file_that_changes_meanwhile_is_no_result(pipe, tmp_path):
    source = write(tmp_path / "a.wav")

    def meddle(done_s, total_s):
        if done_s == 0:
            write(source, seconds=8.0)

    with pytest.raises(AudioError, match="was changed while it was being read"):
        pipe.restore_file(source, tmp_path / "b.wav", steps=1, progress=meddle)
    assert [p.name for p in tmp_path.iterdir()] == ["a.wav"]


def test_an_error_in_the_middle_leaves_nothing(pipe, tmp_path):
    source = write(tmp_path / "a.wav", seconds=14)

    def stop(done_s, total_s):
        if done_s > 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipe.restore_file(source, tmp_path / "b.wav", steps=1, progress=stop)
    assert [p.name for p in tmp_path.iterdir()] == ["a.wav"]


@pytest.mark.parametrize("cuts", [[100], [1, 5, 4_000], [48_000, 3], [7_777]])
def test_what_is_heard_does_not_depend_on_blocks(cuts):
    wave = torch.from_numpy(programme(12, 2))
    wave[0] += 0.02 * torch.sin(2 * torch.pi * 6000 * torch.arange(wave.shape[1]) / RATE)
    pieces = _cut(wave, cuts)
    for denoise in (False, True):
        in_pieces, at_once = (BandEstimator(RATE), BandEstimator(RATE))
        at_once.update(wave.numpy())
        tapped = resampled((piece.numpy() for piece in pieces), RATE, tap=in_pieces.update)
        options = Options(denoise=denoise)
        heard = hear(lambda: pieces, tapped, in_pieces, options)
        assert heard == hear(lambda: [wave], [wave], at_once, options)


def _cut(wave, cuts):
    pieces, at, turn = [], 0, 0
    while at < wave.shape[1]:
        pieces.append(wave[:, at : at + cuts[turn % len(cuts)] * 10])
        at, turn = at + pieces[-1].shape[1], turn + 1
    return pieces


def test_blocks_and_spans_hold_the_right_samples():
    wave = torch.arange(1000.0)[None]
    pieces = _cut(wave, [1, 7, 13])
    assert [b.shape[1] for b in reblocked(pieces, 300)] == [300, 300, 300, 100]
    assert torch.equal(torch.cat(list(reblocked(pieces, 300)), dim=1), wave)
    spans = [(0, 5), (2, 600), (599, 700), (990, 1000)]
    for (start, stop), found in zip(spans, gathered(pieces, spans), strict=True):
        assert torch.equal(found, wave[:, start:stop])


@pytest.mark.parametrize("size", [100, 959, 5_000, 20_000])
def test_turning_down_in_blocks_is_turning_down_at_once(size):
    generator = torch.Generator().manual_seed(0)
    source = 0.3 * torch.rand(2, 20_000, generator=generator)
    restored = source + 0.9 * torch.rand(2, 20_000, generator=generator) * (torch.arange(20_000) % 4_000 < 300)
    limit = StreamTurnDown(1.0)
    made = [limit.push(a, b) for a, b in zip(source.split(size, 1), restored.split(size, 1), strict=True)]
    made = torch.cat([*made, limit.finish()], dim=1)
    assert float(made.abs().max()) <= 1.0 < float(restored.max())
    assert float((made - turn_down(source, restored, 1.0)).abs().max()) < 1e-6


def test_without_a_restorer_a_recording_is_resampled():
    wave = programme(1.0, 2)
    made = np.concatenate(list(mixed(iter(np.split(wave, 10, axis=1)), RATE, None, 44_100, 1.0)), axis=1)
    assert error_db(made, resample(wave, RATE, 44_100)) < -100


def test_what_was_salvaged_and_repaired_is_noted(pipe, tmp_path):
    source = write(tmp_path / "a.wav", subtype="FLOAT", channels=1)
    data = bytearray(source.read_bytes())
    data[-4_004:-4_000] = np.float32(np.nan).tobytes()
    source.write_bytes(bytes(data[:-2_000]))
    with pytest.raises(TruncatedAudio):
        pipe.restore_file(source, tmp_path / "b.wav")
    with pytest.raises(InvalidAudio):
        pipe.restore_file(source, tmp_path / "b.wav", salvage=True)
    done = pipe.restore_file(source, tmp_path / "b.wav", salvage=True, on_nonfinite="zero", cutoff_hz=4000.0, steps=1)
    out = pipe(source, salvage=True, on_nonfinite="zero", cutoff_hz=4000.0, steps=1)
    for note in (" ".join(done.notes), out.note):
        assert "cut short" in note and "NaN" in note
    assert done.samples == out.audio.shape[1] == output_length(7 * 44_100 - 500, 44_100, RATE)


@pytest.mark.parametrize(("samples", "message"), [(1, "shorter than a sample"), (9_600, "times full scale")])
def test_what_is_no_recording_at_48_khz(pipe, tmp_path, samples, message):
    soundfile.write(tmp_path / "a.wav", np.full(samples, 1e9), 384_000, "FLOAT")
    with pytest.raises(AudioError, match=message):
        pipe.restore_file(tmp_path / "a.wav", tmp_path / "b.wav")
