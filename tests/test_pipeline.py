"""The pipeline on a tiny random model: what is promised holds whatever the networks say."""

import math
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from huggingface_hub import ModelCard

from latentsr import Pipeline, estimate_cutoff
from latentsr.audio import AudioError, resample
from latentsr.diffusion.sampling import SCHEDULERS
from latentsr.errors import UsageError
from latentsr.evaluation.metrics import kept_band_error_db
from latentsr.model_folder.loading import ModelError, write_hashes
from tiny import RATE, programme, tiny_pipeline


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline()


def below_db(a, b, cutoff_hz):
    """What differs below 0.8 cutoff, against what is there, in dB, the worst channel."""
    return float(kept_band_error_db(torch.from_numpy(b), torch.from_numpy(a), 0.8 * cutoff_hz).max())


@pytest.mark.parametrize("channels", [1, 2, 8])
@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000, 96_000])
def test_length_channels_rate_and_level_are_kept(pipe, channels, rate):
    wave = resample(programme(0.7, channels, cutoff_hz=3000), RATE, rate)
    out = pipe(wave, sample_rate=rate, cutoff_hz=3000.0, steps=1)
    source = resample(wave, rate, RATE)
    assert out.sample_rate == RATE and out.audio.dtype == np.float32
    assert out.audio.shape == (channels, math.floor(wave.shape[1] * RATE / rate + 0.5))
    assert below_db(out.audio, source, 3000) < -60


def test_chunked_and_whole_keep_the_band_and_do_not_depend_on_batch_size(pipe):
    wave = programme(14, 2)
    out = pipe(wave, sample_rate=RATE, cutoff_hz=4000.0, steps=2)
    assert below_db(out.audio, wave, 4000) < -60
    batched = pipe(wave, sample_rate=RATE, cutoff_hz=4000.0, steps=2, batch_size=2)
    assert np.abs(batched.audio - out.audio).max() < 1e-4


def test_same_seed_same_sound_other_seed_another(pipe):
    wave = programme(1)
    first, again, other = (pipe(wave, sample_rate=RATE, seed=s, steps=2, cutoff_hz=4000.0).audio for s in (1, 1, 2))
    assert np.array_equal(first, again)
    assert np.abs(first - other).max() > 1e-4


def test_equal_channels_stay_equal(pipe):
    wave = np.repeat(programme(1), 2, axis=0)
    out = pipe(wave, sample_rate=RATE, steps=2, cutoff_hz=4000.0).audio
    assert np.abs(out[0] - out[1]).max() < 1e-6


def test_a_list_gives_a_list_equal_to_single_calls(pipe):
    waves = [programme(0.5, seed=1), programme(0.8, seed=2)[0], torch.from_numpy(programme(0.6, seed=3))]
    outs = pipe(waves, sample_rate=RATE, steps=1)
    assert [o.audio.shape for o in outs] == [(1, 24_000), (1, 38_400), (1, 28_800)]
    assert np.array_equal(outs[1].audio, pipe(waves[1], sample_rate=RATE, steps=1).audio)


@pytest.mark.parametrize(
    "wave",
    [
        np.zeros((1, 48_000)),
        np.full((1, 48_000), 0.25),
        np.ones((1, 1)) * 0.1,
        0.3 * np.sin(np.arange(48_000) / 80)[None],
    ],
    ids=["silence", "DC", "one sample", "bass note"],
)
def test_odd_inputs_are_answers(pipe, wave):
    out = pipe(wave.astype(np.float32), sample_rate=RATE)
    assert out.audio.shape == wave.shape
    assert np.isfinite(out.audio).all()
    assert np.abs(out.audio).max() <= max(1e-4, np.abs(wave).max() + 0.05)


def test_a_silent_channel_does_not_hide_the_cutoff(pipe):
    wave = np.concatenate([programme(2), np.zeros((1, 96_000), np.float32)])
    assert pipe(wave, sample_rate=RATE, steps=1).cutoff_hz == pytest.approx(4000, rel=0.1)


