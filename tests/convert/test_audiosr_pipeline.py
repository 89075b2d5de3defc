"""AudioSR checkpoints in the pipeline: from a file, a folder and the Hub's name; guidance, vocoders, and the preset."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from latentsr import audio
from latentsr.convert import audiosr, audiosr_compat, audiosr_hub
from latentsr.convert.audiosr_preset import compat
from latentsr.diffusion.drawing import Diffusion
from latentsr.diffusion.sampling import guided, sample
from latentsr.options import Options
from latentsr.pipeline import Pipeline
from latentsr.restoring.engine import CORE

RATE = 48_000
CUTOFF_HZ = 6_000.0
SHORT = {"sample_rate": RATE, "steps": 1, "cutoff_hz": CUTOFF_HZ}


@pytest.fixture(scope="module")
def oracle(audiosr_folder) -> Path:
    return audiosr_folder


@pytest.fixture(scope="module")
def checkpoint(oracle) -> tuple[Path, Path]:
    return oracle / "pytorch_model.bin", oracle / "config.json"


@pytest.fixture(scope="module")
def folder(checkpoint, tmp_path_factory) -> Path:
    return audiosr.convert(checkpoint[0], tmp_path_factory.mktemp("audiosr") / "m", checkpoint[1])


@pytest.fixture(scope="module")
def pipe(checkpoint) -> Pipeline:
    return quiet(Pipeline.from_audiosr(*checkpoint))


def quiet(pipe: Pipeline) -> Pipeline:
    pipe.set_progress_bar_config(disable=True)
    return pipe


def noise(seconds: float = 0.2, channels: int = 1) -> np.ndarray:
    """White noise (C, T) at 48 kHz."""
    samples = np.random.default_rng(0).standard_normal((channels, round(seconds * RATE)))
    return (0.1 * samples).astype(np.float32)


def difference_db(a: np.ndarray, b: np.ndarray) -> float:
    return float(20 * np.log10(np.linalg.norm(a - b) / np.linalg.norm(b)))


# --- ways in ----------------------------------------------------------------------------------------------------------


def test_the_file_and_its_folder_are_one_model(pipe, folder):
    expected = pipe(noise(), **SHORT).audio
    made = quiet(Pipeline.from_pretrained(folder))(noise(), **SHORT).audio
    assert np.array_equal(made, expected)


def test_saving_and_loading(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "m")
    again = quiet(Pipeline.from_pretrained(tmp_path / "m"))
    assert np.array_equal(again(noise(), **SHORT).audio, pipe(noise(), **SHORT).audio)


@pytest.mark.parametrize(("dtype", "limit_db"), [(torch.float16, -50), (torch.bfloat16, -30)])
def test_half_precision_folders_load_in_fp32(pipe, checkpoint, tmp_path, dtype, limit_db):
    folder = audiosr.convert(checkpoint[0], tmp_path / "m", checkpoint[1], dtype=dtype)
    half = quiet(Pipeline.from_pretrained(folder))
    for network in (half.vae, half.unet, half.vocoder):
        assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert difference_db(half(noise(), **SHORT).audio, pipe(noise(), **SHORT).audio) < limit_db


def test_the_published_name_goes_through_the_cache(pipe, checkpoint, folder, tmp_path, monkeypatch):
    asked = []

    def convert(file: Any, target: Path, **settings: Any) -> Path:
        asked.append(file.path)
        return audiosr.convert(file, target, checkpoint[1], **settings)

    def download(name: str, file: str, **_: Any) -> str:
        asked.append((name, file))
        return str(checkpoint[0])

    digest = json.loads((folder / "conversion.json").read_text())["source_sha256"]
    monkeypatch.setenv("LATENTSR_CACHE", str(tmp_path))
    monkeypatch.setattr(audiosr_hub, "hf_hub_download", download)
    monkeypatch.setattr(audiosr_hub, "_current_sha256", lambda _: digest)
    monkeypatch.setattr(audiosr_hub, "convert", convert)
    for _ in range(2):  # the second time nothing is fetched or converted
        made = quiet(Pipeline.from_pretrained("haoheliu/audiosr_basic"))
        assert asked == [("haoheliu/audiosr_basic", "pytorch_model.bin"), checkpoint[0]]
    assert np.array_equal(made(noise(), **SHORT).audio, pipe(noise(), **SHORT).audio)


# --- defaults and guidance --------------------------------------------------------------------------------------------


def test_the_index_holds_the_defaults(folder, pipe):
    index = json.loads((folder / "model_index.json").read_text())
    assert {name: index[name] for name in audiosr.DEFAULTS} == audiosr.DEFAULTS
    assert index["unconditional_latent"] == -11.4981 == pipe.config.unconditional_latent
    assert index["default_guidance_scale"] == 3.5


def test_guidance_is_the_default_and_changes_the_result(pipe):
    default, same, none = (
        pipe(noise(), **SHORT, **g).audio for g in ({}, {"guidance_scale": 3.5}, {"guidance_scale": 1})
    )
    assert np.array_equal(default, same)
    assert difference_db(none, default) > -60


def test_guidance_of_one_step_by_hand(pipe):
    """The constant is scaled as the condition is, and both halves of a batch are what two evaluations give."""
    diffusion = pipe.chains(Options(head="vocoder", steps=1, guidance_scale=3.5, temperature=1.0)).args[1]
    shape = (1, diffusion.shape[0], 8, diffusion.shape[1])
    condition, start = (torch.randn(shape, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    scale = pipe.vae.config.scaling_factor

    def velocity(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        def half(c: torch.Tensor) -> torch.Tensor:
            return pipe.unet(torch.cat([x, c], dim=1), t, encoder_hidden_states=None).sample

        return guided(half(condition), half(torch.full_like(condition, -11.4981 * scale)), 3.5)

    with torch.inference_mode():
        expected = sample(velocity, start, pipe.scheduler, 1)
        made = diffusion.denoise(condition, start, torch.full((len(condition),), float(CUTOFF_HZ)))
    assert ((made - expected).abs().max() / expected.abs().max()).item() < 1e-4


def test_the_empty_condition_is_used(pipe, checkpoint):
    zero = quiet(Pipeline(**{**pipe.components, "unconditional_latent": 0.0, "default_guidance_scale": 3.5}))
    assert difference_db(zero(noise(), **SHORT).audio, pipe(noise(), **SHORT).audio) > -60


# --- channels and windows ---------------------------------------------------------------------------------------------


def test_equal_channels_give_equal_channels(pipe):
    made = pipe(np.repeat(noise(), 2, axis=0), **SHORT).audio
    assert np.abs(made[0] - made[1]).max() < 1e-6


def test_windows_join_without_a_seam(pipe, monkeypatch):
    """A recording of 9 s in two windows: around the joint no more energy comes or goes than elsewhere."""
    wave = noise(9.0)
    made = pipe(wave, **SHORT, guidance_scale=1.0).audio[0] - wave[0]
    at = CORE * 8 * 480  # of the joint, in samples
    frames = made[: len(made) // 480 * 480].reshape(-1, 480)
    level_db = 10 * np.log10((frames**2).mean(axis=1) + 1e-12)
    jumps = np.abs(np.diff(level_db))
    joint = at // 480
    assert jumps[joint - 3 : joint + 3].max() <= np.quantile(jumps, 0.999) + 1.0
    assert np.abs(np.diff(made[at - 4 : at + 5])).max() <= np.abs(np.diff(made)).max()


# --- another vocoder --------------------------------------------------------------------------------------------------


def test_the_embedded_vocoder_behind_its_latents(pipe, folder):
    small = quiet(Pipeline.from_pretrained(folder, vocoder="embedded"))
    assert type(small.vocoder).__name__ == "ISTFTVocoder"
    assert torch.equal(small.unet.conv_out.weight, pipe.unet.conv_out.weight)
    made = small(noise(), **SHORT).audio
    assert made.shape == noise().shape and np.isfinite(made).all()
    assert difference_db(made, pipe(noise(), **SHORT).audio) > -60


# --- the preset -------------------------------------------------------------------------------------------------------


def test_the_preset_is_the_faithful_mode_cut_to_length(pipe, oracle):
    samples, rate = soundfile.read(oracle / "input_16k.wav", dtype="float32")
    wave = np.stack([samples[:24_000], np.zeros(24_000, np.float32)])
    out = compat(pipe, wave, rate, steps=2, filter="cheby1", seed=1, guidance_scale=2.0)
    networks = audiosr_compat.Networks(pipe.vae, pipe.unet, pipe.vocoder, pipe.scheduler.config.trained_betas)
    settings = audiosr_compat.Settings(steps=2, filter="cheby1", seed=1, guidance_scale=2.0)
    expected = audiosr_compat.restore(wave, rate, networks, settings)
    assert out.audio.shape == (1, 72_000) and expected.audio.shape == (1, 1, 245_776)
    assert np.array_equal(out.audio, expected.audio[0, :, :72_000].numpy())
    assert (out.cutoff_hz, out.seconds) == (expected.cutoff_hz, 1.5)


def recording(oracle):
    samples, rate = soundfile.read(oracle / "input_16k.wav", dtype="float32", always_2d=True)
    return samples.T, rate


def test_the_preset_equals_the_recorded_run(shared, pipe, oracle):
    """Only the draws of the seed lie between: the same on every CPU, as its are."""
    with np.load(oracle / "oracle.npz") as recorded:
        final = recorded["final_wave"].reshape(-1)
    made = compat(pipe, *recording(oracle), steps=5).audio[0]
    assert len(made) == audio.output_length(soundfile.info(oracle / "input_16k.wav").frames, 16_000, RATE)
    assert np.abs(made - final[: len(made)]).max() / np.abs(final).max() < 1e-4


def test_the_preset_reports_its_progress(pipe, oracle):
    seen: list[tuple[float, float]] = []
    compat(pipe, *recording(oracle), steps=2, progress=lambda done, total: seen.append((done, total)))
    done = [at for at, _ in seen]
    assert done == sorted(done) and done[-1] == pytest.approx(seen[-1][1], abs=1e-3)


def test_the_preset_is_audiosrs(folder):
    message = "the compat preset is audiosr's; load a converted AudioSR checkpoint with its own vocoder"
    for other in (Pipeline.from_pretrained(), Pipeline.from_pretrained(folder, vocoder="embedded")):
        with pytest.raises(ValueError, match=message):
            compat(other, noise(), RATE)


def test_the_diffusion_takes_the_constant_unscaled(pipe):
    expected = -11.4981 * pipe.vae.config.scaling_factor
    diffusion = pipe.chains(Options(head="vocoder")).args[1]
    assert isinstance(diffusion, Diffusion)
    assert diffusion.unconditional == pytest.approx(expected, rel=1e-6)
