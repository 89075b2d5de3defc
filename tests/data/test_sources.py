"""What cannot be trained on is said before anything is decoded."""

import pytest

from latentsr.data.dataset import Corpus, DataConfig
from latentsr.data.manifest import DataError


@pytest.fixture
def manifest(tmp_path, make_wav):
    for name in "ab":
        make_wav(tmp_path / f"{name}.wav", seed=ord(name))
    (tmp_path / "manifest.csv").write_text("file,type\na.wav,music\nx.wav,music\nb.wav,music\ny.wav,music\n")
    return tmp_path


def test_missing_files_are_counted_and_the_first_is_named(manifest):
    (manifest / "a.wav").write_bytes(b"no audio")  # would be found first if files were decoded
    with pytest.raises(DataError, match=r"2 of 4 files are missing, the first is .*x.wav; put them there"):
        Corpus.open(manifest)


def test_missing_files_can_be_left_out(manifest, caplog):
    assert len(Corpus.open(manifest, DataConfig(on_bad="skip", validation_share=0)).train) == 2
    assert "left out 2 of 4 files" in caplog.text and "x.wav" in caplog.text and "y.wav" in caplog.text


def test_an_empty_training_set_is_said(tmp_path, make_wav):
    make_wav(tmp_path / "a.wav")
    (tmp_path / "manifest.csv").write_text("file,type,split\na.wav,music,validation\n")
    with pytest.raises(DataError, match=r"no recording is left for training \(of 1\)"):
        Corpus.open(tmp_path)


def test_a_folder_without_audio_is_said(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match="holds no audio files; pass data=FOLDER"):
        Corpus.open(tmp_path)
