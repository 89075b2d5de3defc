"""The command line: what goes where, which exit code, and what is left behind when something fails."""

import json
import os
import resource
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import ctrl_c
import numpy as np
import pytest
import soundfile
import torch

from latentsr import audio
from latentsr.apps import cli
from latentsr.apps.loading import Loader, check_device
from latentsr.apps.terminal import progress_bar
from latentsr.audio.tags.metadata import Metadata
from latentsr.errors import UsageError
from latentsr.options import Options
from latentsr.restoring.analysis import listen
from latentsr.restoring.files import Beside, write_restored
from latentsr.signal.track import Stretch, Track

SRC = Path(cli.__file__).parents[2]
ENV = {**os.environ, "PYTHONPATH": str(SRC), "OMP_NUM_THREADS": "1", "COLUMNS": "100"}


def model(restore_file):
    """A model that has this method."""
    return SimpleNamespace(restore_file=restore_file)


def loads(monkeypatch, load):
    """Let the command line load what this function gives."""
    monkeypatch.setattr(Loader, "__call__", load)


class Echo:
    """In place of a model: resamples to 48 kHz, and remembers what it was asked."""

    def __init__(self) -> None:
        self.calls: list[Options] = []

    def restore_file(self, source, target, *, options, progress=None, **more):
        self.calls.append(options)
        album = audio.Album([source])
        heard = listen(album, options.but(cutoff_hz=options.cutoff_hz or 4_000.0))
        if progress:
            progress(heard.samples / 96_000, heard.samples / 48_000)
            progress(heard.samples / 48_000, heard.samples / 48_000)
        beside = Beside(more.get("write_band"), "bands" in more)
        return write_restored(album, [target], heard, lambda *_: None, options, beside)[0]


class Run(SimpleNamespace):
    code: int
    out: str
    err: str

    @property
    def json(self) -> list[dict]:
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def pipe(monkeypatch) -> Echo:
    echo = Echo()
    loads(monkeypatch, lambda *_: echo)
    return echo


@pytest.fixture
def latentsr(pipe, monkeypatch, capsys):
    """Runs the console script's `main` with a model that answers at once."""

    def run(*words) -> Run:
        monkeypatch.setattr(sys, "argv", ["latentsr", *map(str, words)])
        before = signal.getsignal(signal.SIGTERM)
        try:
            with pytest.raises(SystemExit) as exit_:
                cli.main()
        finally:
            signal.signal(signal.SIGTERM, before)
        captured = capsys.readouterr()
        return Run(code=exit_.value.code or 0, out=captured.out, err=captured.err)

    return run


@pytest.fixture
def no_model(monkeypatch):
    """Fails the test if the model is loaded: for what must be noticed before."""

    def load(*_):
        raise AssertionError("the model was loaded")

    loads(monkeypatch, load)


def recording(path: Path, *, rate_hz: int = 16_000, channels: int = 2, seconds: float = 1.0, **how) -> Path:
    generator = np.random.default_rng(0)
    samples = generator.uniform(-0.5, 0.5, (round(seconds * rate_hz), channels)).astype(np.float32)
    soundfile.write(path, samples, rate_hz, **how)
    return path


@pytest.fixture
def wav(tmp_path) -> Path:
    return recording(tmp_path / "old.wav")


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def shell(*words, timeout: float = 120.0, **how) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "latentsr", *map(str, words)]
    return subprocess.run(command, env=ENV, capture_output=True, text=True, timeout=timeout, **how)


# --- what goes where -------------------------------------------------------------------------------


def test_default_output_lies_beside_the_input(latentsr, wav):
    before = wav.read_bytes()
    done = latentsr("restore", wav)
    assert done.code == 0
    assert names(wav.parent) == ["old.48k.wav", "old.wav"]
    assert wav.read_bytes() == before
    got = audio.read(wav.with_name("old.48k.wav"))
    assert (got.samples.shape, got.sample_rate, got.subtype) == ((2, 48_000), 48_000, "PCM_16")
    assert "old.48k.wav" in done.out


def test_named_output(latentsr, wav, tmp_path):
    assert latentsr("restore", wav, "-o", tmp_path / "new.flac").code == 0
    assert audio.read(tmp_path / "new.flac").format == "FLAC"


