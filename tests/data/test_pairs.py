"""Pairs: the two files of each stay together through every augmentation, and what does not fit is named."""

import numpy as np
import pytest
import soundfile
import torch
from scipy.signal import butter, sosfiltfilt

from latentsr.data.augment import AugmentConfig
from latentsr.data.dataset import Corpus, DataConfig
from latentsr.data.layouts import find_clips, guess_layout
from latentsr.data.manifest import DataError

SAMPLES = 9_600
ALWAYS = AugmentConfig(speed=1, polarity=0.5, mix=1, tilt=1, shelf=1, room=1, gain=1)
CUT = butter(8, 6_000, fs=48_000, output="sos")


def noise(seconds=2.0, seed=0):
    return 0.1 * np.random.default_rng(seed).standard_normal(round(48_000 * seconds))


def write_pair(root, name, high, low=None, rate=48_000, suffix=".flac"):
    """`low` is half of `high` unless given; half is a gain of -6 dB, which every linear augmentation keeps."""
    for folder, wave, ending in (("high", high, ".wav"), ("low", high / 2 if low is None else low, suffix)):
        path = (root / folder / name).with_suffix(ending)
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, wave, rate if folder == "low" else 48_000, subtype="PCM_24")


@pytest.fixture
def pairs(tmp_path):
    root = tmp_path / "tapes"
    for i in range(6):
        write_pair(root, f"{'music' if i % 2 else 'speech'}/{i}", noise(1 + 0.2 * i, seed=i))
    write_pair(root, "short", noise(0.1, seed=9))
    return root


def test_the_layout_is_recognised(pairs):
    assert guess_layout(pairs) == "pairs"
    assert [clip.kind for clip in find_clips(pairs)] == ["music"] * 3 + ["tapes"] + ["speech"] * 3


@pytest.mark.parametrize("augment", [AugmentConfig(speed=0, polarity=0, mix=0, tilt=0, gain=0), ALWAYS])
def test_the_partner_goes_through_all_that_the_clean_one_does(pairs, augment):
    """Where the partner is the clean one at half the level, it is so after every augmentation, within -80 dB."""
    corpus = Corpus.open(pairs, DataConfig(validation_share=0, augment=augment, silence_db=-200))
    batch = corpus.batch(0, 32, SAMPLES, seed=0)
    assert batch.low.shape == batch.wide.shape == (32, 1, SAMPLES)
    error = (batch.wide - 2 * batch.low).square().sum() / batch.wide.square().sum()
    assert 10 * error.log10() < -80
    assert torch.equal(batch.to("cpu").low, batch.low)


def test_other_corpora_have_no_partner(tmp_path, make_wav):
    make_wav(tmp_path / "a.wav")
    assert Corpus.open(tmp_path, DataConfig(validation_share=0)).batch(0, 2, SAMPLES, seed=0).low is None


def test_validation_is_by_the_clean_file(pairs):
    config = DataConfig(validation_share=0.3)
    corpus = Corpus.open(pairs, config)
    clean = Corpus.open(pairs / "high", DataConfig(validation_share=0.3))
    names = {r.clip.path.relative_to(pairs / "high") for r in corpus.validation if r.clip.kind != "tapes"}
    assert (
        names == {r.clip.path.relative_to(pairs / "high") for r in clean.validation if r.clip.kind != "high"} != set()
    )
    (batch,) = corpus.validation_batches(SAMPLES, 4)
    assert torch.allclose(batch.wide, 2 * batch.low, atol=1e-4)
    assert "pairs, " in str(corpus)


def test_rates_and_filters_may_differ(tmp_path):
    """An 8 kHz cut without delay, at 16 kHz: the partner is the clean one below 3 kHz, within -40 dB."""
    high = noise(2)
    write_pair(tmp_path, "a", high, sosfiltfilt(CUT, high)[::3], rate=16_000)
    (recording,) = Corpus.open(tmp_path, DataConfig(validation_share=0)).train
    wide, low = (np.fft.rfft(wave) for wave in recording.waves())
    below = slice(0, 3_000 * 2)
    assert np.sum(np.abs(wide[below] - low[below]) ** 2) < 1e-4 * np.sum(np.abs(wide[below]) ** 2)