def test_full_band_comes_back_bit_for_bit(pipe):
    wave = (0.1 * np.random.default_rng(0).standard_normal((2, 96_000))).astype(np.float32)
    out = pipe(wave, sample_rate=RATE)
    assert out.cutoff_hz == 24_000
    assert np.array_equal(out.audio, wave)


def test_loud_input_never_clips(pipe):
    wave = programme(1)
    wave *= 0.999 / np.abs(wave).max()
    out = pipe(wave, sample_rate=RATE, cutoff_hz=4000.0, steps=1)
    assert np.abs(out.audio).max() <= 1.0


def test_input_above_full_scale_is_saved_with_a_gain_that_is_told(pipe, tmp_path):
    wave = programme(1)
    wave *= 1.6 / np.abs(wave).max()
    out = pipe(wave, sample_rate=RATE, cutoff_hz=4000.0, steps=1)
    peak = float(np.abs(out.audio).max())
    assert out.save(tmp_path / "a.wav", subtype="PCM_24") == pytest.approx(1 / peak)
    assert out.save(tmp_path / "b.wav", subtype="FLOAT") == 1.0
    assert np.abs(soundfile.read(tmp_path / "b.wav")[0]).max() == pytest.approx(peak, abs=1e-6)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_scheduler_swap(name):
    pipe = tiny_pipeline()
    pipe.scheduler = SCHEDULERS[name].from_config(pipe.scheduler.config)
    assert np.isfinite(pipe(programme(0.5), sample_rate=RATE, steps=3).audio).all()


def test_guidance_and_denoise_change_the_sound(pipe):
    wave = programme(0.5)
    plain = pipe(wave, sample_rate=RATE, steps=2, cutoff_hz=4000.0).audio
    assert (
        np.abs(pipe(wave, sample_rate=RATE, steps=2, cutoff_hz=4000.0, guidance_scale=3.0).audio - plain).max() > 1e-5
    )
    assert np.abs(pipe(wave, sample_rate=RATE, steps=2, cutoff_hz=4000.0, denoise=True).audio - plain).max() > 1e-5


def test_without_noise_the_seed_does_not_matter(pipe):
    wave = programme(0.5)
    one, other = (
        pipe(wave, sample_rate=RATE, steps=2, cutoff_hz=4000.0, temperature=0.0, seed=s).audio for s in (1, 2)
    )
    assert np.array_equal(one, other)


def test_progress_ends_at_the_whole_duration(pipe):
    calls = []
    pipe(
        programme(7),
        sample_rate=RATE,
        steps=1,
        cutoff_hz=4000.0,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert calls[-1] == (pytest.approx(7.0), 7.0)
    assert [c[0] for c in calls] == sorted(c[0] for c in calls)


def test_reconstruct_keeps_the_shape(pipe):
    assert pipe.reconstruct(torch.from_numpy(programme(1.3, 2))[:, None]).shape == (2, 1, 62_400)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"head": "mamba"}, ValueError, "choose one of vocoder"),
        ({"steps": 0}, ValueError, "steps must be"),
        ({"guidance_scale": -1.0}, ValueError, "guidance_scale must be"),
        ({"temperature": 3.0}, ValueError, "temperature must be 0 to 2"),
        ({"cutoff_hz": 10.0}, ValueError, "cutoff_hz must be"),
        ({"sample_rate": None}, ValueError, "sample_rate="),
    ],
)
def test_bad_arguments_name_the_remedy(pipe, arguments, error, message):
    with pytest.raises(error, match=message):
        pipe(programme(0.2), **{"sample_rate": RATE, **arguments})


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros((0,), np.float32), "got float32"),
        (np.array([[0.0, np.nan, np.inf]], np.float32), "2 samples are NaN or infinite, the first at 1"),
        (np.zeros((4, 4, 4), np.float32), "channels, samples"),
        (np.zeros((48_000, 2), np.float32), "transpose"),
        (np.zeros(100, np.int16), "must be float"),
    ],
)
def test_bad_samples_are_refused(pipe, samples, message):
    with pytest.raises(AudioError, match=message):
        pipe(samples, sample_rate=RATE)
    if samples.size:
        with pytest.raises(AudioError, match=message):
            estimate_cutoff(samples, RATE)


