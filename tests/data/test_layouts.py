"""Every layout is recognised, finds its files and keeps its test set apart."""

from pathlib import Path

import pytest

from latentsr.data.layouts import find_clips, guess_layout
from latentsr.data.manifest import DataError


def touch(root: Path, *names: str) -> None:
    """Empty files: finding does not open them."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def relative(root: Path, clips) -> list[str]:
    return [clip.path.relative_to(root).as_posix() for clip in clips]


def musdb(root: Path, name: str) -> None:
    """100 training and 50 test tracks, named so that text order is number order."""
    touch(root, *(name.format(split="train", track=f"Artist {i:03d} - Song") for i in range(100)))
    touch(root, *(name.format(split="test", track=f"Other {i:03d} - Song") for i in range(50)))


@pytest.mark.parametrize(
    ("layout", "name"),
    [("musdb18-hq", "{split}/{track}/mixture.wav"), ("musdb18", "{split}/{track}.stem.mp4")],
)
def test_musdb_is_divided_90_10_50(tmp_path, layout, name):
    musdb(tmp_path, name)
    touch(tmp_path, "train/Artist 000 - Song/vocals.wav")
    assert guess_layout(tmp_path) == layout
    splits = {split: relative(tmp_path, find_clips(tmp_path, split=split)) for split in ("train", "validation", "test")}
    assert [len(names) for names in splits.values()] == [90, 10, 50]
    assert splits["validation"][0] == name.format(split="train", track="Artist 090 - Song")
    assert all(clip.kind == "music" and clip.bandwidth_hz is None for clip in find_clips(tmp_path, split="all"))


def test_vctk_tests_on_the_last_speakers(tmp_path):
    root = tmp_path / "wav48_silence_trimmed"
    speakers = ["p225", "p351", "p360", "p376", "s5"]
    touch(root, *(f"{s}/{s}_001_mic{m}.flac" for s in speakers for m in (1, 2)))
    assert guess_layout(tmp_path) == "vctk"
    assert relative(root, find_clips(tmp_path)) == ["p225/p225_001_mic1.flac", "p351/p351_001_mic1.flac"]
    assert [clip.path.parent.name for clip in find_clips(tmp_path, split="test")] == ["p360", "p376", "s5"]
    assert {clip.kind for clip in find_clips(tmp_path)} == {"speech"}


def test_esc50_tests_on_fold_5(tmp_path):
    touch(tmp_path / "audio", *(f"{fold}-1000-A-7.wav" for fold in range(1, 6)))
    assert guess_layout(tmp_path) == "esc-50"
    assert [clip.path.name[0] for clip in find_clips(tmp_path)] == ["1", "2", "3", "4"]
    assert [clip.path.name for clip in find_clips(tmp_path, split="test")] == ["5-1000-A-7.wav"]


def test_a_folder_is_searched_and_the_first_subfolder_is_the_kind(tmp_path):
    touch(tmp_path, "b.WAV", "music/x/a.flac", "speech/c.mp3", "notes.txt", "music/._a.flac", ".trash/d.wav")
    clips = find_clips(tmp_path)
    assert relative(tmp_path, clips) == ["b.WAV", "music/x/a.flac", "speech/c.mp3"]
    assert [clip.kind for clip in clips] == [tmp_path.name, "music", "speech"]


def test_a_manifest_comes_before_the_folder_around_it(tmp_path):
    touch(tmp_path, "a.wav", "b.wav")
    (tmp_path / "manifest.csv").write_text("file,type,split\na.wav,music,train\nb.wav,music,test\n")
    assert relative(tmp_path, find_clips(tmp_path)) == ["a.wav"]
    assert relative(tmp_path, find_clips(tmp_path / "manifest.csv", split="test")) == ["b.wav"]
    assert relative(tmp_path, find_clips(tmp_path, layout="folder")) == ["a.wav", "b.wav"]


@pytest.mark.parametrize(
    ("names", "arguments", "message"),
    [
        ([], {}, "is empty, expected audio files; pass data=FOLDER"),
        (["notes.txt"], {}, "holds no audio files; pass data=FOLDER"),
        (["a.wav"], {"layout": "musdb"}, "unknown layout 'musdb'; known: auto, manifest, musdb18-hq"),
        (["a.wav"], {"layout": "vctk"}, "holds no wav48_silence_trimmed/pXXX/"),
        (["a.wav"], {"split": "dev"}, "split 'dev' is not one of train, validation, test, all"),
        (["a.wav"], {"split": "test"}, "has no test recordings; it has: train"),
    ],
)
def test_what_cannot_be_found_is_said(tmp_path, names, arguments, message):
    touch(tmp_path, *names)
    with pytest.raises(DataError) as error:
        find_clips(tmp_path, **arguments)
    assert message in str(error.value)


def test_a_path_that_is_no_data_set_is_said(tmp_path):
    touch(tmp_path, "a.wav")
    with pytest.raises(DataError, match="none does not exist; pass data=FOLDER"):
        find_clips(tmp_path / "none")
    with pytest.raises(DataError, match="neither a folder nor a CSV manifest"):
        find_clips(tmp_path / "a.wav")
    with pytest.raises(DataError, match="needs a folder"):
        find_clips(tmp_path / "a.wav", layout="folder")
