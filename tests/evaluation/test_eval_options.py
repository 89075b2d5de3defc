"""`latentsr eval` with data sets, presets, models side by side, a page, and what is wrong with each."""

import csv
import json
import struct

import numpy as np
import pytest
import soundfile
import typer
from typer.testing import CliRunner

from latentsr.apps import evaluation_run
from latentsr.apps.evaluate import eval_command, spectrogram_command
from latentsr.evaluation import benchmark, perceptual

RATE = 48_000
QUICK = ["--no-visqol", "--no-zimtohrli", "--jobs", "1"]

app = typer.Typer()
app.command("eval")(eval_command)
app.command("spectrogram")(spectrogram_command)


def latentsr(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def recordings(root, *names, seconds=0.3):
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / name, np.random.default_rng(i).normal(0, 0.1, int(seconds * RATE)), RATE)
    return root


def rows_of(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_models_stand_side_by_side_with_memory_intervals_and_a_command_to_run_it_again(tmp_path):
    recordings(tmp_path / "references", *(f"music/{i}.wav" for i in range(5)))
    done = latentsr(
        "eval", tmp_path / "references", *QUICK, "--cutoffs", "8000", "--heads", "mamba-gan", "--no-ceiling",
        "--memory",
        "--models", "one=embedded", "--models", "two=embedded", "--baseline", "one: mamba-gan",
        "--csv", tmp_path / "out.csv", "--json", tmp_path / "out.json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    unprocessed, one, two = rows_of(tmp_path / "out.csv")
    assert [row["system"] for row in (unprocessed, one, two)] == ["unprocessed", "one: mamba-gan", "two: mamba-gan"]
    assert unprocessed["peak_memory_mb"] == "n/a"
    assert 200 < float(one["peak_memory_mb"]) < 4000
    assert (one["lsd"], two["lsd_vs_baseline"]) == (two["lsd"], "0.0")  # one model under two names
    assert float(one["lsd_low"]) < float(one["lsd"]) < float(one["lsd_high"])
    assert float(unprocessed["lsd_vs_baseline_low"]) > 0
    conditions = json.loads((tmp_path / "out.json").read_text())["conditions"]
    assert conditions["models"]["one"]["model_sha256"] == conditions["models"]["two"]["model_sha256"]
    assert "restores 0.3 s of music/0.wav, 8000" in conditions["peak_memory"]
    assert conditions["command"].startswith(
        "latentsr eval references --cutoffs 8000 --heads mamba-gan --models one=embedded"
    )
    assert str(tmp_path) not in done.output


def test_a_preset_runs_where_its_data_set_is_and_given_options_count_more(tmp_path):
    esc50 = recordings(tmp_path / "esc", "audio/5-1-A-0.wav", "audio/5-2-A-45.wav", "audio/1-1-A-0.wav")
    words = ["eval", esc50, *QUICK, "--preset", "audiosr-table1", "--heads", "none", "--csv", tmp_path / "a.csv"]
    done = latentsr(*words)
    assert done.exit_code == 0, done.output
    rows = rows_of(tmp_path / "a.csv")
    assert [row["input"] for row in rows[::3]] == ["4000", "8000", "16000"]
    assert [row["group"] for row in rows[:3]] == ["animals", "urban", "(all)"]
    assert "the figure that counts is ssr_eval (full)" in done.output
    assert latentsr(*words, "--cutoffs", "6000").exit_code == 0
    assert [row["input"] for row in rows_of(tmp_path / "a.csv")] == ["6000"] * 3
    refused = latentsr("eval", esc50, *QUICK, "--preset", "nuwave-vctk", "--heads", "none")
    assert refused.exit_code == 1
    assert "is a protocol on vctk, and this folder looks like esc-50" in refused.stderr


def test_filters_and_resamplers_are_conditions_side_by_side(tmp_path):
    recordings(tmp_path / "r", "a.wav")
    words = ["--filter", "cheby1,soxr", "--cutoffs", "4000", "--rates", "24000", "--resampler", "soxr,scipy-poly"]
    done = latentsr("eval", tmp_path / "r", *QUICK, *words, "--heads", "none", "--csv", tmp_path / "a.csv")
    assert done.exit_code == 0, done.output
    rows = rows_of(tmp_path / "a.csv")
    assert [row["input"] for row in rows] == [
        "4000 cheby1", "4000 soxr", "24 kHz input soxr", "24 kHz input scipy-poly"
    ]  # fmt: skip
    assert "resampler soxr VHQ | scipy.signal.resample_poly" in done.output


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--dataset", "imagenet"], 2, "--dataset takes auto, vctk"),
        (["--dataset", "vctk"], 1, "this is not vctk"),
        (["--preset", "table2"], 2, "--preset takes audiosr-table1"),
        (["--preset", "audiosr-table1"], 1, "is a protocol on vctk or esc-50, and this folder looks like folder"),
        (["--baseline", "rival"], 2, "'rival' is no row of this table; its rows are unprocessed"),
        (["--outputs", "x=nowhere"], 1, "nowhere, the outputs of 'x', is not a folder"),
        (["--outputs", "x=a", "--outputs", "x=b"], 2, "a name is given twice"),
        (["--outputs", "unprocessed=references", "--cutoffs", "4000"], 2, "two rows are named 'unprocessed'"),
        (["--filter", "soxr", "--cutoffs", "300"], 2, "a resampler cuts from 500 Hz on"),
    ],
)
def test_what_cannot_be_is_said_in_a_line_before_anything_runs(tmp_path, monkeypatch, words, code, message):
    recordings(tmp_path / "references", "a.wav")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(benchmark, "run", lambda *_, **__: pytest.fail("it was run"))
    done = latentsr("eval", "references", *QUICK, "--heads", "none", *words, "--csv", "out.csv")
    assert done.exit_code == code, done.output
    assert message in " ".join(done.output.replace("│", " ").split())
    assert not (tmp_path / "out.csv").exists()


