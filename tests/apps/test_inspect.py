"""`latentsr inspect`: reports, tables, JSON, pictures, exit codes; on the real estimate of the band."""

import io
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from latentsr.apps import cli
from latentsr.apps.inspect import found
from latentsr.apps.restore import UsageError

RATE = 48_000
HUM = 0.01  # amplitude


def recording(path: Path, seconds=3.0, channels=2, hum=0.0, rate=RATE, level=0.05, **how) -> Path:
    rng = np.random.default_rng(0)
    wave = level * rng.standard_normal((round(seconds * rate), channels))
    wave += hum * np.sin(2 * np.pi * 50 * np.arange(len(wave)) / rate)[:, None]
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, rate, **how)
    return path


@pytest.fixture
def latentsr(monkeypatch, capsys):
    """Runs the console script's `main`."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["latentsr", "inspect", *map(str, words)])
        monkeypatch.setattr("signal.signal", lambda *_: None)
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        said = capsys.readouterr()
        return SimpleNamespace(code=exit_.value.code or 0, out=said.out, err=said.err)

    return run


def test_one_file_is_a_report(tmp_path, latentsr):
    run = latentsr(recording(tmp_path / "old.wav", hum=HUM, subtype="PCM_24"))
    lines = dict(line.strip().split("  ", 1) for line in run.out.splitlines()[1:])
    said = {name: text.strip() for name, text in lines.items()}
    assert run.code == 0 and run.err == ""
    assert said["File"] == "WAV PCM_24, 48,000 Hz, stereo, 3.0 s"
    assert said["Hum"] == "-40 dBFS, mains of 50 Hz (at 50 Hz)"
    assert said["Bits"] == "24 of 24 used"
    assert said["Restore"] == "would leave it as it is: no band is missing; add --denoise for the hum at 50 Hz"
    assert list(said)[-1] == "Restore" and said["Clipping"] == "none" and said["Channels"] == "all differ"


def test_a_folder_is_an_aligned_table_and_json_has_an_object_for_each(tmp_path, latentsr):
    recording(tmp_path / "box" / "a.wav", hum=HUM)
    recording(tmp_path / "box" / "sub" / "a longer name.flac", seconds=1.0, channels=1)
    (tmp_path / "box" / "notes.txt").write_text("no recording")
    (tmp_path / "box" / ".hidden.wav").write_text("no recording")
    run = latentsr(tmp_path / "box")
    head, first, second = run.out.splitlines()
    at = head.index("probable cause")
    assert {line[at:].split("  ")[0].strip() for line in (first, second)} == {"nothing"}
    assert first.endswith("hum 50 Hz -40 dB") and second.endswith("none") and run.code == 0
    run = latentsr("--json", tmp_path / "box")
    told = [json.loads(line) for line in run.out.splitlines()]
    assert [Path(one["path"]).name for one in told] == ["a.wav", "a longer name.flac"]
    assert told[0]["hum"]["mains_hz"] == 50 and told[0]["band"] == [[[0.0, 24000.0]]] * 2 and told[1]["hum"] is None
    assert told[0]["cause"]["name"] == "nothing" and told[0]["full_band"] is True and "picture" not in told[0]


def test_one_bad_file_of_several_is_named_and_the_others_are_told(tmp_path, latentsr):
    good, bad, text = recording(tmp_path / "good.wav"), tmp_path / "gone.wav", tmp_path / "text.wav"
    text.write_text("These are words.")
    run = latentsr(bad, good, text)
    assert run.code == 3 and len(run.out.splitlines()) == 2
    assert run.err.splitlines()[0] == f"latentsr: {bad} does not exist; check the name"
    assert run.err.splitlines()[-1] == "latentsr: 2 of 3 files failed" and len(run.err.splitlines()) == 3
    run = latentsr(bad, "--json")
    assert run.code == 1 and json.loads(run.out)["error_type"] == "AudioError" and len(run.err.splitlines()) == 1


def test_nan_is_the_error_of_restore_or_zeros(tmp_path, latentsr):
    wave = 0.1 * np.random.default_rng(0).standard_normal(RATE)
    wave[1000:1003] = np.nan
    soundfile.write(tmp_path / "nan.wav", wave, RATE, subtype="FLOAT")
    run = latentsr(tmp_path / "nan.wav")
    assert run.code == 1 and "3 samples that are NaN or infinite" in run.err and "--on-nonfinite zero" in run.err
    run = latentsr(tmp_path / "nan.wav", "--on-nonfinite", "zero")
    assert run.code == 0 and "Mended" in run.out and "3 samples" in run.out


@pytest.mark.parametrize("samples", [1, 2, 500, 0.1 * RATE])
@pytest.mark.parametrize("level", [0.0, 0.1])
def test_next_to_nothing_is_an_answer(tmp_path, latentsr, samples, level):
    run = latentsr(recording(tmp_path / "short.wav", seconds=samples / RATE, level=level))
    assert run.code == 0 and "would leave it as it is" in run.out


@pytest.mark.parametrize(
    "words, says",
    [
        (["--on-nonfinite", "guess", "a.wav"], "--on-nonfinite is error or zero"),
        (["--plot", "here.png", "a.wav"], "here.png is there already; pass --overwrite"),
        (["--plot", "nowhere/new.png", "a.wav"], "there is no folder nowhere"),
        (["empty"], "empty holds no recordings"),
        ([], "Missing argument"),
    ],
)
def test_wrong_usage_is_noticed_before_anything_is_heard(tmp_path, monkeypatch, latentsr, words, says):
    monkeypatch.chdir(tmp_path)
    recording(tmp_path / "a.wav", seconds=0.1)
    (tmp_path / "here.png").touch()
    (tmp_path / "empty").mkdir()
    run = latentsr(*words)
    assert run.code == 2 and says in run.err and run.out == ""


def test_a_picture_of_two(tmp_path, latentsr):
    image = pytest.importorskip("PIL.Image")
    files = [recording(tmp_path / "a$b$.wav", hum=HUM), recording(tmp_path / "short.wav", seconds=0.01)]
    run = latentsr(*files, "--plot", tmp_path / "two.png")
    assert run.code == 0 and sorted(path.suffix for path in tmp_path.iterdir()) == [".png", ".wav", ".wav"]
    assert image.open(io.BytesIO((tmp_path / "two.png").read_bytes())).size == (1200, 580)


def test_the_missing_extra_is_named(tmp_path, monkeypatch, latentsr):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    run = latentsr(recording(tmp_path / "a.wav", seconds=0.1), "--plot", tmp_path / "a.png")
    assert run.code == 1 and "pip install 'latentsr[eval]'" in run.err and run.out == ""


def test_a_folder_gives_files_in_order_and_a_file_is_taken_at_its_word(tmp_path):
    for name in ("b.wav", "a.flac", "sub/c.mp3"):
        recording(tmp_path / name, seconds=0.1)
    assert [path.name for path in found([tmp_path, Path("any.name")])] == ["a.flac", "b.wav", "c.mp3", "any.name"]
    (tmp_path / "none").mkdir()
    with pytest.raises(UsageError):
        found([tmp_path / "none"])


def test_help_imports_no_torch():
    code = (
        "import sys; sys.argv[1:] = ['inspect', '--help']\nfrom latentsr.apps import cli\n"
        "try: cli.main()\nexcept SystemExit: print('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "False"
