"""Examples depend on (seed, step, place in the global batch) alone; the sets stay apart; labels fit."""

import hashlib
from collections import Counter

import numpy as np
import pytest
import soundfile
import torch

from latentsr.data.augment import AugmentConfig
from latentsr.data.dataset import Corpus, DataConfig, Share
from latentsr.data.decode import Recording
from latentsr.data.manifest import Clip, DataError
from latentsr.data.sources import split_recordings

SAMPLES = 12_000
PLAIN = AugmentConfig(speed=0, polarity=0, mix=0, tilt=0, gain=0)


def recording(seconds=1.0, kind="music", seed=0, bandwidth_hz=20_000.0, level=0.1, split="train"):
    samples = np.random.default_rng(seed).integers(-32767, 32767, round(48_000 * seconds), dtype=np.int16)
    clip = Clip(f"{kind}{seed}.wav", kind, bandwidth_hz, split=split)
    return Recording(
        clip, samples, level / 32767, bandwidth_hz, digest=hashlib.sha256(f"{kind}{seed}".encode()).hexdigest()
    )


@pytest.fixture(scope="module")
def corpus():
    """Three kinds; among the effects some shorter than an example."""
    music = [recording(4, "music", i, 16_000 + 1000 * i) for i in range(6)]
    effects = [recording(0.1 * (i + 1), "effects", i) for i in range(8)]
    speech = [recording(1, "speech", i, 24_000) for i in range(4)]
    return Corpus(music + effects + speech, DataConfig(validation_share=0.1))


def same(a, b):
    return (
        torch.equal(a.wide, b.wide)
        and torch.equal(a.bandwidth_hz, b.bandwidth_hz)
        and (a.kinds, a.clip.tolist(), a.offset.tolist()) == (b.kinds, b.clip.tolist(), b.offset.tolist())
    )


def test_shapes(corpus):
    batch = corpus.batch(0, 5, SAMPLES, seed=1)
    assert batch.wide.shape == (5, 1, SAMPLES) and batch.wide.dtype == torch.float32
    assert batch.bandwidth_hz.shape == batch.clip.shape == batch.offset.shape == (5,)
    assert len(batch.kinds) == 5
    assert torch.equal(batch.to("cpu").wide, batch.wide)


def test_a_step_is_the_same_whenever_it_is_asked_for(corpus):
    """Resume: no state is carried from step to step, and the global generators play no part."""
    forward = [corpus.batch(step, 4, SAMPLES, seed=1) for step in range(5)]
    np.random.seed(7)
    torch.manual_seed(7)
    backward = [corpus.batch(step, 4, SAMPLES, seed=1) for step in reversed(range(5))]
    assert all(same(a, b) for a, b in zip(forward, reversed(backward), strict=True))


def test_a_corpus_opened_again_gives_the_same(tmp_path, make_wav):
    for i in range(4):
        make_wav(tmp_path / "data" / "music" / f"{i}.wav", seed=i)
    plain = Corpus.open(tmp_path / "data")
    cached = [Corpus.open(tmp_path / "data", DataConfig(cache=str(tmp_path / "cache"))) for _ in range(2)]
    expected = plain.batch(3, 4, SAMPLES, seed=2)
    assert all(same(expected, c.batch(3, 4, SAMPLES, seed=2)) for c in cached)


@pytest.mark.parametrize("world_size", [1, 2, 4, 8])
def test_the_global_batch_is_the_same_however_it_is_shared(corpus, world_size):
    whole = corpus.batch(9, 8, SAMPLES, seed=3)
    per_rank = 8 // world_size
    parts = [corpus.batch(9, per_rank, SAMPLES, seed=3, share=Share(rank, world_size)) for rank in range(world_size)]
    assert torch.equal(torch.cat([part.wide for part in parts]), whole.wide)
    assert sum((part.kinds for part in parts), []) == whole.kinds


def test_seeds_steps_and_examples_differ(corpus):
    waves = torch.cat([corpus.batch(step, 8, SAMPLES, seed=seed).wide for step in (0, 1) for seed in (0, 1)])
    assert len({wave.numpy().tobytes() for wave in waves}) == 32


@pytest.mark.parametrize(("rank", "world_size"), [(2, 2), (-1, 1)])
def test_a_rank_outside_the_world_is_refused(corpus, rank, world_size):
    with pytest.raises(ValueError, match="is not below world_size"):
        corpus.batch(0, 1, SAMPLES, seed=0, share=Share(rank, world_size))


def draws(corpus, count=2000, **options):
    return Counter(corpus.batch(0, count, 16, seed=0, **options).kinds)


