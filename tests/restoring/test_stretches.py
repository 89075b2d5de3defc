"""A band that changes over time and from channel to channel: each stretch by itself, joined so that nobody hears it."""

import numpy as np
import pytest
import torch

from latentsr import Pipeline, audio
from latentsr.bandwidth import BandEstimator
from latentsr.evaluation.conditions import lowpass
from latentsr.evaluation.metrics import kept_band_error_db
from latentsr.options import Options
from latentsr.restoring.analysis import Heard
from latentsr.restoring.chain import EDGE_SAMPLES
from latentsr.restoring.engine import CORE, MARGIN, Restorer
from latentsr.restoring.stretches import HALF_FADE, Stretches, lay_over
from latentsr.signal.chunks import Window
from latentsr.signal.degrade import Recipe
from latentsr.signal.track import FULL_BAND_HZ, Stretch, Track
from tiny import RATE, programme, tiny_pipeline

HEADS = ["mamba-gan", "vocoder", "diffwave-mamba"]
NEAR = round(0.03 * RATE)  # samples around a change in which stretches may be mixed


@pytest.fixture(scope="module")
def pipe():
    made = Pipeline.from_pretrained(heads=HEADS)
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="module")
def tiny():
    return tiny_pipeline()


@pytest.fixture
def told(monkeypatch):
    """Makes the estimator answer a track by hand."""

    def tell(track):
        monkeypatch.setattr(BandEstimator, "result", lambda self: track)

    return tell


def track(*channels, seconds=8.0):
    return Track(tuple(tuple(Stretch(at, float(hz)) for at, hz in channel) for channel in channels), seconds)


def cut(wave, cutoff_hz):
    return lowpass(wave, Recipe("cheby1", 8, float(cutoff_hz))).astype(np.float32)


def noise(seconds=8.0, channels=1, seed=0):
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal((channels, round(seconds * RATE)))).astype(np.float32)


def error_db(made, expected):
    return 10 * np.log10((np.square(made - expected).mean() + 1e-30) / np.square(expected).mean())


def kept_db(source, made, cutoff_hz):
    waves = torch.from_numpy(source), torch.from_numpy(made)
    return float(kept_band_error_db(*waves, 0.8 * cutoff_hz).max())


@pytest.mark.parametrize("head", HEADS)
def test_a_dull_part_is_restored_and_a_full_band_part_is_the_recording(pipe, told, head):
    told(track([(0, 4_000), (3.3, FULL_BAND_HZ), (6.1, 8_000)]))
    whole = noise()
    wave = np.concatenate([cut(whole, 4_000)[:, :158_400], 0.018 * whole[:, 158_400:292_800],
                           cut(whole, 8_000)[:, 292_800:]], axis=1)  # fmt: skip
    out = pipe(wave, sample_rate=RATE, head=head)
    assert np.array_equal(out.audio[:, 158_400 + NEAR : 292_800 - NEAR], wave[:, 158_400 + NEAR : 292_800 - NEAR])
    for stop, start, hz in ((158_400, 0, 4_000), (wave.shape[1], 292_800, 8_000)):
        part = slice(start + NEAR, stop - NEAR)
        assert kept_db(wave[:, part], out.audio[:, part], hz) < -60
        added = out.audio[:, part] - wave[:, part]
        assert 10 * np.log10(np.square(added).mean() / np.square(wave[:, part]).mean()) > -30
    assert out.cutoff_track == [[(0, 4_000), (3.3, 24_000), (6.1, 8_000)]]
    assert out.cutoff_hz == 4_000  # the median of what is below full band: 3.3 s of it, 1.9 s of the other


@pytest.mark.parametrize("head", HEADS)
def test_each_channel_has_its_own_cutoff_and_a_full_one_comes_back(pipe, told, head):
    told(track([(0, 3_000)], [(0, FULL_BAND_HZ)], [(0, 9_000), (2.0, 6_000)]))
    whole = noise(channels=3)
    wave = np.stack([cut(whole[:1], 3_000)[0], 0.015 * whole[1], cut(whole[2:], 6_000)[0]])
    out = pipe(wave, sample_rate=RATE, head=head).audio
    assert np.array_equal(out[1], wave[1])
    assert kept_db(wave[:1], out[:1], 3_000) < -60
    assert kept_db(wave[2:], out[2:], 6_000) < -60
    assert not np.allclose(out[0], wave[0], atol=1e-3)


