"""Shards hold what the files hold, bit for bit; any example can be had at any time; what is not whole is named."""

import gc
import hashlib
import json
import logging
import subprocess
import sys
import tarfile
import tracemalloc

import numpy as np
import pytest
import soundfile
import torch

from latentsr.data import shard_writer
from latentsr.data.augment import AugmentConfig
from latentsr.data.dataset import Corpus, DataConfig
from latentsr.data.decode import decode
from latentsr.data.layouts import find_clips
from latentsr.data.manifest import DataError
from latentsr.data.shard_writer import Packing, write_shards
from latentsr.data.shards import INDEX, UNFINISHED, expand_braces, open_shards

SAMPLES = 12_000
PLAIN = AugmentConfig(speed=0, polarity=0, mix=0, tilt=0, gain=0)
SMALL = {"max_mb": 0.4, "segment_s": 1.0}  # a second of noise takes 90 kB: four fit


@pytest.fixture
def source(tmp_path, make_wav):
    """Eight files of two kinds, 0.5 to 4 s; some stereo, some at 44.1 kHz."""
    for i in range(8):
        name = f"{'speech' if i % 2 else 'music'}/{i}.wav"
        make_wav(tmp_path / "src" / name, 0.5 * (i + 1), seed=i, rate=44_100 if i == 3 else 48_000, channels=1 + i % 2)
    return tmp_path / "src"


@pytest.fixture
def shards(source, tmp_path):
    make(source, tmp_path / "shards")
    return tmp_path / "shards"


def make(source, folder, *, on_bad="error", overwrite=False, **packing):
    clips = find_clips(source, split="all")
    return write_shards(clips, source, folder, Packing(**(SMALL | packing)), on_bad=on_bad, overwrite=overwrite)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def same(a, b):
    return torch.equal(a.wide, b.wide) and torch.equal(a.clip, b.clip) and torch.equal(a.offset, b.offset)


def test_segments_joined_are_the_files(source, shards):
    """And with bandwidth, scale and digest: what a corpus in memory has, to the last bit."""
    segments = open_shards(shards)
    assert len(segments) == 20  # of 0.5, 1, ... 4 s
    for whole in decode(find_clips(source)):
        name = whole.clip.path.relative_to(source)
        parts = [s for s in segments if s.clip.path == shards / name]
        assert np.array_equal(np.concatenate([p.samples[:] for p in parts]), whole.samples)
        assert max(len(p.samples) for p in parts) <= 48_000
        assert {(p.scale, p.bandwidth_hz, p.digest, p.clip.kind) for p in parts} == {
            (whole.scale, whole.bandwidth_hz, whole.digest, name.parts[0])
        }


def test_any_slice_is_the_slice_of_the_whole(shards):
    segment, whole = open_shards(shards)[5], open_shards(shards)[5].samples[:]
    for start in np.random.default_rng(0).integers(0, len(whole), 100):
        assert np.array_equal(segment.samples[start : start + 5_000], whole[start : start + 5_000])
    assert segment.samples[len(whole) + 1 :].shape == (0,)


def test_no_shard_is_bigger_than_asked(shards):
    sizes = [path.stat().st_size for path in sorted(shards.glob("*.tar"))]
    assert len(sizes) >= 4
    assert max(sizes) <= 400_000 and min(sizes[:-1]) > 250_000


def test_crops_are_those_of_the_files(source, shards):
    corpus = Corpus.open(shards, DataConfig(validation_share=0, augment=PLAIN))
    files = {r.clip.path.relative_to(source): r for r in decode(find_clips(source))}
    members = {m["key"]: m for s in json.loads((shards / INDEX).read_text())["shards"] for m in s["members"]}
    batch = corpus.batch(0, 16, SAMPLES, seed=0)
    for wave, clip, offset in zip(batch.wide[:, 0].numpy(), batch.clip.tolist(), batch.offset.tolist(), strict=True):
        recording = corpus.train[clip]
        about = members[recording.samples.key]
        whole = files[recording.clip.path.relative_to(shards)]
        start = round(about["segment"] * len(whole.samples) / about["segments"]) + offset
        assert np.array_equal(wave, whole.wave(start, start + SAMPLES))