def test_kinds_come_by_their_weights(corpus):
    counts = draws(corpus, weights={"music": 0.5, "effects": 0.2, "speech": 0.3})
    assert [counts[k] / 2000 for k in ("music", "effects", "speech")] == pytest.approx([0.5, 0.2, 0.3], abs=0.03)


def test_without_weights_scarce_kinds_come_more_often_than_their_share(corpus):
    """By the square root of the duration: 20, 7 (held up to 1 s each) and 3 s."""
    counts = draws(corpus)
    expected = np.sqrt([20, 7, 3])
    assert [counts[k] / 2000 for k in ("music", "effects", "speech")] == pytest.approx(
        expected / expected.sum(), abs=0.03
    )


@pytest.mark.parametrize("weights", [{"music": 1}, {"music": 1, "effects": 1, "speach": 1}])
def test_weights_that_do_not_fit_the_kinds_are_refused(corpus, weights):
    with pytest.raises(DataError, match=r"kinds \['effects', 'music', 'speech'\], weights"):
        corpus.batch(0, 1, SAMPLES, seed=0, weights=weights)


def test_clips_come_by_their_duration_within_limits():
    config = DataConfig(validation_share=0, clip_floor_s=1, clip_cap_s=4, augment=PLAIN)
    corpus = Corpus([recording(s, seed=i) for i, s in enumerate([0.1, 2, 16])], config)
    counts = Counter(corpus.batch(0, 3000, 16, seed=0).clip.tolist())
    assert [counts[i] / 3000 for i in range(3)] == pytest.approx([1 / 7, 2 / 7, 4 / 7], abs=0.03)


def test_crops_are_pieces_of_their_clip():
    corpus = Corpus([recording(2, seed=i) for i in range(3)], DataConfig(validation_share=0, augment=PLAIN))
    batch = corpus.batch(0, 20, SAMPLES, seed=0)
    for wave, clip, offset in zip(batch.wide, batch.clip, batch.offset, strict=True):
        expected = corpus.train[clip].wave(int(offset), int(offset) + SAMPLES)
        assert np.array_equal(wave[0].numpy(), expected)
    assert batch.offset.float().std() > 0.2 * (96_000 - SAMPLES)


def test_a_short_clip_lies_whole_at_a_random_place_in_silence():
    corpus = Corpus([recording(0.1)], DataConfig(validation_share=0, augment=PLAIN))
    batch = corpus.batch(0, 50, SAMPLES, seed=0)
    for wave, offset in zip(batch.wide[:, 0].numpy(), batch.offset.tolist(), strict=True):
        assert -7200 <= offset <= 0
        assert np.array_equal(wave[-offset : -offset + 4800], corpus.train[0].wave())
        assert not wave[:-offset].any() and not wave[-offset + 4800 :].any()
    assert batch.offset.unique().numel() > 40


def test_nearly_silent_crops_are_drawn_again():
    """One clip in two lies at -76 dBFS: with 4 redraws one crop in 32 remains."""
    recordings = [recording(1, seed=i, level=0.1 if i % 2 else 3e-4) for i in range(20)]
    config = DataConfig(validation_share=0, augment=PLAIN)
    rms = Corpus(recordings, config).batch(0, 640, 480, seed=0).wide.square().mean(-1).sqrt()
    assert (rms < 1e-3).float().mean().item() == pytest.approx(1 / 32, abs=0.02)


def test_silence_alone_is_still_a_batch():
    silent = Recording(Clip("a.wav", "x"), np.zeros(48_000, np.int16), 1.0, 24_000, "0")
    assert not Corpus([silent], DataConfig(validation_share=0)).batch(0, 2, SAMPLES, seed=0).wide.any()


def test_bandwidth_follows_clip_speed_and_mix():
    recordings = [recording(2, seed=i, bandwidth_hz=hz) for i, hz in enumerate([12_000, 18_000])]
    always = {"validation_share": 0}
    plain = Corpus(recordings, DataConfig(**always, augment=PLAIN)).batch(0, 64, SAMPLES, seed=0)
    assert plain.bandwidth_hz.tolist() == [12_000 + 6_000 * clip for clip in plain.clip.tolist()]
    mixed = Corpus(recordings, DataConfig(**always, augment=PLAIN.model_copy(update={"mix": 1.0})))
    assert (mixed.batch(0, 64, SAMPLES, seed=0).bandwidth_hz == 12_000).float().mean().item() > 0.6
    fast = Corpus(recordings, DataConfig(**always, augment=AugmentConfig(speed=1, speed_range=(1.1, 1.1), mix=0)))
    assert set(fast.batch(0, 64, SAMPLES, seed=0).bandwidth_hz.tolist()) == {13_200.0, 19_800.0}


