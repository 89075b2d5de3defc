"""Resampling operators as conditions: each cuts where its name says, moves nothing in time, and is named in reports."""

import numpy as np
import pytest
import soundfile

from latentsr.config import ConfigError, build
from latentsr.evaluation import benchmark, report, resamplers
from latentsr.evaluation.conditions import Conditions, describe_filter
from latentsr.evaluation.resamplers import RESAMPLERS, cut_edge_hz, cut_with, resample_with

RATE = 48_000


def available(name):
    if RESAMPLERS[name].package is not None:
        pytest.importorskip(RESAMPLERS[name].package)
    return name


@pytest.mark.parametrize("name", RESAMPLERS)
@pytest.mark.parametrize("cutoff_hz", [4000.0, 11_025.0])
def test_an_operator_keeps_the_band_below_and_its_place_in_time(name, cutoff_hz):
    """A tone at half the cutoff comes back within 0.3 % (-50 dB), so it was not moved by a sample."""
    wave = np.sin(2 * np.pi * 0.5 * cutoff_hz / RATE * np.arange(RATE))
    back = cut_with(available(name), wave, cutoff_hz)
    assert back.shape == wave.shape
    inner = slice(RATE // 4, -RATE // 4)
    assert np.abs(back - wave)[inner].max() < (0.2 if name == "soxr-qq" else 0.003)


@pytest.mark.parametrize("name", RESAMPLERS)
def test_the_edge_lies_where_a_tone_loses_3_db(name):
    edge_hz = cut_edge_hz(available(name), 6000.0)
    assert 0.7 * 6000 < edge_hz < 1.1 * 6000
    gains = []
    for hz in (round(0.98 * edge_hz), round(1.02 * edge_hz)):
        back = cut_with(name, np.sin(2 * np.pi * hz / RATE * np.arange(RATE)), 6000.0)
        gains.append(20 * np.log10(np.abs(np.fft.rfft(back)[hz]) / (RATE / 2)))  # of the tone itself, without images
    assert gains[0] > -3 > gains[1]


@pytest.mark.parametrize("name", RESAMPLERS)
def test_lengths_are_those_of_the_project(name):
    for samples in (RATE + 1, RATE - 5):
        assert len(resample_with(available(name), np.zeros(samples), RATE, 8000)) == (2 * samples * 8000 + RATE) // (
            2 * RATE
        )


def test_several_operators_are_inputs_of_their_own_and_one_is_none():
    several = Conditions(cutoffs_hz=(4000,), filter="cheby1, soxr", rates_hz=(24_000,), resampler="soxr,scipy-poly")
    assert [each.label for each in several.inputs] == [
        "4000 cheby1", "4000 soxr", "24 kHz input soxr", "24 kHz input scipy-poly"
    ]  # fmt: skip
    assert [each.folder for each in several.inputs] == [
        "4000-cheby1", "4000-soxr", "rate-24000-soxr", "rate-24000-scipy-poly"
    ]  # fmt: skip
    one = Conditions(cutoffs_hz=(4000,), filter="soxr")
    assert [(each.label, each.folder) for each in one.inputs] == [("4000", "4000")]
    assert describe_filter(one) == "soxr VHQ, down to twice the cutoff and back"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"filter": "cheby1,brickwall"}, "unknown brickwall; known are cheby1"),
        ({"filter": "soxr,soxr"}, "named twice"),
        ({"resampler": "cheby1"}, "unknown cheby1; known are soxr"),
        ({"filter": "soxr", "cutoffs_hz": [200.0]}, "a resampler cuts from 500 Hz on"),
    ],
)
def test_what_is_no_operator_is_named(values, words):
    with pytest.raises(ConfigError, match=words):
        build(Conditions, values)


def test_a_library_that_is_missing_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(resamplers, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"swr needs av; install it with: pip install 'latentsr\[av\]'"):
        build(Conditions, {"filter": "swr"})


def test_operators_are_told_apart_by_the_figures_and_the_report(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).normal(0, 0.1, RATE), RATE)
    (tmp_path / "manifest.csv").write_text("file,type,bandwidth_hz\na.wav,noise,20000\n")
    conditions = Conditions(cutoffs_hz=(4000,), filter="cheby1,scipy-poly")
    records = benchmark.run(
        benchmark.Comparison(benchmark.find_clips(tmp_path), [benchmark.unprocessed()], conditions),
        visqol=False,
        zimtohrli=False,
    )
    chebyshev, polyphase = report.summarise(records)
    assert (chebyshev["operator"], polyphase["operator"]) == ("cheby1", "scipy-poly")
    assert (chebyshev["input"], polyphase["input"]) == ("4000 cheby1", "4000 scipy-poly")
    assert abs(chebyshev["lsd"] - polyphase["lsd"]) > 0.02
    assert "scipy.signal.resample_poly" in report.describe(conditions, {})["operator"]
