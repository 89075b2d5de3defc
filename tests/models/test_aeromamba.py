"""AEROMamba against the figures of the original, and its three places for Mamba."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from latentsr.models.aero_layers import MambaPlace, ResidualLayer, Snake
from latentsr.models.aeromamba import AeroMamba
from latentsr.models.ssm import Mamba
from latentsr.training.losses import spectral_losses

TINY: dict[str, Any] = {"channels": 8, "n_fft": 128, "hop_length": 64}
PLACES = get_args(MambaPlace)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("place", ["dead", "time"])
def test_parameters_are_those_of_the_original_part_by_part(place: MambaPlace) -> None:
    with torch.device("meta"):
        network = AeroMamba(place)
    assert count(network) == 20_964_190
    assert [count(level) for level in network.encoder] == [692_967, 363_951, 909_983, 3_335_511]
    assert [count(level) for level in network.decoder] == [11_801_664, 2_951_712, 737_712, 167_618]
    assert network.embedding.numel() == 3_072
    assert sum(count(level.attention) for level in network.encoder) == 1_005_052
    assert sum(count(level.residual) for level in network.encoder) == 3_107_344
    assert sum(count(m) for m in network.modules() if isinstance(m, Mamba)) == 2_606_400
    stored = sum(x.numel() for x in network.state_dict().values())
    assert stored - count(network) == 1_588  # of batch normalisation


def test_what_trains_is_what_the_original_trains() -> None:
    network = AeroMamba("dead")
    network(torch.randn(1, 1, 320, generator=torch.Generator().manual_seed(0))).square().sum().backward()
    without = {name: p for name, p in network.named_parameters() if p.grad is None}
    assert sum(p.numel() for p in without.values()) == 2_606_400
    assert all(".mamba." in name for name in without)
    zeros_for = network.decoder[0].rewrite.weight.grad
    assert zeros_for is not None
    # The half that would see the zeros of the deepest level.
    assert [int(half.count_nonzero()) > 0 for half in zeros_for.chunk(2, dim=1)] == [False, True]
    assert zeros_for.chunk(2, dim=1)[0].numel() == 5_308_416


@pytest.mark.parametrize("place", ["time", "bottleneck"])
def test_a_mamba_that_runs_gets_gradients_everywhere(place: MambaPlace) -> None:
    network = AeroMamba(place, **TINY)
    network(torch.randn(2, 1, 640, generator=torch.Generator().manual_seed(0))).square().sum().backward()
    gradients = {n: p.grad for n, p in network.named_parameters() if ".mamba." in n}
    assert len(gradients) == 4 * 2 * 9
    assert [n for n, g in gradients.items() if g is None or not g.any()] == []


@pytest.mark.parametrize("place", PLACES)
def test_a_residual_layer_starts_near_the_identity(place: MambaPlace) -> None:
    layer = ResidualLayer(16, 4, bins=2, dilation=1, place=place)
    x = torch.randn(4, 16, 50, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert float((layer(x) - x).norm() / x.norm()) < 3e-3


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("length", [1, 15, 16, 63, 64, 65, 700])
def test_any_length_comes_back_four_times_as_long(place: MambaPlace, length: int) -> None:
    network = AeroMamba(place, **TINY).eval()
    with torch.no_grad():
        made = network(torch.randn(2, 1, length, generator=torch.Generator().manual_seed(length)))
    assert made.shape == (2, 1, 4 * length)
    assert bool(made.isfinite().all())


def test_louder_input_is_louder_output_and_silence_stays_silence() -> None:
    network = AeroMamba(**TINY).eval()
    wave = torch.randn(1, 1, 700, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(network(wave * 0.1), network(wave) * 0.1, rtol=1e-2, atol=1e-3)
        assert not network(torch.zeros(1, 1, 700)).any()


def test_the_two_transforms_line_up_in_time_and_each_bin_is_a_fraction_of_its_own_rate() -> None:
    network = AeroMamba()
    for fraction in (0.1, 0.3):  # of half the rate
        low = torch.sin(math.pi * fraction * torch.arange(4096))[None, None]
        high = torch.sin(math.pi * fraction * torch.arange(4 * 4096))[None, None]
        parts = network._analyse(low)
        assert parts.shape == (1, 2, 256, 65)
        # The same bin at a four times higher rate is a four times higher pitch, to the width of a bin.
        made = network._synthesise(parts / 128 * 512)
        torch.testing.assert_close(_pitch(made), _pitch(high), rtol=0, atol=1 / 512)
    click = torch.zeros(1, 1, 4096)
    click[..., 1024] = 1
    assert int(network._synthesise(network._analyse(click)).abs().argmax()) == pytest.approx(4096, abs=2)


def test_snake_is_the_formula_and_survives_a_zero() -> None:
    snake = Snake(3)
    x = torch.randn(6, 2, 5, generator=torch.Generator().manual_seed(0))
    a = snake.a.detach().repeat(2)[:, None, None]
    torch.testing.assert_close(snake(x), x + (a * x).sin() ** 2 / a)
    with torch.no_grad():
        snake.a.zero_()
    snake(x).sum().backward()
    assert snake.a.grad is not None and bool(snake.a.grad.isfinite().all())
    torch.testing.assert_close(snake(x), x)


@pytest.mark.parametrize("place", PLACES)
def test_a_saved_network_comes_back_whole(place: MambaPlace, tmp_path: Path) -> None:
    network = AeroMamba(place, **TINY).eval()
    network.save_pretrained(tmp_path)
    again = AeroMamba.from_pretrained(tmp_path).eval()
    wave = torch.randn(1, 1, 700, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(again(wave), network(wave))


def test_an_unknown_place_is_refused() -> None:
    with pytest.raises(ValueError, match="mamba is 'lstm'; it must be dead, time or bottleneck"):
        AeroMamba("lstm", **TINY)


@pytest.mark.parametrize("place", ["dead", "time"])
def test_one_batch_is_overfitted(place: MambaPlace) -> None:
    low, high = _harmonics(11_025, 512, 5_000), _harmonics(44_100, 2048, 20_000)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = AeroMamba(place, **TINY)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    values = []
    for _ in range(15):
        losses = spectral_losses(high, network(low), (128, 512))
        loss = losses["convergence"] + losses["log_magnitude"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        values.append(loss.item())
    assert values[-1] < 0.6 * values[0]


def _harmonics(rate: int, samples: int, limit_hz: float) -> Tensor:
    """A decaying tone with all its overtones below `limit_hz`: (1, 1, samples)."""
    t = torch.arange(samples) / rate
    overtones = range(1, int(limit_hz / 440) + 1)
    wave = torch.stack([torch.sin(2 * math.pi * 440 * k * t) / k for k in overtones]).sum(dim=0)
    return (0.3 * wave * torch.exp(-10 * t))[None, None]


def _pitch(wave: Tensor) -> Tensor:
    """Strongest frequency, fraction of the rate."""
    return torch.fft.rfft(wave[0, 0]).abs().argmax() / wave.shape[-1]
