"""Models of hearing: faster than the plain call, and the same figures; absent ones are n/a."""

import numpy as np
import pytest
import torch

from latentsr.evaluation import metrics, perceptual
from latentsr.evaluation.conditions import Conditions
from latentsr.evaluation.inputs import Input

RATE = 48_000


def pair(seconds=1.5, seed=0):
    rng = np.random.default_rng(seed)
    wave = rng.normal(0, 0.1, int(seconds * RATE)) * (1 + 0.9 * np.sin(np.arange(int(seconds * RATE)) / 2000))
    conditions = Conditions()
    low = conditions.degrade(wave, conditions.recipe("a", Input(4000.0), wave))
    return torch.from_numpy(wave), torch.from_numpy(low)


def test_visqol_that_remembers_the_reference_equals_the_plain_call():
    visqol = pytest.importorskip("visqol", reason="visqol-python is not installed (extra `eval`)")
    plain = visqol.VisqolApi()
    plain.create(mode="audio")
    api = perceptual.visqol_api()
    truth, low = pair()
    for other in (low, 0.5 * truth, low, truth):
        expected = plain.measure_from_arrays(truth.numpy(), other.numpy(), RATE).moslqo
        # Array alignment picks the vector code, so one process in some rounds the last digit apart.
        assert api.measure_from_arrays(truth.numpy(), other.numpy(), RATE).moslqo == pytest.approx(expected, abs=1e-9)


def test_visqol_hears_no_ends_and_zimtohrli_does():
    """As docs/evaluation.md says (findings/visqol_hears_no_ends.sh, visqol-python 3.8.0)."""
    pytest.importorskip("visqol", reason="visqol-python is not installed (extra `eval`)")
    pytest.importorskip("zimtohrli", reason="zimtohrli is not installed (extra `eval`)")
    truth, _ = pair(1.9)

    def without(start_s, end_s):
        wave = truth.clone()
        wave[round(start_s * RATE) : round(end_s * RATE)] = 0
        return wave

    whole = perceptual.visqol(truth, truth)
    first, middle, last = without(0, 0.2), without(0.6, 0.8), without(1.7, 1.9)
    assert [whole - perceptual.visqol(truth, wave) < 0.005 for wave in (first, middle, last)] == [True, False, True]
    assert all(perceptual.zimtohrli(truth, wave)[0] > 0.001 for wave in (first, middle, last))


def test_the_reference_s_spectrogram_is_computed_once_and_kept_within_bounds():
    pytest.importorskip("visqol", reason="visqol-python is not installed (extra `eval`)")
    api = perceptual.visqol_api()
    builder = api._manager.spect_builder
    truth, low = (wave.numpy() for wave in pair())
    api.measure_from_arrays(truth, low, RATE)
    first = builder.computed
    api.measure_from_arrays(truth, low, RATE)
    assert builder.computed == first
    api.measure_from_arrays(truth, 0.9 * low + 0.001 * truth, RATE)
    assert builder.computed - first <= 0.75 * first  # the reference's whole, and its patches, were there
    builder._max_bytes = 1
    api.measure_from_arrays(0.7 * truth, low, RATE)
    assert len(builder._kept) == 1


def test_numba_gives_the_port_s_own_figures(monkeypatch):
    pytest.importorskip("numba", reason="numba is not installed (extra `eval`)")
    visqol = pytest.importorskip("visqol", reason="visqol-python is not installed (extra `eval`)")
    from visqol import gammatone, nsim, patch_selector

    truth, low = (wave.numpy() for wave in pair(1.1))
    api = visqol.VisqolApi()
    api.create(mode="audio")
    compiled = api.measure_from_arrays(truth, low, RATE).moslqo
    for module in (gammatone, nsim, patch_selector):
        monkeypatch.setattr(module, "has_numba", lambda: False)
    assert api.measure_from_arrays(truth, low, RATE).moslqo == pytest.approx(compiled, abs=1e-9)


def test_zimtohrli_ranks_a_cut_below_the_original_and_a_lower_cut_below_that():
    pytest.importorskip("zimtohrli", reason="zimtohrli is not installed (extra `eval`)")
    truth, low = pair()
    same, dull = perceptual.zimtohrli(truth, truth), perceptual.zimtohrli(truth, low)
    assert same == (0.0, 5.0)
    assert dull[0] > 0.001
    assert dull[1] < 4.9


def test_zimtohrli_is_none_where_it_cannot_say():
    short, silence = torch.ones(RATE - 1), torch.zeros(2 * RATE)
    assert perceptual.zimtohrli(short, short) == (None, None)
    assert perceptual.zimtohrli(silence, silence) == (None, None)
    with pytest.raises(ValueError, match="resample"):
        perceptual.zimtohrli(short, short, sample_rate=16_000)
    with pytest.raises(ValueError, match="one shape"):
        perceptual.zimtohrli(short, silence)


def test_zimtohrli_is_none_where_it_is_not_installed(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "zimtohrli", None)
    perceptual._zimtohrli.cache_clear()
    try:
        assert not perceptual.zimtohrli_installed()
        assert perceptual.zimtohrli(*pair()) == (None, None)
    finally:
        perceptual._zimtohrli.cache_clear()
    assert metrics.lsd(*(wave[None] for wave in pair())).item() > 1  # the others go on