def test_out_dir_is_made_and_keeps_names(latentsr, wav, tmp_path):
    other = recording(tmp_path / "other.flac")
    assert latentsr("restore", wav, other, "--out-dir", tmp_path / "a" / "b").code == 0
    assert names(tmp_path / "a" / "b") == ["old.wav", "other.flac"]


@pytest.mark.parametrize("format", ["wav", "flac", "mp3", "ogg", "opus"])
def test_format(latentsr, wav, tmp_path, format):
    assert latentsr("restore", wav, "--out-dir", tmp_path / "out", "--format", format).code == 0
    got = audio.read(tmp_path / "out" / f"old.{format}")
    assert got.format == {"opus": "OGG"}.get(format, format.upper())
    assert got.samples.shape == (2, 48_000)


@pytest.mark.parametrize(("subtype", "expected"), [("PCM_U8", "PCM_16"), ("PCM_24", "PCM_24"), ("DOUBLE", "DOUBLE")])
def test_depth_is_kept(latentsr, tmp_path, subtype, expected):
    path = recording(tmp_path / "a.wav", subtype=subtype)
    assert latentsr("restore", path).code == 0
    assert audio.probe(tmp_path / "a.48k.wav").subtype == expected


@pytest.mark.parametrize("channels", [1, 2, 8])
@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 384_000])
def test_length_is_exact_for_any_rate_and_channels(latentsr, tmp_path, rate_hz, channels):
    path = recording(tmp_path / "a.wav", rate_hz=rate_hz, channels=channels, seconds=0.1234)
    frames = audio.probe(path).frames
    assert latentsr("restore", path).code == 0
    got = audio.probe(tmp_path / "a.48k.wav")
    assert (got.channels, got.frames) == (channels, (2 * frames * 48_000 + rate_hz) // (2 * rate_hz))


def test_sample_rate_resamples_the_result(latentsr, wav):
    done = latentsr("restore", wav, "--sample-rate", 44_100, "--json")
    assert done.json[0]["sample_rate"] == 44_100
    assert audio.read(wav.with_name("old.48k.wav")).samples.shape == (2, 44_100)


def test_tags_are_kept(latentsr, tmp_path, wav):
    path = tmp_path / "tagged.flac"
    audio.write(path, audio.read(wav).samples, 16_000, metadata=Metadata({"title": "Süß", "artist": "Nobody"}))
    assert latentsr("restore", path).code == 0
    assert audio.probe(tmp_path / "tagged.48k.flac").tags == {"title": "Süß", "artist": "Nobody"}


def test_m4a_goes_to_flac(latentsr, tmp_path):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "a.m4a"), "w", format="mp4") as out:
        stream = out.add_stream("aac", rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 48_000), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 48_000, 0
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            out.mux(packet)
    done = latentsr("restore", tmp_path / "a.m4a")
    assert done.code == 0 and "m4a cannot be written: FLAC" in done.err
    assert audio.read(tmp_path / "a.48k.flac").samples.shape == (1, 48_000)


def test_options_reach_the_pipeline(latentsr, pipe, wav):
    words = {
        "--head": "mamba-gan",
        "--steps": 7,
        "--guidance": 2.5,
        "--temperature": 0.5,
        "--seed": 3,
        "--cutoff": 5500,
    }
    flat = [word for pair in words.items() for word in pair]
    assert latentsr("restore", wav, *flat, "--denoise", "--use-latents").code == 0
    assert pipe.calls == [
        Options(
            head="mamba-gan",
            steps=7,
            guidance_scale=2.5,
            temperature=0.5,
            seed=3,
            denoise=True,
            cutoff_hz=5500.0,
            use_latents=True,
        )
    ]


def test_json_is_one_object_per_file_and_no_bar(latentsr, wav, tmp_path):
    other = recording(tmp_path / "b.flac", seconds=0.5)
    done = latentsr("restore", wav, other, "--json")
    assert done.err == ""
    first, second = done.json
    assert first["input"] == str(wav)
    assert first["output"] == str(wav.with_name("old.48k.wav"))
    assert (first["cutoff_hz"], first["gain"], first["duration_s"], second["duration_s"]) == (4000.0, 1.0, 1.0, 0.5)
    assert first["real_time_factor"] == pytest.approx(first["seconds"], abs=1e-3)
    assert first["cutoff_track"] == [[[0.0, 4000.0]], [[0.0, 4000.0]]]


