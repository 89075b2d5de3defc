"""Every container through every entry: call, restore_file, the reader's blocks, restore, --json, batch, the demo."""

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

import tiny
from latentsr import audio
from latentsr.apps import options
from latentsr.apps.web import spectrogram, work
from latentsr.options import Options

sys.path.append(str(Path(__file__).parents[1] / "audio"))
from containers import CASES

PLAIN = {"u8.wav", "24.wav", "ulaw.wav", "alaw.wav", "float.aifc", "ulaw.au", "24.flac", "aac.3gp", "tagged.tta"}
NAMES = [name for name in CASES if name not in PLAIN]
QUICK = {"head": "vocoder", "steps": 1, "cutoff_hz": 3000.0}
WORDS = ("--head", "vocoder", "--steps", "1", "--cutoff", "3000")
_PIPE = []
pytestmark = pytest.mark.slow  # all of them through all of them


@dataclass(frozen=True)
class TinyLoader:
    """In the place of the command line's loader."""

    vocoder = dtype = None

    def __call__(self):
        if not _PIPE:
            _PIPE.append(tiny.tiny_pipeline())
        return _PIPE[0]

    def key(self):
        return "tiny"

    def default_head(self):
        return "vocoder"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The files that can be made here, under names of their own: {name: path}."""
    folder, found = tmp_path_factory.mktemp("entries"), {}
    for number, name in enumerate(NAMES):
        try:
            path = CASES[name].make(folder)
        except pytest.skip.Exception:
            continue
        found[name] = path.rename(folder / (f"f{number:02d}_{name}" if "." in name else f"f{number:02d}.{name}"))
    assert len({(CASES[name].format, CASES[name].codec) for name in found}) >= 40
    return found


@pytest.fixture(scope="module")
def lengths(files):
    """What each is to be at 48 kHz, in samples."""
    return {name: audio.output_length(audio.read(path).samples.shape[1], CASES[name].rate_hz, 48_000)
            for name, path in files.items()}  # fmt: skip


@pytest.fixture
def command(run_command, monkeypatch):
    monkeypatch.setattr(options, "Loader", lambda *_: TinyLoader())
    return run_command


def test_the_call(files, lengths):
    pipe = TinyLoader()()
    got = {name: pipe(path, **QUICK).audio.shape[1] for name, path in files.items()}
    assert got == lengths


def test_restore_file_with_a_progress_bar(files, lengths, tmp_path):
    pipe = TinyLoader()()
    pipe.set_progress_bar_config(disable=False)
    try:
        done = {name: pipe.restore_file(path, tmp_path / f"{path.name}.wav", **QUICK) for name, path in files.items()}
    finally:
        pipe.set_progress_bar_config(disable=True)
    assert {name: one.samples for name, one in done.items()} == lengths
    for name, one in done.items():
        assert soundfile.info(one.path).frames == lengths[name]
        assert one.account.bytes_unread == 0 and one.account.parts == CASES[name].copies, name


def test_the_readers_blocks(files, lengths):
    pipe = TinyLoader()()
    for name, path in files.items():
        with audio.Reader(path, block_frames=4_096) as reader:
            blocks = list(pipe.stream(reader, reader.info.sample_rate, **QUICK))
        assert sum(block.shape[1] for block in blocks) == lengths[name], name
        assert np.isfinite(blocks[0]).all()


@pytest.mark.parametrize("as_json", [False, True], ids=["restore", "restore --json"])
def test_restore(files, lengths, command, tmp_path, as_json):
    words = ["--json"] if as_json else []
    code, out, err = command("restore", *files.values(), "--out-dir", tmp_path, "--format", "wav", *WORDS, *words)
    assert code == 0, err
    lines = [line for line in out.splitlines() if line]
    assert len(lines) == len(files)
    for (name, path), line in zip(files.items(), lines, strict=True):
        assert soundfile.info(tmp_path / f"{path.stem}.wav").frames == lengths[name]
        if as_json:
            record = json.loads(line)
            assert record["samples"] == lengths[name]
            assert record["read"]["frames_decoded"] == audio.read(path).samples.shape[1]
            assert record["read"]["decoder"] in ("libsndfile", "FFmpeg")
        else:
            assert ")  read: " in line and (" counted" in line or not CASES[name].unknown), line


def test_batch(files, lengths, command, tmp_path):
    folder = next(iter(files.values())).parent
    code, _, err = command("batch", folder, tmp_path / "out", "--engine", "serial", "--format", "wav", *WORDS)
    made = {path.stem: soundfile.info(path).frames for path in (tmp_path / "out").rglob("*.wav")}
    assert code == 0, err
    assert {name: made[path.stem] for name, path in files.items()} == lengths


def test_the_demo(files, lengths, tmp_path, monkeypatch):
    monkeypatch.setattr(spectrogram, "draw", lambda *_: None)  # two pictures of each would take a minute
    pipe = TinyLoader()()
    for name, path in files.items():
        folder = tmp_path / path.name
        folder.mkdir()
        order = work.Order(str(path), path.name, str(folder), 60.0, {**QUICK})
        assert work.restored(pipe, order, lambda *_: None).samples == lengths[name], name


def test_words_of_a_track_and_a_time_line_reach_the_reader():
    asked = Options(track=2, no_timeline=True)
    assert asked.reading == {"salvage": False, "on_nonfinite": "error", "track": 2, "no_timeline": True}
    assert replace(asked, track=1).reading["track"] == 1
