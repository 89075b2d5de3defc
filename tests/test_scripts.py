"""The training scripts as a user runs them: default configs, tiny sizes, kill and resume."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = {
    "vae": "train_vae.py",
    "cutoff": "train_cutoff.py",
    "ldm": "train_ldm.py",
    "flow": "train_ldm.py",
    "distill": "train_ldm.py",
    "vocoder": "vocoder/train_hifigan.py",
    "mamba_gan": "vocoder/train_mamba_gan.py",
    "excitation": "vocoder/train_mamba_gan.py",
    "live": "vocoder/train_live.py",
    "diffwave_mamba": "vocoder/train_diffwave_mamba.py",
    "aeromamba": "vocoder/train_mamba_gan.py",
    "mambawave": "vocoder/train_diffwave_mamba.py",
}
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}


def command(name, data, out, *overrides):
    config = ROOT / f"configs/tiny/{name}.yaml"
    return [
        sys.executable,
        str(ROOT / SCRIPTS[name]),
        "--config",
        str(config),
        f"data={data}",
        f"out={out}",
        *overrides,
    ]


@pytest.fixture(scope="module")
def run(warm):
    """Runs a command to its end where torch has been imported already; what is killed is a process of its own."""

    def run(_python, *arguments, check=True):
        words = [*warm, "python", *arguments]
        done = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
        if check:
            assert done.returncode == 0, done.stderr[-3000:]
        return done

    return run


def weights(run_folder, name):
    component = {"flow": "unet", "ldm": "unet", "distill": "unet", "excitation": "mamba_gan"}.get(name, name)
    folder = run_folder / "weights" / component
    return load_file(folder / "diffusion_pytorch_model.safetensors")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    rng = np.random.default_rng(0)
    for i in range(6):
        wave = 0.2 * rng.standard_normal(96_000) * np.abs(np.sin(np.arange(96_000) / (3000 + 500 * i)))
        soundfile.write(folder / f"{i}.wav", wave.astype(np.float32), 48_000)
    return folder


@pytest.fixture(scope="module")
def vae_run(run, recordings, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "vae"
    run(*command("vae", recordings, out))
    return out


def extra(name, vae_run):
    return (
        [] if name in ("vae", "cutoff", "distill", "aeromamba", "mambawave", "live") else [f"vae={vae_run}/weights/vae"]
    )


def test_vae_run_leaves_all_that_the_docs_promise(vae_run):
    assert {p.name for p in vae_run.iterdir()} >= {"config.yaml", "metrics.jsonl", "checkpoints", "weights"}
    config = json.loads((vae_run / "weights/vae/config.json").read_text())
    assert config["scaling_factor"] > 0 and config["shift_factor"] is not None
    lines = [json.loads(line) for line in (vae_run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "mel" in line] == [1, 2, 3, 4]
    assert json.loads((vae_run / "weights/training.json").read_text())["finished"]
    assert len(list((vae_run / "checkpoints").iterdir())) == 2  # keep: 2


# Each starts four processes: all but one are left to `-m slow`.
@pytest.mark.parametrize("name", [p if p == "mamba_gan" else pytest.param(p, marks=pytest.mark.slow) for p in SCRIPTS])
def test_kill_and_resume_equals_the_unbroken_run_bit_for_bit(run, name, recordings, vae_run, tmp_path):
    options = [*extra(name, vae_run), "steps=6", "save_every=2", "validate_every=100"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run(*command(name, recordings, whole, *options))
    (samples,) = (whole / "samples").iterdir()  # of the end
    assert {path.suffix for path in samples.iterdir()} == {".png", ".flac"}

    process = subprocess.Popen(
        command(name, recordings, broken, *options),
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 240
    while not (broken / "checkpoints/step-00000002/manifest.json").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (broken / "weights").exists()

    refused = run(*command(name, recordings, broken, *options, "seed=1"), check=False)
    assert refused.returncode == 1 and "seed: 0 -> 1" in refused.stderr
    run(*command(name, recordings, broken, *options))
    expected, got = weights(whole, name), weights(broken, name)
    assert expected.keys() == got.keys()
    for key in expected:
        np.testing.assert_array_equal(got[key], expected[key], err_msg=key)


def test_sigterm_saves_and_the_same_command_goes_on(recordings, tmp_path):
    out = tmp_path / "run"
    words = command("vae", recordings, out, "steps=100000", "save_every=100000", "validate_every=100000", "log_every=1")
    process = subprocess.Popen(words, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    deadline = time.monotonic() + 240
    while not (out / "metrics.jsonl").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.terminate()
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "the same command goes on" in printed
    (saved,) = (out / "checkpoints").iterdir()
    assert json.loads((saved / "manifest.json").read_text())["step"] >= 1


@pytest.mark.slow
def test_a_full_disk_keeps_the_checkpoint_before_it(run, recordings, tmp_path):
    out = tmp_path / "run"
    run(*command("vae", recordings, out, "steps=2"))
    before = sorted(p.name for p in (out / "checkpoints").iterdir())
    size = max(f.stat().st_size for f in (out / "checkpoints").rglob("*.safetensors"))
    done = subprocess.run(
        [*command("vae", recordings, out, "steps=4"), "--resume"], env=ENVIRONMENT, capture_output=True, text=True,
        timeout=300, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2)),
    )  # fmt: skip
    assert done.returncode == 1
    assert "cannot write" in done.stderr and "make room" in done.stderr and "Traceback" not in done.stderr
    assert sorted(p.name for p in (out / "checkpoints").iterdir()) == before


def test_a_damaged_checkpoint_is_passed_over(run, recordings, tmp_path):
    out = tmp_path / "run"
    run(*command("vae", recordings, out))
    newest = out / "checkpoints/step-00000004/model.vae.safetensors"
    newest.write_bytes(newest.read_bytes()[:-100])
    done = run(*command("vae", recordings, out, "steps=5"), "--resume")
    assert "is damaged" in done.stdout and "at step 2" in done.stdout


def test_max_minutes_stops_cleanly_and_leaves_a_resumable_state(run, recordings, tmp_path):
    out = tmp_path / "run"
    done = run(*command("vae", recordings, out, "steps=100000"), "--max-minutes", "0.02", check=False)
    assert done.returncode == 4 and "stopped by --max-minutes" in done.stdout
    state = json.loads((out / "weights/training.json").read_text())
    assert not state["finished"] and 0 < state["step"] < 100_000
    assert (out / f"checkpoints/step-{state['step']:08d}/manifest.json").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data=nowhere"], "nowhere"),
        (["optimizer.learning_rat=1"], "did you mean 'learning_rate'"),
        (["precision=half"], "precision"),
        (["batch_size=3", "accumulation=2"], "must be a multiple of processes x accumulation = 2"),
        (["loss_weights={mel: 1.0}"], "no weight for the losses ['kl']"),
        (["initial_weights=nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_one_line_that_says_what_to_do(run, recordings, tmp_path, overrides, message):
    done = run(*command("vae", recordings, tmp_path / "run", *overrides), check=False)
    assert done.returncode == 1
    assert message in done.stderr and "Traceback" not in done.stderr


def test_missing_data_is_wrong_usage(run):
    done = run(sys.executable, str(ROOT / "train_vae.py"), check=False)
    assert done.returncode == 2 and "data=FOLDER" in done.stderr


def test_ldm_refuses_a_vae_without_scale(run, recordings, vae_run, tmp_path):
    vae = tmp_path / "vae"
    vae.mkdir()
    for file in (vae_run / "weights/vae").iterdir():
        (vae / file.name).write_bytes(file.read_bytes())
    config = json.loads((vae / "config.json").read_text())
    config["scaling_factor"] = None
    (vae / "config.json").write_text(json.dumps(config))
    done = run(*command("ldm", recordings, tmp_path / "run", f"vae={vae}"), check=False)
    assert done.returncode == 1 and "train_vae.py" in done.stderr
