"""What AEROMamba's stage feeds its network, what its losses hear, and where its weights go."""

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from latentsr.config import load
from latentsr.data.dataset import Batch
from latentsr.models.aeromamba import AeroMamba
from latentsr.training.adversarial import features_for_generator
from latentsr.training.aeromamba import AeroMambaStage, AeroMambaStageConfig, resample
from latentsr.training.draws import Draws
from latentsr.training.losses import RESOLUTIONS
from latentsr.training.optimizers import learning_rate_factor

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "configs/tiny/aeromamba.yaml"
RATE = 48_000


def batch(count=2, seconds=0.4, bandwidth_hz=24_000.0):
    wide = 0.1 * torch.randn(count, 1, round(seconds * RATE), generator=torch.Generator().manual_seed(0))
    return Batch(wide, torch.full((count,), bandwidth_hz), ["music"] * count, torch.zeros(count), torch.zeros(count))


def stage(*overrides):
    torch.manual_seed(0)
    return AeroMambaStage(load(AeroMambaStageConfig, TINY, overrides))


def generator():
    return torch.Generator().manual_seed(0)


def draws(count=2):
    return Draws(0, 0, 0, count)


def tone(hz, samples, rate):
    return torch.sin(2 * torch.pi * hz * torch.arange(samples, dtype=torch.float64) / rate).float()[None, None]


