"""The answer of a report, what a system does to what needs nothing, how draws spread, and other systems as commands."""

import json
import math
import shlex
import sys

import numpy as np
import pytest
import soundfile
import typer
from typer.testing import CliRunner

from latentsr.apps.evaluate import eval_command
from latentsr.evaluation import benchmark, calibration, commands, harm, report
from latentsr.evaluation.conditions import Conditions
from latentsr.evaluation.filters import lowpass

RATE = 48_000
FIGURES = [column.source or column.key for column in report.COLUMNS]
QUICK = ["--cutoffs", "4000", "--heads", "none", "--no-visqol", "--no-zimtohrli", "--jobs", "1"]

app = typer.Typer()
app.command("eval")(eval_command)
app.command("other")(lambda: None)


def latentsr(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    folder = tmp_path_factory.mktemp("references")
    for i in range(2):
        soundfile.write(folder / f"{i}.wav", np.random.default_rng(i).normal(0, 0.1, 24_000), RATE, subtype="PCM_24")
    return folder


def record(system, clip, lsd, **figures):
    about = {"clip": clip, "group": "music", "system": system, "input": "4000", "cutoff_hz": 4000.0, "noise": "none"}
    about |= {"input_rate_hz": RATE, "seconds": 1.0, "duration_s": 4.0, "lsd": lsd, "hf_energy_db": 0.0}
    return dict.fromkeys(FIGURES) | about | figures


def test_systems_are_ranked_over_all_clips_and_the_best_of_each_column_is_named():
    worse = [record("worse", str(i), 2.0 + 0.1 * i, hf_energy_db=1.0, seconds=0.5) for i in range(6)]
    better = [record("better", str(i), 1.0 + 0.1 * i, hf_energy_db=-3.0) for i in range(6)]
    given = [record("unprocessed", str(i), 0.5) for i in range(6)]
    rows = report.answer([*given, *worse, *better, record("better", "5", 7.5)], seed=0)
    assert [(row["system"], row["rank"]) for row in rows] == [("unprocessed", None), ("better", 1), ("worse", 2)]
    assert [row["best"] for row in rows] == [[], ["lsd"], ["hf_energy_db", "seconds_per_second"]]
    assert rows[1]["lsd"] == pytest.approx((1.0 + 1.1 + 1.2 + 1.3 + 1.4 + 4.5) / 6)  # a clip counts once
    assert rows[2]["lsd_low"] < rows[2]["lsd"] < rows[2]["lsd_high"]


def test_harm_is_none_of_a_system_that_leaves_everything_and_known_of_one_that_adds(references):
    tone = 0.001 * np.sqrt(2) * np.sin(np.arange(RATE))
    systems = [
        benchmark.unprocessed(),
        benchmark.System("nothing", lambda case: (case.degraded, None)),
        benchmark.System("tone", lambda case: (case.degraded + tone[: len(case.degraded)], None)),
    ]
    clips = benchmark.find_clips(references)
    nothing, adds = harm.harm(benchmark.Comparison(clips, systems, Conditions(cutoffs_hz=(4000,))))
    assert (nothing["full_band_db"], nothing["again_db"], nothing["silence_db"]) == (-200, -200, -200)
    assert adds["full_band_db"] == pytest.approx(-40, abs=0.3)  # 0.001 against 0.1
    assert adds["silence_db"] == pytest.approx(-57, abs=0.1)


def test_harm_is_known_of_a_command_whose_result_passes_full_scale(references, tmp_path):
    words = peer(tmp_path, "soundfile.write(sys.argv[2], 4 * w, r, 'FLOAT')")  # noise of 0.1: peaks near 0.4, then 1.6
    compared = benchmark.Comparison(
        benchmark.find_clips(references), [commands.command("loud", f"{words} {{in}} {{out}}")],
        Conditions(cutoffs_hz=(4000,)),
    )  # fmt: skip
    (loud,) = harm.harm(compared)
    assert loud["why"] is None and loud["again_db"] == pytest.approx(20 * math.log10(3), abs=0.01)


def test_crps_is_that_of_all_pairs():
    rng = np.random.default_rng(0)
    draws, truth = rng.normal(0, 2, (7, 50)), rng.normal(0, 2, 50)
    pairs = np.abs(draws[:, None] - draws[None]).sum(axis=(0, 1)) / (2 * 7 * 6)
    assert calibration.crps(draws, truth) == pytest.approx((np.abs(draws - truth).mean(axis=0) - pairs).mean())
    assert calibration.crps(draws[:1], truth) == pytest.approx(np.abs(draws[0] - truth).mean())


@pytest.mark.parametrize(("spread", "ends"), [(1.0, 0.25), (0.3, 0.6), (3.0, 0.1)])
def test_ranks_are_flat_where_draws_spread_as_the_truth_does(spread, ends):
    rng = np.random.default_rng(1)
    counts = calibration.ranks(spread * rng.normal(0, 1, (7, 4000)), rng.normal(0, 1, 4000))
    assert counts.sum() == 4000 and len(counts) == 8
    share = (counts[0] + counts[-1]) / 4000
    assert share == pytest.approx(ends, abs=0.02) if spread == 1 else (share > ends if spread < 1 else share < ends)


def test_a_head_that_draws_the_truth_s_own_noise_is_calibrated(references):
    def draw(seed, case):
        low = lowpass(case.truth, case.recipe)
        other = np.random.default_rng(100 + seed).normal(0, 0.1, len(low))
        return low + other - lowpass(other, case.recipe)

    systems = [benchmark.System("draws", lambda case: (draw(0, case), None), draw=draw)]
    compared = benchmark.Comparison(benchmark.find_clips(references), systems, Conditions(cutoffs_hz=(8000,)))
    (found,) = calibration.calibration(compared, 6, 0)
    assert found["crps_db"] < 0.8 * found["error_db"] < 0.5
    assert len(found["ranks"]) == 7 and sum(found["ranks"]) == found["observations"]


def peer(folder, code):
    (folder / "peer.py").write_text(f"import sys, soundfile\nw, r = soundfile.read(sys.argv[1])\n{code}\n")
    return shlex.join([sys.executable, str(folder / "peer.py")])


def test_a_command_is_a_row_that_is_timed(references, tmp_path):
    words = peer(tmp_path, "soundfile.write(sys.argv[2], w, r, 'FLOAT')")
    done = latentsr(
        "eval", references, *QUICK, "--system", f"peer={words} {{in}} {{out}}", "--json", tmp_path / "a.json"
    )
    assert done.exit_code == 0, done.output
    document = json.loads((tmp_path / "a.json").read_text())
    given, row = document["summary"]
    assert row["system"] == "peer" and row["lsd"] == pytest.approx(given["lsd"], abs=1e-3)
    assert row["seconds_per_second"] > 0.01 and str(tmp_path) not in document["conditions"]["command"]
    assert "peer.py {in} {out}" in document["conditions"]["command"]


WRONG = {
    "fails": ("sys.exit('no weights')", "exit code 1: no weights"),
    "writes nothing": ("", "it wrote no {out}"),
    "writes half": ("soundfile.write(sys.argv[2], w[::2], r)", "lasts 0.25 s, and not 0.50 s"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_command_that_fails_is_one_line(references, tmp_path, case):
    code, message = WRONG[case]
    done = latentsr("eval", references, *QUICK, "--system", f"peer={peer(tmp_path, code)} {{in}} {{out}}")
    said = [line for line in done.output.splitlines() if line.startswith("latentsr:")]
    assert (done.exit_code, len(said)) == (1, 1), done.output
    assert "the system 'peer' on 0.wav, 4000: " in said[0] and message in said[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--system", "peer=sox {in} x.wav"], "lacks {out}"),
        (["--system", "peer=no-such-program {in} {out}"], "there is no program no-such-program"),
        (["--system", "peer={in} '{out}"], "No closing quotation"),
        (["--draws", "4"], "no head scored draws"),
        (["--draws", "1"], "--draws"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_scored(references, words, message):
    done = latentsr("eval", references, *QUICK, *words)
    assert done.exit_code == 2 and message in " ".join(done.output.replace("│", " ").split())
