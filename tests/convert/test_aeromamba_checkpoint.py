"""Checkpoints of AEROMamba's training code: every name, the output of a second reading of it, and hostile files."""

from __future__ import annotations

import collections
import math
import os
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from authors_aeromamba import STRIDES, authors_shapes, synthetic
from latentsr import Pipeline
from latentsr.convert.aeromamba import convert, load, mamba_is_untrained, read_state, rename
from latentsr.model_folder.loading import ModelError
from latentsr.models.aeromamba import AeroMamba
from latentsr.restoring.model import Model

TINY: dict[str, Any] = {"channels": 8, "n_fft": 128, "hop_length": 64}


@pytest.fixture
def tiny_state() -> dict[str, Tensor]:
    return synthetic(authors_shapes(TINY["channels"], TINY["n_fft"]))


def test_every_tensor_of_the_published_size_has_one_place() -> None:
    with torch.device("meta"):
        ours = AeroMamba().state_dict()
    theirs = authors_shapes()
    assert {rename(name): shape for name, shape in theirs.items()} == {k: tuple(v.shape) for k, v in ours.items()}
    assert len({rename(name) for name in theirs}) == len(theirs)
    floating = sum(
        math.prod(s) for n, s in theirs.items() if not n.endswith(("running_mean", "running_var", "tracked"))
    )
    assert floating == 20_964_190


def test_a_checkpoint_becomes_a_folder_that_restores(tmp_path: Path, tiny_state: dict[str, Tensor]) -> None:
    torch.save(tiny_state, tmp_path / "checkpoint.th")
    folder = convert(tmp_path / "checkpoint.th", tmp_path / "model", **TINY)
    wave = np.random.default_rng(0).uniform(-0.3, 0.3, (1, 11_025)).astype(np.float32)
    light, pipe = Model(folder), Pipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    assert light.default_head == pipe.default_head == "aeromamba"
    made, same = (model(wave, sample_rate=11_025, cutoff_hz=5_000.0) for model in (light, pipe))
    assert made.audio.shape == (1, 48_000) and np.array_equal(made.audio, same.audio)
    assert np.abs(np.fft.rfft(made.audio[0])[8_000:20_000]).max() > 0  # something was made
    with pytest.raises(ModelError, match="overwrite"):
        convert(tmp_path / "checkpoint.th", folder, **TINY)


@pytest.mark.parametrize("place", ["dead", "time"])
def test_a_checkpoint_goes_in_tensor_by_tensor(place: Any, tmp_path: Path, tiny_state: dict[str, Tensor]) -> None:
    for name in tiny_state:
        if name.endswith("mamba.D"):
            tiny_state[name] = tiny_state[name] + 0.1  # as if it had been trained
    torch.save(tiny_state, tmp_path / "checkpoint.th")
    network = load(tmp_path / "checkpoint.th", place, **TINY)
    loaded = network.state_dict()
    assert not network.training
    assert len(loaded) == len(tiny_state)
    for name, tensor in tiny_state.items():
        assert torch.equal(loaded[rename(name)], tensor), name


def test_the_network_computes_what_the_original_does(tmp_path: Path, tiny_state: dict[str, Tensor]) -> None:
    torch.save(tiny_state, tmp_path / "checkpoint.th")
    network = load(tmp_path / "checkpoint.th", **TINY)
    for samples in (480, 700):
        wave = torch.randn(2, 1, samples, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            made, wanted = network(wave), _original(tiny_state, wave, n_fft=128)
        assert wanted.std() > 0.01
        torch.testing.assert_close(made, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))


