"""The runner of examples/onnx makes what the pipeline makes, without torch."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
import torch

from latentsr.export import export
from latentsr.listening import estimate
from latentsr.sampling import absolute_noise
from tiny import programme, tiny_pipeline

RUNNER = Path(__file__).resolve().parents[2] / "examples" / "onnx"


def made_band_error_db(made, wanted, given):
    """Energy of the difference against that of what restoration added."""
    return 10 * np.log10(np.square(made - wanted).sum() / np.square(wanted - given).sum())


@pytest.mark.parametrize("channels", [1, 2])
def test_it_restores_as_the_pipeline_does(embedded_pipe, embedded_folder, runner, channels):
    restore, heads = runner
    samples = programme(6.5, channels)  # two windows and a seam
    wanted = embedded_pipe(samples, sample_rate=48_000, head="mamba-gan", seed=7)
    made, cutoff_hz = restore.restore(heads.Model(embedded_folder, 1), samples, 48_000, seed=7)
    assert cutoff_hz == pytest.approx(wanted.cutoff_hz, rel=1e-4)
    assert made.shape == wanted.audio.shape
    assert made_band_error_db(made, wanted.audio, samples) < -60
    below = np.fft.rfftfreq(samples.shape[1], 1 / 48_000) < 0.8 * cutoff_hz
    spectra = [np.fft.rfft(each)[:, below] for each in (made, samples)]
    assert 20 * np.log10(np.linalg.norm(spectra[0] - spectra[1]) / np.linalg.norm(spectra[1])) < -60


@pytest.mark.parametrize("cutoff_hz", [2_500, 6_000, 11_000, 24_000])
def test_the_cutoff_graph_finds_what_the_library_finds(embedded_folder, runner, cutoff_hz):
    restore, heads = runner
    wave = programme(1.5, cutoff_hz=cutoff_hz)
    model = heads.Model(embedded_folder, 1)
    found = restore.estimate_cutoff_hz(model, restore.Processing(model.about), wave)
    assert found == pytest.approx(estimate(torch.from_numpy(wave)), rel=1e-4)


def test_the_noise_is_torchs(runner, embedded_folder):
    restore, heads = runner
    processing = restore.Processing(heads.Model(embedded_folder, 1).about)
    for seed in (0, 2**61 + 17):
        wanted = absolute_noise(seed, -5, 80, 2, 32).numpy()
        assert np.abs(processing.noise(seed, -5, 80, 2, 32) - wanted).max() < 1e-5


def test_it_runs_the_vocoder_head(runner, tmp_path):
    restore, heads = runner
    pipe = tiny_pipeline()
    pipe.register_to_config(default_guidance_scale=1.5)
    folder = tmp_path / "voc_onnx"
    made_of = export(pipe, folder, "vocoder", model_hash="abc", check=False)
    assert [each.part for each in made_of] == ["vae-encoder", "unet", "vae-decoder", "vocoder", "cutoff"]
    samples = programme(1.5)
    wanted = pipe(samples, sample_rate=48_000, head="vocoder", seed=3, steps=3, cutoff_hz=4_000).audio
    made, _ = restore.restore(heads.Model(folder, 1), samples, 48_000, 4_000, seed=3, steps=3)
    assert made_band_error_db(made, wanted, samples) < -60


def test_it_imports_no_torch(embedded_folder, tmp_path):
    """The script, in a process in which importing torch or latentsr fails."""
    soundfile.write(tmp_path / "old.wav", programme(1.0)[0], 48_000)
    program = (
        "import runpy, sys\n"
        "sys.modules.update(dict.fromkeys(['torch', 'latentsr', 'diffusers', 'transformers', 'onnx']))\n"
        f"sys.argv = ['restore.py', {str(embedded_folder)!r}, 'old.wav', 'new.wav', '--threads', '1']\n"
        f"sys.path.insert(0, {str(RUNNER)!r})\n"
        f"runpy.run_path({str(RUNNER / 'restore.py')!r}, run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    made, rate = soundfile.read(tmp_path / "new.wav")
    assert rate == 48_000 and len(made) == 48_000
    assert np.abs(np.fft.rfft(made)[10_000:]).max() > 0.01


def test_the_files_say_what_they_are(embedded_folder):
    about = json.loads((embedded_folder / "latentsr.json").read_text())
    model = onnx.load(embedded_folder / about["graphs"]["mamba-gan"])
    known = {each.key: each.value for each in model.metadata_props}
    assert (known["model"], known["part"]) == ("abc", "mamba-gan")
    inside = json.loads(known["latentsr"])
    assert inside["audio"]["sample_rate"] == 48_000 and inside["latentsr"] == known["version"]
    assert {key: about[key] for key in about if key != "graphs"} == {
        key: inside[key] for key in inside if key != "part"
    }
    assert max(len(weights) for weights in about["mel_filters"]["weights"]) > 10


def test_a_single_graph_asks_for_the_cutoff(runner, embedded_folder):
    restore, heads = runner
    model = heads.Model(embedded_folder / "mamba-gan.onnx", 1)
    samples = programme(0.5)
    with pytest.raises(SystemExit, match="pass --cutoff HZ"):
        restore.restore(model, samples, 48_000)
    assert restore.restore(model, samples, 48_000, 4_000)[0].shape == samples.shape
