"""The vocoder head: what it is told to ignore does not matter, and what is known stays."""

import pytest
import torch
from torch.testing import assert_close

from latentsr.heads import HEADS
from latentsr.heads.vocoder import VAE_CONTEXT, VocoderHead
from latentsr.models.hifigan import build_vocoder, context_frames, vocode
from latentsr.models.vae import MelAutoencoderKL, strides, to_mel
from latentsr.signal.mel import MelSpectrogram, bands_below

FRAMES = 160
CUTOFF_HZ = 4000.0


def tiny_vae():
    torch.manual_seed(0)
    return MelAutoencoderKL(latent_channels=4, block_out_channels=(8, 8), norm_num_groups=4, patch_frames=4,
                            patch_bands=8, scaling_factor=1.0, shift_factor=0.0).eval()  # fmt: skip


@pytest.fixture(scope="module", params=["istft", "hifigan"])
def head(request):
    vae = tiny_vae()
    sizes = dict(channels=16, hidden=32, layers=1) if request.param == "istft" else dict(channels=32)
    return VocoderHead(vae, build_vocoder(request.param, **sizes).eval().requires_grad_(False))


@pytest.fixture
def inputs():
    torch.manual_seed(1)
    low = 0.1 * torch.randn(2, 1, FRAMES * 480)
    return low, torch.full((2,), CUTOFF_HZ), torch.randn(2, 4, FRAMES // 8, 256 // 16)


@torch.inference_mode()
@pytest.mark.parametrize("margins", [(0, 0), (40, 0), (0, 56), (56, 64), (3, 5), (80, 80)])
def test_ignored_margins_change_nothing_inside(head, inputs, margins):
    whole = head(*inputs)
    part = head(*inputs, ignored=margins)
    assert part.shape == whole.shape == (2, 1, FRAMES * 480)
    first, last = margins[0] * 480, (FRAMES - margins[1]) * 480
    # In single precision two threads were seen to round sums apart by 1.3e-6 of the peak.
    assert_close(part[..., first:last], whole[..., first:last], rtol=0, atol=5e-6 * float(whole.abs().max()))


@torch.inference_mode()
def test_ignoring_saves_the_vocoders_work(head, inputs, monkeypatch):
    """Frames that the vocoder is given: all but the ignored, and its own context beside what is looked at."""
    seen = []
    monkeypatch.setattr("latentsr.heads.vocoder.vocode", lambda v, mel, audio: seen.append(mel.shape[2]) or vocode(v, mel, audio))  # fmt: skip  # noqa: E501
    head(*inputs, ignored=(56, 64))
    assert set(seen) == {FRAMES - (56 - head.reach) - (64 - head.reach)}


@torch.inference_mode()
def test_context_is_that_of_vocoder_and_decoder(head):
    assert strides(head.vae)[0] == 8
    assert head.context_frames == context_frames(head.vocoder) + 8 * VAE_CONTEXT


@torch.inference_mode()
def test_known_bands_come_from_the_recording(head, inputs, monkeypatch):
    """The mel that the vocoder gets is the recording's below the cutoff and the decoder's above."""
    mels = []
    monkeypatch.setattr("latentsr.heads.vocoder.vocode", lambda v, mel, audio: mels.append(mel) or vocode(v, mel, audio))  # fmt: skip  # noqa: E501
    low, cutoff_hz, latents = inputs
    head(low, cutoff_hz, latents)
    known = bands_below(cutoff_hz)[0]
    assert 100 < int(known.sum()) < 256
    mel, decoded, measured = torch.cat(mels), to_mel(head.vae, latents), MelSpectrogram()(low)
    assert torch.equal(mel[..., known], measured[..., known])
    assert_close(mel[..., ~known], decoded[..., ~known], rtol=0, atol=1e-4)
    mels.clear()
    head(low, cutoff_hz, latents, keep_known=False)
    assert_close(torch.cat(mels), decoded, rtol=0, atol=1e-4)


@torch.inference_mode()
def test_each_row_has_its_own_cutoff_and_does_not_depend_on_the_batch(head, inputs):
    low, _, latents = inputs
    ends = torch.tensor([2000.0, 12000.0])
    both = head(low, ends, latents)
    for row in range(2):
        one = slice(row, row + 1)
        assert_close(head(low[one], ends[one], latents[one])[0], both[row], rtol=0, atol=1e-6)


@torch.inference_mode()
def test_no_latents_is_refused(head, inputs):
    with pytest.raises(ValueError, match="decodes latents, and was given none; call the pipeline"):
        head(*inputs[:2])


@torch.inference_mode()
def test_in_bf16_the_known_mel_is_measured_in_fp32(inputs, monkeypatch):
    """The recording's quiet bands would drown in the rounding of a bf16 wave: 40 dB below, they are exact to bf16."""
    vocoder = build_vocoder("istft", channels=16, hidden=32, layers=1).eval().bfloat16()
    head = VocoderHead(tiny_vae().bfloat16(), vocoder)
    assert head.dtype == torch.bfloat16
    assert head.mel.filterbank.dtype == head.mel.window.dtype == torch.float32
    mels = []
    monkeypatch.setattr("latentsr.heads.vocoder.vocode", lambda v, mel, audio: mels.append(mel) or vocode(v, mel, audio))  # fmt: skip  # noqa: E501
    low, cutoff_hz, latents = inputs
    wave = head(low, cutoff_hz, latents.bfloat16())
    known = bands_below(cutoff_hz)[0]
    assert_close(torch.cat(mels)[..., known], MelSpectrogram()(low)[..., known].bfloat16(), rtol=0, atol=0)
    assert torch.isfinite(wave).all()


def test_it_is_a_row_of_the_table():
    assert HEADS["vocoder"].load() is VocoderHead
    assert HEADS["vocoder"].needs_latents and HEADS["vocoder"].components == ("vae", "vocoder")


@torch.inference_mode()
def test_the_inverse_stft_of_a_bf16_vocoder_runs_in_fp32():
    """Only the window's own rounding is heard: 57 dB below; with the sum of its squares in bf16, 51 dB."""
    torch.manual_seed(0)
    vocoder = build_vocoder("istft", channels=8, hidden=8, layers=1)
    spectrum = 0.5 * torch.randn(1, 961, 40) - 3, 3 * torch.randn(1, 961, 40)
    wanted = vocoder._synthesise(*spectrum)
    made = vocoder.bfloat16()._synthesise(*spectrum)
    assert made.dtype == torch.float32
    assert (made - wanted).norm() / wanted.norm() < 10 ** (-55 / 20)
