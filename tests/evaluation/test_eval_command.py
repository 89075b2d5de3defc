"""`latentsr eval` and `latentsr spectrogram` as commands, on recordings made here, without a model."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import typer
from typer.testing import CliRunner

from latentsr.apps.evaluate import eval_command, spectrogram_command

app = typer.Typer()
app.command("eval")(eval_command)
app.command("spectrogram")(spectrogram_command)


def latentsr(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "references" / "music").mkdir(parents=True)
    wave = np.random.default_rng(0).normal(0, 0.1, 24_000)
    soundfile.write(tmp_path / "references" / "music" / "a.wav", wave, 48_000, subtype="PCM_16")
    return tmp_path


def test_the_table_is_printed_and_written(folder):
    done = latentsr(
        "eval", folder / "references", "--cutoffs", "4000,9000", "--filter", "butter", "--order", 4, "--noise", "white",
        "--heads", "none", "--no-visqol", "--csv", folder / "out" / "a.csv", "--json", folder / "out" / "a.json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "| unprocessed |" in done.output
    assert "Butterworth, sosfiltfilt, order 4" in done.output
    assert "| 4000 white | music |" in " ".join(done.output.split())
    rows = list(csv.DictReader((folder / "out" / "a.csv").open()))
    assert [row["cutoff_hz"] for row in rows] == ["4000.0", "9000.0"]
    conditions = json.loads((folder / "out" / "a.json").read_text())["conditions"]
    assert (conditions["filter"], conditions["order"], conditions["noise"]) == ("butter", 4, ["white"])
    assert conditions["references"] == "references"  # a name, not a place on this machine


def test_lower_rates_stand_beside_cutoffs_or_alone(folder):
    table = folder / "a.csv"
    for words, expected in [
        (["--cutoffs", "4000"], [("4000.0", "48000"), ("11345.0", "24000"), ("5214.0", "11025")]),
        (["--cutoffs", "none"], [("11345.0", "24000"), ("5214.0", "11025")]),
    ]:
        rates = ["--rates", "24000,11025", "--heads", "none", "--no-visqol", "--csv", table]
        done = latentsr("eval", folder / "references", *words, *rates)
        assert done.exit_code == 0, done.output
        assert "| 11.025 kHz input |" in done.output
        rows = list(csv.DictReader(table.open()))
        assert [(row["cutoff_hz"], row["input_rate_hz"]) for row in rows] == expected
        assert rows[0]["condition.rates_hz"] == "24000 11025"


def test_each_degradation_is_a_row_and_a_folder_of_its_own(folder):
    words = ["eval", folder / "references", "--heads", "none", "--no-visqol", "--limit", 1]
    words += ["--cutoffs", "4000", "--noise", "tone,hum,mp3-64,telephone", "--noise-amplitude", "0.05-0.2"]
    done = latentsr(*words, "--write-inputs", folder / "in", "--json", folder / "a.json")
    assert done.exit_code == 0, done.output
    document = json.loads((folder / "a.json").read_text())
    tone, hum, coded, telephone = document["summary"]
    assert [row["input"] for row in document["summary"]] == ["4000 tone", "4000 hum", "mp3-64", "telephone"]
    assert sorted(path.name for path in (folder / "in").iterdir()) == ["4000-hum", "4000-tone", "mp3-64", "telephone"]
    assert (tone["tone_db"], tone["tone_left"], tone["si_sdr_gain_db"]) == (0, 1, 0)
    assert tone["tone_vs_clean_db"] > 10
    assert hum["tone_db"] is coded["tone_db"] is None
    assert coded["cutoff_hz"] > 15_000 > 3400 == telephone["cutoff_hz"]
    assert "tone 0.05 to 0.2 peak" in document["conditions"]["noises"]
    again = latentsr(*words, "--outputs", f"copy={folder / 'in'}")
    assert again.output.count("| copy ") == 4
    assert "| tone dB |" in again.output


def test_inputs_can_be_restored_by_another_system_and_scored(folder):
    words = ["eval", folder / "references", "--cutoffs", "4000", "--heads", "none", "--no-visqol"]
    assert latentsr(*words, "--write-inputs", folder / "in").exit_code == 0
    done = latentsr(*words, "--outputs", f"copy={folder / 'in'}")
    assert done.exit_code == 0, done.output
    rows = [line.split("|") for line in done.stdout.splitlines() if line.startswith("|")]
    figures = [row[5] for row in rows[2:4]]
    assert figures[0] == figures[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--cutoffs", "4k"], "numbers separated by commas"),
        (["--cutoffs", "40000"], "between 0 and 24000 Hz"),
        (["--cutoffs", "none"], "name cutoffs between 0 and 24000 Hz, or rates"),
        (["--rates", "24k"], "numbers separated by commas"),
        (["--rates", "96000"], "from 1000 to 47999 Hz"),
        (["--steps", "few"], "numbers separated by commas"),
        (["--filter", "brickwall"], "known are cheby1"),
        (["--noise", "hiss"], "known are none, tone, white"),
        (["--noise", "white", "--noise-amplitude", "loud"], "noise_amplitude"),
        (["--outputs", "nowhere"], "NAME=DIR"),
        (["--steps", "3"], "--steps changes nothing here: the heads scored (none) do not take steps"),
        (["--heads", "mamba-gan", "--steps", "3"], "--steps changes nothing here: the heads scored (mamba-gan)"),
        (["--heads", "diffwave-mamba", "--guidance", "2"], "--guidance changes nothing here"),
        (["--heads", "best"], "unknown head 'best'; choose one of vocoder"),
    ],
)
def test_wrong_usage_leaves_with_2(folder, words, message):
    done = latentsr("eval", folder / "references", "--heads", "none", *words)
    assert done.exit_code == 2
    assert message in " ".join(done.output.replace("│", " ").split())


def test_a_missing_folder_leaves_with_1_and_one_line(folder):
    done = latentsr("eval", folder / "nowhere", "--heads", "none")
    assert done.exit_code == 1
    assert done.stderr.strip().endswith("pass the folder that holds the reference recordings")
    assert len(done.stderr.strip().splitlines()) == 1


def test_spectrogram_draws_files_of_different_rates_and_keeps_what_is_there(folder):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra `eval`)")
    source, low, picture = folder / "references" / "music" / "a.wav", folder / "low.wav", folder / "a.png"
    soundfile.write(low, np.random.default_rng(1).normal(0, 0.1, (8000, 2)), 16_000)
    assert latentsr("spectrogram", low, source, "-o", picture).exit_code == 0
    drawn = picture.read_bytes()
    assert drawn.startswith(b"\x89PNG")
    refused = latentsr("spectrogram", source, "-o", picture)
    assert refused.exit_code == 2
    assert "--overwrite" in refused.output
    assert picture.read_bytes() == drawn
    assert latentsr("spectrogram", source, "-o", picture, "--overwrite").exit_code == 0
    assert picture.read_bytes() != drawn
    unnamed = latentsr("spectrogram", low)
    assert (
        unnamed.exit_code == 0 and low.with_suffix(".png").is_file() and str(low.with_suffix(".png")) in unnamed.output
    )


def test_importing_the_commands_imports_neither_torch_nor_scipy():
    code = "import sys, latentsr.apps.evaluate; print([m for m in ('torch', 'scipy', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