def test_untrained_mamba_layers_are_told_apart(tmp_path: Path, tiny_state: dict[str, Tensor]) -> None:
    assert mamba_is_untrained(tiny_state)
    ours = {rename(name): tensor for name, tensor in tiny_state.items()}
    assert mamba_is_untrained(ours)
    assert mamba_is_untrained(AeroMamba("time", **TINY).state_dict())
    for name in ("encoder.2.dconv.layers.1.mamba.A_log", "encoder.3.dconv.layers.0.mamba.D"):
        trained = tiny_state | {name: tiny_state[name] + 0.01}
        assert not mamba_is_untrained(trained)
        assert not mamba_is_untrained({rename(k): v for k, v in trained.items()})
    with pytest.raises(ModelError, match="holds no Mamba layer"):
        mamba_is_untrained({"weight": torch.zeros(1)})
    torch.save(tiny_state, tmp_path / "checkpoint.th")
    with pytest.warns(UserWarning, match="Mamba layers were never trained"):
        load(tmp_path / "checkpoint.th", "time", **TINY)


def test_the_whole_package_of_the_training_code_is_read_without_its_code(
    tmp_path: Path, tiny_state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint.th"
    with monkeypatch.context() as patch:
        model, args = _foreign(patch, "src.models.aero", "Aero"), _foreign(patch, "omegaconf.dictconfig", "DictConfig")
        args.settings = {"lr": 3e-4, "cache": collections.defaultdict(dict), "type": Any}
        generator = {"class": type(model), "args": (), "kwargs": {"channels": 8}, "state": tiny_state}
        package = {"models": {"generator": generator}, "history": [{"train": 1.0}], "args": args}
        torch.save(package, path)
    assert "src.models.aero" not in sys.modules
    state = read_state(path)
    assert list(state) == list(tiny_state)
    assert all(torch.equal(state[k], v) for k, v in tiny_state.items())
    torch.save(generator | {"class": "Aero"}, path)  # the shape of the authors' files of the best state
    assert list(read_state(path)) == list(tiny_state)


class Hostile:
    def __reduce__(self) -> Any:
        return os.mkdir, ("hostile",)


def test_hostile_and_damaged_files_are_refused_in_one_line(
    tmp_path: Path, tiny_state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "checkpoint.th"
    name = "encoder.1.conv.weight"
    without = {k: v for k, v in tiny_state.items() if k != name}
    cases: list[tuple[Any, str]] = [
        ({"state": Hostile()}, r"holds code \((posix|nt).mkdir\), which was not run"),
        ({"state": {"name": "no tensor"}}, "holds no state dict of a generator"),
        (without, r"1 missing \(encoder.1.down.weight\)"),
        (tiny_state | {"encoder.3.dconv.layers.0.lstm.linear.bias": torch.zeros(2)}, "1 unexpected"),
        (tiny_state | {name: torch.zeros(2)}, r"1 of another shape \(encoder.1.down.weight\)"),
        (tiny_state | {name: tiny_state[name] / 0}, r"1 with NaN or infinity"),
    ]
    for content, message in cases:
        torch.save(content, path)
        with pytest.raises(ModelError, match=message) as caught:
            load(path, **TINY)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "hostile").exists()
    whole = path.read_bytes()
    for broken in (b"", b"<!doctype html>", whole[: len(whole) // 2]):
        path.write_bytes(broken)
        with pytest.raises(ModelError, match="not a checkpoint of torch >= 1.6, or damaged") as caught:
            load(path, **TINY)
        assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="cannot be read: no such file"):
        load(tmp_path / "nothing.th", **TINY)


def _foreign(patch: pytest.MonkeyPatch, module: str, name: str) -> Any:
    """An object of a class in a module that exists only while it is pickled."""
    made = type(name, (), {"__module__": module, "__qualname__": name})
    parts = module.split(".")
    for i in range(len(parts)):
        inner = types.ModuleType(".".join(parts[: i + 1]))
        patch.setitem(sys.modules, inner.__name__, inner)
    setattr(sys.modules[module], name, made)
    return made()


def _original(state: dict[str, Tensor], wave: Tensor, n_fft: int) -> Tensor:
    """The original's inference, a second time: plain functions on the authors' names, nothing shared with ours."""

    def apply(function: Any, x: Tensor, name: str, **keywords: Any) -> Tensor:
        return function(x, state[f"{name}.weight"], state[f"{name}.bias"], **keywords)

    def normed(x: Tensor, name: str, groups: int) -> Tensor:
        weight = state.get(f"{name}.weight")
        return x if weight is None else F.group_norm(x, groups, weight, state[f"{name}.bias"])

    def batch_normed(x: Tensor, name: str) -> Tensor:
        mean, variance, weight, bias = (
            state[f"{name}.{k}"].reshape(-1, *[1] * (x.ndim - 2))
            for k in ("running_mean", "running_var", "weight", "bias")
        )
        return ((x - mean) / (variance + 1e-5).sqrt() * weight + bias).relu()

    low = n_fft // 4
    length = wave.shape[-1]
    padded = F.pad(wave[:, 0], (0, -length % (low // 2)))
    z = torch.stft(padded, n_fft, low // 2, low, torch.hann_window(low), normalized=True, return_complex=True)[:, :-1]
    x = torch.stack([z.real, z.imag], dim=1)
    mean, std = x.mean(dim=(1, 2, 3), keepdim=True), x.std(dim=(1, 2, 3), keepdim=True)
    x = (x - mean) / (1e-5 + std)
    saved = []
    for i, stride in enumerate(STRIDES):
        name = f"encoder.{i}"
        if i == 0:
            x = apply(F.conv2d, x, f"{name}.pre_conv")
        block = f"{name}.freq_attn_block"
        squeezed = batch_normed(apply(F.conv2d, x, f"{block}.conv1.0"), f"{block}.conv1.1")
        B, _, _, T = squeezed.shape
        gate = batch_normed(
            apply(F.conv1d, squeezed.reshape(B, -1, T), f"{block}.conv1d.0", padding=4), f"{block}.conv1d.1"
        )
        mixed = torch.einsum("gf,bcft->bcgt", state[f"{block}.freq_fc.weight"], x * gate[:, :, None])
        x = batch_normed(apply(F.conv2d, torch.cat([mixed, x], dim=1), f"{block}.conv2.0"), f"{block}.conv2.1")
        x = apply(F.conv2d, x, f"{name}.conv", stride=(stride, 1), padding=((8 - stride) // 2, 0))
        x = F.gelu(normed(x, f"{name}.norm1", 4))
        for j in (0, 1):
            layer, rows = f"{name}.dconv.layers.{j}", []
            for f in range(x.shape[2]):  # each bin by itself
                y = apply(F.conv1d, x[:, :, f], f"{layer}.conv1.0", padding=2**j, dilation=2**j)
                y = normed(y, f"{layer}.conv1.1", 1)
                a = state[f"{layer}.act.a"][f]
                y = y + (a * y).sin() ** 2 / a
                y = F.glu(normed(apply(F.conv1d, y, f"{layer}.conv2.0"), f"{layer}.conv2.1", 1), dim=1)
                rows.append(x[:, :, f] + state[f"{layer}.conv2.3.scale"][:, None] * y)
            x = torch.stack(rows, dim=2)
        x = F.glu(normed(apply(F.conv2d, x, f"{name}.rewrite"), f"{name}.norm2", 4), dim=1)
        if i == 0:
            x = x + 0.2 * 10 * state["freq_emb.embedding.weight"].T[None, :, :, None]
        saved.append(x)
    x = torch.zeros_like(x)
    for i, stride in enumerate(STRIDES[::-1]):
        name = f"decoder.{i}"
        x = apply(F.conv2d, torch.cat([x, saved.pop()], dim=1), f"{name}.rewrite", padding=1)
        x = F.glu(normed(x, f"{name}.norm1", 4), dim=1)
        x = normed(apply(F.conv_transpose2d, x, f"{name}.conv_tr", stride=(stride, 1)), f"{name}.norm2", 4)
        crop = (8 - stride) // 2
        x = x[:, :, crop:-crop]
        x = F.gelu(x) if i < 3 else x
    x = F.pad(x * std + mean, (0, 0, 0, 1))
    spectrum = torch.complex(x[:, 0], x[:, 1])
    made = torch.istft(spectrum, n_fft, n_fft // 2, n_fft, torch.hann_window(n_fft), normalized=True)
    return made[:, None, : 4 * length]
