"""`latentsr restore` with real networks, the smallest that `configs/tiny` describes, in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml

from latentsr import audio
from latentsr.apps import cli
from latentsr.apps.info import describe_model
from latentsr.diffusion.sampling import training_scheduler
from latentsr.models.hifigan import build_vocoder
from latentsr.models.unet import LatentUNet
from latentsr.models.vae import MelAutoencoderKL
from latentsr.pipeline import Pipeline

ROOT = Path(__file__).resolve().parents[2]
ENV = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}


def tiny(name: str) -> dict:
    return yaml.safe_load((ROOT / "configs" / "tiny" / f"{name}.yaml").read_text())


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    vae = MelAutoencoderKL(**tiny("vae")["model"], scaling_factor=1.0, shift_factor=0.0)
    pipe = Pipeline(
        vae=vae,
        unet=LatentUNet(latent_channels=4, **tiny("ldm")["model"]),
        scheduler=training_scheduler(),
        vocoder=build_vocoder(tiny("vocoder")["kind"], **tiny("vocoder")["model"]),
    )
    folder = tmp_path_factory.mktemp("model")
    pipe.save_pretrained(folder)
    return folder


@pytest.fixture
def dull(tmp_path) -> Path:
    """A second of stereo noise at 8 kHz."""
    samples = np.random.default_rng(0).uniform(-0.3, 0.3, (8_000, 2))
    soundfile.write(tmp_path / "dull.wav", samples, 8_000, subtype="PCM_16")
    return tmp_path / "dull.wav"


def latentsr(*words) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "latentsr", *map(str, words)]
    return subprocess.run(command, env=ENV, capture_output=True, text=True)


def test_restore(model, dull):
    bad = dull.with_name("bad.wav")
    bad.write_bytes(dull.read_bytes()[:-10])
    before = dull.read_bytes()
    done = latentsr("restore", dull, bad, "--model", model, "--steps", 1, "--cutoff", 3_000, "--json")
    assert done.returncode == 3, done.stderr
    failed, record = map(json.loads, done.stdout.splitlines())
    assert (failed["input"], failed["output"]) == (str(bad), None)
    assert (record["samples"], record["channels"], record["sample_rate"]) == (48_000, 2, 48_000)
    assert record["cutoff_hz"] == 3_000
    assert dull.read_bytes() == before
    assert sorted(path.name for path in dull.parent.iterdir()) == ["bad.wav", "dull.48k.wav", "dull.wav"]
    kept, given = audio.read(record["output"]).samples, audio.resample(audio.read(dull).samples, 8_000, 48_000)
    window = np.hanning(48_000)  # or the made band would leak into the bins of the kept one
    error, level = (np.linalg.norm(np.fft.rfft(x * window)[:, :2_400]) for x in (kept - given, given))  # to 2.4 kHz
    assert 20 * np.log10(error / level) < -60


@pytest.fixture
def here(monkeypatch, capsys):
    """Runs the command in this process, where torch is imported already; returns its exit code and stderr."""

    def run(*words) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["latentsr", *map(str, words)])
        monkeypatch.setattr(cli.signal, "signal", lambda *_: None)  # leave pytest's own handlers alone
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        return exit_.value.code, capsys.readouterr().err

    return run


def test_unknown_head_is_wrong_usage(here, model, dull):
    code, err = here("restore", dull, "--model", model, "--head", "choir")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "unknown head 'choir'; choose one of vocoder" in err


def test_a_folder_that_is_no_model(here, dull, tmp_path):
    code, err = here("restore", dull, "--model", tmp_path)
    assert (code, len(err.splitlines())) == (1, 1)
    assert str(tmp_path) in err
    assert not dull.with_name("dull.48k.wav").exists()


def test_info_counts_what_torch_counts(model):
    facts = describe_model(model)
    pipe = Pipeline.from_pretrained(model)
    for name in ("vae", "unet", "vocoder"):
        assert facts["components"][name]["parameters"] == sum(p.numel() for p in getattr(pipe, name).parameters())
    assert facts["heads"] == ["vocoder"]
