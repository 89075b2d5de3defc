"""What a run does where something goes wrong: it says what, goes on or stops, and keeps what was finished."""

import errno
import json
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.testing import assert_close

from latentsr.config import ConfigError, load
from latentsr.data.dataset import Corpus, DataConfig
from latentsr.data.manifest import DataError
from latentsr.models.vae import MelAutoencoderKL
from latentsr.training import checkpoint
from latentsr.training.launch import launch
from latentsr.training.loop import MAX_BAD_STEPS, fit
from latentsr.training.vae import VaeStage, VaeStageConfig

CONFIG = Path(__file__).resolve().parents[2] / "configs/tiny/vae.yaml"
SHORT = ("frames=32", "validate_every=1000", "validation_examples=1", "statistics_batches=1")


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    rng = np.random.default_rng(0)
    for i in range(3):
        soundfile.write(folder / f"{i}.wav", 0.1 * rng.standard_normal(24_000).astype(np.float32), 48_000)
    return folder


@pytest.fixture(scope="module")
def corpus(recordings):
    return Corpus.open(recordings)


@pytest.fixture
def train(corpus, tmp_path):
    """Train a tiny VAE in one run folder; returns the folder of its weights."""

    def run(*words, corpus=corpus, resume=False):
        torch.manual_seed(0)
        stage = VaeStage(load(VaeStageConfig, CONFIG, [*SHORT, *words]))
        return fit(stage, corpus, tmp_path / "run", resume=resume, max_minutes=None, trackers=[])

    return run


def weights(exported):
    return load_file(exported / "vae/diffusion_pytorch_model.safetensors")


def poisoned(monkeypatch, steps, poison):
    """Let `poison` change the losses of some steps. Returns a list that gets the weights before each step."""
    losses, before = VaeStage.losses, []

    def changed(self, phase, inputs, step, draws):
        before.append({key: tensor.clone() for key, tensor in self.vae.state_dict().items()})
        found = losses(self, phase, inputs, step, draws)
        return found | {"mel": poison(found["mel"])} if step in steps else found

    monkeypatch.setattr(VaeStage, "losses", changed)
    return before


@pytest.mark.parametrize("poison", [lambda loss: loss * math.nan, lambda loss: loss + math.inf], ids=["nan", "inf"])
def test_a_step_that_is_not_finite_is_named_and_changes_nothing(train, monkeypatch, capsys, poison):
    """The gradients of loss + inf are finite, those of loss * nan are not."""
    before = poisoned(monkeypatch, {1}, poison)
    exported = train("steps=4", "save_every=1000")
    assert "step 2: mel, total_model" in (said := capsys.readouterr().out)
    assert "not finite; the step is left out" in said
    assert len(before) == 4
    for key in before[0]:
        assert_close(before[2][key], before[1][key], rtol=0, atol=0)
    for one, other in ((0, 1), (2, 3)):
        assert any(not torch.equal(before[one][key], before[other][key]) for key in before[0])
    assert all(tensor.isfinite().all() for tensor in weights(exported).values())
    lines = [json.loads(line) for line in (exported.parent / "metrics.jsonl").read_text().splitlines()]
    assert ["mel" in line for line in lines if "kl" in line] == [True, False, True, True]


def test_too_many_such_steps_stop_the_run_that_goes_on_from_its_checkpoint(train, monkeypatch, tmp_path):
    with monkeypatch.context() as patched:
        before = poisoned(patched, range(3, 100), lambda loss: loss * math.nan)
        with pytest.raises(FloatingPointError, match="10 steps in a row.*in mel, total_model.*learning_rate"):
            train("steps=100", "save_every=3")
    assert len(before) == 3 + MAX_BAD_STEPS
    path, manifest = checkpoint.newest_valid(tmp_path / "run/checkpoints")
    assert manifest["step"] == 12
    for key, tensor in checkpoint.load(path)["model.vae"].items():
        assert_close(tensor, before[3][key], rtol=0, atol=0)
    exported = train("steps=14", "save_every=3", resume=True)
    assert json.loads((exported / "training.json").read_text())["step"] == 14


