"""Examples of the cutoff estimator say where their band ends, and the stage learns to."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import signal

from latentsr.bandwidth import FULL_BAND_HZ, best_end_hz
from latentsr.config import load
from latentsr.data.dataset import Batch
from latentsr.models.cutoff import CLASSES, NOTHING, UNCUT, CutoffNet, cells_hz
from latentsr.signal import cuts
from latentsr.signal.bandframes import BIN_HZ
from latentsr.training.cutoff import CutoffStage, CutoffStageConfig, end_loss
from latentsr.training.cutoff_cuts import Cut
from latentsr.training.cutoff_examples import CutConfig, draw
from latentsr.training.draws import Draws

RATE = 48_000
TINY = Path(__file__).resolve().parents[2] / "configs/tiny/cutoff.yaml"


def white(seconds=2.0, seed=0):
    return 0.1 * np.random.default_rng(seed).standard_normal(int(seconds * RATE))


@pytest.mark.parametrize("hz", [2_500.0, 6_000.0, 14_000.0])
def test_the_end_is_where_a_filter_is_3_db_down(hz):
    known, unknown = Cut(white()), Cut(white())

    def gain(freqs):
        return cuts.magnitude("butter", 6, hz, cuts.warped(freqs, hz, RATE), 0, 0)

    known.filter(gain)
    unknown.by(lambda wave: signal.sosfilt(signal.butter(6, hz, fs=RATE, output="sos"), wave))
    for cut in (known, unknown):
        end_hz, loss_db = cut.measured(24_000)
        assert end_hz == pytest.approx(hz, rel=0.03)
        at = round(1.2 * hz / BIN_HZ)
        assert loss_db[at] == pytest.approx(-20 * np.log10(gain(np.array([at * BIN_HZ]))[0]), abs=2.5)


def test_images_are_in_the_power_and_not_in_the_loss():
    cut = Cut(white(4.0))
    cut.by(lambda wave: cuts.hold(cuts.soxr_at("VHQ")(wave, RATE, 8_000), 8_000, RATE))
    end_hz, loss_db = cut.measured(24_000)
    assert end_hz == pytest.approx(0.46 * 8_000, rel=0.02)  # where sinc is 3 dB under what is usual
    assert loss_db[round(6_000 / BIN_HZ)] > 20


@pytest.mark.parametrize("kind", ["filter", "through", "codec"])
def test_an_example_is_the_same_for_the_same_seed(kind):
    config = CutConfig(kinds={kind: 1.0}, nothing=0.0)
    one, other = (draw(white(), 24_000, config, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(one.frames.power_db, other.frames.power_db)
    assert one.end_hz == other.end_hz


def test_uncut_examples_have_no_end():
    config = CutConfig(kinds={"none": 1.0}, nothing=0.0, same_rate=1.0)
    for seed in range(6):
        assert math.isinf(draw(white(), 24_000, config, np.random.default_rng(seed)).end_hz)


def test_several_right_answers_cost_what_they_miss_together():
    logits = torch.zeros(2, CLASSES)
    accepted = torch.zeros(2, CLASSES)
    accepted[0, 5], accepted[1, 5:15] = 1, 1
    single = torch.tensor([True, False])
    assert end_loss(logits, accepted, single).item() == pytest.approx((math.log(CLASSES) + math.log(CLASSES / 10)) / 2)


def test_the_stage_learns_where_noise_ends(tmp_path):
    config = load(
        CutoffStageConfig, TINY, ["cuts.kinds={filter: 1.0}", "cuts.synthetic=0", "cuts.noise=0", "windows=1"]
    )
    torch.manual_seed(0)
    stage = CutoffStage(config)
    wide = torch.from_numpy(np.stack([white(1.0, seed) for seed in range(4)]))[:, None].float()
    batch = Batch(wide, torch.full((4,), 24_000.0), ["noise"] * 4, torch.zeros(4), torch.zeros(4))
    inputs = [stage.prepare(batch, Draws(0, step, 0, 4)) for step in range(4)]
    optimizer = torch.optim.AdamW(stage.network.parameters(), 5e-3)
    values = []
    for step in range(48):
        losses = stage.losses("model", inputs[step % 4], step, Draws(0, step, 0, 4))
        optimizer.zero_grad()
        stage.total(losses).backward()
        optimizer.step()
        values.append(losses["end"].item())
    assert np.mean(values[-4:]) < 0.75 * np.mean(values[:4])
    metrics = stage.validate(batch, Draws(0, 0, 0, 4)).metrics
    assert 0 <= metrics["within"] <= 1 and math.isfinite(metrics["end"])
    stage.export(tmp_path)
    again = CutoffNet.from_pretrained(tmp_path / "cutoff")
    for name, value in stage.network.state_dict().items():
        assert torch.allclose(again.state_dict()[name], value, atol=2e-3)


def test_the_decision_is_the_likeliest_neighbourhood_unless_nothing_was_cut():
    p = torch.full((CLASSES,), 1e-9)
    p[40], p[41], p[100], p[UNCUT] = 0.36, 0.24, 0.3, 0.1
    assert float(best_end_hz(p.log()[None])) == pytest.approx(500 * 2 ** (40.4 / 24), rel=0.002)
    p[40], p[41], p[100] = 0.24, 0.2, 0.4  # nearly as likely, and much of what lies above would be destroyed
    assert float(best_end_hz(p.log()[None])) == pytest.approx(500 * 2 ** (100 / 24), rel=0.002)
    p[UNCUT], p[NOTHING] = 0.35, 0.2
    assert float(best_end_hz((p / p.sum()).log()[None])) == pytest.approx(500 * 2 ** (100 / 24), rel=0.002)
    p[UNCUT], p[NOTHING] = 0.5, 0.3
    assert float(best_end_hz((p / p.sum()).log()[None])) == FULL_BAND_HZ
    assert 23_000 < float(cells_hz()[-1]) < 24_000
