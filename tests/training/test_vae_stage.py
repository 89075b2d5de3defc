"""The autoencoder's stage: noisy latents drawn to the clean ones, and clean ones held where they were."""

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from latentsr.config import ConfigError, load
from latentsr.data.dataset import Batch
from latentsr.models.vae import MelAutoencoderKL
from latentsr.signal.degrade import Recipe
from latentsr.signal.effects import Effect
from latentsr.training.draws import Draws
from latentsr.training.stage import StageConfig, degraded
from latentsr.training.vae import Normal, VaeStage, VaeStageConfig, kl_of_normals, noise_only, without_noise

RATE = 48_000
CONFIGS = Path(__file__).resolve().parents[2] / "configs/vae"
TINY = dict(latent_channels=4, block_out_channels=(8, 8), norm_num_groups=4, patch_frames=4, patch_bands=8)
WEIGHTS = {"mel": 1.0, "kl": 0.003, "align": 0.1, "anchor": 0.1}
WHITE = {"effects": {"white": 1.0}, "white_amplitude": (0.02, 0.05)}


def batch(count=4, seconds=0.64):
    wide = 0.1 * torch.randn(count, 1, round(seconds * RATE), generator=torch.Generator().manual_seed(0))
    return Batch(wide, torch.full((count,), 24_000.0), ["music"] * count, torch.zeros(count), torch.zeros(count))


def part(whole, rows):
    return Batch(whole.wide[rows], whole.bandwidth_hz[rows], whole.kinds[rows], whole.clip[rows], whole.offset[rows])


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights")
    MelAutoencoderKL(**TINY, scaling_factor=2.0, shift_factor=0.1).save_pretrained(folder / "vae")

    def stage(**values):
        values = {"loss_weights": WEIGHTS, "degraded_share": 1.0, "degrade": WHITE, **values}
        return VaeStage(VaeStageConfig(initial_weights=str(folder), **values))

    return stage


@pytest.fixture
def heard_ends(monkeypatch):
    """Every end is heard at 6 kHz: noise that is cut and hidden in noise is no recording to hear one in."""
    monkeypatch.setattr("latentsr.training.stage.cutoffs_hz", lambda waves, rate: torch.full((len(waves),), 6_000.0))


def gradient(stage, inputs, draws):
    stage.zero_grad()
    stage.total(stage.losses("model", inputs, 0, draws)).backward()
    return torch.cat([p.grad.flatten() for p in stage.vae.parameters() if p.grad is not None])


def test_kl_of_normals_is_torchs():
    p, q = (Normal(torch.randn(2, 4, 3, 5), torch.randn(2, 4, 3, 5)) for _ in range(2))
    ours = kl_of_normals(p, q)
    theirs = [torch.distributions.Normal(each.mean, (0.5 * each.log_variance).exp()) for each in (p, q)]
    assert_close(ours, torch.distributions.kl_divergence(*theirs).mean())
    assert float(kl_of_normals(p, p)) == pytest.approx(0, abs=1e-6)


def test_only_noise_that_can_be_left_out_is_aligned():
    effects = {"none": (), "white": (Effect("white", 0.1),), "clipping": (Effect("clipping", 6.0),)}
    effects |= {"telephone": (Effect("telephone"),), "both": (Effect("white", 0.1), Effect("telephone"))}
    recipes = [Recipe("cheby1", 8, 4000.0, each) for each in effects.values()]
    assert noise_only(recipes).tolist() == [False, True, True, False, False]
    assert noise_only([]).shape == (0,)


def test_the_partner_is_the_wide_wave_without_noise():
    """Far below the cutoff the clean low band is the wide wave, and the noisy one is not."""
    example = degraded(batch(), StageConfig(loss_weights={}, degrade=WHITE), Draws(0, 0, 0, 4))
    clean = without_noise(example, noise_only(example.recipes), RATE)
    for wide, low, partner in zip(example.wide[:, 0], example.low[:, 0], clean[:, 0], strict=True):
        wide, low, partner = (torch.fft.rfft(w * torch.hann_window(len(w)))[200:700] for w in (wide, low, partner))
        error_db = [20 * float(torch.log10((w - wide).norm() / wide.norm())) for w in (partner, low)]
        assert error_db[0] < -30
        assert error_db[1] > -20


