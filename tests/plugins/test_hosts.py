"""In other people's programs: ComfyUI loads the node from one file, pedalboard's effects stand before and behind."""

import importlib.util
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from latentsr.apps.info import describe_model
from latentsr.plugins import Upscaler, comfyui

FILE = Path(__file__).resolve().parents[2] / "examples" / "comfyui" / "latentsr_nodes.py"


def load_custom_node(path, monkeypatch):
    """As ComfyUI's nodes.py does: the module is named by its path without the extension."""
    name = str(path.with_suffix(""))
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


def run(node_class, **inputs):
    """Fill in the defaults of the widgets, check what INPUT_TYPES promises, and call FUNCTION by keyword."""
    types_of = node_class.INPUT_TYPES()["required"]
    filled = {}
    for name, (kind, *about) in types_of.items():
        default = kind[0] if isinstance(kind, list) else about[0].get("default") if about else None
        filled[name] = inputs.pop(name, default)
    assert not inputs
    return getattr(node_class(), node_class.FUNCTION)(**filled)


def audio(*shape, sample_rate=16_000):
    waveform = 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    return {"waveform": waveform, "sample_rate": sample_rate}


@pytest.fixture
def node(tmp_path, monkeypatch):
    (tmp_path / "custom_nodes").mkdir()
    module = load_custom_node(Path(shutil.copy(FILE, tmp_path / "custom_nodes")), monkeypatch)
    assert module.NODE_CLASS_MAPPINGS.keys() == module.NODE_DISPLAY_NAME_MAPPINGS.keys() == {"LatentsrRestore"}
    return module.NODE_CLASS_MAPPINGS["LatentsrRestore"]


def test_comfyui_node_gives_audio_of_the_same_batch_and_channels(node):
    assert node.RETURN_TYPES == ("AUDIO",) and set(comfyui.HEADS) == set(describe_model()["heads"])
    given = audio(2, 2, 16_000)
    (made,) = run(node, audio=given)
    assert made.keys() == given.keys() and made["sample_rate"] == 48_000
    assert made["waveform"].shape == (2, 2, 48_000) and made["waveform"].dtype == torch.float32
    assert torch.equal(made["waveform"], Upscaler()(given["waveform"], 16_000))


def test_comfyui_widgets_reach_the_restoration(node):
    given = audio(1, 1, 16_000)
    plain = run(node, audio=given)[0]["waveform"]
    for widgets in (
        {"seed": 2**64 - 1},
        {"head": "diffwave-mamba", "steps": 2},
        {"cutoff_hz": 4_000.0},
        {"denoise": True},
    ):
        assert not torch.equal(run(node, audio=given, **widgets)[0]["waveform"], plain)
    with pytest.raises(ValueError, match="there is no audio"):
        run(node, audio=None)


def test_comfyui_progress_is_told_and_the_model_loaded_once(node, monkeypatch):
    told = []

    class ProgressBar:
        """The two calls of comfy.utils.ProgressBar that the node makes; ComfyUI itself is not on PyPI."""

        def __init__(self, total):
            self.total = total

        def update_absolute(self, value, total=None):
            told.append(value / (total or self.total))

    comfy = {
        "comfy": types.ModuleType("comfy"),
        "comfy.utils": types.SimpleNamespace(ProgressBar=ProgressBar),
        "comfy.model_management": types.SimpleNamespace(get_torch_device=lambda: torch.device("cpu")),
    }
    for name, module in comfy.items():
        monkeypatch.setitem(sys.modules, name, module)
    loads = count_loads(monkeypatch)
    run(node, audio=audio(2, 1, 160_000))
    run(node, audio=audio(1, 1, 16_000))
    first = told[: told.index(1.0) + 1]
    assert first == sorted(first) and 0.2 < first[len(first) // 2] < 0.8
    assert len(loads) <= 1


def count_loads(monkeypatch):
    from latentsr import Pipeline

    loads, load = [], Pipeline.from_pretrained.__func__
    monkeypatch.setattr(
        Pipeline, "from_pretrained", classmethod(lambda cls, *a, **k: loads.append(k) or load(cls, *a, **k))
    )
    return loads


def test_pedalboard_effects_before_and_behind():
    pedalboard = pytest.importorskip("pedalboard")
    before = pedalboard.Pedalboard([pedalboard.Gain(-6), pedalboard.HighpassFilter(60)])
    behind = pedalboard.Pedalboard([pedalboard.Gain(6)])
    up = Upscaler()
    for wave in (0.1 * np.random.default_rng(0).standard_normal((2, 16_000)), np.zeros(16_000)):
        lowered = before(wave, 16_000)
        made = behind(up(lowered, 16_000.0), up.output_sample_rate)
        assert made.dtype == np.float32 and made.shape == (*wave.shape[:-1], 48_000)
        assert np.allclose(made, up(lowered, 16_000) * 10 ** (6 / 20), atol=1e-5)
    samples_first = np.ascontiguousarray(before(np.full((16_000, 2), 0.1, np.float32), 16_000))
    assert samples_first.shape == (16_000, 2)  # pedalboard guesses, we are told
    assert up(samples_first, 16_000, layout="TC").shape == (48_000, 2)