@pytest.mark.parametrize("share", [0.0, 0.03, 0.25, 0.9])
def test_the_split_is_disjoint_and_independent_of_order(share):
    recordings = [recording(kind=kind, seed=i) for kind in ("music", "speech") for i in range(20)]
    train, validation = split_recordings(recordings, share)
    names = [{r.clip.path for r in part} for part in (train, validation)]
    assert not names[0] & names[1] and len(names[0] | names[1]) == 40
    assert Counter(r.clip.kind for r in validation) == (
        Counter(music=n, speech=n) if (n := int(np.ceil(20 * share))) else {}
    )
    assert {r.clip.path for r in split_recordings(recordings[::-1], share)[1]} == names[1]


def test_copies_of_a_file_stay_on_one_side():
    recordings = [recording(seed=i % 10) for i in range(30)]
    train, validation = split_recordings(recordings, 0.2)
    assert not {r.digest for r in train} & {r.digest for r in validation}
    assert len(validation) == 6


def test_the_split_of_the_layout_is_kept():
    recordings = [recording(seed=i, split="validation" if i == 3 else "train") for i in range(6)]
    _, validation = split_recordings(recordings, 0.5)
    assert [r.clip.path for r in validation] == ["music3.wav"]


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_that_leaves_nothing_is_refused(share):
    with pytest.raises(DataError, match="validation_share must be in"):
        split_recordings([recording()], share)


def test_test_sets_stay_out(tmp_path, make_wav):
    names = ["1-a-A-0.wav", "2-a-A-0.wav", "5-a-A-0.wav"]
    for i, name in enumerate(names):
        make_wav(tmp_path / "audio" / name, seed=i)
    corpus = Corpus.open(tmp_path, DataConfig(layout="esc-50"))
    assert {r.clip.path.name for r in corpus.train + corpus.validation} == set(names[:2])
    (tmp_path / "audio" / names[0]).unlink()
    (tmp_path / "audio" / names[1]).unlink()
    with pytest.raises(DataError, match="holds a test set only"):
        Corpus.open(tmp_path, DataConfig(layout="esc-50"))


def test_validation_batches_are_fixed_and_take_kinds_in_turn(corpus):
    first, again = (corpus.validation_batches(SAMPLES, 7, batch_size=4) for _ in range(2))
    assert [b.wide.shape for b in first] == [(4, 1, SAMPLES), (3, 1, SAMPLES)]
    assert all(same(a, b) for a, b in zip(first, again, strict=True))
    assert Counter(first[0].kinds + first[1].kinds) == Counter(music=3, effects=2, speech=2)
    longer = corpus.validation_batches(SAMPLES, 8, batch_size=8)
    assert torch.equal(longer[0].wide[:7], torch.cat([b.wide for b in first]))


def test_validation_looks_for_sound():
    """A clip that is silent but for its last quarter is heard there."""
    quiet = recording(8)
    quiet.samples[: 48_000 * 6] = 0
    corpus = Corpus([recording(seed=1), quiet], DataConfig(validation_share=0))
    corpus.validation = [quiet]
    (batch,) = corpus.validation_batches(SAMPLES, 4)
    assert (batch.wide.square().mean(-1).sqrt() > 1e-3).all()


def test_no_validation_set_is_said():
    with pytest.raises(DataError, match="no validation recordings; raise validation_share or add files"):
        Corpus([recording()], DataConfig()).validation_batches(SAMPLES, 1)


def test_a_broken_training_file_stops_or_is_left_out(tmp_path, make_wav):
    make_wav(tmp_path / "good.wav")
    soundfile.write(tmp_path / "nan.wav", np.full(480, np.nan), 48_000, subtype="FLOAT")
    with pytest.raises(DataError, match="nan.wav"):
        Corpus.open(tmp_path)
    assert len(Corpus.open(tmp_path, DataConfig(on_bad="skip")).train) == 1


def test_excluded_clips_are_not_even_decoded(tmp_path, make_wav):
    for name in ("music/a.wav", "music/b.wav", "speech/x/c.wav", "speech/d.wav"):
        make_wav(tmp_path / name, seed=len(name))
    (tmp_path / "music" / "b.wav").write_bytes(b"no audio")
    corpus = Corpus.open(tmp_path, DataConfig(exclude=["b.*", "speech/x/*"], validation_share=0))
    assert [r.clip.path.name for r in corpus.train] == ["a.wav", "d.wav"]
    with pytest.raises(DataError, match=r"no recording of .* matches 'e\.wav'"):
        Corpus.open(tmp_path, DataConfig(exclude=["b.wav", "e.wav"]))
    with pytest.raises(DataError, match="leaves none of the 4 recordings"):
        Corpus.open(tmp_path, DataConfig(exclude=["*"]))
