"""What fuzzing found (scripts/fuzz, docs/faults.md): each input that ended in a stack trace, kept small."""

import json
import os
import struct

import pytest
import soundfile
import torch

from latentsr.audio import AudioError, read
from latentsr.config import AudioConfig, ConfigError, build, load
from latentsr.data.layouts import find_clips
from latentsr.data.manifest import DataError
from latentsr.data.shards import open_shards
from latentsr.model_folder.tensorfiles import ModelError, header
from latentsr.training import checkpoint


def test_a_wave64_chunk_of_nearly_2_64_bytes(tmp_path):
    soundfile.write(tmp_path / "a.w64", [[0.1]] * 100, 8000, format="W64")
    data = bytearray((tmp_path / "a.w64").read_bytes())
    data[56:64] = struct.pack("<Q", 2**64 - 8)  # of the fmt chunk
    (tmp_path / "a.w64").write_bytes(data)
    try:
        assert read(tmp_path / "a.w64").samples.size == 100
    except AudioError as error:
        assert str(tmp_path) in str(error)


def test_a_film_of_a_header_alone(tmp_path):
    """Its sound is at 0 Hz, and has no frame that would know better."""
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "a.mka"), "w", format="matroska") as out:
        out.add_stream("pcm_s16le", rate=8_000, layout="mono")
        out.start_encoding()
    data = (tmp_path / "a.mka").read_bytes()
    at = data.index(struct.pack(">d", 8_000))
    (tmp_path / "a.mka").write_bytes(data[:at] + bytes(8) + data[at + 8 :])
    with pytest.raises(AudioError):
        read(tmp_path / "a.mka")


def test_names_that_are_not_utf_8_are_found_and_sorted(tmp_path):
    for name in (b"b\xff.wav", b"a.wav", b"\xb8.wav"):
        (tmp_path / os.fsdecode(name)).touch()
    assert [os.fsencode(clip.path.name) for clip in find_clips(tmp_path)] == [b"a.wav", b"b\xff.wav", b"\xb8.wav"]


# --- shards ---------------------------------------------------------------------------------------------------------

ROW = {"key": "k", "offset": 0, "size": 10, "length": 5, "source": "a.wav", "kind": "music", "split": "train",
       "digest": "d", "scale": 1.0, "bandwidth_hz": 24_000.0}  # fmt: skip


def indexed(folder, **changes):
    (folder / "s.tar").write_bytes(bytes(1024))
    shard = {"file": "s.tar", "bytes": 1024, "members": [ROW], **changes}
    (folder / "shards.json").write_text(json.dumps({"shards": [shard]}))
    return folder


@pytest.mark.parametrize(
    "changes",
    [{"file": 7}, {"file": "../s.tar"}, {"file": "a\0"}]
    + [{"bytes": "many"}, {"members": 3}, {"members": []}, {"members": [7]}]
    + [{"members": [{**ROW, name: value}]} for name, value in (
        ("offset", -1), ("size", 2**40), ("length", "x"), ("scale", float("nan")), ("key", None), ("bandwidth_hz", "x"),
        ("source", 7), ("digest", []))],
    ids=str,
)  # fmt: skip
def test_an_index_of_shards_that_lies(tmp_path, changes):
    with pytest.raises(DataError):
        open_shards(indexed(tmp_path, **changes))


def test_the_index_that_those_were_made_of_is_read(tmp_path):
    assert len(open_shards(indexed(tmp_path))) == 1


# --- configs --------------------------------------------------------------------------------------------------------

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"\xff\xfe\xb8", "not valid YAML"),
        (b"sample_rate: 2001-99-99", "not valid YAML"),
        (b"[" * 20_000, "nested too deeply"),
        (LAUGHS.encode(), "aliases .* are not read"),
        (b"x: !!python/object/apply:os.system ['true']", "not valid YAML"),
        (b"x: 1\n" * 300_000, "more than 1048576 bytes"),
        (b"? [a]\n: 1", "not valid YAML"),
        (b"sample_rate: '" + b"9" * 100_000 + b"'", "sample_rate"),
    ],
    ids=["bytes", "date", "deep", "laughs", "object", "large", "key", "long value"],
)
def test_a_config_that_is_hostile(tmp_path, text, message):
    path = tmp_path / "a.yaml"
    path.write_bytes(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load(AudioConfig, path)
    assert len(str(caught.value)) < 2000


def test_faults_without_number_are_not_all_named():
    with pytest.raises(ConfigError) as caught:
        build(AudioConfig, {f"key{i}": "x" * 10_000 for i in range(10_000)})
    assert len(str(caught.value)) < 10_000


# --- weights --------------------------------------------------------------------------------------------------------


def test_a_header_that_is_a_number(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", 2) + b"42")
    with pytest.raises(ModelError, match="damaged header"):
        header(path)


def test_a_checkpoint_whose_hash_fits_and_whose_file_holds_no_tensors(tmp_path):
    path = checkpoint.save(tmp_path, 1, {"model.a": {"w": torch.zeros(2)}}, {})
    (path / "model.a.safetensors").write_bytes(b"nothing")
    with pytest.raises(OSError, match="cannot be read .*; delete it"):
        checkpoint.load(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "[]",
        lambda text: "7",
        lambda text: "\udcff",
        lambda text: "[" * 50_000,
        lambda text: text.replace('"step": 2', '"step": 3'),
        lambda text: text.replace('"step": 2', '"step": "2"'),
        lambda text: text.replace("model.a.safetensors", "../step-00000001/model.a.safetensors"),
        lambda text: text.replace('"seed": 0', '"seed": 1'),
        lambda text: text.replace('"config"', '"confjg"'),
        lambda text: text[:-5],
    ],
)
def test_a_damaged_manifest_is_named_and_the_one_before_is_taken(tmp_path, capsys, change):
    for step in (1, 2):
        extra = {"seconds": 1.0, "config": {"seed": 0}}
        path = checkpoint.save(tmp_path, step, {"model.a": {"w": torch.zeros(2)}}, extra)
    manifest = path / "manifest.json"
    manifest.write_bytes(change(manifest.read_text()).encode("utf-8", "surrogateescape"))
    assert checkpoint.newest_valid(tmp_path)[1]["step"] == 1
    assert "step-00000002 is damaged (manifest.json)" in capsys.readouterr().out


def test_a_manifest_of_before_is_still_read(tmp_path):
    path = checkpoint.save(tmp_path, 1, {"model.a": {"w": torch.zeros(2)}}, {"seconds": 1.0, "config": {}})
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["manifest_sha256"]
    (path / "manifest.json").write_text(json.dumps(manifest))
    assert checkpoint.newest_valid(tmp_path)[1]["step"] == 1