def test_the_order_of_reading_survives_a_resume(shards):
    """Steps 0..9 in one go; then 6..9 of a corpus opened anew, and in a process of its own."""
    config = DataConfig(augment=AugmentConfig(room=0.5, shelf=0.5))
    whole = [Corpus.open(shards, config).batch(step, 4, SAMPLES, seed=3) for step in range(10)]
    again = Corpus.open(shards, config)
    assert all(same(whole[step], again.batch(step, 4, SAMPLES, seed=3)) for step in (9, 6, 7, 8))
    program = (
        "import sys, hashlib; from latentsr.data.dataset import *; "
        "corpus = Corpus.open(sys.argv[1], DataConfig(augment=AugmentConfig(room=0.5, shelf=0.5))); "
        f"print(hashlib.sha256(corpus.batch(6, 4, {SAMPLES}, seed=3).wide.numpy().tobytes()).hexdigest())"
    )
    printed = subprocess.run([sys.executable, "-c", program, str(shards)], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == hashlib.sha256(whole[6].wide.numpy().tobytes()).hexdigest()


def test_the_split_is_that_of_the_files(source, shards):
    """All segments of a file are on one side, and the same side as the file is."""
    config = DataConfig(validation_share=0.25)
    names = [{r.clip.path.name for r in Corpus.open(data, config).validation} for data in (source, shards)]
    assert names[0] == names[1] and len(names[0]) == 2
    assert not names[1] & {r.clip.path.name for r in Corpus.open(shards, config).train}


def test_a_long_file_is_not_drawn_more_often_for_its_segments(source, shards):
    config = DataConfig(validation_share=0, clip_cap_s=1.0, augment=PLAIN)
    corpus = Corpus.open(shards, config)
    assert str(corpus) == str(Corpus.open(source, config)) != ""
    drawn = corpus.batch(0, 800, 16, seed=0, weights={"music": 1, "speech": 0}).clip.tolist()
    share = np.mean([corpus.train[i].clip.path.name == "6.wav" for i in drawn])
    assert share == pytest.approx(1 / 4, abs=0.05)  # 0.5 (held up to 1), 1.5, 2.5 and 3.5 s, all held down to 1


def test_memory_does_not_grow_with_what_was_read(shards):
    """Eighteen seconds are 1.7 MB decoded. What stays after reading all of it is below a twentieth."""
    corpus = Corpus.open(shards, DataConfig(validation_share=0, augment=PLAIN))
    corpus.batch(0, 1, SAMPLES, seed=0)
    tracemalloc.start()
    for step in range(50):
        corpus.batch(step, 2, SAMPLES, seed=0)
    gc.collect()
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 85_000
    assert peak < 1_000_000


def test_webdataset_reads_them(source, shards):
    webdataset = pytest.importorskip("webdataset")
    urls = [str(path) for path in sorted(shards.glob("*.tar"))]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert [s["__key__"] for s in samples][:3] == ["000000-0000", "000001-0000", "000001-0001"]
    assert all({"flac", "json"} <= s.keys() for s in samples) and len(samples) == 20
    about = json.loads(samples[0]["json"])
    assert (about["source"], about["kind"], about["split"]) == ("music/0.wav", "music", "train")


def test_the_licence_goes_along(tmp_path, make_wav):
    make_wav(tmp_path / "a.wav")
    make_wav(tmp_path / "b.wav")
    (tmp_path / "manifest.csv").write_text("file,type,licence\na.wav,music,CC0\nb.wav,music,\n")
    index = make(tmp_path, tmp_path / "shards")
    assert [m.get("licence") for m in index["shards"][0]["members"]] == ["CC0", None]


def test_a_killed_writer_goes_on_with_the_same_bytes(source, shards, tmp_path, monkeypatch):
    """Killed at its third shard: two are kept as they are, and the end is that of an unbroken run."""
    write, folder = shard_writer._write, tmp_path / "broken"

    def killed(path, files):
        if path.name == "shard-000002.tar":
            raise KeyboardInterrupt
        write(path, files)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shard_writer, "_write", killed)
        make(source, folder)
    assert sorted(contents(folder)) == ["shard-000000.tar", "shard-000001.tar", UNFINISHED]
    with pytest.raises(DataError, match="is unfinished; run its latentsr shard command again"):
        Corpus.open(folder)
    times = [path.stat().st_mtime_ns for path in sorted(folder.glob("*.tar"))]
    make(source, folder)
    assert contents(folder) == contents(shards)
    assert [path.stat().st_mtime_ns for path in sorted(folder.glob("*.tar"))][:2] == times
    monkeypatch.setattr(shard_writer, "_write", killed)
    assert make(source, folder) == json.loads((folder / INDEX).read_text())  # nothing is left to do


