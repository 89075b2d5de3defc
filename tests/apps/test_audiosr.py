"""`latentsr restore` with AudioSR models: its own checkpoint, its folder, another vocoder, and as audiosr does it."""

import json
from functools import partial

import numpy as np
import pytest
import soundfile

from latentsr import audio
from latentsr.apps.loading import Loader
from latentsr.convert import audiosr
from latentsr.convert.audiosr_compat import Settings
from latentsr.convert.audiosr_preset import compat
from latentsr.pipeline import Pipeline


@pytest.fixture
def latentsr(run_command):
    """`latentsr restore` on some words: (exit code, stdout, stderr)."""
    return partial(run_command, "restore")


@pytest.fixture
def dull(tmp_path):
    """0.3 s of stereo noise at 16 kHz."""
    samples = np.random.default_rng(0).uniform(-0.3, 0.3, (4_800, 2))
    soundfile.write(tmp_path / "dull.wav", samples, 16_000, subtype="PCM_16")
    return tmp_path / "dull.wav"


@pytest.fixture(scope="module")
def checkpoint(audiosr_folder):
    return audiosr_folder / "pytorch_model.bin"


@pytest.fixture(scope="module")
def model(checkpoint, tmp_path_factory):
    """The folder that `latentsr convert` makes of the small checkpoint."""
    return audiosr.convert(checkpoint, tmp_path_factory.mktemp("audiosr") / "m", checkpoint.with_name("config.json"))


@pytest.fixture
def small(monkeypatch, checkpoint):
    """The configuration of the small checkpoint where the command takes the official one."""
    load = partial(Pipeline.from_audiosr, config=checkpoint.with_name("config.json"))
    monkeypatch.setattr(Pipeline, "from_audiosr", load)


def restored(dull) -> np.ndarray:
    return audio.read(dull.with_name("dull.48k.wav")).samples


def test_a_folder_restores_and_says_nothing_of_its_loading(latentsr, model, dull):
    code, out, err = latentsr(dull, "--model", model, "--steps", 1, "--json")
    assert (code, err) == (0, "")
    record = json.loads(out)
    assert (record["samples"], record["channels"]) == (14_400, 2)
    assert "compat_filter" not in record


def test_a_checkpoint_file_works_like_its_folder(latentsr, small, model, checkpoint, dull):
    assert latentsr(dull, "--model", model, "--steps", 1, "--json")[0] == 0
    expected = restored(dull)
    code, _, err = latentsr(dull, "--model", checkpoint, "--steps", 1, "--json", "--overwrite")
    assert (code, err) == (0, "")
    assert np.abs(restored(dull) - expected).max() <= 2 / 2**15  # one step of 16 bits


def test_a_checkpoint_of_other_sizes_is_one_line(latentsr, checkpoint, dull):
    code, _, err = latentsr(dull, "--model", checkpoint)
    assert (code, len(err.splitlines())) == (1, 1)
    assert str(checkpoint) in err


def test_a_file_that_is_no_checkpoint_is_one_line(latentsr, dull):
    code, _, err = latentsr(dull, "--model", dull)
    assert (code, len(err.splitlines())) == (1, 1)
    assert str(dull) in err


def test_the_embedded_vocoder(latentsr, model, dull):
    assert latentsr(dull, "--model", model, "--steps", 1, "--json")[0] == 0
    own = restored(dull)
    code, _, err = latentsr(
        dull, "--model", model, "--vocoder", "embedded", "--steps", 1, "--cutoff", 6_000, "--json", "--overwrite"
    )
    assert (code, err) == (0, "")
    assert restored(dull).shape == own.shape == (2, 14_400)
    assert np.abs(restored(dull) - own).max() > 1e-3


def test_the_embedded_vocoder_behind_a_checkpoint(latentsr, small, model, checkpoint, dull):
    options = ("--vocoder", "embedded", "--steps", 1, "--cutoff", 6_000, "--json", "--overwrite")
    assert latentsr(dull, "--model", model, *options)[0] == 0
    expected = restored(dull)
    code, _, err = latentsr(dull, "--model", checkpoint, *options)
    assert (code, err) == (0, "")
    assert np.abs(restored(dull) - expected).max() <= 2 / 2**15  # one step of 16 bits


@pytest.mark.parametrize("words", [(), ("--compat-filter", "butter")])
def test_compat_is_the_preset(latentsr, model, dull, words):
    code, out, err = latentsr(dull, "--model", model, "--compat", *words, "--steps", 2, "--json")
    assert (code, err) == (0, "")
    record = json.loads(out)
    filter = words[-1] if words else "ellip"
    assert (record["compat_filter"], record["seed"], record["channels"]) == (filter, 42, 1)
    samples, rate = soundfile.read(dull, dtype="float32", always_2d=True)
    expected = compat(Pipeline.from_pretrained(model), samples.T, rate, filter=filter, steps=2)
    assert np.abs(restored(dull) - expected.audio).max() <= 2 / 2**15


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), {"seed": 42}),
        (("--seed", 0), {"seed": 0}),
        (("--steps", 7, "--guidance", 1), {"seed": 42, "steps": 7, "guidance_scale": 1.0}),
    ],
)
def test_compat_has_the_defaults_of_audiosr(latentsr, monkeypatch, dull, words, expected):
    asked = {}

    def refuse(model, samples, rate, **settings):
        asked.update(settings)
        raise ValueError("asked")

    monkeypatch.setattr("latentsr.apps.compat.compat", refuse)
    monkeypatch.setattr(Loader, "__call__", lambda *_: object())
    assert latentsr(dull, "--model", "m", "--compat", *words, "--json")[0] == 1
    assert asked == {"filter": "ellip", "progress": None, **expected}
    defaults = vars(Settings())
    assert [defaults[name] for name in ("filter", "steps", "guidance_scale", "seed")] == ["ellip", 50, 3.5, 42]


@pytest.mark.parametrize(
    "words",
    [
        ("--head", "vocoder"),
        ("--vocoder", "embedded"),
        ("--temperature", 1),
        ("--denoise",),
        ("--cutoff", 4_000),
        ("--use-latents",),
    ],
    ids=lambda words: words[0],
)
def test_options_that_audiosr_has_not(latentsr, model, dull, words):
    code, _, err = latentsr(dull, "--model", model, "--compat", *words)
    assert (code, len(err.splitlines())) == (2, 1)
    assert words[0] in err


def test_compat_without_a_model_and_its_filter_without_compat(latentsr, model, dull):
    code, _, err = latentsr(dull, "--compat")
    assert (code, err) == (
        2, "latentsr: --compat needs an AudioSR model; pass --model haoheliu/audiosr_basic, or yours\n",
    )  # fmt: skip
    code, _, err = latentsr(dull, "--model", model, "--compat-filter", "butter")
    assert (code, err) == (
        2,
        "latentsr: --compat-filter works with --compat alone; add --compat, or leave --compat-filter out\n",
    )
    assert latentsr(dull, "--model", model, "--compat", "--compat-filter", "brick")[0] == 2


def test_what_audiosr_fails_on_is_one_line(latentsr, model, tmp_path):
    soundfile.write(tmp_path / "silence.wav", np.zeros(16_000), 16_000)
    code, _, err = latentsr(tmp_path / "silence.wav", "--model", model, "--compat", "--json")
    assert (code, len(err.splitlines())) == (1, 1)
    assert "audiosr 0.0.7 fails here" in err and "the default mode does not" in err
