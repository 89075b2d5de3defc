"""`latentsr shard`: what it says, and its exit codes."""

from functools import partial

import numpy as np
import pytest
import soundfile

from latentsr.data.dataset import Corpus, DataConfig


@pytest.fixture
def shard(run_command):
    return partial(run_command, "shard")


@pytest.fixture
def source(tmp_path):
    for name in ("music/a.wav", "speech/b.flac"):
        (tmp_path / "src" / name).parent.mkdir(parents=True)
        soundfile.write(tmp_path / "src" / name, 0.1 * np.random.default_rng(0).standard_normal(72_000), 48_000)
    return tmp_path / "src"


def test_a_folder_becomes_shards_that_train(shard, source, tmp_path):
    code, out, err = shard(source, tmp_path / "out", "--segment", 1)
    assert (code, err) == (0, "")
    assert out.strip().endswith(f"1 shards, 4 segments; train with data={tmp_path / 'out'}")
    corpus = Corpus.open(tmp_path / "out", DataConfig(validation_share=0))
    assert str(corpus).startswith("training on music 1 file, 0.0 min; speech 1 file")
    assert shard(source, tmp_path / "out", "--segment", 1)[:2] == (0, out)


def test_other_options_need_overwrite(shard, source, tmp_path):
    shard(source, tmp_path / "out")
    code, _, err = shard(source, tmp_path / "out", "--max-mb", 20)
    assert code == 1 and err.count("\n") == 1 and "pass --overwrite" in err
    assert shard(source, tmp_path / "out", "--max-mb", 20, "--overwrite")[0] == 0


def test_a_bad_file_stops_or_is_left_out(shard, source, tmp_path):
    (source / "music" / "bad.wav").write_bytes(b"no audio")
    code, _, err = shard(source, tmp_path / "out")
    assert code == 1 and err.count("\n") == 1 and "bad.wav" in err and "on-bad" in err.replace("_", "-")
    code, out, _ = shard(source, tmp_path / "out", "--on-bad", "skip")
    assert code == 0 and "1 files left out" in out
    code, out, err = shard(source, tmp_path / "other", "--exclude", "bad.*")
    assert (code, err) == (0, "") and "left out" not in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("none", "out"), "does not exist"),
        (("empty", "out"), "is empty, expected audio files"),
        (("pairs", "out"), "holds pairs, and pairs train without shards"),
        (("src", "out", "--max-mb", "2"), "may not fit into 2 MB"),
    ],
)
def test_what_cannot_be_done_is_said(shard, source, tmp_path, monkeypatch, words, message):
    for name in ("empty", "pairs/low", "pairs/high"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    code, _, err = shard(*words)
    assert code == 1 and err.count("\n") == 1 and message in err