@pytest.mark.parametrize("size", [4_001, 100_000])
def test_streams_and_files_are_as_calls(tiny, told, tmp_path, size):
    told(track([(0, 4_000), (6.0, FULL_BAND_HZ), (8.1, 6_000)], [(0, 7_000)], seconds=14))
    wave = programme(14, 2)
    whole = tiny(wave, sample_rate=RATE, steps=1)
    blocks = np.split(wave, range(size, wave.shape[1], size), axis=1)
    known = {"peak": float(np.abs(wave).max()), "channel_correlation": whole.channel_correlation}
    made = tiny.stream(blocks, RATE, steps=1, **known)
    assert error_db(np.concatenate(list(made), axis=1), whole.audio) < -80
    audio.write(audio.Target.of(tmp_path / "a.wav", subtype="FLOAT"), wave, RATE)
    done = tiny.restore_file(tmp_path / "a.wav", tmp_path / "b.wav", steps=1)
    assert error_db(audio.read(tmp_path / "b.wav").samples, whole.audio) < -80
    assert done.cutoff_track == whole.cutoff_track


def test_a_file_is_heard_at_its_own_rate_and_once(tiny, tmp_path, monkeypatch):
    heard = []
    monkeypatch.setattr(BandEstimator, "update", lambda self, block: heard.append((self.sample_rate, block)))
    monkeypatch.setattr(BandEstimator, "result", lambda self: Track.constant(3_000, 2, 3.0))
    wave = audio.resample(programme(3.0, 2, cutoff_hz=3_000), RATE, 16_000)
    audio.write(audio.Target.of(tmp_path / "a.wav", subtype="FLOAT"), wave, 16_000)
    for denoise in (False, True):
        tiny.restore_file(tmp_path / "a.wav", tmp_path / "b.wav", steps=1, denoise=denoise, overwrite=True)
        assert {rate for rate, _ in heard} == {16_000}
        assert np.array_equal(np.concatenate([block for _, block in heard], axis=1), wave)
        heard.clear()
    list(tiny.stream(np.array_split(wave, 5, axis=1), 16_000, steps=1))
    assert np.array_equal(np.concatenate([block for _, block in heard], axis=1), wave)


def test_what_holds_at_the_end_of_a_streams_beginning_stays(tiny, told):
    told(track([(0, 4_000), (5.0, FULL_BAND_HZ)], [(0, FULL_BAND_HZ)], seconds=6))
    wave = programme(20, 2)
    made = np.concatenate(list(tiny.stream(np.array_split(wave, 40, axis=1), RATE, steps=1)), axis=1)
    assert np.array_equal(made[1], wave[1])
    assert np.array_equal(made[0, 5 * RATE + NEAR :], wave[0, 5 * RATE + NEAR :])
    assert not np.allclose(made[0, : 5 * RATE - NEAR], wave[0, : 5 * RATE - NEAR], atol=1e-4)