@pytest.mark.parametrize("new_rate", [44_100, 11_025])
def test_a_tone_stays_where_it_is_in_frequency_time_and_level(new_rate):
    made = resample(tone(3000, 23_040, RATE), RATE, new_rate)
    expected = tone(3000, round(0.48 * new_rate), new_rate)
    assert made.shape == expected.shape
    middle = slice(new_rate // 20, -new_rate // 20)
    assert_close(made[..., middle], expected[..., middle], rtol=0, atol=2e-3)
    assert_close(made, expected, rtol=0, atol=0.2)  # the extension bends at the ends


def test_what_the_lower_rate_cannot_hold_is_gone_and_does_not_fold():
    made = resample(tone(7000, 23_040, RATE), RATE, 11_025)
    assert float(made[..., 600:-600].abs().max()) < 2e-3


def test_the_truth_is_exactly_four_times_as_long_and_holds_the_input():
    made = stage()
    for seconds in (0.4, 0.41, 0.4003):  # whole and odd numbers of samples
        inputs = made.prepare(batch(seconds=seconds), draws())
        assert inputs.wide.shape[-1] == 4 * inputs.low.shape[-1] == round(seconds * RATE) // 160 * 147 // 4 * 4
        again = resample(inputs.wide, 44_100, 11_025)
        assert_close(again, inputs.low, rtol=0, atol=1e-6)


def test_above_a_recordings_own_band_neither_side_is_heard():
    made = stage()
    inputs = made.prepare(batch(bandwidth_hz=12_000.0), draws())
    made.aeromamba.forward = lambda low: torch.randn(2, 1, inputs.wide.shape[-1], generator=generator())
    for wave in (inputs.wide, made._generate(inputs)):
        power = torch.fft.rfft(wave * torch.hann_window(wave.shape[-1])).abs().square().mean((0, 1))
        hz = torch.linspace(0, 22_050, len(power))
        assert float(power[hz > 12_500].sum() / power[hz < 12_000].sum()) < 1e-6


def test_every_loss_is_weighted_and_finite_and_each_phase_trains_its_own():
    made = stage()
    inputs = made.prepare(batch(), draws())
    losses = made.losses("generator", inputs, 0, draws())
    assert losses.keys() == made.config.loss_weights.keys() - {"discriminator"}
    total = made.total(losses)
    assert torch.isfinite(total)
    total.backward()
    assert all(p.grad is None for p in made.discriminators.parameters())
    assert all(p.grad is not None for p in made.aeromamba.parameters())
    made.zero_grad(set_to_none=True)
    made.total(made.losses("discriminator", inputs, 0, draws())).backward()
    assert all(p.grad is None for p in made.aeromamba.parameters())
    assert all(p.grad is not None for p in made.discriminators.parameters())


def test_a_step_runs_the_network_once():
    """The discriminators hear what the losses heard, and batch normalisation counts a batch once."""
    made = stage().train()
    inputs = made.prepare(batch(), draws())
    for phase in made.active_phases(0):
        made.losses(phase, inputs, 0, draws())
    counts = [v for k, v in made.aeromamba.state_dict().items() if k.endswith("num_batches_tracked")]
    assert len(counts) == 12 and all(int(v) == 1 for v in counts)


@pytest.mark.parametrize("place", ["dead", "time", "bottleneck"])
def test_mamba_is_trained_where_it_runs_and_nowhere_else(place):
    made = stage(f"model.mamba={place}")
    made.total(made.losses("generator", made.prepare(batch(1), draws(1)), 0, draws(1))).backward()
    gradients = [p.grad for name, p in made.aeromamba.named_parameters() if ".mamba." in name]
    assert len(gradients) > 0 and all((g is None) == (place == "dead") for g in gradients)


def test_one_batch_is_learned():
    """Against the discriminators, which learn too: the spectral losses fall to half."""
    made = stage("model.mamba=dead").train()
    inputs = made.prepare(batch(1, 0.1), draws(1))
    optimizers = {
        phase: torch.optim.Adam([p for n in made.networks(phase) for p in n.parameters()], lr=3e-3)
        for phase in made.phases
    }
    spectral = []
    for _ in range(20):
        for phase, optimizer in optimizers.items():
            losses = made.losses(phase, inputs, 0, draws(1))
            optimizer.zero_grad()
            made.total(losses).backward()
            optimizer.step()
            if phase == "generator":
                spectral.append(float((losses["convergence"] + losses["log_magnitude"]).detach()))
    assert spectral[-1] < 0.5 * spectral[0]


def test_frozen_features_leave_no_trace_on_the_discriminators():
    parts = stage().discriminators
    fake = torch.randn(1, 1, 8000, generator=generator()).requires_grad_(True)
    real, made = features_for_generator(parts, fake.detach(), fake)
    made[0][-1].sum().backward()
    assert float(fake.grad.abs().sum()) > 0
    assert all(p.grad is None and p.requires_grad for p in parts.parameters())
    assert_close(real, [[m.detach() for m in maps] for maps in made], rtol=0, atol=0)


def test_exported_weights_start_a_run_and_so_does_a_checkpoint_of_the_authors(tmp_path):
    made = stage()
    with torch.no_grad():
        made.aeromamba.embedding.add_(1)
        next(iter(made.discriminators.parameters())).add_(1)
    made.export(tmp_path)
    again = stage(f"initial_weights={tmp_path}")
    assert_close(again.aeromamba.state_dict(), made.aeromamba.state_dict(), rtol=0, atol=0)
    assert_close(again.discriminators.state_dict(), made.discriminators.state_dict(), rtol=0, atol=1e-2)
    assert all(p.requires_grad for p in again.parameters())

    torch.save(made.aeromamba.state_dict(), tmp_path / "checkpoint.th")
    theirs = stage(f"initial_weights={tmp_path / 'checkpoint.th'}", "model.mamba=dead")
    assert_close(theirs.aeromamba.state_dict(), made.aeromamba.state_dict(), rtol=0, atol=0)
    assert all(p.requires_grad for p in theirs.parameters())
    with pytest.raises(OSError, match="nowhere"):
        stage("initial_weights=nowhere")


def test_validation_is_at_the_outputs_rate():
    shown = stage().eval().validate(batch(bandwidth_hz=20_000.0), draws())
    assert shown.sample_rate == 44_100
    assert {len(wave) for wave in shown.waves.values()} == {17_640}
    assert shown.metrics.keys() == {"lsd", "lsd_hf", "hf_energy_db"}
    assert all(torch.isfinite(torch.tensor(list(shown.metrics.values()))))


def test_the_recipe_is_the_papers():
    config = load(AeroMambaStageConfig, ROOT / "configs/vocoder/aeromamba.yaml")
    assert config.resolutions == RESOLUTIONS
    assert {learning_rate_factor(config.optimizer, step, config.steps) for step in (0, 500_000, 999_999)} == {1.0}
    assert config.samples * 147 // 160 == 4 * 44_100
    with torch.device("meta"):
        assert sum(p.numel() for p in AeroMamba(**config.model).parameters()) == 20_964_190