@pytest.mark.parametrize(
    ("track", "told", "note"),
    [
        ([[(0, 4_000)], [(0, 4_000)]], "cutoff 4000 Hz: ", ""),
        ([[(0, 3_400), (2.51234, 24_000), (4, 12_000.04)]], "cutoff 3400 to 24000 Hz in 3 stretches: ", ""),
        ([[(0, 1_500)], [(0, 4_000)]], "cutoff 1500 to 4000 Hz in 2 channels: ", "ends at 1500 Hz"),
    ],
)
def test_a_band_that_changes_is_told(latentsr, monkeypatch, tmp_path, track, told, note):
    stretches = Track(tuple(tuple(Stretch(at, float(hz)) for at, hz in channel) for channel in track), 6.0)

    def restore_file(source, target, *, options, progress=None, **more):
        album = audio.Album([source])
        heard = replace(listen(album, options.but(cutoff_hz=4_000.0)), track=stretches)
        return write_restored(album, [target], heard, lambda *_: None, options)[0]

    loads(monkeypatch, lambda *_: model(restore_file))
    wav = recording(tmp_path / "a.wav", channels=len(track), seconds=6.0)
    done = latentsr("restore", wav)
    assert done.code == 0 and told in done.out
    assert note in done.err
    (record,) = latentsr("restore", wav, "--json", "--overwrite").json
    assert record["cutoff_track"] == [[[round(at, 3), round(hz, 1)] for at, hz in channel] for channel in track]


def test_progress_shows_speed_and_time_left_on_stderr(latentsr, wav):
    done = latentsr("restore", wav)
    assert "real-time factor" in done.err
    assert "/1.0 s" in done.err
    assert "%" not in done.out


def test_pcm_beyond_full_scale_is_scaled_and_said(latentsr, tmp_path):
    soundfile.write(tmp_path / "loud.wav", np.full((4_800, 1), 2.0), 48_000, subtype="FLOAT")
    assert latentsr("restore", tmp_path / "loud.wav").code == 0
    assert audio.read(tmp_path / "loud.48k.wav").samples.max() == 2.0
    done = latentsr("restore", tmp_path / "loud.wav", "-o", tmp_path / "loud.flac", "--json")
    assert done.json[0]["gain"] == 0.5
    assert audio.read(tmp_path / "loud.flac").samples.max() == pytest.approx(1.0, abs=1e-6)


# --- refusals before anything is loaded ------------------------------------------------------------


USAGE = {
    "no input": ([], "Missing argument"),
    "-o with two inputs": (["old.wav", "b.wav", "-o", "c.wav"], "-o names one file"),
    "-o and --out-dir": (["old.wav", "-o", "c.wav", "--out-dir", "d"], "either -o or --out-dir"),
    "-o is a directory": (["old.wav", "-o", "."], "is a directory; use --out-dir"),
    "-o without extension": (["old.wav", "-o", "new"], "a name without an extension"),
    "-o of unknown kind": (["old.wav", "-o", "new.xyz"], "format 'xyz' is not one of"),
    "-o against --format": (["old.wav", "-o", "new.wav", "--format", "flac"], "disagree"),
    "unknown format": (["old.wav", "--format", "aac"], "aac"),
    "unknown option": (["old.wav", "--colour"], "No such option"),
    "no steps": (["old.wav", "--steps", "0"], "latentsr: steps must be 1 to 1000, got 0\n"),
    "cutoff beyond": (["old.wav", "--cutoff", "30000"], "latentsr: cutoff_hz must be 500 to 24000, got 30000.0\n"),
    "cutoff nan": (["old.wav", "--cutoff", "nan"], "latentsr: cutoff_hz must be 500 to 24000, got nan\n"),
    "guidance nan": (["old.wav", "--guidance", "nan"], "latentsr: guidance_scale must be 0 to 100, got nan\n"),
    "amount beyond": (
        ["old.wav", "--amount", "900%"],
        "latentsr: amount must be 0% to 400%, or up to 12dB, got 900%\n",
    ),
    "tilt beyond": (["old.wav", "--tilt", "-13"], "latentsr: tilt must be -12 to 12, got -13.0\n"),
    "sibilance nan": (["old.wav", "--sibilance", "nan"], "latentsr: sibilance must be -12 to 12, got nan\n"),
    "output is the input": (["old.wav", "-o", "old.wav", "--overwrite"], "would replace the input itself"),
    "output is the input, by a link": (["old.wav", "-o", "link.wav", "--overwrite"], "would replace the input"),
    "out-dir is the inputs' folder": (["old.wav", "--out-dir", ".", "--overwrite"], "would replace the input itself"),
    "output is another input": (["old.wav", "old.48k.wav", "--overwrite"], "would replace the input old.48k.wav"),
    "two inputs, one output": (["old.wav", "sub/old.wav", "--out-dir", "d"], "would both be written to"),
    "two inputs, one output but for case": (["old.wav", "sub/OLD.wav", "--out-dir", "d"], "would both be written to"),
    "two formats, one output": (["old.wav", "old.mp3", "--out-dir", "d", "--format", "flac"], "would both be written"),
    "the same input twice": (["old.wav", "./old.wav"], "would both be written to"),
}