@pytest.mark.parametrize("head", HEADS)
def test_changes_are_not_heard(pipe, told, head):
    """The band of steady noise above 6 kHz keeps its level through twelve changes of the cutoff, and nothing clicks."""
    wave = cut(noise(7, seed=1), 4_000)
    changes = [(0, 4_000), *((at / 2 + 0.3, 4_000 + 300 * (at % 2)) for at in range(1, 13))]
    told(track(changes, seconds=7))
    made = pipe(wave, sample_rate=RATE, head=head).audio
    high = made - cut(made, 6_000)
    frames = high[0, : high.shape[1] // 480 * 480].reshape(-1, 480)  # 10 ms each
    power = np.square(frames).mean(axis=1)
    middle_s = (np.arange(len(power)) + 0.5) / 100
    near = np.any([np.abs(middle_s - at) < 0.03 for at, _ in changes[1:]], axis=0)
    level_db = 10 * np.log10(power[near].mean() / power[(middle_s > 0.1) & ~near].mean())
    peak_db = 20 * np.log10(np.abs(frames[near]).max() / np.abs(frames[~near][10:]).max())
    print(f"{head}: at changes {level_db:+.2f} dB, peak {peak_db:+.2f} dB")
    assert abs(level_db) < 1.0
    assert peak_db < 1.0


@pytest.mark.parametrize("changes", [0, 12])
def test_memory_does_not_grow_with_changes(tiny, changes):
    """What an hour holds is what a minute holds: count samples of the wave, and positions of latents."""
    seconds = 26.0
    stretches = [(0, 4_000), *((seconds * (at + 1) / (changes + 1), 3_000 + 100 * at) for at in range(changes))]
    wave = torch.from_numpy(programme(seconds))
    chains = tiny.chains(Options(head="vocoder", steps=1))
    restorer = Restorer(chains(Heard(wave.shape[1], 1, 0.3, track(stretches, seconds=seconds))))
    most_samples = most_positions = most_parts = 0
    with torch.inference_mode():
        for block in wave.split(RATE, dim=1):
            for _ in restorer.push(block):
                most_parts = max(most_parts, len(restorer.latents))
            held = [one.held for one in restorer.latents.values()]
            most_samples = max(most_samples, restorer.wave.shape[1])
            most_positions = max([most_positions, *held])
    window = (CORE + 2 * MARGIN + 2 * restorer.margin) * restorer.hop
    assert most_samples < 2 * window + 2 * EDGE_SAMPLES + RATE
    assert most_positions <= 3 * CORE
    assert most_parts <= 3 + 2 * changes / seconds * 3 * CORE * restorer.hop / RATE


# --- the parts by themselves ------------------------------------------------------------------------------------------


def test_weights_sum_to_one_wherever_changes_lie():
    many = track([(0, 4_000), (0.5, 5_000), (0.505, FULL_BAND_HZ), (0.52, 6_000), (1.2, 7_000)], seconds=2)
    parts = Stretches(many, hop=3840, margin=2, reach=1440).parts
    total = torch.zeros(1, 2 * RATE)
    for chosen in parts:
        share = torch.zeros(1, 2 * RATE)
        for part in parts:
            lay_over(share, torch.full((1, 2 * RATE), float(part is chosen)), [part], (0, 2 * RATE), 0)
        if chosen.index == 4:
            assert share[0, round(1.2 * RATE)] == pytest.approx(0.5, abs=0.01)
            assert not share[0, : round(1.2 * RATE) - HALF_FADE].any()
            assert (share[0, round(1.2 * RATE) + HALF_FADE :] == 1).all()
        total += share
    assert (total - 1).abs().max() < 1e-6


def test_only_what_sounds_in_a_window_is_restored_there():
    stretches = Stretches(track([(0, 4_000), (10.0, FULL_BAND_HZ)], [(0, 8_000)], seconds=20), 3840, 9, 1440)
    first, later = Window(64, 128, 55, 137), Window(128, 192, 119, 201)  # from 5.12 s, from 10.24 s
    (place, parts), (whole, rest), (after, full) = stretches.in_window(first)
    assert ([part.channel for part in parts], place) == ([0], Window(64, 126, 55, 135))
    assert ([part.channel for part in rest], whole) == ([1], first)
    assert ([part.made for part in full], after) == ([False], Window(124, 128, 115, 137))
    assert [(len(parts), parts[0].made) for _, parts in stretches.in_window(later)] == [(1, True), (1, False)]
    assert [part.channel for part in stretches.drawn_in(first, 8)] == [0, 1]
    assert [part.channel for part in stretches.drawn_in(Window(192, 256, 184, 264), 8)] == [1]
    stretches.forget(192)
    assert [(part.channel, part.index) for part in stretches.parts] == [(0, 1), (1, 0)]
