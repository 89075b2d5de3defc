"""`latentsr convert`: what it writes, what it says, and its exit codes."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from latentsr.apps import cli
from latentsr.model_folder.loading import read_index

SRC = Path(cli.__file__).parents[2]


@pytest.fixture
def convert(run_command):
    """`latentsr convert` on some words: (exit code, stdout, stderr)."""
    return partial(run_command, "convert")


@pytest.fixture
def oracle(audiosr_folder) -> Path:
    return audiosr_folder


def test_a_checkpoint_becomes_a_folder(convert, oracle, tmp_path):
    code, out, err = convert(
        "audiosr",
        oracle / "pytorch_model.bin",
        tmp_path / "m",
        "--config",
        oracle / "config.json",
        "--dtype",
        "bfloat16",
    )
    assert (code, err) == (0, "")
    assert out.strip().endswith(f"latentsr restore IN --model {tmp_path / 'm'}")
    assert read_index(tmp_path / "m")["vae"] == ["diffusers", "AutoencoderKL"]
    assert json.loads((tmp_path / "m" / "conversion.json").read_text())["dtype"] == "bfloat16"


def test_an_existing_folder_needs_overwrite(convert, oracle, tmp_path):
    words = ("audiosr", oracle / "pytorch_model.bin", tmp_path / "m", "--config", oracle / "config.json")
    assert convert(*words)[0] == 0
    code, _, err = convert(*words)
    assert code == 1
    assert err == f"latentsr: {tmp_path / 'm'} exists; choose another name, or pass --overwrite (overwrite=True)\n"
    assert convert(*words, "--overwrite")[0] == 0


def test_the_variant_is_checked(convert, oracle, tmp_path):
    words = ("audiosr", oracle / "pytorch_model.bin", tmp_path / "m", "--config", oracle / "config.json")
    code, _, err = convert(*words, "--variant", "basic")
    assert code == 1
    assert err.count("\n") == 1
    assert "is not audiosr_basic's (0.3342401)" in err
    assert "--variant speech" in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [("--config", "absent.json"), ()])
def test_a_job_that_fails_says_why_in_one_line(convert, tmp_path, words):
    code, out, err = convert("audiosr", tmp_path / "absent.bin", tmp_path / "m", *words)
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert "absent.json" in err if words else "absent.bin" in err
    assert "no such file or directory" in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words",
    [(), ("audiosr",), ("audiosr", "a.bin"), ("flashsr", "a.bin", "m"), ("audiosr", "a.bin", "m", "--dtype", "float8")],
)
def test_wrong_usage(convert, words):
    code, out, err = convert(*words)
    assert (code, out) == (2, "")
    assert "Usage: latentsr convert" in err


def test_help_names_every_option_and_imports_no_torch():
    program = "import sys; from latentsr.apps import cli; sys.argv = ['latentsr', 'convert', '--help']\n"
    program += "try: cli.main()\nfinally: print('torch' in sys.modules or 'diffusers' in sys.modules)"
    env = {**os.environ, "PYTHONPATH": str(SRC), "COLUMNS": "100"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("False")
    for option in ("--config", "--dtype", "--variant", "--overwrite", "OUT_DIR", "CKPT", "audiosr"):
        assert option in done.stdout