@pytest.mark.parametrize("case", USAGE)
def test_wrong_usage_is_exit_2_and_touches_nothing(latentsr, no_model, wav, monkeypatch, case):
    words, message = USAGE[case]
    folder = wav.parent
    monkeypatch.chdir(folder)
    (folder / "sub").mkdir()
    for name in ("b.wav", "old.mp3", "old.48k.wav", "sub/old.wav", "sub/OLD.wav"):
        (folder / name).write_bytes(wav.read_bytes())
    (folder / "link.wav").symlink_to("old.wav")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    done = latentsr("restore", *words)
    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_folder_is_no_recording(latentsr, no_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = latentsr("restore", ".")
    assert (done.code, done.err) == (
        1,
        "latentsr: . is a directory; to restore what it holds, say: latentsr batch . DEST\n",
    )


def truncated(tmp_path: Path) -> Path:
    path = recording(tmp_path / "bad.wav")
    path.write_bytes(path.read_bytes()[:-100])
    return path


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def lying(tmp_path: Path, at: int, value: int) -> Path:
    data = bytearray(recording(tmp_path / "bad.wav").read_bytes())
    data[at : at + 4] = value.to_bytes(4, "little")
    return written(tmp_path / "bad.wav", bytes(data))


def with_nan(tmp_path: Path) -> Path:
    samples = np.zeros((4_800, 1))
    samples[17] = np.nan
    soundfile.write(tmp_path / "bad.wav", samples, 48_000, subtype="FLOAT")
    return tmp_path / "bad.wav"


BAD = {
    "empty": (lambda p: written(p / "bad.wav", b""), "is empty"),
    "text": (lambda p: written(p / "bad.wav", b"not audio\n" * 9), "holds text, not audio"),
    "truncated": (truncated, "cut short"),
    "truncated header": (lambda p: written(p / "bad.wav", b"RIFF\x24\0\0\0WAVEfmt "), "not a recording"),
    "2 GB claimed": (lambda p: lying(p, 40, 2_000_000_000), "cut short"),
    "0 Hz": (lambda p: lying(p, 24, 0), "0 Hz"),
    "NaN": (with_nan, "1 sample that is NaN or infinite, the first at"),
    "no samples": (lambda p: recording(p / "bad.wav", seconds=0), "holds no samples"),
    "missing": (lambda p: p / "bad.wav", "does not exist"),
    "directory": (lambda p: p, "is a directory"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_exit_1_and_one_line(latentsr, tmp_path, case):
    make, message = BAD[case]
    path = make(tmp_path)
    before = names(tmp_path)
    done = latentsr("restore", path, "-o", tmp_path / "new.wav", "--json")
    assert done.code == 1
    assert len(done.err.splitlines()) == 1
    assert message in done.err
    (record,) = done.json
    assert record.pop("error_type") in ("AudioError", "EmptyAudio", "InvalidAudio", "TruncatedAudio")
    assert record == {"input": str(path), "output": None, "error": done.err.removeprefix("latentsr: ").strip()}
    assert names(tmp_path) == before


@pytest.mark.parametrize("case", ["m4a"])
def test_what_needs_an_extra_names_it(latentsr, no_model, tmp_path, monkeypatch, case):
    monkeypatch.setitem(sys.modules, "av", None)
    path = written(tmp_path / f"a.{case}", b"\0\0\0\x20ftypM4A " + bytes(100))
    done = latentsr("restore", path)
    assert (done.code, names(tmp_path)) == (1, ["a.m4a"])
    assert "pip install 'latentsr[av]'" in done.err


UNWRITABLE = {
    "exists": (["-o", "taken.wav"], "exists already; name another file, or say --overwrite"),
    "no folder": (["-o", "nowhere/new.wav"], "does not exist; make it first"),
    "below a file": (["-o", "old.wav/new.wav"], "not a directory"),
    "out-dir below a file": (["--out-dir", "old.wav/d"], "cannot make the folder"),
    "no write access": (["-o", "/proc/new.wav"], "cannot write /proc/new.wav"),
    "out-dir without write access": (["--out-dir", "/proc/new"], "cannot make the folder /proc/new"),
    "device": (["-o", "/dev/full", "--format", "wav", "--overwrite"], "not a regular file"),
    "44.1 kHz opus": (["--format", "opus", "--sample-rate", "44100"], "opus has no 44100 Hz"),
}


@pytest.mark.parametrize("case", UNWRITABLE)
def test_what_cannot_be_written_is_noticed_before_the_model_is_loaded(latentsr, no_model, wav, monkeypatch, case):
    words, message = UNWRITABLE[case]
    monkeypatch.chdir(wav.parent)
    written(wav.parent / "taken.wav", b"precious")
    done = latentsr("restore", "old.wav", *words)
    assert done.code == 1
    assert message in done.err
    assert len(done.err.splitlines()) == 1
    assert names(wav.parent) == ["old.wav", "taken.wav"]
    assert (wav.parent / "taken.wav").read_bytes() == b"precious"


def test_nine_channels_into_flac(latentsr, no_model, tmp_path):
    done = latentsr("restore", recording(tmp_path / "a.wav", channels=9), "--format", "flac")
    assert (done.code, names(tmp_path)) == (1, ["a.wav"])
    assert "flac holds 1 to 8 channels, not 9; write WAV" in done.err


def test_overwrite_replaces(latentsr, wav):
    written(wav.with_name("old.48k.wav"), b"worthless")
    assert latentsr("restore", wav, "--overwrite").code == 0
    assert audio.read(wav.with_name("old.48k.wav")).samples.shape == (2, 48_000)


# --- failures on the way ---------------------------------------------------------------------------


def test_some_of_several_failed_is_exit_3_and_the_rest_is_done(latentsr, wav, tmp_path):
    bad = written(tmp_path / "bad.wav", b"")
    cut = truncated(tmp_path / "sub") if (tmp_path / "sub").mkdir() is None else None
    good = recording(tmp_path / "good.flac")
    done = latentsr("restore", wav, bad, cut, good, "--out-dir", tmp_path / "out", "--json")
    assert done.code == 2  # bad.wav twice: one name, two files
    (tmp_path / "sub" / "bad.wav").rename(tmp_path / "cut.wav")
    done = latentsr("restore", wav, bad, tmp_path / "cut.wav", good, "--out-dir", tmp_path / "out", "--json")
    assert done.code == 3
    assert names(tmp_path / "out") == ["good.flac", "old.wav"]
    assert [done.err.count(name) for name in ("bad.wav", "cut.wav", "old.wav", "good.flac")] == [1, 1, 0, 0]
    assert "2 of 4 files failed" in done.err
    assert [record["output"] is None for record in done.json] == [True, True, False, False]


def test_all_of_several_failed_is_exit_1(latentsr, no_model, tmp_path):
    assert latentsr("restore", tmp_path / "a.wav", tmp_path / "b.wav").code == 1


@pytest.mark.parametrize("error", [RuntimeError("boom\nand more"), MemoryError(), ValueError("head 'x' is unknown")])
def test_a_failure_inside_the_model_is_one_line_and_leaves_nothing(latentsr, wav, monkeypatch, error):
    def explode(*_, **__):
        raise error

    loads(monkeypatch, lambda *_: model(explode))
    done = latentsr("restore", wav, "--json")
    assert (done.code, names(wav.parent)) == (1, ["old.wav"])
    assert len(done.err.splitlines()) == 1
    assert type(error).__name__ in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("total_s", [5.12, 0.1 + 0.2, 1 / 3, 7_200.7])
def test_a_bar_that_is_full_says_nothing_else(total_s, capsys, recwarn):
    with progress_bar("a.wav") as progress:
        for step in range(1, 58):
            progress(min(total_s, step * total_s / 57 * (1 + 1e-15)), total_s)
        progress(total_s, total_s)
    assert len(recwarn) == 0 and "100%|##########|" in capsys.readouterr().err.replace("█", "#")


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cuda:", "cpu:0:0", "", "meta"])
def test_a_device_that_nobody_knows_is_wrong_usage(device):
    with pytest.raises(UsageError, match="there is no device .*; choose one of cpu, cuda, mps, or cuda:1 and so on"):
        check_device(device)


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_cuda_where_there_is_none_is_wrong_usage(device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="finds no CUDA device here; leave out --device, or say --device cpu"):
        Loader(device=device)()


def test_a_model_that_does_not_load_is_one_line(latentsr, wav, monkeypatch):
    def refuse(*_):
        raise OSError("no model at x;\nname a folder")

    loads(monkeypatch, refuse)
    done = latentsr("restore", wav)
    assert (done.code, len(done.err.splitlines())) == (1, 1)
    assert "no model at x; name a folder" in done.err


def test_a_result_that_is_not_finite_is_never_written(latentsr, wav, monkeypatch):
    def broken(source, target, **_):
        audio.write(target, np.full((1, 9), np.nan, np.float32), 48_000)

    loads(monkeypatch, lambda *_: model(broken))
    done = latentsr("restore", wav, "--json")
    assert (done.code, names(wav.parent)) == (1, ["old.wav"])
    assert "NaN or infinity" in done.err


def test_names_that_are_not_utf8(latentsr, wav):
    odd = Path(os.fsdecode(os.fsencode(wav.parent) + b"/caf\xe9.wav"))
    wav.rename(odd)
    done = latentsr("restore", odd, "--json")
    assert done.code == 0
    assert Path(done.json[0]["output"]).is_file()
    assert latentsr("restore", odd, "--overwrite").code == 0


STUB = """
import sys, time, types
import numpy as np
import latentsr
from latentsr.apps import cli
from latentsr.apps.loading import Loader
from latentsr.errors import UsageError
from latentsr import audio
def restore_file(source, target, **_):
    {body}
    audio.write(target, np.random.default_rng(0).uniform(-0.1, 0.1, (1, 480_000)), 48_000)
pipe = types.SimpleNamespace(restore_file=restore_file)
Loader.__call__ = lambda *_: pipe
from latentsr.apps.cli import main
"""


def start(body: str, *words, before: str = "") -> subprocess.Popen:
    code = STUB.format(body=body) + before + f"\nsys.argv = {['latentsr', *map(str, words)]!r}\nmain()"
    command = [sys.executable, "-c", code]
    return subprocess.Popen(command, env=ENV, text=True, stdout=-1, stderr=-1, preexec_fn=ctrl_c.heard)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_leaves_nothing(wav, number, code):
    process = start("print('working', flush=True); time.sleep(60)", "restore", wav)
    assert process.stdout.readline() == "working\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in err
    assert ("interrupted; nothing half-written is left" in err) == (number == signal.SIGINT)
    assert names(wav.parent) == ["old.wav"]


def test_disk_full_is_one_line_and_leaves_nothing(wav):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    process = start("pass", "restore", wav, "--json", before=limit)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "file too large" in err
    assert len(err.splitlines()) == 1
    assert json.loads(out)["output"] is None
    assert names(wav.parent) == ["old.wav"]


# --- the program itself ----------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["--help"], ["restore", "--help"], ["eval", "--help"], ["info", "--help"]])
def test_help_imports_no_torch(words):
    code = (
        f"import sys; sys.argv = {['latentsr', *words]!r}\n"
        "from latentsr.apps.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'scipy'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=ENV, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Usage: latentsr" in done.stdout


def test_help_takes_less_than_a_second_of_work():
    """Processor time, so that a busy machine does not count; wall time on an idle one is about the same."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert shell("--help").returncode == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0


def test_module_and_version():
    done = shell("--version")
    assert done.stdout.strip() == __import__("latentsr").__version__


def test_wrong_usage_in_a_real_process(tmp_path):
    done = shell("restore", tmp_path / "nowhere.wav")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"latentsr: {tmp_path}/nowhere.wav does not exist; check the name\n"
