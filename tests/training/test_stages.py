"""What the stages feed their networks."""

import json
import os

import pytest
import torch
from torch.testing import assert_close

from latentsr.config import ConfigError
from latentsr.data.dataset import Batch
from latentsr.model_folder.loading import EMBEDDED
from latentsr.models.vae import MelAutoencoderKL
from latentsr.training.draws import Draws
from latentsr.training.hifigan import VocoderStage, VocoderStageConfig, high_band_ratio_db
from latentsr.training.ldm import LdmInputs, LdmStage, LdmStageConfig, find_vae
from latentsr.training.stage import StageConfig, degraded
from latentsr.training.vae import VaeStage, VaeStageConfig, mel_lsd

RATE = 48_000
TINY_VAE = dict(latent_channels=4, block_out_channels=(8, 8), norm_num_groups=4, patch_frames=4, patch_bands=8)
TINY_UNET = dict(block_out_channels=(8, 16), attention_levels=(1,), attention_head_dim=8, norm_num_groups=4)


def batch(count=4, seconds=1.0, bandwidth_hz=24_000.0, seed=0):
    wide = 0.1 * torch.randn(count, 1, round(seconds * RATE), generator=torch.Generator().manual_seed(seed))
    return Batch(wide, torch.full((count,), bandwidth_hz), ["music"] * count, torch.zeros(count), torch.zeros(count))


@pytest.fixture(scope="module")
def vae_folder(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights") / "vae"
    MelAutoencoderKL(**TINY_VAE, scaling_factor=2.0, shift_factor=0.1).save_pretrained(folder)
    return folder


def test_low_band_ends_at_the_estimated_cutoff():
    config = StageConfig(loss_weights={}, degrade={"effects": {"none": 1.0}, "cutoff_hz": (3000, 9000)})
    example = degraded(batch(8), config, Draws(0, 0, 0, 8))
    assert (example.cutoff_hz < 14_000).all()
    for low, cutoff_hz in zip(example.low[:, 0], example.cutoff_hz, strict=True):
        spectrum = torch.fft.rfft(low * torch.hann_window(len(low))).abs().square()
        above = spectrum[int(float(cutoff_hz) + 200) :].sum()
        assert 10 * torch.log10(above / spectrum.sum()) < -60


def test_the_same_generator_makes_the_same_examples():
    config = StageConfig(loss_weights={})
    one, other = (degraded(batch(), config, Draws(5, 0, 0, 4)) for _ in range(2))
    assert one.recipes == other.recipes
    assert_close(one.low, other.low, rtol=0, atol=0)


def test_a_loss_without_a_weight_stops_the_run():
    stage = VaeStage(VaeStageConfig(model=TINY_VAE, loss_weights={"mel": 1.0}))
    with pytest.raises(ConfigError, match="no weight for the losses \\['kl'\\]"):
        stage.total({"mel": torch.zeros(()), "kl": torch.zeros(())})


def test_mel_lsd_of_a_gain_is_twice_its_log10():
    mel = torch.randn(1, 1, 10, 256)
    assert mel_lsd(mel, mel + torch.log(torch.tensor(0.5))) == pytest.approx(0.602, abs=1e-3)


@pytest.fixture(scope="module")
def stage(vae_folder):
    return LdmStage(LdmStageConfig(model=TINY_UNET, vae=str(vae_folder), loss_weights={"velocity": 1.0}))


class TestLdm:
    def test_rows_without_content_weigh_nothing_and_known_rows_little(self, stage):
        hz = torch.tensor([4000.0])
        inputs = LdmInputs(torch.zeros(1), torch.zeros(1), cutoff_hz=hz, bandwidth_hz=torch.tensor([16_000.0]))
        weights = stage._row_weights(inputs, 16)[0]
        assert weights[-1] == 0
        assert weights[0] == pytest.approx(0.2)
        assert weights.max() == pytest.approx(1.0)

    def test_condition_is_dropped_as_often_as_said(self, vae_folder):
        config = LdmStageConfig(
            model=TINY_UNET, vae=str(vae_folder), loss_weights={"velocity": 1.0}, unconditional_share=0.5
        )
        inputs = LdmStage(config).prepare(batch(64, 0.32), Draws(0, 0, 0, 64))
        dropped = (inputs.condition == 0).all(dim=(1, 2, 3)).float().mean()
        assert 0.3 < float(dropped) < 0.7

    def test_training_on_one_example_learns_it(self, stage):
        """At pure noise the velocity is minus the target: a few steps must bring the loss down by half."""
        torch.manual_seed(0)
        inputs = stage.prepare(batch(2, 0.64), Draws(0, 0, 0, 2))
        optimizer = torch.optim.Adam(stage.unet.parameters(), lr=5e-3)
        losses = []
        for _ in range(60):
            loss = stage.losses("model", inputs, 0, Draws(1, 0, 0, 2))["velocity"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        assert losses[-1] < 0.5 * losses[0]

    def test_the_newest_finished_vae_is_taken_and_named(self, tmp_path, capsys):
        for name, finished, age in (("old", True, 100), ("new", True, 50), ("running", False, 0)):
            weights = tmp_path / name / "weights"
            (weights / "vae").mkdir(parents=True)
            (weights / "training.json").write_text(json.dumps({"finished": finished}))
            os.utime(weights / "training.json", (1e9 - age, 1e9 - age))
        assert find_vae("", tmp_path) == tmp_path / "new/weights/vae"
        assert str(tmp_path / "new/weights/vae") in capsys.readouterr().out
        assert find_vae("given", tmp_path).name == "given"
        assert find_vae("", tmp_path / "empty") == EMBEDDED / "vae"


class TestVocoder:
    def test_decoded_mels_keep_the_true_mel_below_the_cutoff(self, vae_folder):
        config = VocoderStageConfig(
            model={"channels": 8, "hidden": 8, "layers": 1}, vae=str(vae_folder), decoded_share=1.0,
            known_cutoff_hz=(6000, 6001), loss_weights={},
            discriminators={"periods": [2], "period_channels": [4], "resolutions": [512], "resolution_channels": 4},
        )  # fmt: skip
        inputs = VocoderStage(config).prepare(batch(2, 0.32), Draws(0, 0, 0, 2))
        same = (inputs.mel == inputs.true_mel).all(dim=2).all(dim=0)[0]
        assert 100 < int(same.sum()) < 220
        assert same[:100].all() and not same[-1]

    def test_high_band_ratio(self):
        wave = batch(2).wide
        assert high_band_ratio_db(wave, 2 * wave) == pytest.approx(6.02, abs=0.01)
