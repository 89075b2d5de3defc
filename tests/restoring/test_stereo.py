"""The image of a recording through every head: as wide above the cutoff as below it, and every channel in its place."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from latentsr import Pipeline
from latentsr.audio import read, resample
from latentsr.evaluation.metrics import kept_band_error_db
from latentsr.models.diffwave_mamba import DiffWaveMamba
from latentsr.models.mamba_gan import MambaGenerator
from tiny import RATE, tiny_pipeline

ROOT = Path(__file__).resolve().parents[2]
CUTOFF_HZ = 4000.0
HEADS = ["mamba-gan", "diffwave-mamba", "vocoder"]


@pytest.fixture(scope="module")
def pipe():
    pipe = tiny_pipeline()
    gan = MambaGenerator(channels=16, mixer_layers=1, state=4, hidden=32, layers=1, latent_size=64, context_frames=24,
                         noise_share=1.0)  # fmt: skip
    wave = DiffWaveMamba(bands=96, channels=8, hidden=8, condition_layers=1, layers=1, state=2, latent_size=64)
    pipe.register_modules(mamba_gan=gan.eval(), diffwave_mamba=wave.eval())
    return pipe


@pytest.fixture(scope="module")
def trained():
    """The embedded default: networks of random weights do not know silence."""
    pipe = Pipeline.from_pretrained(heads=HEADS)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def programme(channels=1, seconds=2.0, seed=0):
    """Noise cut at 4 kHz, another in each channel. (C, T)"""
    samples = round(seconds * RATE)
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal((channels, samples)))
    spectrum[:, np.fft.rfftfreq(samples, 1 / RATE) >= CUTOFF_HZ] = 0
    return (0.1 * np.fft.irfft(spectrum, n=samples) / 0.4).astype(np.float32)


def restored(pipe, wave, head, **options):
    return pipe(
        wave, sample_rate=RATE, head=head, cutoff_hz=CUTOFF_HZ, steps=2 if head != "mamba-gan" else None, **options
    )


def made(pipe, wave, head):
    """The band above the cutoff. (C, T)"""
    spectrum = np.fft.rfft(restored(pipe, wave, head).audio)
    spectrum[:, np.fft.rfftfreq(wave.shape[1], 1 / RATE) < 1.1 * CUTOFF_HZ] = 0
    return np.fft.irfft(spectrum, n=wave.shape[1])


def level_db(wave):
    return 10 * np.log10(np.mean(np.square(wave, dtype=np.float64), axis=-1) + 1e-20)


def likeness_made(pipe, likeness, head):
    first, other = programme(2)
    wave = np.stack([first, likeness * first + (1 - likeness**2) ** 0.5 * other])
    return np.corrcoef(made(pipe, wave, head))[0, 1]


@pytest.mark.parametrize("head", ["mamba-gan", "diffwave-mamba"])
@pytest.mark.parametrize("likeness", [-0.6, 0.0, 0.7])
def test_the_made_band_is_as_wide_as_the_known_one(pipe, head, likeness):
    assert abs(likeness_made(pipe, likeness, head) - likeness) < 0.1


@pytest.mark.parametrize("head", HEADS)
def test_levels_do_not_depend_on_the_image(pipe, head):
    first, other = programme(2)
    together, apart = (level_db(made(pipe, np.stack([first, 0.3 * one]), head)) for one in (first, other))
    assert np.abs(together - apart).max() < 1


@pytest.mark.parametrize("head", HEADS)
def test_one_channel_twice_is_equal_to_the_bit_and_is_the_channel_alone(pipe, head):
    wave = programme()
    both = restored(pipe, np.repeat(wave, 2, axis=0), head)
    assert both.channel_correlation == ((1.0, 1.0), (1.0, 1.0))
    assert np.array_equal(both.audio[0], both.audio[1])
    alone = restored(pipe, wave, head).audio
    assert np.abs(both.audio[0] - alone[0]).max() < 1e-5


@pytest.mark.parametrize("head", HEADS)
def test_opposite_channels_stay_opposite_and_cancel(pipe, head):
    wave = programme()
    out = restored(pipe, np.concatenate([wave, -wave]), head).audio
    assert level_db(out[0]) > -40
    assert level_db(out[0] + out[1]) < -110


@pytest.mark.parametrize("head", HEADS)
def test_the_silent_side_of_a_hard_pan_stays_silent(trained, head):
    audio = read(ROOT / "examples/drumroll_4000hz.flac")
    wave = resample(audio.samples.mean(axis=0), audio.sample_rate, RATE)[RATE : 2 * RATE]
    levels = level_db(made(trained, np.stack([wave, 0 * wave]).astype(np.float32), head))
    assert levels[0] > -60 and levels[1] < -85


@pytest.mark.parametrize("head", HEADS)
def test_ten_channels_keep_their_places(pipe, head, tmp_path):
    """Each is loud by itself, and comes back from a file at its index with its own band kept."""
    wave = programme(10, seconds=1.0) * 10 ** (-np.arange(10)[:, None] / 10).astype(np.float32)
    out = restored(pipe, wave, head)
    out.save(tmp_path / "ten.wav")
    written, rate = soundfile.read(tmp_path / "ten.wav", always_2d=True)
    assert rate == RATE and written.shape == (RATE, 10)
    errors = kept_band_error_db(torch.from_numpy(wave).double(), torch.from_numpy(written.T.copy()), 0.8 * CUTOFF_HZ)
    assert errors.max() < -60


@pytest.mark.parametrize("head", HEADS)
def test_what_a_channel_becomes_does_not_depend_on_how_many_are_beside_it(pipe, head):
    wave = programme(7, seconds=1.0)
    wave[1:] *= 0.1  # the level of the networks' input is that of the loudest
    wave[6] = wave[0]
    out = restored(pipe, wave, head).audio
    assert np.abs(out[6] - out[0]).max() < 1e-5  # threads share out a batch, and round by it
    assert np.abs(restored(pipe, wave[:1], head).audio[0] - out[0]).max() < 1e-5


@pytest.mark.parametrize("head", HEADS)
def test_a_stream_in_blocks_is_the_whole(pipe, head):
    wave = programme(2, seconds=8.0)
    wave[1] = 0.6 * wave[0] + 0.8 * wave[1]
    whole = restored(pipe, wave, head)
    blocks = np.split(wave, [100, 70_000, 70_001, 300_000], axis=1)
    steps = 2 if head != "mamba-gan" else None
    peak = float(np.abs(wave).max())
    pieces = pipe.stream(blocks, RATE, head=head, cutoff_hz=CUTOFF_HZ, steps=steps, peak=peak,
                         channel_correlation=whole.channel_correlation)  # fmt: skip
    assert np.abs(np.concatenate(list(pieces), axis=1) - whole.audio).max() < 1e-5


def test_sixty_four_channels_come_back_in_order(pipe):
    wave = programme(64, seconds=0.3)
    out = restored(pipe, wave, "mamba-gan").audio
    likeness = np.corrcoef(wave, out)[:64, 64:]
    assert np.array_equal(likeness.argmax(axis=1), np.arange(64))


def left_and_right(mid_hz, side_hz, side=0.5, seconds=4.0):
    """Of noises that end apart, sharply. (2, T)"""
    mid, apart = np.random.default_rng(5).standard_normal((2, round(seconds * RATE)))
    hz = np.fft.rfftfreq(mid.size, 1 / RATE)
    mid, apart = (
        np.fft.irfft(np.fft.rfft(wave) * (hz < end) / np.sqrt(np.maximum(hz, 100.0)), n=mid.size)
        for wave, end in ((mid, mid_hz), (apart, side_hz))
    )
    return (np.stack([mid + side * apart, mid - side * apart]) * 0.1 / mid.std()).astype(np.float32)


def mid_and_side(wave):
    return np.stack([wave[0] + wave[1], wave[0] - wave[1]]) / 2


def band_db(wave, low_hz, high_hz):
    spectrum = np.abs(np.fft.rfft(wave.astype(float))) ** 2
    hz = np.fft.rfftfreq(wave.shape[-1], 1 / RATE)
    return 10 * np.log10(spectrum[(hz >= low_hz) & (hz < high_hz)].sum() + 1e-12)


def test_a_side_that_is_duller_is_restored_beside_the_mid(trained, tmp_path):
    """Each keeps its own band, and the side gets one where it had none: it was 80 dB below the mid there."""
    given = left_and_right(8_000, 4_000)
    soundfile.write(tmp_path / "a.wav", given.T, RATE, "FLOAT")
    plain = trained(given, sample_rate=RATE, head="mamba-gan").audio
    pairs = (torch.from_numpy(wave.copy()) for wave in (given, plain))
    assert float(kept_band_error_db(*pairs, 6_400).max()) < -60  # not asked for, left and right keep theirs
    out = trained(given, sample_rate=RATE, head="mamba-gan", mid_side=True)
    assert "restored as mid and side" in out.note
    assert min(hz for channel in out.cutoff_track for _, hz in channel) > 7_200  # left's and right's own end
    for before, after, end_hz in zip(mid_and_side(given), mid_and_side(out.audio), (8_000, 4_000), strict=True):
        pair = (torch.from_numpy(wave[None].copy()) for wave in (before, after))
        assert float(kept_band_error_db(*pair, 0.8 * end_hz)) < -60
    before, after = (
        band_db(side, 4_500, 7_500) - band_db(mid, 4_500, 7_500)
        for mid, side in (mid_and_side(given), mid_and_side(out.audio))
    )
    assert before < -80 and -15 < after < 5
    trained.restore_file(tmp_path / "a.wav", tmp_path / "b.wav", head="mamba-gan", mid_side=True)
    error = read(tmp_path / "b.wav").samples - out.audio
    assert np.square(error).mean() < 1e-8 * np.square(out.audio).mean()


@pytest.mark.parametrize("how", [{"mid_hz": 8_000, "side_hz": 8_000}, {"mid_hz": 4_000, "side_hz": 8_000},
                                 {"mid_hz": 8_000, "side_hz": 4_000, "side": 0.01}])  # fmt: skip
def test_other_sides_are_not(trained, how):
    out = trained(left_and_right(**how), sample_rate=RATE, head="mamba-gan", mid_side=True)
    assert "left and right were restored" in out.note
