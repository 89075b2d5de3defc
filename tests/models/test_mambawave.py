"""MambaWave: the size of every part, what reaches what."""

import math

import pytest
import torch
from torch.testing import assert_close

from latentsr.models.mambawave import MambaWave, step_waves

TINY = dict(channels=4, layers=2, state=2, step_features=8)
SAMPLES = 64


@pytest.fixture(scope="module")
def full():
    return MambaWave()


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = MambaWave(**TINY).eval().requires_grad_(False)
    torch.nn.init.normal_(network.velocity.weight)  # it starts at zero, where nothing would matter
    return network


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(0)
    wave = torch.randn(2, 1, SAMPLES, generator=generator)
    return wave, torch.tensor([3, 700]), torch.randn(2, 1, SAMPLES // 2, generator=generator)


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_the_full_size_is_that_of_the_authors(full):
    assert count(full) == 1_057_569


@pytest.mark.parametrize(
    ("part", "parameters"),
    [
        ("step", 128 * 512 + 512 + 512 * 512 + 512),
        ("noisy", 64),
        ("condition", 64),
        ("condition_norm", 64),
        ("skipped", 1_056),
        ("velocity", 33),
        ("blocks.0.step", 512 * 32 + 32),
        ("blocks.0.conv", 6_208),
        ("blocks.0.norm", 128),
        ("blocks.0.mamba", 39_168),
        ("blocks.0.mamba.in_proj", 64 * 256),
        ("blocks.0.mamba.directions", 2 * 7_296),
        ("blocks.0.mamba.out_proj", 128 * 64),
        ("blocks.0.condition", 2_112),
        ("blocks.0.out", 2_112),
    ],
)
def test_each_part_has_the_authors_size(full, part, parameters):
    assert count(full.get_submodule(part)) == parameters


def test_each_layer_is_alike_but_for_its_dilation(full):
    assert [count(layer) for layer in full.blocks] == [66_144] * 11
    assert [layer.conv.dilation[0] for layer in full.blocks] == [2**i for i in range(11)]


def test_it_starts_at_zero_velocity(inputs):
    assert (MambaWave(**TINY)(*inputs) == 0).all()


def test_every_input_counts(network, inputs):
    wave, t, half = inputs
    v = network(wave, t, half)
    others = {"noise": network(-wave, t, half), "time": network(wave, t + 1, half), "half": network(wave, t, -half)}
    for name, other in others.items():
        assert float((other - v).abs().amax(dim=(1, 2)).min()) > 1e-3, name


@pytest.mark.parametrize(("changed", "looked_at"), [(0, -1), (-1, 0)])
def test_mamba_carries_a_sample_to_the_other_end_both_ways(network, inputs, changed, looked_at):
    """The convolutions reach 3 samples; a change at one end is seen at the other."""
    wave, t, half = inputs
    other = wave.clone()
    other[..., changed] += 10.0
    assert float((network(other, t, half) - network(wave, t, half))[..., looked_at].abs().max()) > 1e-6


def test_times_have_sines_and_cosines_of_1_to_10000_radians_a_step():
    waves = step_waves(torch.tensor([0, 999]))
    assert waves.shape == (2, 128)
    assert_close(waves[0], torch.cat([torch.zeros(64), torch.ones(64)]))
    assert_close(waves[1, [0, 63]], torch.tensor([math.sin(999.0), math.sin(9_990_000.0)]), atol=1e-4, rtol=0)


def test_a_folder_gives_the_same_network_back(network, inputs, tmp_path):
    network.save_pretrained(tmp_path)
    assert_close(MambaWave.from_pretrained(tmp_path).eval()(*inputs), network(*inputs), rtol=0, atol=0)


def test_a_condition_of_another_length_is_named(network, inputs):
    wave, t, _ = inputs
    with pytest.raises(ValueError, match=r"one \(B, 1, T / 2\), got \(2, 1, 64\) and \(2, 1, 64\)"):
        network(wave, t, wave)
