"""train.py as a user runs it: all stages to a model that restores; time windows; a kill; a second run."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from safetensors.numpy import load_file

from latentsr import Pipeline
from latentsr.apps.info import describe_model
from latentsr.training.driver import launch_recipe

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "configs/recipes/tiny.yaml"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
pytestmark = pytest.mark.slow  # each stage is a process of its own
STAGES = ("vae", "vocoder_true", "vocoder", "ldm", "distill", "mamba_gan", "diffwave_mamba")


def words(data, out):
    short = ["steps=3", "save_every=1", "validate_every=100", "validation_examples=1"]  # one step is adversarial
    return ["--config", str(RECIPE), f"data={data}", f"out={out}", *short]


def command(data, out):
    return [sys.executable, str(ROOT / "train.py"), *words(data, out)]


@pytest.fixture(scope="module")
def run(warm):
    """Runs a command to its end where torch has been imported already; what is killed is a process of its own."""

    def run(_python, *arguments):
        words = [*warm, "python", *arguments]
        done = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        return done

    return run


def weights(out):
    return {file.relative_to(out): load_file(file) for file in sorted(out.glob("*/weights/*/*.safetensors"))}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    rng = np.random.default_rng(0)
    for i in range(4):
        wave = 0.2 * rng.standard_normal(72_000) * np.abs(np.sin(np.arange(72_000) / (3000 + 500 * i)))
        soundfile.write(folder / f"{i}.wav", wave.astype(np.float32), 48_000)
    return folder


@pytest.fixture(scope="module")
def whole(run, recordings, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "whole"
    run(*command(recordings, out), f"eval.references={recordings}", "eval.visqol=false",
        "eval.conditions=[{cutoffs_hz: [4000], limit: 1}]", "eval.heads=[mamba-gan]")  # fmt: skip
    return out


def test_the_model_restores_with_all_its_heads(whole):
    pipe = Pipeline.from_pretrained(whole / "model")
    pipe.set_progress_bar_config(disable=True)
    wave = 0.1 * np.random.default_rng(0).standard_normal(24_000).astype(np.float32)
    for head in describe_model(whole / "model")["heads"]:
        out = pipe(wave, sample_rate=16_000, head=head, cutoff_hz=7000.0)
        assert out.audio.shape == (1, 72_000) and np.isfinite(out.audio).all(), head


def test_of_two_denoisers_the_model_has_the_last(whole):
    (model,) = (load_file(file) for file in (whole / "model/unet").glob("*.safetensors"))
    ldm, distilled = (
        load_file(next((whole / name / "weights/unet").glob("*.safetensors"))) for name in ("ldm", "distill")
    )
    for key, tensor in model.items():
        np.testing.assert_array_equal(tensor, distilled[key].astype(np.float16))
    assert any((distilled[key] != tensor).any() for key, tensor in ldm.items())


def test_a_run_leaves_all_that_the_docs_promise(whole):
    for name in STAGES:
        cost = json.loads((whole / name / "stage.json").read_text())["cost"]
        assert cost["steps"] == 3 and cost["audio_seconds_per_second"] > 0
        assert (whole / f"curves/{name}.png").read_bytes()[1:4] == b"PNG"
    card = (whole / "model/README.md").read_text()
    assert all(f"| {name} | 3 |" in card for name in STAGES)
    assert "seed 0" in card and "Training on recordings0 3 files" in card
    assert "| mamba-gan " in card and "| ceiling (VAE + vocoder) |" in card
    assert str(whole.parent) not in card
    assert {file.name for file in (whole / "eval").iterdir()} == {"table.md", "table-1.csv", "table-1.json"}


def test_a_kill_changes_no_bit(run, whole, recordings, tmp_path):
    out = tmp_path / "broken"
    process = subprocess.Popen(
        command(recordings, out), env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 240
    while not (out / "ldm/checkpoints/step-00000001/manifest.json").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (out / "vocoder/weights/training.json").exists() and not (out / "mamba_gan").exists()

    printed = run(*command(recordings, out)).stdout
    assert "vocoder is finished" in printed and "training vocoder" not in printed
    expected, got = weights(whole), weights(out)
    assert len(got) == len(expected) >= len(STAGES)
    for file, tensors in expected.items():
        for key, tensor in tensors.items():
            np.testing.assert_array_equal(got[file][key], tensor, err_msg=f"{file} {key}")


def test_time_windows_stop_cleanly_and_each_goes_on(recordings, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    out, minutes = tmp_path / "run", 0.01
    endless = [*words(recordings, out), "vae.steps=100000", "vae.save_every=100000"]
    trained = out / "vae/weights/training.json"
    for before in (0, 1):  # a slow machine needs more than one window for a step
        while not trained.exists() or json.loads(trained.read_text())["step"] <= before:
            assert launch_recipe(RECIPE, [*endless, "--max-minutes", str(minutes)]) == 4
            assert "the same command goes on" in capsys.readouterr().out
            minutes *= 2
    assert not json.loads(trained.read_text())["finished"]
    assert not (out / "vocoder_true").exists() and not (out / "model").exists()


def test_what_is_finished_is_not_trained_again_and_other_values_are_refused(whole, recordings, capsys, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    before = {file: file.stat().st_mtime_ns for file in whole.rglob("*.safetensors")}
    assert launch_recipe(RECIPE, words(recordings, whole)) == 0
    assert capsys.readouterr().out.count("is finished") == len(STAGES)
    assert {file: file.stat().st_mtime_ns for file in whole.rglob("*.safetensors")} == before

    assert launch_recipe(RECIPE, [*words(recordings, whole), "ldm.optimizer.learning_rate=0.5"]) == 1
    said = capsys.readouterr().err
    assert "ldm was trained with other values (optimizer.learning_rate: 0.0005 -> 0.5)" in said

    (vae,) = (whole / "vae/weights/vae").glob("*.safetensors")
    content = vae.read_bytes()
    vae.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert launch_recipe(RECIPE, words(recordings, whole)) == 1
    assert "inputs.vae" in capsys.readouterr().err
    vae.write_bytes(content)


def test_a_dry_run_goes_through_the_stages_on_each_others_weights(recordings, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    tiny = ROOT / "configs/tiny"
    (tmp_path / "recipe.yaml").write_text(
        f"stages:\n- {{name: vae, kind: vae, config: {tiny}/vae.yaml}}\n"
        f"- {{name: ldm, kind: ldm, config: {tiny}/ldm.yaml, overrides: {{vae: '{{vae}}/vae'}}}}\n"
    )
    short = ["steps=1000", "save_every=1000", "validate_every=1000", "validation_examples=1", f"out={tmp_path}/run"]
    assert launch_recipe(tmp_path / "recipe.yaml", [f"data={recordings}", *short, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert said.count("1000 steps in") == 2 and "all stages: " in said
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["dry-run"]
    for name in ("vae", "ldm"):
        assert (tmp_path / f"run/dry-run/{name}/samples/step-00001000/spectrograms.png").is_file()


def test_missing_data_is_wrong_usage(capsys):
    with pytest.raises(SystemExit) as stopped:
        launch_recipe(RECIPE, ["--config", str(RECIPE)])
    assert stopped.value.code == 2 and "data=FOLDER" in capsys.readouterr().err
