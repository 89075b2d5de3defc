"""Checkpoints are whole or not there."""

import json
import os
import shutil
import signal
import time

import pytest
import torch
from torch.testing import assert_close

from latentsr.training import checkpoint
from latentsr.training.optimizers import learning_rate_factor
from latentsr.training.stage import OptimizerConfig


def tensors(value):
    return {"model.a": {"w": torch.full((4, 4), float(value))}}


def test_round_trip_and_rotation(tmp_path):
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, step, tensors(step), {"seconds": step})
        checkpoint.rotate(tmp_path, keep=2)
    assert [p.name for p in checkpoint.checkpoints(tmp_path)] == ["step-00000002", "step-00000003"]
    path, manifest = checkpoint.newest_valid(tmp_path)
    assert manifest["step"] == 3 and manifest["seconds"] == 3
    assert_close(checkpoint.load(path)["model.a"]["w"], torch.full((4, 4), 3.0))


def test_a_half_written_checkpoint_is_not_one_and_is_cleared_away(tmp_path):
    checkpoint.save(tmp_path, 1, tensors(1), {})
    partial = tmp_path / ".partial-step-00000002"
    partial.mkdir()
    (partial / "model.a.safetensors").write_bytes(b"half")
    assert checkpoint.newest_valid(tmp_path)[1]["step"] == 1
    checkpoint.rotate(tmp_path, keep=2)
    assert not partial.exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kill_9_in_the_midst_of_a_save_keeps_the_one_before(tmp_path):
    """A child saves one checkpoint after another; it is killed while a partial one is there, eight times."""
    values = [{"model.a": {"w": torch.full((500_000,), float(step))}} for step in range(40)]
    interrupted = 0
    for _ in range(8):
        child = os.fork()
        if child == 0:
            for step, tensors in enumerate(values, 1):
                checkpoint.save(tmp_path, step, tensors, {"seconds": 0.0, "config": {}})
            os._exit(0)
        deadline = time.monotonic() + 30
        while not (checkpoint.checkpoints(tmp_path) and any(tmp_path.glob(".partial-*"))):
            assert time.monotonic() < deadline
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        interrupted += any(tmp_path.glob(".partial-*"))
        path, manifest = checkpoint.newest_valid(tmp_path)
        assert_close(
            checkpoint.load(path)["model.a"]["w"], values[manifest["step"] - 1]["model.a"]["w"], rtol=0, atol=0
        )
        checkpoint.rotate(tmp_path, keep=2)
        assert not any(tmp_path.glob(".partial-*"))
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()
    assert interrupted >= 4


@pytest.mark.parametrize("damage", ["flip", "cut", "delete"])
def test_damage_is_noticed(tmp_path, capsys, damage):
    checkpoint.save(tmp_path, 1, tensors(1), {})
    file = checkpoint.save(tmp_path, 2, tensors(2), {}) / "model.a.safetensors"
    data = bytearray(file.read_bytes())
    if damage == "delete":
        file.unlink()
    else:
        data[-1] ^= 1
        file.write_bytes(data if damage == "flip" else data[:-8])
    assert checkpoint.newest_valid(tmp_path)[1]["step"] == 1
    assert "is damaged" in capsys.readouterr().out


def test_optimizer_state_goes_through_flat_tensors():
    network = torch.nn.Linear(3, 2)
    one = torch.optim.AdamW(network.parameters())
    network(torch.ones(1, 3)).sum().backward()
    one.step()
    other = torch.optim.AdamW(network.parameters())
    checkpoint.load_optimizer(other, checkpoint.optimizer_tensors(one))
    for a, b in zip(one.state_dict()["state"].values(), other.state_dict()["state"].values(), strict=True):
        for key in a:
            assert_close(b[key], a[key])


def test_manifest_says_what_it_covers(tmp_path):
    path = checkpoint.save(tmp_path, 7, tensors(1), {"config": {"seed": 0}})
    manifest = json.loads((path / "manifest.json").read_text())
    assert set(manifest["sha256"]) == {"model.a.safetensors"} and manifest["config"] == {"seed": 0}


def test_learning_rate_warms_up_and_ends_at_its_final_share():
    config = OptimizerConfig(warmup_steps=10, final_rate=0.1)
    assert learning_rate_factor(config, 0, 1000) == pytest.approx(0.1, rel=0.01)
    assert learning_rate_factor(config, 1000, 1000) == pytest.approx(0.1)
    assert max(learning_rate_factor(config, s, 1000) for s in range(1000)) > 0.99
