"""Every option of every head changes what comes out, or is refused: none is taken and ignored."""

from dataclasses import fields

import numpy as np
import pytest
import torch

from holed import holed
from latentsr import Pipeline
from latentsr.diffusion.sampling import training_scheduler
from latentsr.errors import UsageError
from latentsr.head_kinds import HEADS
from latentsr.models.aeromamba import AeroMamba
from latentsr.models.diffwave_mamba import DiffWaveMamba
from latentsr.models.live import LiveGenerator
from latentsr.models.mamba_gan import MambaGenerator
from latentsr.models.mambawave import MambaWave
from latentsr.options import Options
from paused import beats, white
from tiny import RATE, programme, tiny_pipeline
from wide import music_like

FILES = {  # what is of files: each acts whatever the head, and is tested where files are
    "track", "no_timeline", "salvage", "on_nonfinite", "sample_rate", "format", "subtype", "overwrite",
}  # fmt: skip
ELSEWHERE = {
    "head",
    "compat_filter",
    "batch_size",
}  # it is the head; it makes another system of it; the same bits at any

CHOICES = {
    "steps": 2,
    "guidance_scale": 3.0,
    "temperature": 0.5,
    "seed": 1,
    "denoise": True,
    "repair": True,
    "cutoff_hz": 3_500.0,
    "use_latents": True,
    "mid_side": True,
    "amount": 0.5,
    "tilt": 3.0,
    "sibilance": 6.0,
    "ceiling_hz": 12_000.0,
    "no_floor": True,
}
REFUSED = {
    "vocoder": {"use_latents", "repair"},  # it decodes them in any case
    "mamba-gan": {"steps", "guidance_scale", "temperature"},
    "diffwave-mamba": {"guidance_scale", "temperature", "denoise", "repair"},
    "live": {
        "steps",
        "guidance_scale",
        "temperature",
        "denoise",
        "repair",
        "use_latents",
        "mid_side",
        "amount",
        "tilt",
        "sibilance",
        "ceiling_hz",
        "no_floor",
    },
    "aeromamba": {"steps", "guidance_scale", "temperature", "seed", "denoise", "repair", "use_latents"},
    "mambawave": {"guidance_scale", "temperature", "denoise", "repair", "use_latents"},
}


@pytest.fixture(scope="module")
def pipe():
    base = tiny_pipeline()
    torch.manual_seed(0)
    gan = MambaGenerator(channels=16, mixer_layers=1, state=4, hidden=32, layers=1, latent_size=64, context_frames=24,
                         noise_share=0.5)  # fmt: skip
    wave = DiffWaveMamba(bands=96, channels=8, hidden=8, condition_layers=1, layers=1, state=2, latent_size=64)
    aero = AeroMamba(channels=8, n_fft=128, hop_length=64, strides=(4, 4), norm_from_level=9)
    diffused = MambaWave(channels=8, layers=2, state=2, step_features=16)
    live = LiveGenerator(hidden=16, layers=1)
    for network in (gan, wave, diffused, live):  # layers that are zero before training
        for parameter in network.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)
    made = Pipeline(
        vae=base.vae, unet=base.unet, scheduler=training_scheduler(), vocoder=base.vocoder, mamba_gan=gan.eval(),
        diffwave_mamba=wave.eval(), aeromamba=aero.eval(), mambawave=diffused.eval(), live=live.eval(),
    )  # fmt: skip
    made.set_progress_bar_config(disable=True)
    return made


def test_no_option_is_left_out():
    assert FILES | ELSEWHERE | CHOICES.keys() == {field.name for field in fields(Options)}


def noisy(wave):
    return wave + 0.003 * np.random.default_rng(1).standard_normal(wave.shape).astype(np.float32)


@pytest.mark.parametrize("head", HEADS)
def test_every_option_acts_or_is_refused(pipe, head):
    mid, side = noisy(programme(0.6, cutoff_hz=8_000)), 0.3 * programme(0.6, seed=2, cutoff_hz=3_000)
    wave, stereo = noisy(programme(0.6)), np.concatenate([mid + side, mid - side])
    coded = holed(0.05 * music_like(3.0), 2_000, 4_000, every_s=0.3)[None]
    paused = (beats(1.2) + white(1.2, -62.0)).numpy()
    common = {"sample_rate": RATE, "head": head} | ({"steps": 3} if HEADS[head].takes_steps else {})
    plain = {}
    refused = set()
    for name, value in CHOICES.items():
        given, beside = (stereo, common) if name == "mid_side" else (wave, common | {"cutoff_hz": 4_000.0})
        given = {"repair": coded, "no_floor": paused}.get(name, given)
        try:
            made = pipe(given, **{**beside, name: value}).audio
        except UsageError:
            refused.add(name)
            continue
        if given.shape not in plain:
            plain[given.shape] = pipe(given, **beside).audio
        assert np.abs(made - plain[given.shape]).max() > 1e-6, f"{name} changes nothing"
    assert refused == REFUSED[head]
