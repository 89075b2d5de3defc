"""MambaWave's stage: one schedule for training and sampling, one gain for input and target."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from latentsr.config import load
from latentsr.data.dataset import Batch
from latentsr.training.draws import Draws
from latentsr.training.mambawave import MambaWaveStage, MambaWaveStageConfig, half_rate, restore

ROOT = Path(__file__).resolve().parents[2]
TINY = dict(channels=4, layers=2, state=2, step_features=8)
DEGRADE = {"cutoff_hz": (11_000.0, 12_000.0), "families": {"cheby1": 1.0}, "order": (8, 10), "effects": {"none": 1.0}}
SAMPLES = 1920


def tone(hz, samples=SAMPLES):
    return torch.sin(2 * torch.pi * hz / 48_000 * torch.arange(samples))[None, None]


def batch():
    wide = torch.cat([0.2 * tone(1000) + 0.1 * tone(15_000), 0.02 * tone(3000) + 0.01 * tone(20_000)])
    return Batch(wide, torch.full((2,), 24_000.0), ["music"] * 2, torch.zeros(2), torch.zeros(2))


def draws(seed):
    return Draws(seed, 0, 0, 2)


@pytest.fixture
def stage():
    torch.manual_seed(0)
    return MambaWaveStage(MambaWaveStageConfig(model=TINY, degrade=DEGRADE, loss_weights={"velocity": 1.0}))


class Oracle(torch.nn.Module):
    """Knows the wave, and finds the velocity of what it is given by the paper's equations."""

    def __init__(self, alpha_bar, x0):
        super().__init__()
        self.alpha_bar, self.x0 = alpha_bar, x0

    def forward(self, x, t, half):
        alpha, sigma = (a.sqrt()[:, None, None] for a in (self.alpha_bar[t], 1 - self.alpha_bar[t]))
        return alpha * (x - alpha * self.x0) / sigma - sigma * self.x0


@pytest.mark.parametrize("steps", [1, 2, 5, 20])
def test_a_network_without_error_in_training_restores_without_error(stage, steps):
    inputs = stage.prepare(batch(), draws(0))
    stage.network = Oracle(stage.scheduler.alphas_cumprod, inputs.wide)
    assert float(stage.losses("model", inputs, 0, draws(1))["velocity"]) < 1e-6
    noise = torch.randn(inputs.wide.shape, generator=torch.Generator().manual_seed(2))
    made = restore(stage.network, stage.scheduler, inputs.half, noise, steps)
    assert_close(made, inputs.wide, atol=2e-4, rtol=0)


def test_training_and_sampling_use_one_object(stage, monkeypatch):
    """Without its schedule the stage can do neither."""
    inputs = stage.prepare(batch(), draws(0))
    monkeypatch.setattr(stage, "scheduler", None)
    with pytest.raises(AttributeError):
        stage.losses("model", inputs, 0, draws(1))
    with pytest.raises(AttributeError):
        stage.validate(batch(), draws(1))


def test_the_noisiest_time_holds_no_signal_and_the_first_hardly_any_noise(stage):
    """The released code had at most 0.07 of the signal at every time, and more of it at the later ones."""
    signal = stage.scheduler.alphas_cumprod.sqrt()
    assert float(signal[-1]) == 0.0 and float(signal[0]) > 0.99
    assert (signal.diff() < 0).all()


def test_input_and_target_have_one_gain_and_no_offset(stage):
    given = batch()
    inputs = stage.prepare(given, draws(0))
    assert_close(inputs.wide / inputs.gain, given.wide)
    assert 0.9 < float(inputs.half.abs().max()) < 1.1
    middle, kept = slice(200, -200), tone(1000)[..., ::2]  # a lone tone stands at its own cutoff, which turns it down
    alike = torch.cosine_similarity(inputs.half[0, 0, middle], kept[0, 0, middle], dim=0)
    assert float(alike) > 0.999
    assert_close(inputs.gain[1, 0, 0] / inputs.gain[0, 0, 0], torch.tensor(10.0), atol=2.5, rtol=0)


def test_silence_is_not_blown_up(stage):
    silent = Batch(torch.zeros(1, 1, SAMPLES), torch.tensor([24_000.0]), ["music"], torch.zeros(1), torch.zeros(1))
    assert float(stage.prepare(silent, Draws(0, 0, 0, 1)).gain) == pytest.approx(1000.0)


def test_the_condition_is_every_second_sample_and_nothing_folds():
    low, high = tone(5_000, 9600), tone(13_000, 9600)
    middle = slice(400, -400)
    assert_close(half_rate(low, 48_000)[..., middle], low[..., ::2][..., middle], atol=1e-3, rtol=0)
    assert float(half_rate(high, 48_000)[..., middle].abs().max()) < 1e-3


def test_one_batch_is_learnt(stage):
    inputs = stage.prepare(batch(), draws(0))
    inputs = replace(inputs, wide=inputs.wide[..., :480], half=inputs.half[..., :240])
    optimizer = torch.optim.Adam(stage.network.parameters(), lr=2e-2)
    losses = []
    for _ in range(50):
        loss = stage.total(stage.losses("model", inputs, 0, draws(1)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]


def test_validation_shows_the_wave_before_and_after_the_merge(stage):
    figures = stage.eval().validate(batch(), draws(0)).metrics
    assert {"lsd_input", "lsd_made", "lsd_merged", "lsd_lf_merged"} <= figures.keys()
    assert figures["lsd_lf_merged"] < figures["lsd_lf_made"]


def test_the_config_in_the_repository_is_the_authors_size():
    config = load(MambaWaveStageConfig, ROOT / "configs/vocoder/mambawave.yaml")
    assert sum(p.numel() for p in MambaWaveStage(config).network.parameters()) == 1_057_569
    assert config.loss_weights.keys() == {"velocity"}


def test_a_run_goes_on_from_exported_weights(stage, tmp_path):
    stage.export(tmp_path)
    again = MambaWaveStage(MambaWaveStageConfig(initial_weights=str(tmp_path), loss_weights={"velocity": 1.0}))
    for one, other in zip(again.network.parameters(), stage.network.parameters(), strict=True):
        assert_close(one, other, rtol=0, atol=0)