@pytest.mark.parametrize("lag", [-3000, -2, -1, 0, 1, 2, 37])
def test_a_lag_is_an_error_that_says_how_much(tmp_path, lag):
    long = noise(3)
    filtered = sosfiltfilt(CUT, long)
    write_pair(tmp_path, "a", long[10_000:100_000], filtered[10_000 - lag : 100_000 - lag])
    if abs(lag) <= 1:
        assert Corpus.open(tmp_path, DataConfig(validation_share=0)).train[0].low is not None
        return
    where = "after" if lag > 0 else "before"
    with pytest.raises(
        DataError, match=rf"low.a.flac lies {abs(lag)} samples \(at 48 kHz\) {where} .*pair_lag={abs(lag)}"
    ):
        Corpus.open(tmp_path)
    Corpus.open(tmp_path, DataConfig(validation_share=0, pair_lag=abs(lag)))


def test_lengths_are_trimmed_within_a_tenth_of_a_second(tmp_path):
    write_pair(tmp_path, "a", noise(2), noise(2)[:-4_000] / 2)
    (recording,) = Corpus.open(tmp_path, DataConfig(validation_share=0)).train
    assert len(recording.samples) == len(recording.low.samples) == 92_000
    write_pair(tmp_path, "a", noise(2), noise(2)[:-6_000] / 2)
    with pytest.raises(DataError, match=r"low.a.flac is 0.12 s shorter than .*high.a.wav; cut both"):
        Corpus.open(tmp_path)


def test_what_is_no_partner_is_named_or_left_out(tmp_path, caplog):
    for i in range(3):
        write_pair(tmp_path, f"{i}", noise(seed=i))
    write_pair(tmp_path, "x", noise(seed=5), noise(seed=6))
    with pytest.raises(DataError, match=r"low.x.flac is nothing like .*high.x.wav.*on_bad=skip"):
        Corpus.open(tmp_path)
    assert len(Corpus.open(tmp_path, DataConfig(validation_share=0, on_bad="skip")).train) == 3
    assert "left out 1 of 4 pairs" in caplog.text
    write_pair(tmp_path, "x", noise(seed=5), -noise(seed=5))
    with pytest.raises(DataError, match="upside down"):
        Corpus.open(tmp_path)


def test_silence_has_no_lag(tmp_path):
    write_pair(tmp_path, "a", np.zeros(48_000))
    assert Corpus.open(tmp_path, DataConfig(validation_share=0)).train[0].low is not None


def test_a_lacking_partner_is_named(pairs):
    (pairs / "low" / "music" / "1.flac").unlink()
    with pytest.raises(DataError, match=r"1 files have no partner in .*low, the first is .*high.music.1.wav"):
        Corpus.open(pairs)
    assert len(Corpus.open(pairs, DataConfig(exclude=["music/1.wav"], validation_share=0)).train) == 6


def test_an_unreadable_partner_stops_or_is_left_out(pairs):
    (pairs / "low" / "music" / "1.flac").write_bytes(b"no audio")
    with pytest.raises(DataError, match=r"1.flac"):
        Corpus.open(pairs)
    assert len(Corpus.open(pairs, DataConfig(on_bad="skip", validation_share=0)).train) == 6


def test_two_files_of_one_name_are_refused(pairs):
    write_pair(pairs, "short", noise(0.1), suffix=".wav")
    with pytest.raises(DataError, match="differ in their suffix alone"):
        Corpus.open(pairs)


def test_a_folder_without_pairs_is_named(tmp_path, make_wav):
    make_wav(tmp_path / "a.wav")
    with pytest.raises(DataError, match="holds no folder high/; pairs lie as"):
        Corpus.open(tmp_path, DataConfig(layout="pairs"))
    (tmp_path / "low").mkdir()
    (tmp_path / "high").mkdir()
    with pytest.raises(DataError, match="high is empty, expected audio files"):
        Corpus.open(tmp_path)
