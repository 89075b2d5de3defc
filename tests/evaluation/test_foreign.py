"""Other systems' files: what does not fit is named with its remedy, before anything is scored."""

import numpy as np
import pytest
import soundfile

from latentsr.evaluation.conditions import Conditions
from latentsr.evaluation.outputs import check_outputs, output_paths
from latentsr.evaluation.references import EvaluationError, check_references, find_clips

RATE = 48_000
FOUR = Conditions(cutoffs_hz=(4000,))


@pytest.fixture
def clips(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / "references" / f"{name}.wav")
    return find_clips(tmp_path / "references")


def write(path, samples=RATE, rate=RATE):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, samples), rate)


def checked(folder, clips):
    return check_outputs("rival", output_paths("rival", folder, clips, FOUR), check_references(clips))


def test_outputs_that_fit_say_at_which_rate_they_are(tmp_path, clips):
    for name in ("a", "b"):
        write(tmp_path / "out" / "4000" / f"{name}.flac", 44_100, 44_100)
    assert checked(tmp_path / "out", clips) == [44_100]


def test_missing_names_come_with_what_lies_there_instead(tmp_path, clips):
    write(tmp_path / "out" / "4000" / "a.wav")
    write(tmp_path / "out" / "4000" / "b_restored.wav")
    words = (
        r"lacks 1 of 2 outputs of 'rival', first 4000/b.wav \(any suffix\); 1 files there .* first 4000/b_restored.wav"
    )
    with pytest.raises(EvaluationError, match=words):
        checked(tmp_path / "out", clips)
    with pytest.raises(EvaluationError, match="nowhere, the outputs of 'rival', is not a folder"):
        output_paths("rival", tmp_path / "nowhere", clips, FOUR)


@pytest.mark.parametrize(
    ("samples", "rate", "words"),
    [
        (RATE, 44_100, r"outputs of 'rival' are at different rates: .*a.wav at 48000 Hz, .*b.wav at 44100 Hz"),
        (RATE // 2, RATE, r"b.wav lasts 0.50 s at 48000 Hz, its reference 1.00 s; align them"),
        (RATE, 16_000, r"b.wav lasts 3.00 s at 16000 Hz, its reference 1.00 s; .*its header says the rate"),
    ],
)
def test_an_output_of_another_rate_or_length_is_named(tmp_path, clips, samples, rate, words):
    write(tmp_path / "out" / "4000" / "a.wav")
    write(tmp_path / "out" / "4000" / "b.wav", samples if rate != 44_100 else 44_100, rate)
    with pytest.raises(EvaluationError, match=words):
        checked(tmp_path / "out", clips)


def test_a_broken_output_is_named(tmp_path, clips):
    write(tmp_path / "out" / "4000" / "a.wav")
    (tmp_path / "out" / "4000" / "b.wav").write_bytes(b"RIFF")
    with pytest.raises(EvaluationError, match="an output of 'rival' cannot be used: .*b.wav"):
        checked(tmp_path / "out", clips)