@pytest.mark.parametrize("rate", [0, -1, 999, 44_100.5, "44100", True])
def test_a_rate_that_is_none_is_refused(pipe, rate):
    for call in (pipe, estimate_cutoff, lambda wave, sample_rate: pipe.stream([wave], sample_rate)):
        with pytest.raises(UsageError, match=f"sample_rate must be a whole number of 1000 to 768000, got {rate!r}"):
            call(programme(0.2), sample_rate=rate)


def test_bfloat16_is_restored(pipe):
    wave = torch.from_numpy(programme(0.2)).bfloat16()
    given, same = (pipe(each, sample_rate=RATE, cutoff_hz=4_000.0, steps=1).audio for each in (wave, wave.float()))
    assert np.array_equal(given, same)


class TestFolder:
    def test_round_trip_in_fp16_and_fp32(self, pipe, tmp_path):
        pipe.save_pretrained(tmp_path / "full")
        pipe.save_pretrained(tmp_path / "half", dtype=torch.float16)
        assert next(pipe.unet.parameters()).dtype == torch.float32
        wave = programme(0.5)
        ours, full, half = (
            p(wave, sample_rate=RATE, steps=2, cutoff_hz=4000.0).audio
            for p in (pipe, Pipeline.from_pretrained(tmp_path / "full"), Pipeline.from_pretrained(tmp_path / "half"))
        )
        assert np.abs(full - ours).max() < 1e-6
        assert np.abs(half - ours).max() < 0.02
        assert next(Pipeline.from_pretrained(tmp_path / "half").unet.parameters()).dtype == torch.float32

    def test_round_trip_in_a_fresh_process(self, pipe, tmp_path):
        pipe.save_pretrained(tmp_path / "model")
        wave = programme(0.5)
        np.save(tmp_path / "in.npy", wave)
        code = (
            "import sys, numpy as np; from latentsr import Pipeline; "
            "pipe = Pipeline.from_pretrained(sys.argv[1] + '/model'); "
            "out = pipe(np.load(sys.argv[1] + '/in.npy'), sample_rate=48000, steps=2, cutoff_hz=4000.0); "
            "np.save(sys.argv[1] + '/out.npy', out.audio)"
        )
        subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True, timeout=120)
        ours = pipe(wave, sample_rate=RATE, steps=2, cutoff_hz=4000.0).audio
        assert np.abs(np.load(tmp_path / "out.npy") - ours).max() < 1e-6

    def test_what_is_pushed_to_the_hub_is_the_folder_with_its_hashes(self, pipe, tmp_path, monkeypatch):
        """The Hub's own functions in diffusers are replaced: what would be uploaded is kept."""
        hub = "diffusers.utils.hub_utils."
        monkeypatch.setattr(hub + "create_repo", lambda name, **_: SimpleNamespace(repo_id=name))
        monkeypatch.setattr(hub + "load_or_create_model_card", lambda *_, **__: ModelCard("---\n---\n"))
        monkeypatch.setattr(
            hub + "upload_folder", lambda folder_path, **_: shutil.copytree(folder_path, tmp_path / "pushed")
        )
        pipe.push_to_hub("somebody/model")
        pipe.save_pretrained(tmp_path / "saved")
        pushed, saved = (
            {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*") if path.is_file()}
            for folder in (tmp_path / "pushed", tmp_path / "saved")
        )
        assert pushed.pop("README.md") and pushed == saved and {"sha256.json", "vocoder/config.json"} <= saved.keys()
        with pytest.raises(ValueError, match="leave safe_serialization and variant out"):
            pipe.save_pretrained(tmp_path / "pickled", safe_serialization=False)

    def test_components_are_loaded_when_first_needed(self, pipe, tmp_path):
        pipe.save_pretrained(tmp_path)
        lazy = Pipeline.from_pretrained(tmp_path, heads=[])
        assert lazy.unet is None and lazy.vae is None
        lazy(programme(0.3), sample_rate=RATE, steps=1, cutoff_hz=4000.0)
        assert lazy.unet is not None

    def test_a_flipped_bit_is_found(self, pipe, tmp_path):
        pipe.save_pretrained(tmp_path)
        file = tmp_path / "vocoder/diffusion_pytorch_model.safetensors"
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
        with pytest.raises(ModelError, match="damaged"):
            Pipeline.from_pretrained(tmp_path)

    def test_a_missing_file_and_a_foreign_class(self, pipe, tmp_path):
        pipe.save_pretrained(tmp_path)
        index = tmp_path / "model_index.json"
        index.write_text(index.read_text().replace("LatentUNet", "UNet3D"))
        write_hashes(tmp_path)
        with pytest.raises(ModelError, match="does not know"):
            Pipeline.from_pretrained(tmp_path)
        (tmp_path / "vae/config.json").unlink()
        with pytest.raises(ModelError, match="missing"):
            Pipeline.from_pretrained(tmp_path)

    def test_not_a_folder(self, tmp_path):
        with pytest.raises(ModelError, match="no model_index.json"):
            Pipeline.from_pretrained(tmp_path)
        with pytest.raises(ModelError, match="not a model folder"):
            Pipeline.from_pretrained(tmp_path / "nowhere")


class TestStream:
    @pytest.mark.parametrize("block", [777, 48_000, 1_000_000])
    def test_blocks_of_any_size_give_what_a_call_gives(self, pipe, block):
        wave = programme(23, 2)
        whole = pipe(wave, sample_rate=RATE, cutoff_hz=4000.0, steps=1).audio
        blocks = (wave[:, i : i + block] for i in range(0, wave.shape[1], block))
        pieces = list(pipe.stream(blocks, RATE, cutoff_hz=4000.0, peak=float(np.abs(wave).max()), steps=1))
        streamed = np.concatenate(pieces, axis=1)
        assert streamed.shape == whole.shape
        assert np.abs(streamed - whole).max() < 1e-5

    def test_the_stated_latency_is_kept(self, pipe):
        wave, latency, block = programme(30), round(pipe.stream_latency_s() * RATE), 4_800
        fed = 0

        def blocks():
            nonlocal fed
            for i in range(0, wave.shape[1], block):
                fed += block
                yield wave[:, i : i + block]

        given = 0
        for piece in pipe.stream(blocks(), RATE, cutoff_hz=4000.0, steps=1):
            assert fed - given <= latency + block
            given += piece.shape[1]
        assert given == wave.shape[1]

    def test_cutoff_and_peak_are_heard_at_the_start(self, pipe):
        wave = resample(programme(13), RATE, 16_000)
        pieces = list(pipe.stream([wave[:, :100_000], wave[:, 100_000:]], 16_000, steps=1))
        out = np.concatenate(pieces, axis=1)
        assert out.shape == (1, 13 * RATE)
        assert below_db(out, resample(wave, 16_000, RATE), 3500) < -60

    def test_odds_and_ends(self, pipe):
        assert list(pipe.stream([], RATE)) == []
        with pytest.raises(AudioError, match="2 channels"):
            list(pipe.stream([programme(0.1), programme(0.1, 2)], RATE, cutoff_hz=4000.0))
        loud = [np.zeros((1, 4800), np.float32)] * 3
        assert np.concatenate(list(pipe.stream(loud, RATE)), axis=1).shape == (1, 14_400)
