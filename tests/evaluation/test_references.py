"""Data sets by name take their test recordings; what cannot be read is named before anything is scored."""

import numpy as np
import pytest
import soundfile

from latentsr.evaluation import presets
from latentsr.evaluation.references import EvaluationError, check_references, dataset_of, find_clips

RATE = 48_000


def recordings(root, *names, samples=4096):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / name, np.random.default_rng(0).normal(0, 0.1, samples), RATE)
    return root


def vctk(root):
    speakers = ("p225", "p360", "p376")
    return recordings(root, *(f"wav48_silence_trimmed/{s}/{s}_001_mic{m}.flac" for s in speakers for m in (1, 2)))


def musdb(root):
    return recordings(root, "test/A - B/mixture.wav", "test/A - B/vocals.wav", "train/C - D/mixture.wav")


def esc50(root):
    return recordings(root, "audio/1-100032-A-0.wav", "audio/5-103415-A-2.wav", "audio/5-198411-A-20.wav")


@pytest.mark.parametrize(
    ("make", "name", "found"),
    [
        (vctk, "vctk", {"p360_001_mic1.flac": "speech", "p376_001_mic1.flac": "speech"}),
        (musdb, "musdb18-hq", {"mixture.wav": "music"}),
        (esc50, "esc-50", {"5-103415-A-2.wav": "animals", "5-198411-A-20.wav": "human"}),
    ],
)
def test_the_test_recordings_of_a_data_set_are_taken_by_its_looks_or_its_name(tmp_path, make, name, found):
    make(tmp_path)
    assert dataset_of(tmp_path) == name
    for dataset in ("auto", name):
        assert {clip.path.name: clip.group for clip in find_clips(tmp_path, dataset=dataset)} == found
    assert len(find_clips(tmp_path, dataset="folder")) > len(found)  # unless asked for as a folder


def test_a_test_half_of_musdb_alone_is_enough(tmp_path):
    recordings(tmp_path, "test/A - B/mixture.wav")
    assert [clip.name for clip in find_clips(tmp_path)] == ["test/A - B/mixture.wav"]


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        ("vctk", "this is not vctk, or lacks its test recordings: .* holds no wav48_silence_trimmed"),
        ("esc-50", "this is not esc-50"),
        ("musdb18-hq", "this is not musdb18-hq"),
        ("manifest", "holds no manifest.csv"),
        ("imagenet", "unknown data set 'imagenet'; known are auto, vctk"),
    ],
)
def test_a_folder_that_is_not_what_its_name_says_gets_one_line(tmp_path, dataset, words):
    recordings(tmp_path, "a.wav")
    with pytest.raises(EvaluationError, match=words) as caught:
        find_clips(tmp_path, dataset=dataset)
    assert "\n" not in str(caught.value)


def test_a_data_set_without_its_test_recordings_says_so(tmp_path):
    recordings(tmp_path, "wav48_silence_trimmed/p225/p225_001_mic1.flac")
    with pytest.raises(EvaluationError, match="has no test recordings; it has: train"):
        find_clips(tmp_path)


def test_a_name_that_esc50_would_not_give_is_named(tmp_path):
    recordings(tmp_path, "audio/5-1-A-0.wav", "audio/5-1-A-77.wav")
    with pytest.raises(EvaluationError, match="5-1-A-77.wav is not named as ESC-50"):
        find_clips(tmp_path, dataset="esc-50")


def test_a_manifest_s_test_split_alone_is_scored(tmp_path):
    recordings(tmp_path, "a.wav", "b.wav", "c.wav")
    (tmp_path / "manifest.csv").write_text("file,type,split\na.wav,x,train\nb.wav,y,test\n")
    assert [(clip.name, clip.group) for clip in find_clips(tmp_path)] == [("b.wav", "y")]
    (tmp_path / "manifest.csv").write_text("file,type\na.wav,x\n")
    assert [clip.name for clip in find_clips(tmp_path)] == ["a.wav", "b.wav", "c.wav"]
    assert [clip.name for clip in find_clips(tmp_path, dataset="manifest")] == ["a.wav"]


def test_all_references_are_decoded_before_anything_runs_and_the_broken_one_is_named(tmp_path):
    recordings(tmp_path, "a.wav", "b.flac", "z.wav")
    assert check_references(find_clips(tmp_path)) == pytest.approx({"a.wav": 4096 / RATE} | {
        "b.flac": 4096 / RATE, "z.wav": 4096 / RATE
    })  # fmt: skip
    whole = (tmp_path / "b.flac").read_bytes()
    (tmp_path / "b.flac").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EvaluationError, match="b.flac is damaged or cut short"):
        check_references(find_clips(tmp_path))
    (tmp_path / "z.wav").write_bytes(b"no sound")
    with pytest.raises(EvaluationError, match="2 references cannot be used, the first: .*b.flac"):
        check_references(find_clips(tmp_path))


def test_a_preset_is_a_protocol_on_its_data_set():
    assert presets.options_of("audiosr-table1", "esc-50")["cutoffs"] == "4000,8000,16000"
    assert presets.options_of("aeromamba-musdb", "musdb18-hq")["rates"] == "11025"
    with pytest.raises(EvaluationError, match="is a protocol on vctk, and this folder looks like folder"):
        presets.options_of("nuwave-vctk", "folder")
