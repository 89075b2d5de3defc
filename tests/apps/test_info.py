"""`latentsr info` counts from headers alone, and notices a file that is not whole."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from latentsr.apps.info import ModelError, describe, describe_model, lines
from latentsr.model_folder.tensorfiles import header


@pytest.fixture
def model(tmp_path):
    index = {
        "_class_name": "Pipeline",
        "vae": ["diffusers", "AutoencoderKL"],
        "vocoder": ["latentsr.models.vocos", "Vocos"],
        "mamba_gan": [None, None],
        "scheduler": ["diffusers", "DDIMScheduler"],
    }
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Card\n")
    for name in ("vae", "vocoder", "scheduler"):
        (tmp_path / name).mkdir()
    save_file({"a": torch.zeros(3, 5), "b": torch.zeros(7)}, tmp_path / "vae" / "diffusion_pytorch_model.safetensors")
    save_file({"a": torch.zeros(11, dtype=torch.float16)}, tmp_path / "vocoder" / "model.safetensors")
    return tmp_path


def test_counts_parameters_and_bytes(model):
    facts = describe_model(model)
    assert {name: part["parameters"] for name, part in facts["components"].items()} == {
        "vae": 22,
        "vocoder": 11,
        "scheduler": 0,
    }
    assert facts["parameters"] == 33
    assert facts["components"]["vocoder"]["dtypes"] == ["F16"]
    assert facts["components"]["vae"]["bytes"] == (model / "vae" / "diffusion_pytorch_model.safetensors").stat().st_size
    assert (facts["licence"], facts["heads"]) == ("apache-2.0", ["vocoder"])


def test_the_same_for_people(model):
    text = "\n".join(lines(describe(model)))
    assert "apache-2.0" in text
    assert f"torch {torch.__version__}" in text
    assert "AutoencoderKL, F32" in text


def test_weights_are_not_read(model):
    """Only the header counts: the tensors themselves may be anything, as long as the file is whole."""
    path = model / "vae" / "diffusion_pytorch_model.safetensors"
    data = bytearray(path.read_bytes())
    data[-4:] = b"\xff" * 4
    path.write_bytes(data)
    assert describe_model(model)["parameters"] == 33


@pytest.mark.parametrize(
    "damage", [lambda d: d[:-1], lambda d: d + b"x", lambda d: d[:5], lambda d: b"", lambda d: b"\xff" * 8 + d]
)
def test_a_file_that_is_not_whole(model, damage):
    path = model / "vae" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ModelError, match="fetch the file again"):
        header(path)


@pytest.mark.parametrize(("name", "message"), [("nowhere", "not a folder"), (".", "has no model_index.json")])
def test_what_is_no_model(tmp_path, name, message):
    with pytest.raises(ModelError, match=message):
        describe(tmp_path / name)


def test_torch_is_not_imported():
    code = "import sys; from latentsr.apps.info import describe; describe(); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
