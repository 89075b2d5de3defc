"""Networks have the shapes, sizes and receptive fields that their docstrings state."""

import pytest
import torch
from torch.testing import assert_close

from latentsr.models.discriminators import Discriminators
from latentsr.models.hifigan import build_vocoder, context_frames, hifigan, vocode
from latentsr.models.unet import Bands, LatentUNet, audioldm2_unet, frame_multiple, predict_v, rows_known
from latentsr.models.vae import MelAutoencoderKL, scaled, strides, unscaled


def parameters(network):
    return sum(p.numel() for p in network.parameters())


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    return MelAutoencoderKL(latent_channels=4, block_out_channels=(8, 16), norm_num_groups=4, scaling_factor=2.0,
                            shift_factor=0.5).eval()  # fmt: skip


def test_vae_shapes_follow_its_strides(vae):
    mel = torch.randn(2, 1, 32, 256) - 5
    z = vae.encode(mel).latent_dist.mode()
    assert strides(vae) == (4, 8)
    assert z.shape == (2, 4, 32 // 4, 256 // 8)
    assert vae.decode(z).sample.shape == mel.shape


def test_scaling_and_its_inverse(vae):
    z = torch.randn(1, 4, 8, 8)
    assert_close(scaled(vae, z), (z - 0.5) * 2.0)
    assert_close(unscaled(vae, scaled(vae, z)), z)


def test_vae_folder_round_trip_is_exact(vae, tmp_path):
    vae.save_pretrained(tmp_path)
    again, report = MelAutoencoderKL.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    z = torch.randn(1, 4, 4, 32)
    assert_close(again.eval().decode(z).sample, vae.decode(z).sample, rtol=0, atol=0)
    assert again.config.scaling_factor == 2.0


def test_unet_folder_round_trip_is_exact(tmp_path):
    torch.manual_seed(0)
    unet = LatentUNet(latent_channels=4, block_out_channels=(8, 16), attention_levels=(1,), attention_head_dim=8,
                      norm_num_groups=4).eval()  # fmt: skip
    unet.save_pretrained(tmp_path)
    again = LatentUNet.from_pretrained(tmp_path).eval()
    x, c = torch.randn(2, 4, 8, 16), torch.randn(2, 4, 8, 16)
    hz = torch.tensor([4000.0, 8000.0])
    arguments = (x, c, torch.tensor([999, 3]), Bands(hz, hz))
    assert predict_v(unet, *arguments).shape == x.shape
    assert_close(predict_v(again, *arguments), predict_v(unet, *arguments), rtol=0, atol=0)


def test_unet_hears_cutoff_and_bandwidth():
    torch.manual_seed(0)
    unet = LatentUNet(
        latent_channels=4, block_out_channels=(8, 16), attention_levels=(), attention_head_dim=8, norm_num_groups=4
    ).eval()
    x, c, t = torch.randn(1, 4, 8, 16), torch.randn(1, 4, 8, 16), torch.tensor([500])
    base = predict_v(unet, x, c, t, Bands(torch.tensor([4000.0]), torch.tensor([24000.0])))
    for other in ((8000.0, 24000.0), (4000.0, 16000.0)):
        changed = predict_v(unet, x, c, t, Bands(torch.tensor([other[0]]), torch.tensor([other[1]])))
        assert (changed - base).abs().max() > 1e-3


def test_rows_known_grows_with_the_cutoff():
    known = rows_known(torch.tensor([2000.0, 8000.0, 24000.0]), rows=16)
    assert (known[:, 1:] <= known[:, :-1]).all()
    assert known.mean(dim=1).diff().min() > 0.1
    assert known[2].min() == 1


def test_audiosr_sizes_are_exact():
    """Parameter counts of the official checkpoint, without its memory."""
    with torch.device("meta"):
        vae = MelAutoencoderKL(
            block_out_channels=(128, 256, 512, 1024), layers_per_block=2, norm_num_groups=32,
            mid_block_add_attention=True, patch_frames=1, patch_bands=1, mel_mean=0.0, mel_std=1.0,
        )  # fmt: skip
        assert parameters(vae) == 223_535_569
        unet = audioldm2_unet()
        assert parameters(unet) == 258_195_088
        assert frame_multiple(unet) == 8
        assert parameters(hifigan(1536)) == 190_281_889


@pytest.mark.parametrize(
    ("kind", "sizes"), [("istft", {"channels": 16, "hidden": 32, "layers": 2}), ("hifigan", {"channels": 32})]
)
class TestVocoders:
    def test_length_is_the_hop_times_the_frames(self, kind, sizes):
        vocoder = build_vocoder(kind, **sizes).eval()
        with torch.no_grad():
            assert vocode(vocoder, torch.randn(2, 1, 20, 256)).shape == (2, 1, 9600)

    def test_nothing_beyond_the_stated_context_matters(self, kind, sizes):
        torch.manual_seed(0)
        vocoder = build_vocoder(kind, **sizes).eval()
        reach = context_frames(vocoder)
        mel = torch.randn(1, 1, 2 * reach + 40, 256)
        changed = mel.clone()
        changed[:, :, 0] += 5.0
        with torch.no_grad():
            difference = (vocode(vocoder, mel) - vocode(vocoder, changed)).abs()[0, 0]
        assert difference[: 480 * reach].max() > 0
        assert difference[480 * (reach + 1) :].max() < 1e-6


def test_unknown_vocoder_names_the_known_ones():
    with pytest.raises(ValueError, match="hifigan, istft"):
        build_vocoder("wavenet")


def test_istft_vocoder_frames_are_where_the_mel_has_them():
    """A frame that alone is loud makes sound around its own centre, (l + 1/2) hop."""
    vocoder = build_vocoder("istft", channels=8, hidden=8, layers=1)
    log_magnitude = torch.full((1, 961, 40), -20.0)
    log_magnitude[:, 100, 20] = 0.0
    wave = vocoder._synthesise(log_magnitude, torch.zeros_like(log_magnitude))[0]
    power = wave.square()
    centre = (power * torch.arange(len(wave))).sum() / power.sum()
    assert abs(float(centre) - 20.5 * 480) < 5


def test_discriminators_score_every_part():
    parts = Discriminators(periods=(2, 3), period_channels=(4, 8), resolutions=(512,), resolution_channels=4)
    scores = parts(torch.randn(2, 1, 4800))
    assert len(scores) == 3
    assert all(maps[-1].shape[:2] == (2, 1) for maps in scores)