def test_without_a_validation_set_nothing_is_begun(train, recordings, monkeypatch, tmp_path):
    before = poisoned(monkeypatch, (), None)
    with pytest.raises(DataError, match="no validation recordings; raise validation_share or add files"):
        train(corpus=Corpus.open(recordings, DataConfig(validation_share=0.0)))
    assert not before and not (tmp_path / "run").exists()


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("I/O error")])
def test_a_full_disk_leaves_the_checkpoints_before(train, monkeypatch, tmp_path, error):
    folder, words = tmp_path / "run/checkpoints", ("steps=3", "save_every=1")
    save_file, written = checkpoint.save_file, []

    def full(tensors, file):
        written.append(file)
        if "step-00000002" in str(file) and len(written) % 2 == 0:  # in the midst of it
            raise error
        save_file(tensors, file)

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "save_file", full)
        with pytest.raises(OSError, match="cannot write checkpoint .*step-00000002.*make room"):
            train(*words)
    assert [path.name for path in folder.iterdir()] == ["step-00000001"]
    assert checkpoint.newest_valid(folder)[1]["step"] == 1

    went_on = weights(train(*words))
    (tmp_path / "run").rename(tmp_path / "broken")
    for key, tensor in weights(train(*words)).items():
        assert_close(went_on[key], tensor, rtol=0, atol=0)


def test_a_full_disk_at_the_end_is_one_line_and_the_same_command_ends_it(recordings, tmp_path, monkeypatch, capsys):
    words = ["--config", str(CONFIG), f"data={recordings}", f"out={tmp_path}/run", *SHORT, "steps=2"]

    def full(self, folder):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patched:
        patched.setattr(MelAutoencoderKL, "save_pretrained", full)
        assert launch(VaeStage, VaeStageConfig, CONFIG, words) == 1
    assert "cannot write" in (said := capsys.readouterr().err) and "make room" in said
    assert launch(VaeStage, VaeStageConfig, CONFIG, words) == 0
    assert "at step 2" in capsys.readouterr().out and (tmp_path / "run/weights/training.json").is_file()


def test_other_values_are_named_and_taken_only_when_asked(train, capsys):
    train("steps=1")
    other = ("steps=2", "optimizer.learning_rate=0.25")
    with pytest.raises(ConfigError, match=r"optimizer.learning_rate: 0.0005 -> 0.25; steps: 1 -> 2\); add --resume"):
        train(*other)
    capsys.readouterr()
    exported = train(*other, resume=True)
    said = capsys.readouterr().out
    assert "going on with other values: optimizer.learning_rate: 0.0005 -> 0.25; steps: 1 -> 2" in said
    assert "at step 1" in said and json.loads((exported / "training.json").read_text())["step"] == 2


@pytest.mark.parametrize(
    ("broken", "message"),
    [("corrupt", "2.wav"), ("missing", "1 of 3 files are missing, the first is")],
)
def test_a_broken_file_stops_the_run_or_is_left_out(recordings, tmp_path, capsys, caplog, broken, message):
    for name in ("0.wav", "1.wav"):
        (tmp_path / name).write_bytes((recordings / name).read_bytes())
    if broken == "corrupt":
        (tmp_path / "2.wav").write_bytes(b"RIFF, but not much of it")
    (tmp_path / "manifest.csv").write_text("file,type\n0.wav,music\n1.wav,music\n2.wav,music\n")
    words = ["--config", str(CONFIG), f"data={tmp_path}", f"out={tmp_path}/run", *SHORT, "steps=1"]
    assert launch(VaeStage, VaeStageConfig, CONFIG, words) == 1
    said = capsys.readouterr().err
    assert message in said and "2.wav" in said and "on_bad=skip" in said and not (tmp_path / "run").exists()
    assert launch(VaeStage, VaeStageConfig, CONFIG, [*words, "corpus.on_bad=skip"]) == 0
    assert "left out 1 of 3 files" in caplog.text and "2.wav" in caplog.text
