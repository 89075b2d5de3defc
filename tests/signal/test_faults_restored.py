"""Odd but sound recordings through the embedded default: restored at their length, level and phase."""

import numpy as np
import pytest
import soundfile

pytest.importorskip("torch")

from latentsr import Pipeline
from latentsr.audio import output_length

HEAD = "mamba-gan"


@pytest.fixture(scope="module")
def pipe():
    pipe = Pipeline.from_pretrained(heads=[HEAD])
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _restored(pipe, path, samples, rate_hz, **how):
    soundfile.write(path, samples.T, rate_hz, format="WAV", **how)
    return pipe(path, head=HEAD).audio


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 37_800, 384_000])
@pytest.mark.parametrize("frames", [4, 3_001])
def test_the_length_is_exact_at_odd_rates(pipe, tmp_path, rate_hz, frames):
    samples = np.random.default_rng(0).uniform(-0.3, 0.3, (1, frames))
    assert _restored(pipe, tmp_path / "a.wav", samples, rate_hz).shape == (1, output_length(frames, rate_hz, 48_000))


def test_opposite_phases_stay_opposite(pipe, tmp_path):
    """Below the cutoff; what is drawn above it is shared by the channels or opposite too."""
    t = np.arange(8_000) / 16_000
    tone = 0.3 * np.sin(2 * np.pi * 500 * t)
    out = _restored(pipe, tmp_path / "a.wav", np.stack([tone, -tone]), 16_000, subtype="FLOAT")
    inner = slice(4_800, -4_800)
    residue = np.sum((out[0] + out[1])[inner] ** 2) / np.sum(out[0][inner] ** 2)
    assert 10 * np.log10(residue) < -40


def test_direct_current_stays(pipe, tmp_path):
    rng = np.random.default_rng(0)
    samples = 0.25 + 0.05 * rng.standard_normal((1, 8_000))
    out = _restored(pipe, tmp_path / "a.wav", samples, 16_000, subtype="FLOAT")
    assert out[:, 2_400:-2_400].mean() == pytest.approx(samples[:, 800:-800].mean(), abs=1e-3)
