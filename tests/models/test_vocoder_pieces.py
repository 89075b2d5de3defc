"""The HiFi-GAN vocoder in pieces makes the wave of its own forward pass, and looks no further than it says."""

import pytest
import torch
from torch.testing import assert_close

from latentsr.models import hifigan as module
from latentsr.models.fastconv import speed_up
from latentsr.models.hifigan import context_frames, hifigan, vocode, whole_wave

AUDIOSR = dict(upsample_rates=(6, 5, 4, 2, 2), upsample_kernels=(12, 10, 8, 4, 4))
LATER = dict(upsample_rates=(6, 5, 4, 4), upsample_kernels=(12, 15, 7, 8))  # its odd level is the third
NONE_ODD = dict(upsample_rates=(6, 10, 8), upsample_kernels=(12, 20, 16))
PIECE = 300  # samples of the level where pieces begin; AudioSR's has 30 a frame


def vocoder(channels=32, n_mels=16, **sizes):
    """Random weights large enough that every tap can be heard at the end."""
    torch.manual_seed(0)
    network = hifigan(channels, n_mels, **{**AUDIOSR, **sizes}).eval()
    for parameter in network.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.8 / (parameter[0].numel() ** 0.5))
    return network


def error(made, wanted):
    assert made.shape == wanted.shape
    return float((made - wanted).abs().max() / wanted.abs().max())


@pytest.fixture(scope="module")
def network():
    return vocoder()


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 9, 10, 11, 20, 21, 37, 60])
def test_pieces_equal_the_whole(monkeypatch, network, frames):
    """Lengths around the ends of pieces, which are 10 frames long here."""
    monkeypatch.setattr(module, "PIECE", PIECE)
    mel = torch.randn(2, 1, frames, 16)
    made = whole_wave(network, mel)
    assert made.shape == (2, frames * 480 + 16)
    assert error(made, network(mel[:, 0])) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("frames", [63, 64, 65, 129])
def test_pieces_of_their_own_length_equal_the_whole(frames):
    network = vocoder(channels=32)
    mel = torch.randn(1, 1, frames, 16)
    assert module.PIECE == 64 * 30
    assert error(whole_wave(network, mel), network(mel[:, 0])) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("sizes,extra", [(LATER, 4), (NONE_ODD, 0)], ids=["a later odd level", "no odd level"])
def test_other_rates(monkeypatch, sizes, extra):
    monkeypatch.setattr(module, "PIECE", 20)
    network = vocoder(**sizes)
    mel = torch.randn(1, 1, 47, 16)
    made = whole_wave(network, mel)
    assert made.shape == (1, 47 * 480 + extra)
    assert error(made, network(mel[:, 0])) < 1e-5


@torch.no_grad()
def test_blocks_that_differ_in_dilation(monkeypatch):
    """Every residual block counts for the context, not only the first."""
    monkeypatch.setattr(module, "PIECE", 60)
    network = vocoder(resblock_kernels=(3, 5))
    network.config.resblock_dilation_sizes = [[1, 3, 5], [1, 6, 12]]
    wide = type(network)(network.config).eval()
    wide.load_state_dict(network.state_dict())
    mel = torch.randn(1, 1, 30, 16)
    assert error(whole_wave(wide, mel), wide(mel[:, 0])) < 1e-5


@torch.no_grad()
def test_normalisation_of_the_mel_is_not_forgotten(network):
    """transformers' own checkpoints have it; ours and AudioSR's do not."""
    normalising = vocoder()
    normalising.config.normalize_before = True
    normalising.mean.fill_(-2.0)
    normalising.scale.fill_(3.0)
    mel = torch.randn(1, 1, 20, 16)
    assert error(whole_wave(normalising, mel), normalising(mel[:, 0])) < 1e-5
    assert error(whole_wave(normalising, mel), network(mel[:, 0])) > 0.1


@torch.no_grad()
def test_fast_convolutions_in_pieces(monkeypatch):
    monkeypatch.setattr(module, "PIECE", 1500)
    network = vocoder(channels=96)
    mel = torch.randn(1, 1, 70, 16)
    wanted = network(mel[:, 0])
    assert error(whole_wave(speed_up(network), mel), wanted) < 1e-5


def test_gradients_take_the_librarys_forward_pass(network):
    mel = torch.randn(1, 1, 12, 16, requires_grad=True)
    made = whole_wave(network, mel)
    assert torch.equal(made, network(mel[:, 0]))
    made.sum().backward()
    assert mel.grad.abs().sum() > 0


@torch.no_grad()
def test_vocode_trims_to_the_hop(network):
    mel = torch.randn(1, 1, 12, 16)
    assert torch.equal(vocode(network, mel)[:, 0], whole_wave(network, mel)[:, : 12 * 480])


@torch.no_grad()
@pytest.mark.parametrize("sizes", [{}, LATER, NONE_ODD, dict(resblock_kernels=(3,), resblock_dilations=(1, 2))])
def test_the_context_is_enough_and_not_twice_too_much(sizes):
    """A mel changed outside of the context leaves the wave as it is, on both sides; one inside does not."""
    network = vocoder(**sizes).double()
    reach = context_frames(network)
    inner, frames = 6, 6 + 2 * reach + 16
    first, last = (frames - inner) // 2, (frames + inner) // 2
    mel = torch.randn(1, 1, frames, 16, dtype=torch.float64)
    wanted = whole_wave(network, mel)[:, first * 480 : last * 480]
    for outside in (slice(0, first - reach), slice(last + reach, frames)):
        other = mel.clone()
        other[:, :, outside] += 5.0
        assert torch.equal(whole_wave(network, other)[:, first * 480 : last * 480], wanted)
    for inside in (first - reach // 2, last - 1 + reach // 2):
        other = mel.clone()
        other[:, :, inside] += 5.0
        assert (whole_wave(network, other)[:, first * 480 : last * 480] - wanted).abs().max() > 0


@torch.no_grad()
def test_a_window_with_its_context_is_the_whole(network):
    """What windows rely on: frames cut out with the context make the same wave inside."""
    reach, mel = context_frames(network), torch.randn(1, 1, 120, 16)
    whole, part = whole_wave(network, mel), whole_wave(network, mel[:, :, 50 - reach : 70 + reach])
    assert_close(part[:, reach * 480 : (reach + 20) * 480], whole[:, 50 * 480 : 70 * 480], rtol=0, atol=1e-5)
