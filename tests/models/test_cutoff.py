"""The cutoff network's features: what depends on what, and what does not."""

import pytest
import torch
from torch.testing import assert_close

from latentsr.models.cutoff import CLASSES, FEATURES, CutoffNet, Features, without_lines
from latentsr.signal.bandframes import BIN_HZ, BINS, SILENT_DB

NYQUIST, DUST = torch.tensor([22_050.0]), torch.tensor([-96.0])


def frames(length=40, seed=0):
    """A programme that falls with frequency and moves in time. (1, L, BINS)"""
    generator = torch.Generator().manual_seed(seed)
    level = -30 - 0.1 * torch.arange(BINS) + 15 * torch.rand(length, 1, generator=generator)
    return (level + 3 * torch.randn(length, BINS, generator=generator))[None]


def test_features_do_not_depend_on_the_level_of_floats_nor_on_silent_frames():
    features, floats = Features(), torch.tensor([-300.0])
    given = features(frames(), NYQUIST, floats)
    assert given.shape == (1, FEATURES, BINS)
    assert_close(features(frames() - 40, NYQUIST, floats), given, rtol=0, atol=1e-3)
    padded = torch.cat([frames(), torch.full((1, 9, BINS), SILENT_DB)], dim=1)
    assert_close(features(padded, NYQUIST, floats), given, rtol=0, atol=1e-3)


def test_nothing_above_the_nyquist_frequency_is_evidence():
    features, nyquist = Features(), torch.tensor([8_000.0])
    other, end = frames(), int(8_000 / BIN_HZ)
    other[..., end + 1 :] = -20.0
    given, made = features(frames(), nyquist, DUST), features(other, nyquist, DUST)
    assert made[..., end + 1 :].abs().max() == 0
    assert_close(made[..., : end - 20], given[..., : end - 20], rtol=0, atol=1e-4)  # mirrors reach so far


def test_a_mirrored_spectrum_is_seen_at_its_mirror():
    image = frames(60)
    image[..., 51:100] = image[..., 1:50].flip(-1) - 10  # about bin 50
    mirrored = Features()(image, NYQUIST, DUST)[0, 8]
    assert int(mirrored[20:200].argmax()) + 20 == 50
    assert mirrored[50] > 0.5 and Features()(frames(60), NYQUIST, DUST)[0, 8, 50] < 0.1


def test_shapes_for_any_length_and_batch():
    network = CutoffNet(channels=8, hidden=8, dilations=(1,), log_dilations=(1,)).eval()
    for count, length in ((1, 1), (3, 16), (2, 200)):
        logits, loss_db = network(frames(length).expand(count, -1, -1), NYQUIST.expand(count), DUST.expand(count))
        assert logits.shape == (count, CLASSES) and loss_db.shape == (count, BINS)
    assert sum(p.numel() for p in CutoffNet().parameters()) < 130_000


@pytest.mark.parametrize("place", [60, 160])
def test_a_steady_line_goes_and_the_programme_stays(place):
    given = frames()
    assert torch.equal(without_lines(given), given)
    whine = given.clone()
    whine[..., place - 1 : place + 2] = torch.tensor([0.0, 6.0, 0.0])
    assert without_lines(whine)[..., place - 2 : place + 3].max() < -15
    keep = torch.ones(BINS, dtype=torch.bool)
    keep[place - 3 : place + 4] = False
    assert torch.equal(without_lines(whine)[..., keep], given[..., keep])
