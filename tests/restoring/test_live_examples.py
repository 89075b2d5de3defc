"""The examples of `examples/live`: an effect in a chain, and a program in C beside the library."""

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from latentsr import Live, Pipeline
from latentsr.models.live import LiveGenerator
from tiny import RATE, programme

EXAMPLES = Path(__file__).resolve().parents[2] / "examples/live"
HEADER = "onnxruntime_c_api.h"


@pytest.fixture(scope="module")
def pipe():
    torch.manual_seed(0)
    network = LiveGenerator().eval()
    torch.nn.init.normal_(network.gains.weight, std=0.1)
    return Pipeline(live=network, default_head="live")


def test_the_effect_goes_on_or_begins_anew(pipe):
    found = importlib.util.spec_from_file_location("effect", EXAMPLES / "effect.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    effect, wave = module.Widen(pipe), programme(0.4)
    parts = [effect(block, RATE, reset=False) for block in np.split(wave, 4, axis=1)]
    whole = effect(wave, RATE)
    assert whole.shape == wave.shape and np.abs(np.concatenate(parts, axis=1) - whole).max() <= 1e-5
    with pytest.raises(ValueError, match="resampler to 48000"):
        effect(wave, 16_000)


def include_folder():
    """Where onnxruntime's header is; its wheel has none."""
    places = [os.environ.get("ONNXRUNTIME_INCLUDE", ""), "/usr/include/onnxruntime", "/usr/local/include/onnxruntime"]
    return next((place for place in places if place and Path(place, HEADER).is_file()), None)


def levels_db(wave):
    power = np.abs(np.fft.rfft(wave * np.hanning(len(wave)))) ** 2
    hz = np.fft.rfftfreq(len(wave), 1 / RATE)
    return np.array(
        [10 * np.log10(power[(hz >= low) & (hz < 2 * low)].sum()) for low in (500, 1_000, 2_000, 5_000, 10_000)]
    )


def test_the_program_in_c_gives_what_the_library_gives(pipe, tmp_path):
    ort = pytest.importorskip("onnxruntime")
    include, compiler = include_folder(), shutil.which("cc")
    if include is None or compiler is None:
        pytest.skip(f"a C compiler and {HEADER} are needed: ONNXRUNTIME_INCLUDE=FOLDER")
    from latentsr.export import export

    export(pipe, tmp_path / "live.onnx", head="live")
    (tmp_path / "libonnxruntime.so.1").symlink_to(next(Path(ort.__file__).parent.glob("capi/libonnxruntime.so.*")))
    library = str(tmp_path / "libonnxruntime.so.1")
    words = [
        compiler,
        "-Wall",
        "-Werror",
        f"-I{include}",
        str(EXAMPLES / "live.c"),
        "-o",
        str(tmp_path / "live"),
        library,
    ]
    subprocess.run([*words, "-lm", f"-Wl,-rpath,{tmp_path}"], check=True)
    wave = programme(2.0)
    done = subprocess.run(
        [tmp_path / "live", tmp_path / "live.onnx", "4000"], input=wave.tobytes(), capture_output=True, check=True
    )
    made = np.frombuffer(done.stdout, np.float32)[480:]
    live = Live(pipe, RATE, 1, cutoff_hz=4_000.0)
    wanted = live.process(wave)[0, live.latency_samples :]
    assert len(made) == wave.shape[1] - 480
    assert np.abs(levels_db(made) - levels_db(wanted)).max() < 0.5  # each draws its own noise
