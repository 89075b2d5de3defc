"""The runner of examples/onnx makes what the pipeline makes, without torch."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import scipy.signal
import soundfile
import torch

from latentsr import Pipeline
from latentsr.bandwidth import BandEstimator, estimate_cutoff
from latentsr.export import Form, export
from latentsr.models.excited import ExcitationGenerator
from latentsr.signal.noise import absolute_noise
from tiny import programme, tiny_pipeline

RUNNER = Path(__file__).resolve().parents[2] / "examples" / "onnx"


def made_band_error_db(made, wanted, given):
    """Energy of the difference against that of what restoration added."""
    return 10 * np.log10(np.square(made - wanted).sum() / np.square(wanted - given).sum())


@pytest.mark.parametrize("channels", [1, 2])
def test_it_restores_as_the_pipeline_does(embedded_pipe, embedded_folder, runner, channels):
    restore, heads = runner
    samples = programme(6.5, channels)  # two windows and a seam
    wanted = embedded_pipe(samples, sample_rate=48_000, head="mamba-gan", seed=7, cutoff_hz=4_000)
    made, _ = restore.restore(heads.Model(embedded_folder, 1), samples, 48_000, 4_000, seed=7)
    assert made.shape == wanted.audio.shape
    assert made_band_error_db(made, wanted.audio, samples) < -60
    assert error_below_db(made, samples, 0.8 * 4_000) < -60


def test_it_hears_and_restores_as_the_pipeline_does(embedded_pipe, embedded_folder, runner):
    restore, heads = runner
    samples = programme(1.5, cutoff_hz=4_000)
    made, cutoff_hz = restore.restore(heads.Model(embedded_folder, 1), samples, 48_000, seed=7)
    assert cutoff_hz == pytest.approx(estimate_cutoff(samples, 48_000), rel=1e-4)
    wanted = embedded_pipe(samples, sample_rate=48_000, head="mamba-gan", seed=7)
    assert made_band_error_db(made, wanted.audio, samples) < -60


def error_below_db(made, given, cutoff_hz):
    below = np.fft.rfftfreq(given.shape[1], 1 / 48_000) < cutoff_hz
    spectra = [np.fft.rfft(each)[:, below] for each in (made, given)]
    return 20 * np.log10(np.linalg.norm(spectra[0] - spectra[1]) / np.linalg.norm(spectra[1]))


def recording(rate, family):
    """Two channels of noise, 1.5 s at a rate of its own: one stretch, whatever an estimator says. 16 bit but once."""
    rng = np.random.default_rng(rate)
    noise = scipy.signal.lfilter([1], [1, -0.9], rng.standard_normal((2, int(1.5 * rate)))) * 0.05
    if family != "full band":
        noise = scipy.signal.sosfilt(scipy.signal.butter(3 if family == "gentle" else 16, 0.5, output="sos"), noise)
    return noise.astype(np.float32) if family == "float" else (np.round(noise * 2**15) / 2**15).astype(np.float32)


@pytest.mark.parametrize("family", ["steep", "gentle", "float", "full band"])
@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
def test_it_hears_the_band_that_the_library_hears(embedded_folder, runner, rate, family):
    restore, heads = runner
    samples = recording(rate, family)
    estimator = BandEstimator(rate)
    estimator.update(samples)
    track = estimator.result()
    found = restore.bands_of(heads.Model(embedded_folder, 1), samples, rate)
    for channel, [stretch] in enumerate(track.channels):
        assert found.cutoff_hz[channel] == pytest.approx(stretch.cutoff_hz, rel=1e-4)
        assert (stretch.skirt is None) == (stretch.cutoff_hz == 24_000)
        if stretch.skirt is not None:
            assert np.abs(found.raise_db[channel] - stretch.skirt.raise_db).max() < 0.01
            assert np.abs(found.kept[channel] - stretch.skirt.kept).max() < 0.001


@pytest.mark.parametrize("right_hz", [24_000, 6_000])
def test_each_channel_has_its_own_cutoff(embedded_pipe, embedded_folder, runner, monkeypatch, right_hz):
    restore, heads = runner
    samples = programme(1.5, 2, cutoff_hz=4_000)
    samples[1] = 0.5 * programme(1.5, 1, seed=1, cutoff_hz=right_hz)
    band = restore.Band.at(np.float32([4_000, right_hz]))
    monkeypatch.setattr(restore, "bands_of", lambda *_: band)
    made, cutoff_hz = restore.restore(heads.Model(embedded_folder, 1), samples, 48_000, seed=7)
    assert cutoff_hz == 4_000
    alone = embedded_pipe(samples[:1], sample_rate=48_000, head="mamba-gan", seed=7, cutoff_hz=4_000)
    assert made_band_error_db(made[:1], alone.audio, samples[:1]) < -60
    assert np.array_equal(made[1], samples[1]) == (right_hz == 24_000)
    assert right_hz == 24_000 or error_below_db(made[1:], samples[1:], 0.8 * right_hz) < -60


def test_a_gentle_end_is_raised_and_fades_over(embedded_folder, runner):
    restore, heads = runner
    processing = restore.Processing(heads.Model(embedded_folder, 1).about)
    bins_hz = np.arange(256) * 93.75
    kept = np.clip(1 - (bins_hz - 6_000) / 2_000, 0, 1)
    raise_db = np.clip((bins_hz - 4_000) / 400, 0, 10)
    band = restore.Band(np.float32([5_000]), raise_db[None], kept[None])
    silence, time_s = np.zeros((1, 48_000), np.float32), np.arange(48_000) / 48_000
    for hz, share, gain_db in ((3_900, 1, 0), (4_950, 1, 2.375), (6_900, 0.55, 7.25), (8_100, 0, 10)):
        tone = np.sin(2 * np.pi * hz * time_s, dtype=np.float32)[None]
        known, added = (
            processing.merge(low, wide, band)[0, 9_600:-9_600] for low, wide in ((tone, silence), (silence, tone))
        )
        assert known.std() * 2**0.5 == pytest.approx(share * 10 ** (gain_db / 20), abs=0.02)
        assert added.std() * 2**0.5 == pytest.approx(1 - share, abs=0.02)


def test_the_noise_is_torchs(runner, embedded_folder):
    restore, heads = runner
    processing = restore.Processing(heads.Model(embedded_folder, 1).about)
    for seed in (0, 2**61 + 17):
        wanted = absolute_noise(seed, -5, 80, 2, 32).numpy()
        assert np.abs(processing.noise(seed, -5, 80, 2, 32) - wanted).max() < 1e-5


def test_it_shapes_excitations_as_the_pipeline_does(runner, tmp_path):
    restore, heads = runner
    torch.manual_seed(1)
    network = ExcitationGenerator(channels=16, mixer_layers=1, state=3, fine=16, hidden=24, layers=1, latent_size=64)
    for layer in (network.correct_mel, network.gains):  # zero when training begins
        torch.nn.init.normal_(layer.weight, std=0.1)
    pipe = Pipeline(mamba_gan=network.eval())
    pipe.set_progress_bar_config(disable=True)
    folder = tmp_path / "excited_onnx"
    export(pipe, folder, "mamba-gan", form=Form(model_hash="abc", check=False))
    samples = programme(6.5, 2)
    wanted = pipe(samples, sample_rate=48_000, head="mamba-gan", seed=3, cutoff_hz=4_000).audio
    made, _ = restore.restore(heads.Model(folder, 1), samples, 48_000, 4_000, seed=3)
    assert made_band_error_db(made, wanted, samples) < -60


def test_it_runs_the_vocoder_head(runner, tmp_path):
    restore, heads = runner
    pipe = tiny_pipeline()
    pipe.register_to_config(default_guidance_scale=1.5)
    folder = tmp_path / "voc_onnx"
    made_of = export(pipe, folder, "vocoder", form=Form(model_hash="abc", check=False))
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


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_what_it_writes_is_rounded_to_the_nearest_step(runner, tmp_path, suffix):
    restore, _ = runner
    samples = np.random.default_rng(0).uniform(-1.001, 1.001, (20_000, 2)).astype(np.float32)
    soundfile.write(tmp_path / f"a.{suffix}", restore.in_24_bits(samples), 48_000, subtype="PCM_24")
    error = (soundfile.read(tmp_path / f"a.{suffix}")[0] - samples.clip(-1, 1 - 2**-23)) * 2**23
    assert np.abs(error).max() <= 0.5 and abs(error.mean()) < 0.01


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


def test_an_export_for_another_runner_is_refused(runner, embedded_folder, tmp_path):
    _, heads = runner
    about = json.loads((embedded_folder / "latentsr.json").read_text()) | {"format": 1}
    (tmp_path / "latentsr.json").write_text(json.dumps(about))
    with pytest.raises(SystemExit, match="for another runner; export anew"):
        heads.Model(tmp_path)
