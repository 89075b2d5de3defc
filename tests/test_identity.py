"""What goes in comes out, whatever the lengths, cuts and channels: windows, resampling, configs, checkpoints."""

from fractions import Fraction
from itertools import groupby
from math import floor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latentsr.audio import output_length, resample
from latentsr.config import AUDIO, AudioConfig, build, differences, dump, load
from latentsr.heads.base import Head
from latentsr.options import Options
from latentsr.restoring.analysis import Heard
from latentsr.restoring.chain import Chain
from latentsr.restoring.engine import Restorer
from latentsr.restoring.source import resampled
from latentsr.signal.chunks import take
from latentsr.signal.track import Track
from latentsr.training import checkpoint
from latentsr.training.stages import STAGES

RATE = AUDIO.sample_rate
few = settings(max_examples=15, deadline=None)


class Identity(Head):
    """A head that knows the recording: what it makes of a window is the recording at the window's own place."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, wave, gain, context_frames, latents=None):
        self.wave, self.gain, self.context_frames, self.latents = wave, gain, context_frames, latents

    def decode(self, low):
        first = low.first_frame * AUDIO.hop_length
        made = take(self.wave, first, first + low.wave.shape[-1])[:, None] * self.gain
        if self.latents is not None:  # what is near the ends is mirrored, and nobody asks for it
            start, stop = low.ignored[0] // 8, low.latents.shape[2] - low.ignored[1] // 8
            expected = self.latents(low.first_frame // 8 + torch.arange(start, stop), low.latents.shape[0])
            inside = low.latents[:, :, start:stop]
            assert (inside - expected.expand_as(inside)).abs().max() < 1e-5
        return made, None


class Places:
    """A diffusion whose latents tell their absolute place and channel, so that cross-fades of them tell it too."""

    stride, multiple = 8, 4

    def __init__(self, batch_size):
        self.batch_size = batch_size

    def __call__(self, low, windows, seed, cutoff_hz):
        by_window = [(w, len(list(rows))) for w, rows in groupby(windows)]
        return torch.cat([self.at(torch.arange(w.first, w.last), count).expand(-1, 2, -1, 3) for w, count in by_window])

    @staticmethod
    def at(places, channels):
        values = torch.sin(places / 7.0) + torch.arange(channels)[:, None]
        return values[:, None, :, None]


@st.composite
def recordings(draw, longest_s=13.0):
    """(C, T) with 1 to 3 channels and any length, and where it is cut into blocks."""
    samples = draw(st.one_of(st.integers(1, 5000), st.integers(1, round(longest_s * RATE))))
    channels, seed = draw(st.integers(1, 3)), draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    wave = (draw(st.sampled_from([1e-4, 0.1, 1.0])) * rng.uniform(-1, 1, (channels, samples))).astype(np.float32)
    cuts = sorted(draw(st.lists(st.integers(0, samples), max_size=6)))
    return wave, np.split(wave, cuts, axis=1)


def restored(wave, blocks, context_frames, batch_size=None):
    peak = float(np.abs(wave).max())
    heard = Heard(wave.shape[1], len(wave), peak, Track.constant(4000.0, len(wave), wave.shape[1] / RATE))
    diffusion = None if batch_size is None else Places(batch_size)
    head = Identity(torch.from_numpy(wave), 1.0, context_frames, None if diffusion is None else Places.at)
    chain = Chain(head, diffusion, heard, Options(head="mamba-gan", cutoff_hz=4000.0))
    restorer, head.gain = Restorer(chain), chain.gain
    made = [piece for block in blocks for piece in restorer.push(torch.from_numpy(block.copy()))]
    return torch.cat([*made, *restorer.finish()], dim=-1).numpy(), peak


@few
@given(recordings(), st.integers(0, 70))
def test_a_head_that_makes_the_recording_gives_it_back(recording, context_frames):
    wave, blocks = recording
    made, peak = restored(wave, blocks, context_frames)
    assert made.shape == wave.shape
    assert np.abs(made - wave).max() <= 1e-6 * max(peak, 1e-6)


@few
@given(recordings(longest_s=20.0), st.integers(1, 3))
def test_latents_meet_their_own_place_in_every_window(recording, batch_size):
    wave, blocks = recording
    made, peak = restored(wave, blocks, 16, batch_size)
    assert made.shape == wave.shape
    assert np.abs(made - wave).max() <= 1e-6 * max(peak, 1e-6)


@pytest.mark.parametrize("samples", [1, 2, 479, 480, 481, 3839, 3840, 3841, 245_759, 245_760, 245_761, 491_520])
def test_lengths_around_the_ends_of_windows(samples):
    wave = np.random.default_rng(samples).uniform(-0.5, 0.5, (2, samples)).astype(np.float32)
    for blocks in ([wave], np.array_split(wave, min(samples, 7), axis=1)):
        made, _ = restored(wave, blocks, 16, batch_size=2)
        assert made.shape == wave.shape and np.abs(made - wave).max() < 1e-6


# --- resampling -----------------------------------------------------------------------------------------------------

rates = st.sampled_from([8000, 11_025, 16_000, 22_050, 32_000, 37_800, 44_100, 48_000, 88_200, 96_000, 192_000])


@given(st.integers(0, 2**50), st.integers(1, 768_000), st.integers(1, 768_000))
def test_the_length_law_is_exact(samples, from_hz, to_hz):
    assert output_length(samples, from_hz, to_hz) == floor(Fraction(samples * to_hz, from_hz) + Fraction(1, 2))


@few
@given(st.integers(1, 20_000), rates, rates, st.integers(1, 2))
def test_resampling_keeps_the_law_and_the_channels(samples, from_hz, to_hz, channels):
    wave = np.random.default_rng(samples).uniform(-1, 1, (channels, samples)).astype(np.float32)
    made = resample(wave, from_hz, to_hz)
    assert made.shape == (channels, output_length(samples, from_hz, to_hz)) and made.dtype == np.float32
    assert np.abs(made[0] - resample(wave[0], from_hz, to_hz)).max(initial=0) == 0


@few
@given(recordings(longest_s=1.5), rates)
def test_resampled_in_blocks_is_resampled_whole(recording, from_hz):
    wave, blocks = recording
    made = np.concatenate([b.numpy() for b in resampled([b for b in blocks if b.size], from_hz)], axis=1)
    whole = resample(wave, from_hz, RATE)
    assert made.shape == whole.shape
    assert np.abs(made - whole).max(initial=0) <= 1e-6


# --- files ----------------------------------------------------------------------------------------------------------

names = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20
)
shapes = st.lists(st.integers(0, 4), max_size=3)


dtypes = st.sampled_from(["float32", "float16", "bfloat16", "int64", "bool"])


@few
@given(
    st.dictionaries(names, st.tuples(shapes, dtypes), max_size=5),
    st.integers(0, 10**7),
    st.floats(0, 1e9),
    st.integers(0, 2**32 - 1),
)
def test_a_checkpoint_comes_back_to_the_bit(tmp_path_factory, tensors, step, seconds, seed):
    generator = torch.Generator().manual_seed(seed)

    def made(shape, dtype):
        bits = torch.randint(0, 256, (*shape, 8), generator=generator, dtype=torch.uint8)  # NaN and -0.0 among them
        kind = getattr(torch, dtype)
        return bits[..., 0] > 127 if dtype == "bool" else bits[..., : kind.itemsize].contiguous().view(kind)[..., 0]

    groups = {"model.a": {name: made(*spec) for name, spec in tensors.items()}}
    folder = tmp_path_factory.mktemp("run")
    path = checkpoint.save(folder, step, groups, {"seconds": seconds, "config": {"seed": seed}})
    found, manifest = checkpoint.newest_valid(folder)
    assert (found, manifest["step"], manifest["seconds"], manifest["config"]) == (path, step, seconds, {"seed": seed})
    loaded = checkpoint.load(found)["model.a"]
    assert loaded.keys() == groups["model.a"].keys()
    for name, tensor in groups["model.a"].items():
        assert loaded[name].dtype == tensor.dtype and loaded[name].shape == tensor.shape
        assert loaded[name].clone().untyped_storage().tolist() == tensor.clone().untyped_storage().tolist()


@given(st.fixed_dictionaries({}, optional={k: st.integers(1, 10**6) for k in ("sample_rate", "n_fft", "n_mels")}
                             | {k: st.floats(allow_nan=False) for k in ("fmin_hz", "fmax_hz", "floor")}))  # fmt: skip
def test_a_config_comes_back_equal(tmp_path_factory, values):
    path = tmp_path_factory.getbasetemp() / "config.yaml"
    config = build(AudioConfig, values)
    dump(config, path)
    assert load(AudioConfig, path) == config
    assert load(AudioConfig, path, [f"{key}={value!r}" for key, value in values.items()]) == config


@pytest.mark.parametrize("name", STAGES)
@settings(max_examples=5, deadline=None)
@given(steps=st.integers(1, 10**7), seed=st.integers(0, 2**31), rate=st.floats(1e-9, 1.0))
def test_a_stages_config_comes_back_equal(tmp_path_factory, name, steps, seed, rate):
    kind = STAGES[name][1]
    config = build(kind, {"loss_weights": {"mel": rate}, "steps": steps, "seed": seed})
    path = tmp_path_factory.getbasetemp() / f"{name}.yaml"
    dump(config, path)
    again = load(kind, path)
    assert again == config
    assert differences(again.model_dump(mode="json"), config.model_dump(mode="json")) == []