def test_an_interrupted_run_writes_nothing(tmp_path, monkeypatch):
    recordings(tmp_path / "references", "a.wav", "b.wav")
    calls = []

    def interrupted(*_, **__):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return {}

    monkeypatch.setattr("latentsr.evaluation.scoring.measured", interrupted)
    outputs = [word for name in ("csv", "json", "html") for word in (f"--{name}", tmp_path / "out" / f"a.{name}")]
    done = latentsr("eval", tmp_path / "references", *QUICK, "--heads", "none", *outputs)
    assert done.exit_code == 130
    assert "interrupted; no table and no page was written" in done.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_a_metric_that_is_not_installed_is_na_and_said_once(tmp_path, monkeypatch):
    recordings(tmp_path / "references", "a.wav", "b.wav", seconds=1.1)
    monkeypatch.setitem(__import__("sys").modules, "visqol", None)
    perceptual._visqol_api.cache_clear()
    try:
        done = latentsr(
            "eval", tmp_path / "references", "--no-zimtohrli", "--heads", "none", "--cutoffs", "4000", "--jobs", 1
        )
    finally:
        perceptual._visqol_api.cache_clear()
    assert done.exit_code == 0
    assert done.stderr.count("ViSQOL is n/a: install it with pip install 'latentsr[eval]'") == 1
    assert "| n/a |" in done.stdout


def test_the_page_is_asked_for_by_either_name(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra `eval`)")
    recordings(tmp_path / "references", "a.wav", "b.wav")
    for option in ("--html", "--report"):
        done = latentsr(
            "eval", tmp_path / "references", *QUICK, "--heads", "none", "--html-clips", 1, option, tmp_path / "a.html"
        )
        assert done.exit_code == 0, done.output
        text = (tmp_path / "a.html").read_text(encoding="utf-8")
        assert text.startswith("<!doctype html>")
        assert "1 clips to listen to" in done.stderr
        assert "b.wav" not in text
        (tmp_path / "a.html").unlink()


@pytest.mark.parametrize("package", ["PIL", "jinja2"])
def test_the_page_s_extra_is_named_before_anything_runs(tmp_path, monkeypatch, package):
    recordings(tmp_path / "references", "a.wav")
    monkeypatch.setitem(__import__("sys").modules, package, None)
    monkeypatch.setattr(evaluation_run.benchmark, "run", lambda *_, **__: pytest.fail("it was run"))
    done = latentsr("eval", tmp_path / "references", *QUICK, "--heads", "none", "--html", tmp_path / "a.html")
    assert done.exit_code == 1
    assert "latentsr[eval]" in done.stderr


def test_two_files_of_one_name_are_drawn_as_two(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra `eval`)")
    recordings(tmp_path, "a/x.wav", "b/x.wav")
    assert latentsr("spectrogram", tmp_path / "a/x.wav", tmp_path / "b/x.wav", "-o", tmp_path / "x.png").exit_code == 0
    assert struct.unpack(">II", (tmp_path / "x.png").read_bytes()[16:24]) == (800, 480)
    assert latentsr("spectrogram", *[tmp_path / "a/x.wav"] * 2, "-o", tmp_path / "y.png").exit_code == 0
    assert struct.unpack(">II", (tmp_path / "y.png").read_bytes()[16:24]) == (800, 480)


IDLE = [
    "--heads none --known-cutoff", "--heads none --denoise", "--heads none --use-latents", "--heads none --model x",
    "--heads none --models a=x", "--heads none --device cpu", "--heads none --threads 2", "--heads none --memory",
    "--heads none --ceiling", "--heads none --draws 3", "--heads none --steps 3", "--heads none --guidance 2",
    "--heads none --temperature 1", "--heads mamba-gan --steps 3", "--heads mamba-gan --guidance 2",
    "--heads mamba-gan --temperature 1", "--cutoffs none --rates 8000 --filter butter",
    "--cutoffs none --rates 8000 --order 4", "--filter soxr --order 4", "--resampler scipy-poly", "--html-clips 2",
    "--noise-amplitude 0.1", "--noise-snr-db 10",
]  # fmt: skip
ALWAYS = {  # each has its own test, and acts whatever stands beside it
    "ref_dir", "dataset", "preset", "cutoffs", "rates", "noise", "cases", "heads", "seed", "limit", "visqol",
    "zimtohrli", "overall", "baseline", "jobs", "outputs", "systems", "write_inputs", "csv", "json", "html",
}  # fmt: skip


@pytest.mark.parametrize("words", IDLE)
def test_an_option_that_changes_nothing_beside_the_others_is_refused_in_a_line(tmp_path, monkeypatch, words):
    recordings(tmp_path / "references", "a.wav")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(benchmark, "run", lambda *_, **__: pytest.fail("it was run"))
    done = latentsr("eval", "references", *QUICK, *words.split())
    assert done.exit_code == 2, done.output
    (line,) = done.stderr.splitlines()
    assert line.startswith("latentsr: ") and "leave" in line


def test_every_option_of_eval_acts_always_or_is_refused_where_it_does_not():
    refused = {word for words in IDLE for word in words.split() if word.startswith("--")}
    (command,) = [each for each in typer.main.get_command(app).commands.values() if each.name == "eval"]
    assert {each.name for each in command.params if each.name in ALWAYS or not refused & set(each.opts)} == ALWAYS
