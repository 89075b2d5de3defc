"""Cases: each file is at its rate, on its grid, and ends where its entry says; and the command scores them."""

import json
import math

import numpy as np
import pytest
import soundfile
import typer
from typer.testing import CliRunner

from latentsr.apps.evaluate import eval_command, spectrogram_command
from latentsr.audio import resample
from latentsr.evaluation import benchmark, clip_cases, report
from latentsr.evaluation.cases import CASES, DEFAULT, FULL_BAND_HZ, error_percent, generator, named
from latentsr.evaluation.conditions import Conditions
from latentsr.evaluation.inputs import Input
from latentsr.evaluation.noises import NOISES
from latentsr.evaluation.references import EvaluationError, find_clips
from latentsr.signal.bandend import measured_end_hz
from tiny import tiny_pipeline
from wide import RATE, music_like

QUICK = ["--no-visqol", "--no-zimtohrli", "--jobs", 1]

app = typer.Typer()
app.command("eval")(eval_command)
app.command("spectrogram")(spectrogram_command)


def latentsr(*words):
    return CliRunner().invoke(app, ["eval", *map(str, words)])


@pytest.fixture
def references(tmp_path):
    """Two wide clips, and one that ends at 3 kHz."""
    folder = tmp_path / "references"
    rows = ["file,type,bandwidth_hz"]
    for i, (name, band_hz) in enumerate([("a", 22_000), ("b", 22_000), ("dull", 3_000)]):
        (folder / "music").mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / "music" / f"{name}.wav", music_like(1.0, seed=i), RATE, subtype="PCM_24")
        rows.append(f"music/{name}.wav,music,{band_hz}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.mark.parametrize("name", CASES)
def test_a_case_ends_where_it_says_at_its_rate_and_on_its_grid(name):
    case, wide = CASES[name], music_like(3.0)
    narrow, rate = case.make(wide, generator(0, "a.wav", name))
    assert rate == case.sample_rate
    assert len(narrow) == pytest.approx(len(wide) * rate / RATE, abs=rate / 1_000)
    end_hz = measured_end_hz(resample(narrow, rate, RATE), wide)
    if case.cutoff_hz == FULL_BAND_HZ:
        assert math.isinf(end_hz)
    else:
        assert end_hz == pytest.approx(case.cutoff_hz, rel=0.05)
    level_db = 10 * np.log10((narrow**2).mean() / (wide**2).mean())
    assert level_db == pytest.approx(case.level_db, abs=3)
    if case.bits is not None:
        steps = narrow * 2 ** (case.bits - 1)
        assert np.array_equal(steps, np.round(steps))
        coarser = steps / 2
        assert not np.array_equal(coarser, np.round(coarser))


def test_noise_is_the_seed_s_the_clip_s_and_the_case_s(tmp_path):
    wide = music_like(0.5)
    for name in ("hiss", "shaped-dither", "quiet", "8-bit"):
        made = CASES[name].make(wide, generator(3, "a.wav", name))[0]
        assert np.array_equal(made, CASES[name].make(wide, generator(3, "a.wav", name))[0])
        for other in ((4, "a.wav", name), (3, "b.wav", name), (3, "a.wav", "linear")):
            assert not np.array_equal(made, CASES[name].make(wide, generator(*other))[0])


def test_names_are_taken_apart_and_near_ones_are_named():
    assert named(["all"]) == tuple(CASES)
    assert Conditions(cases="linear, hold").cases == ("linear", "hold")
    with pytest.raises(ValueError, match="unknown case 'besel'; did you mean 'bessel'"):
        named(["besel"])
    with pytest.raises(ValueError, match="unknown case 'xyz'; known are all, file-44k1, file-12k"):
        named(["xyz"])
    with pytest.raises(ValueError, match="twice"):
        named(["hold", "hold"])
    assert not {*CASES} & {*NOISES}  # their folders lie beside each other
    assert {Input.of_case(name).folder for name in CASES} == {*CASES}


def test_an_estimate_of_what_was_not_cut_is_wrong_only_below_the_own_band():
    assert error_percent(4_400, 4_000, 22_000) == pytest.approx(10)
    assert error_percent(FULL_BAND_HZ, math.inf, 15_000) == 0
    assert error_percent(15_300, math.inf, 15_000) == 0
    assert error_percent(12_000, math.inf, 15_000) == pytest.approx(-20)
    assert error_percent(19_000, math.inf, 22_000) == pytest.approx(-5)


def test_a_quiet_file_is_scored_at_the_level_of_its_reference(references):
    conditions = Conditions(cutoffs_hz=(), cases=("quiet", "float-96k"))
    levels = []

    def plain(wave, rate, cutoff_hz):
        levels.append(np.abs(wave).max())
        return resample(wave, rate, RATE), 4_650.0

    systems = [benchmark.unprocessed(), benchmark.restored("plain", plain)]
    records = benchmark.run(
        benchmark.Comparison(find_clips(references)[:1], systems, conditions), visqol=False, zimtohrli=False
    )
    assert [record["input"] for record in records] == ["quiet", "quiet", "float-96k", "float-96k"]
    assert records[0]["lsd"] == pytest.approx(records[1]["lsd"], abs=1e-9)
    assert records[1]["level_error_db"] == pytest.approx(0, abs=1e-9)
    assert levels[0] / levels[1] == pytest.approx(10 ** (-35 / 20), rel=0.2)
    assert abs(records[1]["cutoff_error_percent"]) < 2 < abs(records[3]["cutoff_error_percent"])


def test_clips_whose_own_band_ends_below_a_case_do_not_count_and_the_report_says_so(references):
    conditions, clips = Conditions(cutoffs_hz=(8_000,), cases=("file-44k1", "uncut-44k1")), find_clips(references)
    found = [[case.input.label for case in benchmark.load_cases(clip, conditions)] for clip in clips]
    assert found == [["8000", "file-44k1", "uncut-44k1"]] * 2 + [["8000", "uncut-44k1"]]
    records = benchmark.run(
        benchmark.Comparison(clips, [benchmark.unprocessed()], conditions), visqol=False, zimtohrli=False
    )
    words = "1 of file-44k1: clips whose own band ends below 1.15 x the cut"
    assert report.left_out(records, conditions, 3) == words
    assert report.left_out(records, Conditions(), 3) is None
    with pytest.raises(EvaluationError, match="no clip's own band reaches beyond the cut"):
        benchmark.run(
            benchmark.Comparison(clips[2:], [benchmark.unprocessed()], Conditions(cutoffs_hz=(), cases="hold")),
            visqol=False,
        )


def test_what_hiss_hides_has_no_truth(references):
    (clip, *_), conditions = find_clips(references), Conditions(cutoffs_hz=(), cases="hiss")
    wave = 1e-3 * music_like(1.0) + 0.9 * np.sin(np.arange(RATE) * 2 * np.pi * 440 / RATE)  # hiss at -45 dB of a tone
    soundfile.write(clip.path, wave, RATE, subtype="PCM_24")
    (case,) = benchmark.load_cases(clip, conditions)
    assert (case.edge_hz, case.hidden, case.told_hz) == (math.inf, True, CASES["hiss"].cutoff_hz)
    (record,) = benchmark.run(
        benchmark.Comparison([clip], [benchmark.System("x", lambda case: (case.degraded, 9_999.0))], conditions),
        visqol=False,
    )
    assert record["cutoff_true_hz"] is record["cutoff_error_percent"] is None


@pytest.mark.parametrize("name", ["8-bit", "24-bit-quiet", "float-96k", "file-12k", "linear"])
def test_what_is_written_for_others_is_what_the_systems_get(references, tmp_path, name):
    (case,) = benchmark.load_cases(find_clips(references)[0], Conditions(cutoffs_hz=(), cases=name))
    clip_cases.write_input(tmp_path / "in", case)
    with soundfile.SoundFile(tmp_path / "in" / name / "music" / "a.wav") as file:
        assert (file.samplerate, file.subtype) == (CASES[name].sample_rate, CASES[name].subtype)
        assert np.array_equal(file.read(dtype="float64"), case.given)


def test_the_command_scores_cases_with_a_model_and_writes_what_it_was_given(references, tmp_path):
    tiny_pipeline().save_pretrained(tmp_path / "model")
    words = [references, *QUICK, "--cutoffs", "none", "--cases", "file-44k1,float-96k", "--seed", 2]
    done = latentsr(
        *words, "--model", tmp_path / "model", "--heads", "vocoder", "--steps", 1, "--no-ceiling", "--write-inputs",
        tmp_path / "in", "--json", tmp_path / "a.json", "--csv", tmp_path / "a.csv",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    document = json.loads((tmp_path / "a.json").read_text())
    rows = [(row["input"], row["system"], row["clips"], row["input_rate_hz"]) for row in document["summary"]]
    assert rows == [
        (name, system, 2, CASES[name].sample_rate)
        for name in ("file-44k1", "float-96k")
        for system in ("unprocessed", "vocoder @1")
    ]
    conditions = document["conditions"]
    assert (conditions["cases"], conditions["seed"]) == (["file-44k1", "float-96k"], 2)
    assert "file-44k1 = Chebyshev 8 at 4 kHz, both ways; 44.1 kHz, 16 bit" in conditions["case_files"]
    assert conditions["left_out"].startswith("1 of file-44k1, 1 of float-96k")
    assert 4_100 < document["clips"][1]["cutoff_true_hz"] < 4_200
    assert document["clips"][1]["operator"] == CASES["file-44k1"].in_words()
    assert "within 10 %" in done.output
    written = sorted(path.relative_to(tmp_path / "in").as_posix() for path in (tmp_path / "in").rglob("*.wav"))
    assert written == [f"{name}/music/{clip}.wav" for name in ("file-44k1", "float-96k") for clip in "ab"]
    (references / "music" / "dull.wav").unlink()
    (references / "manifest.csv").write_text(
        "file,type,bandwidth_hz\nmusic/a.wav,music,22000\nmusic/b.wav,music,22000\n"
    )
    again = latentsr(*words, "--heads", "none", "--outputs", f"copy={tmp_path / 'in'}", "--json", tmp_path / "b.json")
    assert again.exit_code == 0, again.output
    lsd = {
        (row["input"], row["system"]): row["lsd"] for row in json.loads((tmp_path / "b.json").read_text())["summary"]
    }
    for name in ("file-44k1", "float-96k"):
        assert lsd[name, "copy"] == pytest.approx(lsd[name, "unprocessed"], abs=0.01)


def test_the_default_table_has_a_row_at_another_rate_and_asked_conditions_stand_alone(references, tmp_path):
    for words, expected in [
        ([], ["4000", "8000", *DEFAULT]),
        (["--seed", 1], ["4000", "8000", *DEFAULT]),
        (["--cutoffs", "4000"], ["4000"]),
        (["--cases", "none"], ["4000", "8000"]),
        (["--cutoffs", "4000", "--cases", "file-12k"], ["4000", "file-12k"]),
    ]:
        done = latentsr(references, *QUICK, "--heads", "none", *words, "--json", tmp_path / "a.json")
        assert done.exit_code == 0, done.output
        assert [row["input"] for row in json.loads((tmp_path / "a.json").read_text())["summary"]] == expected
    refused = latentsr(references, "--heads", "none", "--cases", "beseel")
    assert refused.exit_code == 2
    assert "did you mean 'bessel'" in " ".join(refused.output.replace("│", " ").split())
