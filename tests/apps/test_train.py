"""`latentsr train`: the stages by name, and their exit codes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from latentsr.training.stages import STAGES

TINY = Path(__file__).resolve().parents[2] / "configs/tiny"


@pytest.fixture
def words(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    for i in range(3):
        wave = 0.1 * np.random.default_rng(i).standard_normal(24_000)
        (tmp_path / "data").mkdir(exist_ok=True)
        soundfile.write(tmp_path / f"data/{i}.wav", wave, 48_000)
    return "vae", "--config", TINY / "vae.yaml", f"data={tmp_path}/data", f"out={tmp_path}/run", "frames=32"


def test_help_names_all_stages(run_command):
    code, said, _ = run_command("train", "--help")
    assert code == 0 and all(f"\n  {name} " in said for name in (*STAGES, "recipe"))
    code, said, _ = run_command("train", "vae", "--help")
    assert code == 0 and "--max-minutes" in said and said.startswith("usage: latentsr train vae")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (("vea",), "invalid choice: 'vea'"),
        (("vae",), "data=FOLDER"),
        (("vae", "--processes", "0"), "at least 1"),
        (("vae", "--dry-run", "--resume"), "leave out --resume"),
        (("vae", "--max-minute"), "--max-minutes"),
    ],
)
def test_wrong_usage(run_command, wrong, says):
    code, _, said = run_command("train", *wrong)
    assert code == 2 and says in said


def test_the_code_of_the_stage_is_passed_on(run_command, words):
    assert run_command("train", *words, "steps=2", "--max-minutes", "0")[0] == 4
    code, said, _ = run_command("train", *words, "steps=2")
    assert code == 0 and "weights are in" in said
    code, _, said = run_command("train", *words, "steps=3")
    assert code == 1 and "steps: 2 -> 3" in said


@pytest.mark.slow
@pytest.mark.parametrize(("minutes", "code"), [("0", 4), ("5", 0)])
def test_several_processes_end_with_one_code(words, tmp_path, minutes, code):
    command = [sys.executable, "-m", "latentsr.apps.cli", "train", *words, "steps=1", "--processes", "2"]
    done = subprocess.run([*command, "--max-minutes", minutes], env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300)
    assert done.returncode == code and (tmp_path / "run/weights/training.json").is_file()
