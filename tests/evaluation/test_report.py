"""Pooling, the three ways a table is written, and pictures."""

import csv
import json
import struct

import numpy as np
import pytest

from latentsr.evaluation import report
from latentsr.evaluation.conditions import Conditions
from latentsr.evaluation.inputs import Input

FIGURES = [column.source or column.key for column in report.COLUMNS]


def record(system="x", cutoff_hz=4000.0, group="music", rate=48_000, noise="none", **figures):
    given = Input(cutoff_hz, rate, noise)
    about = {"clip": "a", "group": group, "system": system, "cutoff_hz": cutoff_hz, "input_rate_hz": rate}
    about |= {"noise": noise, "input": given.label}
    return about | {"seconds": 1.0, "duration_s": 4.0} | dict.fromkeys(FIGURES) | figures


def test_each_figure_is_pooled_as_its_meaning_asks():
    records = [
        record(lsd=1.0, hf_energy_db=-9.0, level_error_db=0.01, kept_error_db=-70.0, cutoff_error_percent=-2.0),
        record(lsd=2.0, hf_energy_db=-1.0, level_error_db=-0.3, kept_error_db=-90.0, cutoff_error_percent=3.0),
        record(
            lsd=6.0, hf_energy_db=0.0, level_error_db=0.02, kept_error_db=None, cutoff_error_percent=40.0, seconds=4.0
        ),
    ]
    (row,) = report.summarise(records)
    assert row["clips"] == 3
    assert row["lsd"] == 3.0  # mean
    assert row["hf_energy_db"] == -1.0  # median
    assert row["level_error_db"] == -0.3  # furthest from 0
    assert row["kept_error_db"] == -70.0  # worst
    assert row["cutoff_error_percent"] == 3.0  # median size
    assert row["cutoff_misses"] == 1
    assert row["cutoff_within_percent"] == pytest.approx(200 / 3)
    assert row["seconds_per_second"] == 0.5
    assert row["visqol"] is None


def test_rows_keep_the_order_of_cutoffs_groups_and_systems():
    keys = [(hz, group, system) for group in "ba" for hz in (8000.0, 4000.0) for system in ("unprocessed", "x")]
    summary = report.summarise([record(system, hz, group) for hz, group, system in keys])
    expected = [(hz, group, system) for hz in (8000.0, 4000.0) for group in "ba" for system in ("unprocessed", "x")]
    assert [(row["cutoff_hz"], row["group"], row["system"]) for row in summary] == expected


def test_the_table_is_markdown_and_says_na_never_zero():
    lines = report.format_table(report.summarise([record(lsd=1.234), record("longer name", lsd=None)])).splitlines()
    assert len({len(line) for line in lines}) == 1
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0][:5] == ["cutoff", "group", "system", "clips", "LSD"]
    assert cells[2][:5] == ["4000", "music", "x", "1", "1.23"]
    assert cells[3][4] == "n/a"
    assert cells[2][cells[0].index("ViSQOL")] == "n/a"


def test_a_lower_rate_has_rows_of_its_own_that_name_it():
    summary = report.summarise([record(cutoff_hz=5214.0), record(cutoff_hz=5214.0, rate=11_025), record(rate=24_000)])
    cells = [line.split("|")[1].strip() for line in report.format_table(summary).splitlines()]
    assert cells[2:] == ["5214", "11.025 kHz input", "24 kHz input"]
    described = [report.describe(Conditions(rates_hz=rates), {}) for rates in ((), (24_000,))]
    lines = [report.format_conditions(each) for each in described]
    assert "rate" not in lines[0]
    assert "rates_hz 24000;" in lines[1]
    assert "resampler soxr VHQ;" in lines[1]


def test_waveform_distances_are_printed_where_noise_was_added():
    assert "SI-SDR" not in report.format_table(report.summarise([record(si_sdr_db=12.0)]))
    table = report.format_table(report.summarise([record(si_sdr_db=12.0, noise="white")]))
    assert "12.0" in table
    assert "| 4000 white |" in table
    assert "tone dB" not in table  # nothing defines it


def test_the_high_band_s_distance_is_compared_with_the_unprocessed_row_of_its_input_and_group():
    records = [
        record("unprocessed", lsd_hf=4.0),
        record("x", lsd_hf=2.0),
        record("x", lsd_hf=2.8),
        record("unprocessed", noise="white", lsd_hf=2.0),
        record("x", noise="white", lsd_hf=3.0),
        record("x", group="speech", lsd_hf=3.0),
    ]
    rows = report.summarise(records)
    assert [row["lsd_hf_change_percent"] for row in rows] == [None, pytest.approx(-40), None, None, pytest.approx(50)]


def test_csv_and_json_hold_table_and_conditions(tmp_path):
    records = [record(lsd=1.25), record("y", lsd=None)]
    summary = report.summarise(records)
    described = report.describe(Conditions(noise="white", seed=5), {"model_sha256": "abc"})
    report.write_csv(tmp_path / "a.csv", summary, described)
    report.write_json(tmp_path / "a.json", summary, records, described)
    rows = list(csv.DictReader((tmp_path / "a.csv").open()))
    assert [(row["system"], row["lsd"], row["visqol"]) for row in rows] == [("x", "1.25", "n/a"), ("y", "n/a", "n/a")]
    document = json.loads((tmp_path / "a.json").read_text())
    assert document["summary"][1]["lsd"] is None
    assert [clip["lsd"] for clip in document["clips"]] == [1.25, None]
    assert document["conditions"]["cutoffs_hz"] == [4000, 8000]
    for row in rows:
        assert (row["condition.noise"], row["condition.seed"], row["condition.model_sha256"]) == ("white", "5", "abc")
        assert row["condition.operator"] == "Chebyshev I, 0.1 dB, sosfiltfilt, order 8"
        assert row["condition.cutoffs_hz"] == "4000.0 8000.0"
        assert row["condition.versions.torch"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.json"]


def test_conditions_are_one_line():
    line = report.format_conditions(report.describe(Conditions(), {}))
    assert "\n" not in line
    assert "filter cheby1; order 8" in line


def test_spectrogram_reads_a_full_scale_sine_as_0_db():
    level = report.spectrogram_db(np.sin(2 * np.pi * 6000 / 48_000 * np.arange(48_000)), 48_000)
    assert level.shape[0] == 1025
    assert level[256].max() == pytest.approx(0, abs=0.01)  # 6000 Hz / (48000 / 2048)
    assert level[600].max() < -100


def test_a_long_recording_gets_a_longer_hop_not_a_wider_picture():
    assert report.spectrogram_db(np.zeros(48_000 * 120), 48_000).shape[1] <= report.MAX_FRAMES + 1


def test_spectrogram_png_stacks_one_picture_per_wave(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra `eval`)")
    noise = np.random.default_rng(0).normal(0, 0.1, (2, 24_000))
    sizes = []
    for waves in ({"costs $1_{": noise[0]}, {"stereo": noise, "quiet": 0.01 * noise[0]}):
        report.spectrogram_png(waves, tmp_path / "a.png", 48_000)
        picture = (tmp_path / "a.png").read_bytes()
        assert picture.startswith(b"\x89PNG")
        sizes.append(struct.unpack(">II", picture[16:24]))
    assert sizes == [(800, 240), (800, 480)]


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(report.MissingExtraError, match=r"latentsr\[eval\]"):
        report.spectrogram_png({"a": np.zeros(4096)}, tmp_path / "a.png")