def test_a_full_disk_leaves_no_half_shard(source, tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        make(source, tmp_path / "shards")
    assert contents(tmp_path / "shards") == {}


def test_other_files_or_options_need_overwrite(source, shards):
    with pytest.raises(DataError, match="holds shards of other files or options.*--overwrite"):
        make(source, shards, max_mb=0.8)
    (shards / "note.txt").write_text("mine")
    index = make(source, shards, max_mb=0.8, overwrite=True)
    assert sorted(contents(shards)) == sorted([INDEX, "note.txt", *(s["file"] for s in index["shards"])])
    assert len(open_shards(shards)) == 20


@pytest.mark.parametrize("options", [{"max_mb": 0.1}, {"segment_s": 0}])
def test_a_segment_must_fit(source, tmp_path, options):
    with pytest.raises(DataError, match="may not fit into"):
        make(source, tmp_path / "shards", **options)


def test_a_corrupt_file_stops_or_is_left_out(source, tmp_path, caplog):
    soundfile.write(source / "music" / "nan.wav", np.full(480, np.nan), 48_000, subtype="FLOAT")
    with pytest.raises(DataError, match=r"nan.wav.*remove the file or set on_bad=skip"):
        make(source, tmp_path / "shards")
    with caplog.at_level(logging.WARNING):
        index = make(source, tmp_path / "shards", on_bad="skip")
    assert index["left_out"] == ["music/nan.wav"]
    assert "left out 1 of 9 files" in caplog.text and "nan.wav" in caplog.text
    assert len(open_shards(tmp_path / "shards")) == 20


def test_test_sets_and_excluded_files_stay_out(tmp_path, make_wav):
    for name in "abc":
        make_wav(tmp_path / f"{name}.wav", seed=ord(name))
    (tmp_path / "manifest.csv").write_text("file,type,split\na.wav,music,train\nb.wav,music,test\nc.wav,music,train\n")
    make(tmp_path, tmp_path / "shards")
    config = DataConfig(validation_share=0, exclude=["a.*"])
    assert [r.clip.path.name for r in Corpus.open(tmp_path / "shards", config).train] == ["c.wav"]


def test_a_shard_cut_short_stops_or_is_left_out(shards, caplog):
    path = shards / "shard-000001.tar"
    whole = len(open_shards(shards))
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(DataError, match=r"shard-000001.tar has 100000 bytes and should have \d+; copy it anew.*on_bad"):
        Corpus.open(shards)
    with caplog.at_level(logging.WARNING):
        assert len(open_shards(shards, on_bad="skip")) == whole - 4
    assert "left out 1 shards" in caplog.text
    path.unlink()
    with pytest.raises(DataError, match=r"shard-000001.tar is missing; copy it anew"):
        Corpus.open(shards)


def test_without_an_index_the_headers_are_read(shards, caplog):
    expected = Corpus.open(shards).batch(2, 4, SAMPLES, seed=0)
    (shards / INDEX).unlink()
    with caplog.at_level(logging.WARNING):
        assert same(expected, Corpus.open(shards).batch(2, 4, SAMPLES, seed=0))
    assert "reading the headers of" in caplog.text
    path = shards / "shard-000001.tar"
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(DataError, match="shard-000001.tar is not a whole shard"):
        Corpus.open(shards)


def test_a_damaged_index_is_named(shards):
    (shards / INDEX).write_text("{")
    with pytest.raises(DataError, match="shards.json is damaged; delete it"):
        Corpus.open(shards)


def test_damaged_sound_is_an_error_and_never_other_sound(shards):
    (recording,) = open_shards(shards)[:1]
    content = bytearray(recording.samples.tar.read_bytes())
    content[recording.samples.offset + recording.samples.size // 2] ^= 0x55
    recording.samples.tar.write_bytes(content)
    with pytest.raises(DataError, match=r"shard-000000.tar: 000000-0000.flac .*copy it anew"):
        recording.samples[:]


def test_shards_of_somebody_else_are_named(tmp_path):
    (tmp_path / "x.json").write_text("{}")
    with tarfile.open(tmp_path / "shard-0.tar", "w") as tar:
        tar.add(tmp_path / "x.json", "x.json")
    with pytest.raises(DataError, match="shard-0.tar: x lacks 'offset', so latentsr shard did not make it"):
        Corpus.open(tmp_path / "shard-0.tar")


def test_a_brace_pattern_takes_some(shards):
    assert expand_braces("{a,b}-{08..10}.tar")[1:4] == ["a-09.tar", "a-10.tar", "b-08.tar"]
    some = open_shards(shards / "shard-{000001..000002}.tar")
    assert {r.samples.tar.name for r in some} == {"shard-000001.tar", "shard-000002.tar"}
    assert len(Corpus.open(shards / "shard-000001.tar", DataConfig(validation_share=0)).train) == 4
    with pytest.raises(DataError, match=r"has no shard shard-000009.tar; it has shard-000000.tar"):
        Corpus.open(shards / "shard-{000001,000009}.tar")
    with pytest.raises(DataError, match="none.tar does not exist"):
        Corpus.open(shards / "none.tar")


def test_shards_cannot_be_listed_as_files(shards):
    with pytest.raises(DataError, match="holds shards, and no recordings that can be listed"):
        find_clips(shards)
