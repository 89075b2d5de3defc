"""`latentsr export`: what it writes, what it says, and its exit codes."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from latentsr.apps import cli

SRC = Path(cli.__file__).parents[2]


@pytest.fixture
def export(run_command, tmp_path, monkeypatch):
    """`latentsr export` on some words, in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    return partial(run_command, "export")


def test_one_graph_in_one_file(export):
    pytest.importorskip("onnxruntime")
    code, out, err = export("gan.onnx", "--dtype", "float16")
    assert code == 0, err
    assert out.startswith("mamba-gan -> gan.onnx  (7.2 MB, within ") and out.endswith(" of torch)\n")
    assert float(out.split("within ")[1].split()[0]) < 1e-3
    code, _, err = export("gan.onnx")
    assert (code, err) == (1, "latentsr: gan.onnx exists; choose another name, or pass --overwrite (overwrite=True)\n")
    code, _, err = export("other.onnx", "--opset", "16")
    assert code == 1
    assert "opset 16 cannot be written; choose --opset 17 (LayerNormalization is new in it) to 20" in err
    assert [each.name for each in Path.cwd().iterdir()] == ["gan.onnx"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("a.onnx", "--head", "diffwave-mamba"), "the diffwave-mamba head cannot be exported; choose one of mamba-gan"),
        (("a.onnx", "--part", "unet"), "the mamba-gan head has no part 'unet'; choose one of mamba-gan, cutoff"),
        (("a.onnx", "--head", "vocoder"), "the vocoder head is several graphs"),
        (("folder", "--head", "vocoder", "--dtype", "int8"), "int8 was measured to keep the mamba-gan head's LSD, not"),
        (("folder", "--part", "cutoff"), "folder must end in .onnx"),
        (("a.pt",), "a.pt must end in .onnx"),
    ],
)
def test_what_cannot_be_exported_is_said_before_anything_is_loaded(export, words, why):
    pytest.importorskip("onnxruntime")
    code, out, err = export(*words)
    assert (code, out) == (2, "")
    assert why in err and err.count("\n") == 1
    assert not list(Path.cwd().iterdir())


def test_a_folder_that_is_not_there(export):
    pytest.importorskip("onnxruntime")
    code, _, err = export("absent/a.onnx")
    assert code == 1
    assert err == "latentsr: the folder absent does not exist; make it first\n"


def test_without_the_extra_its_name_is_given(export, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    code, _, err = export("a.onnx")
    assert code == 1
    assert err == "latentsr: export needs onnxruntime; install it with: pip install 'latentsr[onnx]'\n"


def test_help_names_every_option_and_imports_no_torch():
    program = "import sys; from latentsr.apps import cli; sys.argv = ['latentsr', 'export', '--help']\n"
    program += "try: cli.main()\nfinally: print('torch' in sys.modules or 'onnx' in sys.modules)"
    env = {**os.environ, "PYTHONPATH": str(SRC), "COLUMNS": "100"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("False")
    for option in ("--model", "--head", "--part", "--dtype", "--opset", "--overwrite", "--no-check", "OUT.onnx"):
        assert option in done.stdout
