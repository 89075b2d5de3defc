"""The strided wave, and the network that diffuses it."""

import pytest
import torch
from torch.testing import assert_close

from latentsr.models.diffwave_mamba import DiffWaveMamba, smooth_log_energy
from latentsr.models.mdct import MDCT

TINY = dict(bands=48, channels=8, hidden=8, condition_layers=1, layers=1, state=2)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = DiffWaveMamba(**TINY, latent_size=12).eval()
    torch.nn.init.normal_(network.velocity[1].weight)  # it starts at zero, where nothing would matter
    return network


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class TestMdct:
    def test_the_inverse_gives_the_wave_back(self):
        mdct, wave = MDCT(240), randn(2, 1, 4800)
        assert_close(mdct.inverse(mdct(wave)), wave, atol=1e-5, rtol=0)

    def test_in_float64_to_rounding(self):
        mdct, wave = MDCT(96).double(), randn(1, 1, 960).double()
        mdct.basis = MDCT(96).basis.double()
        assert float((mdct.inverse(mdct(wave)) - wave).abs().max()) < 1e-6

    def test_energy_is_kept_so_that_white_stays_white(self):
        wave = randn(1, 1, 48_000)
        coefficients = MDCT(96)(wave)
        assert float(coefficients.square().sum()) == pytest.approx(float(wave.square().sum()), rel=1e-4)
        assert_close(coefficients[0, 1:-1].square().mean(dim=0), torch.ones(96), atol=0.3, rtol=0)

    def test_a_tone_lies_in_its_band(self):
        mdct = MDCT(240)
        tone = torch.sin(2 * torch.pi * 8_030 / 48_000 * torch.arange(9600))[None, None]
        energy = mdct(tone)[0, 2:-2].square().sum(dim=0)
        assert abs(float(mdct.centres_hz(48_000)[energy.argmax()]) - 8_030) < 60
        assert float(energy[:60].sum() / energy.sum()) < 1e-3

    def test_a_length_between_frames_is_refused(self):
        with pytest.raises(ValueError, match="multiple of 240"):
            MDCT(240)(torch.zeros(1, 1, 1000))


class TestNetwork:
    def test_the_full_size_has_at_most_two_million_parameters(self):
        assert sum(p.numel() for p in DiffWaveMamba(latent_size=256).parameters()) == 1_328_864

    def test_nothing_is_made_below_nine_tenths_of_the_cutoff(self, network):
        low = randn(2, 10, 48)
        condition = network.condition(low, torch.tensor([5000.0, 10_000.0]))
        v = network(randn(2, 10, 48, seed=1), torch.tensor([10, 500]), condition)
        for row, first in ((0, 9), (1, 18)):  # bands are 500 Hz wide
            assert (v[row, :, :first] == 0).all() and (condition.scale[row, :, :first] == 0).all()
            assert (v[row, :, first:] != 0).all() and (condition.scale[row, :, first:] > 0).all()

    def test_every_input_counts(self, network):
        low, noisy, t, hz = randn(1, 10, 48), randn(1, 10, 48, seed=1), torch.tensor([500]), torch.tensor([4000.0])
        latents = randn(1, 3, 2, 4)
        condition = network.condition(low, hz, latents)
        v = network(noisy, t, condition)
        others = {
            "low": network(noisy, t, network.condition(-low, hz, latents)),
            "cutoff": network(noisy, t, network.condition(low, torch.tensor([4010.0]), latents)),
            "latents": network(noisy, t, network.condition(low, hz, -latents)),
            "no latents": network(noisy, t, network.condition(low, hz)),
            "time": network(noisy, t + 1, condition),
            "noise": network(-noisy, t, condition),
        }
        for name, other in others.items():
            assert float((other - v).detach().abs().max()) > 1e-4, name

    def test_an_example_that_is_not_told_the_latents_is_as_without(self, network):
        low, hz, latents = randn(2, 10, 48), torch.full((2,), 4000.0), randn(2, 3, 2, 4)
        some = network.condition(low, hz, latents, told=torch.tensor([True, False])).hidden
        assert_close(some[0], network.condition(low, hz, latents).hidden[0])
        assert_close(some[1], network.condition(low, hz).hidden[1])

    def test_whitened_noise_has_zero_log_energy_on_average(self):
        assert abs(float(smooth_log_energy(randn(1, 2000, 48)).mean())) < 0.02

    def test_a_folder_gives_the_same_network_back(self, network, tmp_path):
        network.save_pretrained(tmp_path)
        again = DiffWaveMamba.from_pretrained(tmp_path).eval()
        low, hz = randn(1, 10, 48), torch.tensor([4000.0])
        for name, tensor in network.state_dict().items():
            assert torch.equal(again.state_dict()[name], tensor), name
        # Products round by where in memory their factors lie, on some processors.
        assert_close(again.condition(low, hz).log_energy, network.condition(low, hz).log_energy, rtol=1e-6, atol=1e-5)

    def test_wrong_shapes_are_named(self, network):
        with pytest.raises(ValueError, match="expected coefficients"):
            network.condition(torch.zeros(1, 10, 47), torch.tensor([4000.0]))
        with pytest.raises(ValueError, match="as many cutoffs"):
            network.condition(torch.zeros(2, 10, 48), torch.tensor([4000.0]))
        with pytest.raises(ValueError, match="without latents"):
            DiffWaveMamba(**TINY).condition(torch.zeros(1, 10, 48), torch.tensor([4000.0]), torch.zeros(1, 3, 2, 4))
