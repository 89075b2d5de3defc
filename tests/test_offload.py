"""Offloading, on a machine without a GPU: hooks that bring networks from the CPU to the CPU, or to no device at all."""

import accelerate
import numpy as np
import pytest
import torch
from accelerate.hooks import AlignDevicesHook, CpuOffload, UserCpuOffloadHook
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from latentsr import Pipeline
from latentsr.convert.audiosr_preset import compat
from latentsr.diffusion.sampling import training_scheduler
from latentsr.models.fastconv import speed_up
from latentsr.models.hifigan import build_vocoder
from latentsr.models.unet import Bands, LatentUNet, predict_v
from latentsr.models.vae import MelAutoencoderKL
from latentsr.options import Options

RATE = 48_000
aten = torch.ops.aten
OPTIONS = dict(sample_rate=RATE, cutoff_hz=4000.0, steps=2)
VOCODERS = {"istft": dict(channels=16, hidden=32, layers=1), "hifigan": dict(channels=96)}


def tiny_pipeline(vocoder="hifigan"):
    torch.manual_seed(0)
    vae = MelAutoencoderKL(latent_channels=4, block_out_channels=(8, 8), norm_num_groups=4, patch_frames=4,
                           patch_bands=8, scaling_factor=1.0, shift_factor=0.0)  # fmt: skip
    unet = LatentUNet(latent_channels=4, block_out_channels=(8, 16), attention_levels=(1,), attention_head_dim=8,
                      norm_num_groups=4)  # fmt: skip
    made = build_vocoder(vocoder, **VOCODERS[vocoder])
    networks = {"vae": speed_up(vae), "unet": unet, "vocoder": speed_up(made)}
    pipe = Pipeline(scheduler=training_scheduler(), **{name: n.eval() for name, n in networks.items()})
    pipe.set_progress_bar_config(disable=True)
    return pipe


def programme(seconds=0.7):
    return (0.1 * np.random.default_rng(0).standard_normal((2, round(seconds * RATE)))).astype(np.float32)


def weights(pipe):
    return {(name, key): value for name in ("vae", "unet", "vocoder")
            for key, value in getattr(pipe, name).state_dict().items()}  # fmt: skip


@pytest.fixture(autouse=True)
def the_only_cpu(monkeypatch):
    """diffusers numbers the device, and `cpu:0` counts as another one than `cpu`: weights would be copied."""
    offload = accelerate.cpu_offload

    def without_number(network, device, **options):
        return offload(network, torch.device("cpu") if device.type == "cpu" else device, **options)

    monkeypatch.setattr(accelerate, "cpu_offload", without_number)


@pytest.fixture
def calls(monkeypatch):
    """The modules before which each kind of hook ran."""
    seen = {CpuOffload: [], AlignDevicesHook: []}
    for kind, modules in seen.items():
        original = kind.pre_forward
        monkeypatch.setattr(kind, "pre_forward", lambda self, module, *a, original=original, modules=modules, **k:
                            modules.append(module) or original(self, module, *a, **k))  # fmt: skip
    return seen


@pytest.mark.parametrize("vocoder", VOCODERS)
def test_whole_networks_are_fetched_in_order_and_the_sound_is_the_same(calls, vocoder):
    pipe = tiny_pipeline(vocoder)
    wanted = pipe(programme(), **OPTIONS).audio
    pipe.enable_model_cpu_offload(device="cpu")
    assert np.array_equal(pipe(programme(), **OPTIONS).audio, wanted)
    fetched = list(dict.fromkeys(calls[CpuOffload]))
    assert fetched == [pipe.vae, pipe.unet, pipe.vocoder]
    assert calls[CpuOffload][-1] is pipe.vocoder
    assert np.array_equal(pipe(programme(), **OPTIONS).audio, wanted)  # hooks are put anew after each call


@pytest.mark.parametrize("vocoder", VOCODERS)
def test_layers_are_fetched_one_by_one_and_the_sound_is_the_same(calls, vocoder):
    pipe = tiny_pipeline(vocoder)
    before = {key: value.clone() for key, value in weights(pipe).items()}
    wanted = pipe(programme(), **OPTIONS).audio
    pipe.enable_sequential_cpu_offload(device="cpu")
    for _ in range(2):
        assert np.array_equal(pipe(programme(), **OPTIONS).audio, wanted)
        parameters = [p for n in (pipe.vae, pipe.unet, pipe.vocoder) for p in n.parameters()]
        assert {p.device.type for p in parameters} == {"meta"}  # let go of after the call
    hooked = set(calls[AlignDevicesHook])
    for network in (pipe.vae, pipe.unet, pipe.vocoder):
        leaves = {m for m in network.modules() if m._parameters}
        assert network in hooked and leaves <= hooked
    pipe.remove_all_hooks()
    after = weights(pipe)
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert np.array_equal(pipe(programme(), **OPTIONS).audio, wanted)


@pytest.mark.parametrize("enable", ["enable_model_cpu_offload", "enable_sequential_cpu_offload"])
def test_streams_and_the_ceiling_run_offloaded(enable):
    pipe = tiny_pipeline()
    wave = torch.from_numpy(programme())[:1, None]

    def results():
        blocks = pipe.stream(np.array_split(programme(), 3, axis=1), RATE, cutoff_hz=4000.0, peak=0.5, steps=1)
        return np.concatenate(list(blocks), axis=1), pipe.reconstruct(wave)

    streamed, ceiling = results()
    getattr(pipe, enable)(device="cpu")
    for _ in range(2):
        again = results()
        assert np.array_equal(again[0], streamed)
        assert_close(again[1], ceiling, rtol=0, atol=0)


