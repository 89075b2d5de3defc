"""Convolutions by fewer multiplications make what the library's make, and step aside wherever they do not apply."""

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from latentsr.models import fastconv
from latentsr.models.fastconv import FastConv1d, FastConv2d, fourier, ordinary_convolutions, speed_up, toom_cook
from latentsr.models.hifigan import hifigan
from latentsr.models.vae import MelAutoencoderKL


def error(made, wanted):
    """Largest difference, relative to the largest output."""
    assert made.shape == wanted.shape
    return float((made.float() - wanted).abs().max() / wanted.abs().max())


def conv1d(channels=(48, 48), taps=3, dilation=1, bias=True, seed=0, **others):
    torch.manual_seed(seed)
    others = {"padding": taps // 2 * dilation, **others}
    return speed_up(nn.Conv1d(*channels, taps, dilation=dilation, bias=bias, **others))


def conv2d(channels=(48, 48), taps=3, bias=True, seed=0, **others):
    torch.manual_seed(seed)
    return speed_up(nn.Conv2d(*channels, taps, bias=bias, **{"padding": taps // 2, **others}))


def library(conv, x):
    """The plain convolution with the same weights."""
    call = F.conv1d if isinstance(conv, nn.Conv1d) else F.conv2d
    weight = conv.weight.detach().contiguous()
    return call(x, weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups)


@pytest.fixture
def counted(monkeypatch):
    """How often the tiled algorithms ran."""
    calls = []
    for name in ("_correlate", "_correlate_2d"):
        whole = getattr(fastconv, name)
        monkeypatch.setattr(fastconv, name, lambda *a, whole=whole, name=name: calls.append(name) or whole(*a))
    return calls


# --- one dimension ----------------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("dilation", [1, 3, 5])
@pytest.mark.parametrize("taps", [3, 7, 11, 15, 17])
def test_1d_equals_the_library(counted, taps, dilation):
    conv = conv1d((48, 56), taps, dilation)
    x = torch.randn(2, 48, 1531)  # a prime: no multiple of any tile
    assert error(conv(x), library(conv, x)) < 5e-6
    assert counted == ["_correlate"] * 2


@torch.no_grad()
@pytest.mark.parametrize("samples", [1024, 1025, 1040, 1087, 5200])
@pytest.mark.parametrize("taps,dilation", [(3, 1), (11, 5)])
def test_1d_at_lengths_around_tiles_and_blocks(samples, taps, dilation):
    conv = conv1d(taps=taps, dilation=dilation)
    x = torch.randn(1, 48, samples)
    assert error(conv(x), library(conv, x)) < 5e-6


@torch.no_grad()
@pytest.mark.parametrize("batch,bias,channels", [(1, False, (48, 96)), (3, True, (96, 48)), (2, False, (130, 65))])
def test_1d_batches_biases_and_channels(batch, bias, channels):
    conv = conv1d(channels, taps=7, dilation=3, bias=bias)
    x = torch.randn(batch, channels[0], 1100)
    assert error(conv(x), library(conv, x)) < 5e-6


@torch.no_grad()
@pytest.mark.parametrize("rows", [1, 5, 16])
@pytest.mark.parametrize("taps", [3, 7, 15])
def test_1d_with_more_weights_than_the_cache_holds(monkeypatch, counted, taps, rows):
    monkeypatch.setattr(fastconv, "CACHED_BYTES", rows * 64 * 48 * 4)  # rows of G at a time
    conv = conv1d((64, 48), taps, dilation=3)
    x = torch.randn(2, 64, 1300)
    assert error(conv(x), library(conv, x)) < 5e-6
    assert counted == ["_correlate"] * 2


@torch.no_grad()
@pytest.mark.parametrize("cached", [None, 5 * 48 * 48 * 2])
@pytest.mark.parametrize("dilation", [1, 5])
@pytest.mark.parametrize("taps", [7, 11, 15])
def test_1d_in_bf16_is_within_three_times_the_ordinary_error(monkeypatch, counted, taps, dilation, cached):
    if cached is not None:
        monkeypatch.setattr(fastconv, "CACHED_BYTES", cached)
    conv = conv1d(taps=taps, dilation=dilation).bfloat16()
    x = torch.randn(1, 48, 1531).bfloat16()
    exact = library(copy.deepcopy(conv).float(), x.float())
    assert error(conv(x), exact) < 3 * error(library(conv, x), exact)
    assert counted == ["_correlate"]


@torch.no_grad()
def test_1d_input_of_any_memory_layout():
    conv = conv1d(taps=7)
    x = torch.randn(2, 1200, 48).transpose(1, 2)
    assert error(conv(x), library(conv, x)) < 5e-6
    assert error(conv(x[..., ::1][..., 100:]), library(conv, x[..., 100:])) < 5e-6


# --- two dimensions ---------------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 32), (63, 33), (5, 97), (130, 1), (1, 130), (2, 51), (101, 50)])
@pytest.mark.parametrize("batch,bias,channels", [(1, True, (48, 48)), (3, False, (50, 48))])
def test_2d_equals_the_library(counted, batch, bias, channels, size):
    conv = conv2d(channels, bias=bias)
    x = torch.randn(batch, channels[0], *size)
    assert error(conv(x), library(conv, x)) < 1e-5
    assert counted == ["_correlate_2d"] * batch


@torch.no_grad()
@pytest.mark.parametrize("rows", [1, 7, 36])
def test_2d_with_more_weights_than_the_cache_holds(monkeypatch, counted, rows):
    monkeypatch.setattr(fastconv, "CACHED_BYTES", rows * 48 * 64 * 4)
    conv = conv2d((48, 64))
    x = torch.randn(1, 48, 41, 39)
    assert error(conv(x), library(conv, x)) < 1e-5
    assert counted == ["_correlate_2d"]


@torch.no_grad()
@pytest.mark.parametrize("rows_of_tiles", [1, 3, 4])
@pytest.mark.parametrize("height", [31, 32, 33])
def test_2d_in_blocks_of_rows(monkeypatch, height, rows_of_tiles):
    block = rows_of_tiles * 36 * 8 * 96 * 4
    monkeypatch.setattr(fastconv, "BLOCK_BYTES_2D", block)
    conv = conv2d()
    x = torch.randn(1, 48, height, 31)
    assert error(conv(x), library(conv, x)) < 1e-5


# --- where the library's own must serve -------------------------------------------------------------------------------

ORDINARY_1D = {
    "few channels": dict(channels=(47, 48)),
    "few outputs": dict(channels=(48, 2)),
    "stride": dict(stride=2),
    "groups": dict(groups=2),
    "reflection": dict(padding_mode="reflect"),
    "no padding": dict(padding=0),
    "padding by name": dict(padding="same"),
    "an even kernel": dict(taps=4),
    "one tap": dict(taps=1),
}


def plain_copy(conv):
    """The library's own module with the same weights."""
    plain = copy.deepcopy(conv)
    plain.__class__ = nn.Conv1d if isinstance(conv, nn.Conv1d) else nn.Conv2d
    return plain


@torch.no_grad()
@pytest.mark.parametrize("sizes", ORDINARY_1D.values(), ids=ORDINARY_1D)
def test_1d_steps_aside(counted, sizes):
    conv = conv1d(**sizes)
    x = torch.randn(1, conv.in_channels, 1100)
    assert torch.equal(conv(x), plain_copy(conv)(x))
    assert counted == []


ORDINARY_2D = {
    "few channels": dict(channels=(48, 40)),
    "5 x 5": dict(taps=5),
    "stride": dict(stride=2),
    "dilation": dict(dilation=2, padding=2),
    "groups": dict(groups=2),
    "reflection": dict(padding_mode="reflect"),
    "no padding": dict(padding=0),
}


@torch.no_grad()
@pytest.mark.parametrize("sizes", ORDINARY_2D.values(), ids=ORDINARY_2D)
def test_2d_steps_aside(counted, sizes):
    conv = conv2d(**sizes)
    x = torch.randn(1, conv.in_channels, 32, 32)
    assert torch.equal(conv(x), plain_copy(conv)(x))
    assert counted == []


@pytest.mark.parametrize(
    "conv,x",
    [
        (conv1d(), torch.randn(1, 48, 1023)),
        (conv1d().bfloat16(), torch.randn(1, 48, 1100).bfloat16()),
        (conv1d(taps=7).double(), torch.randn(1, 48, 1100).double()),
        (conv1d(taps=7), torch.randn(48, 1100)),
        (conv1d(taps=7), torch.randn(0, 48, 1100)),
        (conv2d(), torch.randn(1, 48, 9, 10)),
        (conv2d().bfloat16(), torch.randn(1, 48, 32, 32).bfloat16()),
        (conv2d(), torch.randn(48, 32, 32)),
        (conv2d(), torch.randn(0, 48, 32, 32)),
    ],
    ids=["short", "bf16 of 3 taps", "double", "unbatched", "empty batch", "few positions", "2D bf16", "2D unbatched",
         "2D empty batch"],
)  # fmt: skip
@torch.no_grad()
def test_inputs_that_take_the_ordinary_path(counted, conv, x):
    assert torch.equal(conv(x), plain_copy(conv)(x))
    assert counted == []


@pytest.mark.parametrize(
    "conv,x", [(conv1d(taps=7), torch.randn(1, 48, 1100)), (conv2d(), torch.randn(1, 48, 32, 32))], ids=["1D", "2D"]
)
def test_gradients_are_the_librarys(counted, conv, x):
    plain = plain_copy(conv)
    made, wanted = conv(x), plain(x)
    assert torch.equal(made, wanted)
    made.square().sum().backward()
    wanted.square().sum().backward()
    assert torch.equal(conv.weight.grad, plain.weight.grad)
    assert counted == []


@torch.no_grad()
def test_autocast_is_the_librarys(counted, monkeypatch):
    monkeypatch.setattr(fastconv, "CACHED_BYTES", 1)
    for conv, x in ((conv1d(taps=7), torch.randn(1, 48, 1100)), (conv2d(), torch.randn(1, 48, 32, 32))):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(conv(x), plain_copy(conv)(x))
    assert counted == []


@torch.no_grad()
def test_ordinary_convolutions_within_the_context_only(counted):
    conv, x = conv1d(taps=7), torch.randn(1, 48, 1100)
    with ordinary_convolutions():
        assert torch.equal(conv(x), plain_copy(conv)(x))
        with ordinary_convolutions():
            pass
        assert torch.equal(conv(x), plain_copy(conv)(x))
    assert counted == []
    with pytest.raises(KeyError), ordinary_convolutions():
        raise KeyError
    conv(x)
    assert counted == ["_correlate"]


# --- the network around them ------------------------------------------------------------------------------------------


def test_weights_keep_names_and_values():
    for network in (hifigan(channels=64), MelAutoencoderKL(block_out_channels=(8, 8), norm_num_groups=4)):
        before = {key: value.clone() for key, value in network.state_dict().items()}
        assert speed_up(network) is network
        after = network.state_dict()
        assert list(after) == list(before)
        assert all(torch.equal(after[key], before[key]) for key in before)
        assert speed_up(speed_up(network)).state_dict().keys() == before.keys()
        kinds = {type(m) for m in network.modules()}
        assert kinds & {FastConv1d, FastConv2d} and not kinds & {nn.Conv1d, nn.Conv2d}


def test_folder_round_trip_of_a_sped_up_network(tmp_path):
    torch.manual_seed(0)
    network = speed_up(hifigan(channels=64)).eval()
    network.save_pretrained(tmp_path)
    again, report = type(network).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in network.state_dict().items())
    assert not any(isinstance(module, FastConv1d) for module in again.modules())
    vae = speed_up(MelAutoencoderKL(block_out_channels=(8, 8), norm_num_groups=4))
    vae.save_pretrained(tmp_path / "vae")
    again = MelAutoencoderKL.from_pretrained(tmp_path / "vae")
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in vae.state_dict().items())


def test_loading_weights_into_a_sped_up_network():
    conv, other = conv1d(taps=7, seed=0), conv1d(taps=7, seed=1)
    conv.load_state_dict({key: value.contiguous() for key, value in other.state_dict().items()})
    x = torch.randn(1, 48, 1100)
    with torch.no_grad():
        assert torch.equal(conv(x), other(x))


# --- the workspace ----------------------------------------------------------------------------------------------------


def in_new_thread(work):
    """Run with a fresh thread's workspace."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


@pytest.mark.parametrize("first,second", [(torch.inference_mode, torch.no_grad), (torch.no_grad, torch.inference_mode)])
@pytest.mark.parametrize("cached", [fastconv.CACHED_BYTES, 4 * 48 * 48 * 4])
def test_modes_can_follow_each_other(monkeypatch, cached, first, second):
    monkeypatch.setattr(fastconv, "CACHED_BYTES", cached)
    conv, x = conv1d(taps=7), torch.randn(1, 48, 1100)

    def work():
        for matrices in (fourier, toom_cook):
            matrices.cache_clear()
        made = []
        for mode in (first, second, first):
            with mode():
                made.append(conv(x).clone())
        return made

    for made in in_new_thread(work):
        assert error(made, library(conv, x).detach()) < 5e-6


def test_each_convolution_has_its_own_weights_in_the_shared_workspace():
    convs = [conv1d((48, 64), taps=7, seed=0), conv1d((64, 96), taps=15, seed=1), conv1d((96, 48), taps=3, seed=2)]
    x = torch.randn(1, 48, 1100)
    with torch.no_grad():
        made = wanted = x
        for conv in convs:
            made, wanted = conv(made), library(conv, wanted)
    assert error(made, wanted) < 1e-5


def test_two_threads_at_once():
    convs = [conv1d(taps=taps, seed=taps) for taps in (7, 11)]
    inputs = [torch.randn(1, 48, 1400) for _ in convs]

    def work(conv, x):
        with torch.no_grad():  # a thread's own
            return [conv(x) for _ in range(25)]

    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(work, conv, x) for conv, x in zip(convs, inputs, strict=True)]
    for run, conv, x in zip(runs, convs, inputs, strict=True):
        wanted = library(conv, x).detach()
        assert max(error(made, wanted) for made in run.result()) < 5e-6


# --- the algorithms ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "matrices,products",
    [(fourier(32, 7), 47), (fourier(32, 15), 47), (fourier(68, 17), 101), (toom_cook(4, 3), 6), (toom_cook(6, 3), 8),
     (toom_cook(2, 3), 4)],
    ids=["fourier 7", "fourier 15", "fourier 17", "F(4, 3)", "F(6, 3)", "F(2, 3)"],
)  # fmt: skip
def test_bilinear_identity(matrices, products):
    """A [(G w) * (B x)] is the correlation of w and x; fp32 entries limit it to about 1e-6."""
    a, b, g = (matrix.double() for matrix in matrices)
    (step, _), (_, length), (_, taps) = a.shape, b.shape, g.shape
    assert len(b) == len(g) == a.shape[1] == products and length == step + taps - 1
    torch.manual_seed(0)
    w, x = torch.randn(taps, dtype=torch.float64), torch.randn(length, dtype=torch.float64)
    assert_close(a @ ((g @ w) * (b @ x)), x.unfold(0, taps, 1) @ w, rtol=0, atol=2e-6)


@pytest.mark.parametrize(("taps", "padding"), [(4, 0), (7, 3)])
def test_depthwise_convolutions_are_the_librarys(taps, padding):
    torch.manual_seed(0)
    plain = nn.Conv1d(16, 16, taps, padding=padding, groups=16).requires_grad_(False)
    fast = speed_up(copy.deepcopy(plain))
    x = torch.randn(2, 50, 16).transpose(1, 2)  # channels last in memory
    with torch.inference_mode():
        assert_close(fast(x), plain(x), rtol=0, atol=1e-6)
