"""Every graph computes in onnxruntime what its network computes in torch, at any length and batch."""

from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch

from latentsr.export import PARTS, ExportError
from latentsr.export.convert import to_onnx
from latentsr.export.graphs import cutoff_by
from latentsr.export.scan import mamba_forward, softplus
from latentsr.export.writing import largest_difference, open_session
from latentsr.models.cutoff import CutoffNet
from latentsr.models.excited import ExcitationGenerator
from latentsr.models.hifigan import build_vocoder
from latentsr.models.live import LiveGenerator
from latentsr.models.mamba_gan import MambaGenerator
from latentsr.models.ssm import Mamba
from latentsr.models.unet import audioldm2_unet
from tiny import tiny_pipeline

SMALL = {"channels": 16, "mixer_layers": 1, "state": 3, "hidden": 24, "layers": 1}


def small_gan(mixer="bimamba"):
    torch.manual_seed(1)
    network = MambaGenerator(mixer=mixer, **SMALL)
    for layer in (network.correct_mel, network.skip):  # zero when training begins
        torch.nn.init.normal_(layer.weight, std=0.1)
    return SimpleNamespace(mamba_gan=network.eval())


def small_shaper():
    torch.manual_seed(1)
    network = ExcitationGenerator(**{**SMALL, "fine": 16, "latent_size": 64})
    for layer in (network.correct_mel, network.gains):  # zero when training begins
        torch.nn.init.normal_(layer.weight, std=0.1)
    return SimpleNamespace(mamba_gan=network.eval())


def small_estimator(full_band):
    """The graph of an untrained estimator, with a logit for full band."""
    torch.manual_seed(3)
    network = CutoffNet(channels=8, hidden=8, dilations=(1, 2))
    with torch.no_grad():
        network.rest.bias.copy_(torch.tensor([full_band, -5.0]))
    return cutoff_by(network.eval())


def small_pipe(**parts):
    pipe = tiny_pipeline()
    return (
        SimpleNamespace(vae=pipe.vae, unet=pipe.unet, vocoder=pipe.vocoder)
        if not parts
        else SimpleNamespace(vae=pipe.vae, **parts)
    )


def audiosr_parts():
    torch.manual_seed(2)
    unet = audioldm2_unet(latent_channels=4, head_channels=16, widths=(32, 64), layers=1, attention_levels=(1,))
    return small_pipe(unet=unet.eval(), vocoder=build_vocoder("hifigan", channels=32).eval())


def small_live():
    torch.manual_seed(1)
    network = LiveGenerator(hidden=16, layers=1)
    torch.nn.init.normal_(network.gains.weight, std=0.3)  # zero when training begins
    return SimpleNamespace(live=network.eval())


CASES = {
    "live": ("live", small_live),
    "mamba-gan": ("mamba-gan", small_gan),
    "mamba-gan, one direction": ("mamba-gan", lambda: small_gan("mamba")),
    "mamba-gan of excitations": ("mamba-gan", small_shaper),
    "vae-encoder": ("vae-encoder", small_pipe),
    "vae-decoder": ("vae-decoder", small_pipe),
    "unet": ("unet", small_pipe),
    "vocoder": ("vocoder", small_pipe),
    "unet of AudioSR": ("unet", audiosr_parts),
    "vocoder of AudioSR": ("vocoder", audiosr_parts),
}


@pytest.mark.parametrize("case", CASES)
def test_a_graph_computes_what_its_network_does(case):
    part, pipe = CASES[case]
    compare(PARTS[part](pipe()), part)


@pytest.mark.parametrize("full_band", [0.0, 20.0])
def test_the_graph_of_the_cutoff_says_where_nothing_is_missing(full_band):
    graph = small_estimator(full_band)
    compare(graph, "cutoff")
    cutoff_hz, _, raise_db, _ = graph.module(*graph.example(2, 9))
    assert bool((cutoff_hz == 24_000).all()) == (full_band > 0)
    assert full_band == 0 or not raise_db.any()


def test_the_graph_looks_for_no_end_in_a_band_of_less_than_1_khz():
    graph = small_estimator(-20.0)
    power_db, nyquist_hz, dust_db = graph.example(2, 9)
    session = open_session(to_onnx(graph, "cutoff"))
    feeds = {"power_db": power_db, "nyquist_hz": nyquist_hz.new_tensor([1_000, 4_000]), "dust_db": dust_db}
    cutoff_hz = session.run(["cutoff_hz"], {name: each.numpy() for name, each in feeds.items()})[0]
    assert cutoff_hz[0] == 24_000
    assert cutoff_hz[1] < 4_100


def compare(graph, part):
    """onnxruntime beside torch."""
    session = open_session(to_onnx(graph, part))
    for batch in (1, 2):
        for length in (1, 8, 33):
            inputs = graph.example(batch, length)
            with torch.inference_mode():
                wanted = graph.module(*inputs)
            made = session.run(None, dict(zip(graph.inputs, (each.numpy() for each in inputs), strict=True)))
            for a, b in zip(made, wanted if isinstance(wanted, tuple) else (wanted,), strict=True):
                assert a.shape == tuple(b.shape)
                assert np.abs(a - b.numpy()).max() < 1e-3 * max(1, float(b.abs().max()))


def test_the_check_notices_a_wrong_weight_and_says_where():
    graph = PARTS["vocoder"](small_pipe())
    model = to_onnx(graph, "vocoder")
    assert largest_difference(graph, model) < 1e-5
    with torch.no_grad():
        graph.module.network.head.bias += 0.01
    with pytest.raises(ExportError, match=r"vocoder: real differs from torch's by 0\.\d+ at batch 1, length 1"):
        largest_difference(graph, model)


def test_nothing_of_this_machine_is_in_the_file():
    model = to_onnx(PARTS["vocoder"](small_pipe()), "vocoder")
    text = model.SerializeToString()
    assert b".py" not in text
    assert b"site-packages" not in text
    onnx.checker.check_model(model)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_block_for_export_is_the_block(bidirectional):
    torch.manual_seed(0)
    block = Mamba(12, state=5, bidirectional=bidirectional)
    x = torch.randn(2, 70, 12)
    with torch.no_grad():
        assert float((mamba_forward(block, x) - block(x)).abs().max()) < 1e-5


def test_softplus_holds_far_out():
    x = torch.tensor([-200.0, -20.0, 0.0, 20.0, 200.0])
    assert torch.allclose(softplus(x), torch.nn.functional.softplus(x), atol=1e-6)


@pytest.mark.parametrize("opset", [16, 21])
def test_an_opset_that_cannot_be_written_is_refused(opset):
    with pytest.raises(ExportError, match=f"opset {opset} cannot be written; choose --opset 17"):
        to_onnx(PARTS["vocoder"](small_pipe()), "vocoder", opset)


def test_an_operation_that_onnx_lacks_is_named():
    class Lacking(torch.nn.Module):
        def forward(self, mel):
            return torch.linalg.eigvals(mel[:, :4, :4]).real

    graph = PARTS["vocoder"](small_pipe())
    lacking = type(graph)(Lacking(), graph.inputs, ("wave",), graph.example)
    with pytest.raises(
        ExportError, match=r"^vocoder cannot be exported: ONNX has no form of aten::linalg_eigvals at opset 20$"
    ):
        to_onnx(lacking, "vocoder")