@pytest.mark.parametrize("enable", ["enable_model_cpu_offload", "enable_sequential_cpu_offload"])
def test_what_is_loaded_later_is_offloaded_too(tmp_path, enable):
    pipe = tiny_pipeline("istft")
    wanted = pipe(programme(), **OPTIONS).audio
    pipe.save_pretrained(tmp_path)
    lazy = Pipeline.from_pretrained(tmp_path, heads=[])
    lazy.set_progress_bar_config(disable=True)
    assert lazy.vae is None
    lazy.load(["vae"])
    getattr(lazy, enable)(device="cpu")
    assert lazy.unet is None and lazy.vocoder is None
    assert np.abs(lazy(programme(), **OPTIONS).audio - wanted).max() < 1e-6
    assert all(hasattr(network, "_hf_hook") for network in (lazy.vae, lazy.unet, lazy.vocoder))
    assert np.abs(lazy(programme(), **OPTIONS).audio - wanted).max() < 1e-6


def test_what_is_loaded_later_has_the_dtype_of_the_rest(tmp_path):
    tiny_pipeline("istft").save_pretrained(tmp_path)
    lazy = Pipeline.from_pretrained(tmp_path, heads=[])
    lazy.load(["vae"])
    lazy.to(torch.bfloat16)
    lazy.set_progress_bar_config(disable=True)
    assert np.isfinite(lazy(programme(), **OPTIONS).audio).all()
    assert {lazy.vae.dtype, lazy.unet.dtype, lazy.vocoder.dtype} == {torch.bfloat16}


def test_the_compat_preset_says_that_it_does_not_run_offloaded():
    pipe = tiny_pipeline()
    pipe.enable_model_cpu_offload(device="cpu")
    with pytest.raises(ValueError, match=r"does not run offloaded; call remove_all_hooks\(\) first"):
        compat(pipe, programme(), RATE)


@pytest.mark.parametrize("enable", ["enable_model_cpu_offload", "enable_sequential_cpu_offload"])
def test_saving_offloaded_networks_is_refused_before_anything_is_deleted(tmp_path, enable):
    pipe = tiny_pipeline("istft")
    pipe.save_pretrained(tmp_path)
    files = sorted(tmp_path.rglob("*.safetensors"))
    getattr(pipe, enable)(device="cpu")
    with pytest.raises(ValueError, match=r"cannot be saved; call remove_all_hooks\(\) first"):
        pipe.save_pretrained(tmp_path)
    assert files and sorted(tmp_path.rglob("*.safetensors")) == files


# --- devices ----------------------------------------------------------------------------------------------------------


class OneDevice(TorchDispatchMode):
    """Every operation on tensors of two devices is an error, as on a GPU; copies are not."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor) and t.dim() > 0]
        if len({t.device.type for t in tensors}) > 1 and func.overloadpacket not in (aten.copy_, aten._to_copy):
            raise RuntimeError(f"{func} of {[(t.device.type, tuple(t.shape)) for t in tensors]}")
        return func(*args, **(kwargs or {}))


@pytest.fixture
def gpu(monkeypatch):
    """A device that is not the CPU: "meta", which computes shapes only, and from which nothing comes back."""
    monkeypatch.setattr(UserCpuOffloadHook, "offload", lambda self: None)
    monkeypatch.setattr("diffusers.pipelines.pipeline_utils.empty_device_cache", lambda device: None)
    return torch.device("meta")


def test_mixed_devices_are_noticed(gpu):
    with OneDevice(), pytest.raises(RuntimeError, match="aten.convolution"):
        torch.nn.Conv1d(2, 2, 3, device=gpu)(torch.zeros(1, 2, 8))


def run(pipe, low):
    """The networks' part of a call: (latents, wave) of low bands (C, 1, T) on the CPU."""
    head, diffusion = pipe.chains(Options(head="vocoder")).args
    latents = diffusion.encode(low)
    end = torch.full((len(low),), 4000.0, device=head.device)
    for step in (999, 3):  # without the scheduler, which reads its times' values
        time = torch.full((len(low),), step, device=head.device)
        latents = latents + predict_v(pipe.unet, latents, latents, time, Bands(end, end))
    return head, diffusion, latents, head(low.to(head.device), end, latents, ignored=(40, 40))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("vocoder", VOCODERS)
@pytest.mark.parametrize("offloaded", [True, False], ids=["offloaded", "moved"])
def test_no_tensor_is_on_the_wrong_device(gpu, offloaded, vocoder, dtype):
    """Networks that lie on the CPU run where they are brought, and so does all that they are given."""
    pipe = tiny_pipeline(vocoder).to(dtype)
    if offloaded:
        pipe.enable_model_cpu_offload(device=gpu)
        assert pipe.vae.device.type == pipe.unet.device.type == pipe.vocoder.device.type == "cpu"
    else:
        pipe.to(gpu)
    with OneDevice(), torch.no_grad():
        head, diffusion, latents, wave = run(pipe, torch.zeros(2, 1, 160 * 480))
    assert {t.device.type for t in (head, diffusion, latents, wave)} == {"meta"}
    assert latents.dtype == head.dtype == dtype and head.mel.window.dtype == diffusion.mel.window.dtype == torch.float32
    assert latents.shape == (2, 4, 20, 16) and wave.shape == (2, 1, 160 * 480)
