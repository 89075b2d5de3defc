"""More than one file of a recording: its made band, several draws, the best of these; and what the command says."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from latentsr import audio
from latentsr.apps import cli
from latentsr.apps.draws import distances_from_mean
from latentsr.apps.loading import Loader
from latentsr.restoring.bands import BandTable
from tiny import RATE, programme, tiny_pipeline

FAST = ("--head", "vocoder", "--steps", "1", "--cutoff", "4000")


@pytest.fixture(scope="module")
def pipe():
    made = tiny_pipeline()
    made.register_to_config(default_head="vocoder")
    return made


@pytest.fixture
def latentsr(pipe, monkeypatch, capsys):
    """Runs `main` with tiny networks."""

    def run(*words) -> SimpleNamespace:
        monkeypatch.setattr(Loader, "__call__", lambda *_: pipe)
        monkeypatch.setattr(sys, "argv", ["latentsr", *map(str, words)])
        before = signal.getsignal(signal.SIGTERM)
        try:
            with pytest.raises(SystemExit) as exit_:
                cli.main()
        finally:
            signal.signal(signal.SIGTERM, before)
        captured = capsys.readouterr()
        return SimpleNamespace(code=exit_.value.code or 0, out=captured.out, err=captured.err)

    return run


@pytest.fixture
def wav(tmp_path) -> Path:
    soundfile.write(tmp_path / "old.wav", programme(1.5).T, RATE, "FLOAT")
    return tmp_path / "old.wav"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def read(path: Path) -> np.ndarray:
    return audio.read(path).samples


def test_each_seed_has_a_file(latentsr, pipe, wav):
    done = latentsr("restore", wav, *FAST, "--draws", 3, "--seed", 5)
    assert (done.code, len(done.out.splitlines())) == (0, 3)
    assert names(wav.parent) == [*(f"old.48k.seed{seed}.wav" for seed in (5, 6, 7)), "old.wav"]
    made = [read(wav.with_name(f"old.48k.seed{seed}.wav")) for seed in (5, 6, 7)]
    assert np.array_equal(made[1], pipe(wav, head="vocoder", steps=1, cutoff_hz=4_000.0, seed=6).audio)
    assert not np.array_equal(made[0], made[1]) and not np.array_equal(made[1], made[2])


@pytest.mark.parametrize(
    ("where", "named"), [(["-o", "new.flac"], "new.seed1.flac"), (["--out-dir", "d"], "d/old.seed1.wav")]
)
def test_draws_are_called_after_the_output(latentsr, wav, monkeypatch, where, named):
    monkeypatch.chdir(wav.parent)
    assert latentsr("restore", wav, *FAST, "--draws", 2, *where).code == 0
    assert (wav.parent / named).is_file()


def test_the_best_is_the_nearest_to_the_mean(latentsr, wav):
    assert latentsr("restore", wav, *FAST, "--draws", 4, "--out-dir", wav.parent / "all").code == 0
    tables = []
    for seed in range(4):
        table = BandTable(RATE)
        table.update(read(wav), read(wav.parent / "all" / f"old.seed{seed}.wav"))
        tables.append(table.result())
    far = distances_from_mean(tables)
    done = latentsr("restore", wav, *FAST, "--draws", 4, "--best", "--json")
    record = json.loads(done.out)
    assert record["draws"] == {"seeds": [0, 1, 2, 3], "distances_db": pytest.approx(far, abs=2e-3)}
    assert record["seed"] == int(np.argmin(far)) and min(far) < max(far)
    assert np.array_equal(
        read(wav.with_name("old.48k.wav")), read(wav.parent / "all" / f"old.seed{record['seed']}.wav")
    )
    assert names(wav.parent) == ["all", "old.48k.wav", "old.wav"]
    again = latentsr("restore", wav, *FAST, "--draws", 4, "--best", "--overwrite")
    assert f"seed {record['seed']}, of 4 draws the nearest to their mean: {min(far):.2f} dB" in again.out


def test_distances_are_known_of_known_levels():
    """Draws 6 dB apart at one band of two seconds, else the same: each is 3 dB from the mean where anything is made."""
    rng = np.random.default_rng(0)
    tables = []
    noise = rng.standard_normal((1, RATE)).astype(np.float32) * 0.01
    for gain in (1.0, 10 ** (6 / 20)):
        table = BandTable(RATE)
        table.update(np.zeros((1, RATE), np.float32), noise * np.float32(gain))
        tables.append(table.result())
    assert distances_from_mean(tables) == pytest.approx([3.0, 3.0], abs=0.01)
    assert distances_from_mean([tables[0], tables[0]]) == [0.0, 0.0]


def test_draws_of_a_whole_band_are_the_same(latentsr, wav):
    done = latentsr("restore", wav, "--head", "vocoder", "--cutoff", "24000", "--draws", 2, "--best")
    assert done.code == 0 and "nothing was drawn: all draws are the same" in done.err


def test_the_best_leaves_nothing_when_it_fails(latentsr, wav, monkeypatch):
    (wav.parent / "old.48k.wav").write_bytes(b"precious")
    done = latentsr("restore", wav, *FAST, "--draws", 2, "--best")
    assert done.code == 1 and "exists already" in done.err
    assert names(wav.parent) == ["old.48k.wav", "old.wav"]
    assert (wav.parent / "old.48k.wav").read_bytes() == b"precious"


def test_the_made_band_alone(latentsr, wav):
    done = latentsr("restore", wav, *FAST, "--write-band", wav.with_name("top.wav"), "--json")
    record = json.loads(done.out)
    assert record["band"] == str(wav.with_name("top.wav"))
    made, top = read(wav.with_name("old.48k.wav")), read(wav.with_name("top.wav"))
    error = np.square(read(wav) + top - made).sum() / np.square(made).sum()
    assert 10 * np.log10(error + 1e-20) < -80


def test_json_has_a_table_of_bands(latentsr, wav):
    bands = json.loads(latentsr("restore", wav, *FAST, "--json").out)["bands"]
    assert len(bands["kept_db"]) == len(bands["raised_db"]) == len(bands["made_db"]) == 2  # seconds, the last one begun
    at = bands["edges_hz"].index(1_000.0), bands["edges_hz"].index(8_000.0)
    assert bands["kept_db"][0][at[0]] > -60 and bands["made_db"][0][at[0]] is None
    assert bands["kept_db"][0][at[1]] is None and bands["made_db"][0][at[1]] > -120


def test_gains_reach_the_result(latentsr, wav):
    done = latentsr("restore", wav, *FAST, "--amount", "-6dB", "-o", wav.with_name("half.wav"))
    assert done.code == 0 and "vocoder made the band up to 24 kHz" in done.out
    assert latentsr("restore", wav, *FAST).code == 0
    half, whole = (read(wav.with_name(name)) - read(wav) for name in ("half.wav", "old.48k.wav"))
    assert 10 * np.log10(np.square(half).sum() / np.square(whole).sum()) == pytest.approx(-6.0, abs=0.1)


COPIED = {
    "nothing is missing: copied": ["--cutoff", "24000"],
    "an amount of 0%: copied": ["--amount", "0%"],
    "it ends above the ceiling: copied": ["--ceiling", "3000"],
}


@pytest.mark.parametrize("told", COPIED)
def test_why_nothing_is_made_is_told(latentsr, wav, told):
    done = latentsr("restore", wav, "--head", "vocoder", *COPIED[told])
    assert done.code == 0 and told in done.out
    assert np.array_equal(read(wav.with_name("old.48k.wav")), read(wav))


def test_silence_is_told(latentsr, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(4_800), RATE)
    assert "silence: copied" in latentsr("restore", tmp_path / "a.wav", "--head", "vocoder").out


def test_a_second_loss_is_told(latentsr, tmp_path):
    soundfile.write(tmp_path / "a.mp3", programme(1.0).T, RATE)
    assert "MP3 again: a second loss; choose --format flac" in latentsr("restore", tmp_path / "a.mp3", *FAST).err
    asked = latentsr("restore", tmp_path / "a.mp3", *FAST, "--format", "mp3", "--overwrite")
    assert (asked.code, asked.err.count("second loss")) == (0, 0)


def test_a_failure_names_its_file(latentsr, tmp_path):
    soundfile.write(tmp_path / "loud.wav", np.full(4_800, 1e7), RATE, "FLOAT")
    done = latentsr("restore", tmp_path / "loud.wav", *FAST)
    assert done.code == 1 and f"{tmp_path / 'loud.wav'}: the peak is 1e+07 times full scale" in done.err


WRONG = {
    "too much": (["--amount", "500%"], "amount must be 0% to 400%"),
    "no share": (["--amount", "loud"], "like 50% or -6dB"),
    "too steep": (["--tilt", "13"], "tilt must be -12 to 12, got 13"),
    "too sharp": (["--sibilance", "-12.5"], "sibilance must be -12 to 12, got -12.5"),
    "no ceiling": (["--ceiling", "100"], "ceiling_hz must be 1000 to 24000, got 100"),
    "nothing between": (["--ceiling", "4000", "--cutoff", "5000"], "not above the cutoff"),
    "one draw": (["--draws", "1"], "--draws"),
    "best of none": (["--best"], "add --draws N"),
    "draws of what draws nothing": (["--draws", "2", "--head", "aeromamba"], "the aeromamba head draws nothing"),
    "draws of nothing": (["--draws", "2", "--amount", "0%"], "makes nothing"),
    "seeds beyond": (["--draws", "2", "--seed", str(2**64 - 1)], "seed must be"),
    "a band of draws": (["--draws", "2", "--write-band", "top.wav"], "--write-band is of one result"),
    "a band of no format": (["--write-band", "top"], "a name without an extension"),
    "the band is the result": (["-o", "new.wav", "--write-band", "./new.wav"], "would both be written"),
    "the band is the input": (["--write-band", "old.wav", "--overwrite"], "would replace the input"),
    "a band of two": (["b.wav", "--write-band", "top.wav", "--out-dir", "d"], "there are 2 inputs"),
    "compat has no gains": (["--compat", "--model", "m", "--amount", "50%"], "takes no --amount"),
    "compat has no draws": (["--compat", "--model", "m", "--draws", "2"], "no --draws"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_usage_is_exit_2_before_any_model(latentsr, pipe, wav, monkeypatch, case):
    words, message = WRONG[case]
    monkeypatch.chdir(wav.parent)
    (wav.parent / "b.wav").write_bytes(wav.read_bytes())
    monkeypatch.setattr(Loader, "default_head", lambda *_: "vocoder")
    done = latentsr("restore", "old.wav", *words)
    assert (done.code, message in " ".join(done.err.replace("│", " ").split())) == (2, True), done.err
    assert names(wav.parent) == ["b.wav", "old.wav"]


def test_the_embedded_model_from_the_shell(wav):
    """--amount -6dB is no option, though it begins like one."""
    words = ["restore", wav, "--head", "mamba-gan", "--amount", "-6dB", "--tilt", "-3", "--ceiling", "16000", "--json"]
    env = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-m", "latentsr", *map(str, words)], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    bands = json.loads(done.stdout)["bands"]
    assert bands["made_db"][0][bands["edges_hz"].index(16_000.0)] is None
    assert bands["made_db"][0][bands["edges_hz"].index(10_000.0)] is not None


def test_an_album_is_restored_as_one(latentsr, tmp_path):
    wave = programme(2.0, 2)
    for name, part in (("1.wav", wave[:, :RATE]), ("2.wav", wave[:, RATE:]), ("whole.wav", wave)):
        soundfile.write(tmp_path / name, part.T, RATE, "FLOAT")
    assert latentsr("restore", tmp_path / "whole.wav", *FAST).code == 0
    done = latentsr("restore", tmp_path / "1.wav", tmp_path / "2.wav", *FAST, "--album", "--json")
    assert done.code == 0 and not done.err
    records = [json.loads(line) for line in done.out.splitlines()]
    assert [record["samples"] for record in records] == [RATE, RATE] and all("bands" in each for each in records)
    tracks = [read(Path(record["output"])) for record in records]
    assert np.array_equal(np.concatenate(tracks, axis=1), read(tmp_path / "whole.48k.wav"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["a.wav"], "joins several tracks"),
        (["a.wav", "b.wav", "--draws", "2"], "--album and --draws do not go together"),
        (["a.wav", "b.wav", "--write-band", "c.wav"], "--write-band names one file"),
        (["a.wav", "mono.wav"], "has one rate and number of channels, but mono.wav has 1 at 48000 Hz, and a.wav 2 at"),
        (["a.wav", "slow.wav"], "slow.wav has 2 at 44100 Hz, and a.wav 2 at 48000 Hz"),
    ],
)
def test_what_is_no_album_is_refused_in_one_line(latentsr, tmp_path, monkeypatch, words, says):
    monkeypatch.chdir(tmp_path)
    for name, rate, channels in (("a", RATE, 2), ("b", RATE, 2), ("mono", RATE, 1), ("slow", 44_100, 2)):
        soundfile.write(f"{name}.wav", np.full((99, channels), 0.1), rate)
    done = latentsr("restore", *words, "--album", "--head", "vocoder")
    assert (done.code, done.err.count("\n")) == (2, 1) and says in done.err
    assert names(tmp_path) == ["a.wav", "b.wav", "mono.wav", "slow.wav"]


def test_an_album_of_which_a_track_is_bad_is_not_restored(latentsr, tmp_path, wav):
    (tmp_path / "bad.wav").write_bytes(wav.read_bytes()[:-4_000])
    done = latentsr("restore", wav, tmp_path / "bad.wav", *FAST, "--album")
    assert done.code == 1 and "bad.wav is cut short" in done.err and "1 of 2 tracks cannot be restored" in done.err
    assert names(tmp_path) == ["bad.wav", "old.wav"]