def test_an_example_without_noise_adds_nothing(make, heard_ends):
    """Two of the four are made clean, then all: about half of the loss is left, then nothing."""
    alike = {**WHITE, "white_amplitude": (0.03, 0.031), "cutoff_hz": (8_000, 8_001), "order": (8, 8)}
    stage, draws = make(degrade=alike), Draws(0, 0, 0, 4)
    inputs = stage.prepare(batch(), draws)
    assert inputs.noisy.all()
    whole = stage.losses("model", inputs, 0, draws)["align"]
    inputs.noisy[2:] = False
    inputs.mel[2:] = inputs.clean[2:]
    half = stage.losses("model", inputs, 0, draws)["align"]
    inputs.noisy[:] = False
    inputs.mel[:] = inputs.clean
    assert stage.losses("model", inputs, 0, draws)["align"].item() == pytest.approx(0, abs=1e-6)
    assert 0.2 < (half / whole).item() < 0.8


def test_gradients_of_a_batch_are_the_mean_of_its_halves(make):
    stage, whole, halves = make(degraded_share=0.6), batch(), []
    for first in (0, 2):
        draws = Draws(0, 5, first, 2)
        halves.append(gradient(stage, stage.prepare(part(whole, slice(first, first + 2)), draws), draws))
    draws = Draws(0, 5, 0, 4)
    expected = gradient(stage, stage.prepare(whole, draws), draws)
    assert float((sum(halves) / 2 - expected).norm() / expected.norm()) < 1e-5
    assert float((halves[0] - halves[1]).norm() / expected.norm()) > 0.1


def test_the_anchor_pulls_back_what_has_moved(make):
    """At the start it is 0; after a push of the encoder's bias its gradient points back."""
    stage, draws = make(), Draws(0, 0, 0, 4)
    inputs = stage.prepare(batch(), draws)
    assert stage.losses("model", inputs, 0, draws)["anchor"].item() == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        stage.vae.quant_conv.bias[:4] += 0.3  # the means
    moved = stage.losses("model", inputs, 0, draws)["anchor"]
    moved.backward()
    assert float(moved.detach()) > 0.01
    assert (stage.vae.quant_conv.bias.grad[:4] > 0).all()


def test_training_the_encoder_alone_brings_noisy_latents_closer(make, heard_ends):
    torch.manual_seed(0)
    stage = make(train="encoder", loss_weights={**WEIGHTS, "align": 10.0})
    before = {name: value.clone() for name, value in stage.vae.decoder.state_dict().items()}
    assert {id(p) for network in stage.networks("model") for p in network.parameters()} == {
        id(p) for p in stage.vae.parameters() if p.requires_grad
    }
    inputs = stage.prepare(batch(), Draws(0, 0, 0, 4))
    optimizer = torch.optim.AdamW([p for p in stage.vae.parameters() if p.requires_grad], lr=1e-2)
    align = []
    for _ in range(40):
        losses = stage.losses("model", inputs, 0, Draws(0, 1, 0, 4))
        optimizer.zero_grad()
        stage.total(losses).backward()
        optimizer.step()
        align.append(float(losses["align"].detach()))
    assert align[-1] < 0.5 * align[0]
    for name, value in stage.vae.decoder.state_dict().items():
        assert_close(value, before[name], rtol=0, atol=0)


def test_an_anchored_encoder_keeps_its_scale(make):
    stage = make()
    stage.finish(None)
    assert (stage.vae.config.scaling_factor, stage.vae.config.shift_factor) == (2.0, 0.1)


def test_validation_says_how_much_noise_is_in_the_latents(make):
    assert make().validate(batch(), Draws(0, 0, 0, 4)).metrics["noise_in_latents"] > 0.05
    codecs = make(degrade={"effects": {"telephone": 1.0}}).validate(batch(), Draws(0, 0, 0, 4))
    assert "noise_in_latents" not in codecs.metrics


def test_an_anchor_needs_a_start():
    with pytest.raises(ConfigError, match="give its folder as initial_weights"):
        VaeStage(VaeStageConfig(model=TINY, loss_weights=WEIGHTS))


def test_the_config_turns_both_on_and_leaves_the_decoder():
    config = load(VaeStageConfig, CONFIGS / "aligned.yaml", [])
    assert config.train == "encoder"
    assert {"align", "anchor"} <= config.loss_weights.keys()
    assert config.model == load(VaeStageConfig, CONFIGS / "small.yaml", []).model
