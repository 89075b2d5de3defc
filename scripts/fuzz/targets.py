"""What is fuzzed: each target takes bytes, and may raise nothing but the errors that its reader documents."""

from __future__ import annotations

import io
import json
import os
import struct
import tarfile
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import tags

SCRATCH = Path(tempfile.mkdtemp(prefix="fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Target:
    """One reader: its seeds, a run over bytes, and whether the bytes are JSON (mutated by values, not only by bits)."""

    covers: str
    seeds: Callable[[], Iterable[bytes]]
    run: Callable[[bytes], None]
    form: str = "bytes"  # or "json", or "safetensors" (JSON behind a length)


def _file(data: bytes, name: str = "input") -> Path:
    path = SCRATCH / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


# --- sound ------------------------------------------------------------------------------------------------------------


def _recordings() -> Iterable[bytes]:
    """A tenth of a second of every container and codec of the tests, joined and tagged ones too."""
    import sys

    sys.path.append(str(ROOT / "tests/audio"))
    from containers import CASES
    from pytest import skip

    for case in CASES.values():
        with suppress(skip.Exception):
            yield case.make(SCRATCH).read_bytes()[:60_000]


def _containers(data: bytes) -> None:
    from latentsr.audio import AudioError, headers, kinds, mp4, mpeg, parts, spans
    from latentsr.audio.tags import ape

    path = _file(data)
    with path.open("rb", buffering=0) as file:
        claim = headers.claim(file)
        for look in (headers.ogg_end, mp4.index_is_lost, mp4.lie):
            look(file)
        assert spans.tags_end(file, 0) >= 0 and 0 <= spans.tags_begin(file, 0, len(data)) <= len(data)
        streams, junk = mpeg.streams(file, 0, len(data), 10)
        assert 0 <= junk <= len(data) and all(0 <= one.start <= one.end <= len(data) for one in streams)
        ape.read(file, len(data))
        with suppress(AudioError):
            laid = parts.layout(file, path)
            assert all(part.start >= 0 for part in laid.parts) and 0 <= laid.unread <= len(data), laid
    assert claim is None or claim.present_bytes <= len(data), claim
    kinds.what_else(data[:64])


def _audio(data: bytes) -> None:
    from latentsr.audio import AudioError, Reader, apart, ffmpeg

    # Here, where the fuzzer sees its lines and its end, and not in a process of its own.
    apart.opened = lambda path, view, part, kind, which: ffmpeg.Decoder(path, view, kind, which)
    try:
        salvage = len(data) % 2 == 1
        with Reader(_file(data), max_seconds=10, salvage=salvage) as reader:
            for block in reader:
                assert block.shape[0] == reader.info.channels
        assert reader.account is not None and reader.account.bytes_unread >= 0
    except AudioError as error:
        assert "\n" not in str(error)


# --- data -------------------------------------------------------------------------------------------------------------


def _manifests() -> Iterable[bytes]:
    yield b"file,type,bandwidth_hz,seconds,split,licence\na.wav,music,16000,1.5,train,CC0\nb.wav,speech,,,test,\n"
    yield '\ufefffile,type\n"a,b.wav",effects\nü.wav,music\n'.encode()
    yield b"file,type\n../x.wav,music\nC:\\x.wav,music\n/etc/x,music\n"


def _manifest(data: bytes) -> None:
    from latentsr.data.manifest import DataError, read_manifest

    try:
        for clip in read_manifest(_file(data, "manifest.csv")):
            assert Path(os.path.normpath(clip.path)).is_relative_to(SCRATCH), clip.path
    except DataError as error:
        assert str(SCRATCH) in str(error)


def _trees() -> Iterable[bytes]:
    for names in (
        ["train/a/mixture.wav", "test/b/mixture.wav"],
        ["train/a.stem.mp4"],
        ["wav48_silence_trimmed/p225/p225_001_mic1.flac", "wav48_silence_trimmed/p361/x_mic1.flac"],
        ["audio/1-100032-A-0.wav", "audio/5-9032-A-0.wav", "meta/esc50.csv"],
        ["low/a.wav", "high/a.wav"],
        ["shard-000000.tar"],
        ["manifest.csv"],
        ["music/a.flac", "speech/._b.wav", ".hidden/c.wav"],
    ):
        yield "\n".join(names).encode()


def _layout(data: bytes) -> None:
    import shutil

    from latentsr.data.layouts import LAYOUTS, exclude_clips, find_clips
    from latentsr.data.manifest import DataError

    folder = SCRATCH / "tree"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in data.decode("utf-8", "surrogateescape").splitlines()[:20]:
        parts = [part for part in name.replace("\0", "").split("/") if part not in ("", ".", "..")][:4]
        if parts and all(len(part.encode("utf-8", "surrogateescape")) < 100 for part in parts):
            try:
                folder.joinpath(*parts).parent.mkdir(parents=True, exist_ok=True)
                folder.joinpath(*parts).touch()
            except OSError:
                continue
    for layout in ("auto", *LAYOUTS):
        try:
            clips = find_clips(folder, layout, "all")
            assert all(clip.path.is_relative_to(folder) for clip in clips)
            exclude_clips(clips, ["*.wav", "[a", data[:20].decode("latin-1")], folder)
        except DataError:
            pass


def _shard() -> bytes:
    import numpy as np
    import soundfile

    flac, out = io.BytesIO(), io.BytesIO()
    soundfile.write(flac, np.zeros(480, np.int16), 48_000, format="FLAC", subtype="PCM_16")
    about = {"source": "a.wav", "kind": "music", "split": "train", "bandwidth_hz": 20_000.0, "digest": "d", "clip": 0,
             "scale": 1e-4, "sample_rate": 48_000, "segment": 0, "segments": 1, "length": 480}  # fmt: skip
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in (("000000-0000.flac", flac.getvalue()), ("000000-0000.json", json.dumps(about).encode())):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def _opened_shards(path: Path) -> None:
    from latentsr.data.manifest import DataError
    from latentsr.data.shards import open_shards

    try:
        for recording in open_shards(path):
            recording.samples[0:16]
    except DataError:
        pass


def _shards(data: bytes) -> None:
    _opened_shards(_file(data, "tar/shard-000000.tar"))


def _shard_index() -> Iterable[bytes]:
    from latentsr.data.shards import scan

    tar = _file(_shard(), "indexed/shard-000000.tar")
    shard = {"file": tar.name, "bytes": tar.stat().st_size, "members": scan(tar)}
    yield json.dumps({"plan": {}, "left_out": [], "shards": [shard]}).encode()


def _shards_by_index(data: bytes) -> None:
    if not (SCRATCH / "indexed/shard-000000.tar").is_file():
        _file(_shard(), "indexed/shard-000000.tar")
    _file(data, "indexed/shards.json")
    _opened_shards(SCRATCH / "indexed")


# --- configs ----------------------------------------------------------------------------------------------------------


def _configs() -> Iterable[bytes]:
    for path in sorted((ROOT / "configs").rglob("*.yaml")):
        yield path.read_bytes()
    yield b"a: &a [1, 2]\nb: *a\n!!python/object/apply:os.system ['true']\n"


def _config(data: bytes) -> None:
    from latentsr.config import AudioConfig, ConfigError, differences, load
    from latentsr.training.recipe import Recipe
    from latentsr.training.vae import VaeStageConfig

    path = _file(data, "config.yaml")
    override = data[:40].decode("latin-1")
    for kind, words in ((AudioConfig, [override]), (VaeStageConfig, []), (Recipe, [])):
        try:
            config = load(kind, path, words)
            assert not differences(config.model_dump(mode="json"), config.model_dump(mode="json"))
        except ConfigError as error:
            assert len(str(error)) < 100_000


# --- model folders ----------------------------------------------------------------------------------------------------

PARTS = ("model_index.json", "sha256.json", "vocoder/config.json", "scheduler/scheduler_config.json")


def _model() -> Path:
    """A whole tiny model folder, made once."""
    import torch

    from latentsr.diffusion.sampling import training_scheduler
    from latentsr.model_folder.loading import write_hashes
    from latentsr.models.vocos import ISTFTVocoder
    from latentsr.pipeline import Pipeline

    folder = SCRATCH / "model"
    if not (folder / "sha256.json").is_file():
        torch.manual_seed(0)
        pipe = Pipeline(vocoder=ISTFTVocoder(channels=8, hidden=8, layers=1), scheduler=training_scheduler())
        pipe.save_pretrained(folder)
        write_hashes(folder)
    return folder


def _model_parts() -> Iterable[bytes]:
    folder = _model()
    return [bytes([i]) + (folder / name).read_bytes() for i, name in enumerate(PARTS)]


def _load_model(folder: Path) -> None:
    import torch

    from latentsr.apps import info
    from latentsr.model_folder.loading import ModelError, load_component, read_index

    with suppress(info.ModelError):
        info.describe_model(folder)
    try:
        index = read_index(folder)
        for name in ("vocoder", "scheduler"):
            load_component(folder, name, index, torch.float32)
    except ModelError as error:
        assert "\n" not in str(error), error


def _model_folder(data: bytes) -> None:
    """One file of a whole folder replaced; without the hashes, unless they are what is replaced."""
    folder = _model()
    name = PARTS[data[0] % len(PARTS)] if data else PARTS[0]
    hashes, before = (folder / "sha256.json").read_bytes(), (folder / name).read_bytes()
    if name != "sha256.json":
        (folder / "sha256.json").unlink()
    try:
        (folder / name).write_bytes(data[1:])
        _load_model(folder)
    finally:
        (folder / name).write_bytes(before)
        (folder / "sha256.json").write_bytes(hashes)


def _tensor_files() -> Iterable[bytes]:
    yield next(_model().glob("vocoder/*.safetensors")).read_bytes()
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    yield struct.pack("<Q", len(header)) + header + bytes(4)


def _tensor_file(data: bytes) -> None:
    folder = _model()
    path = next(folder.glob("vocoder/*.safetensors"))
    hashes, before = (folder / "sha256.json").read_bytes(), path.read_bytes()
    (folder / "sha256.json").unlink()
    try:
        path.write_bytes(data)
        _load_model(folder)
    finally:
        path.write_bytes(before)
        (folder / "sha256.json").write_bytes(hashes)


# --- checkpoints ------------------------------------------------------------------------------------------------------


def _manifests_of_checkpoints() -> Iterable[bytes]:
    import torch

    from latentsr.training import checkpoint

    path = checkpoint.save(SCRATCH / "run", 1, {"model.a": {"w": torch.zeros(2)}}, {"seconds": 1.0, "config": {}})
    return [b"\0" + (path / "manifest.json").read_bytes(), b"\1" + (path / "model.a.safetensors").read_bytes()]


def _checkpoint(data: bytes) -> None:
    """The manifest, or a file of tensors under a manifest that fits it."""
    import hashlib

    from latentsr.training import checkpoint

    folder = SCRATCH / "run/step-00000001"
    _file(data[1:] if data[:1] == b"\1" else b"", "run/step-00000001/model.a.safetensors")
    digest = hashlib.sha256((folder / "model.a.safetensors").read_bytes()).hexdigest()
    fitting = {"step": 1, "seconds": 1.0, "config": {}, "sha256": {"model.a.safetensors": digest}}
    _file(json.dumps(fitting).encode() if data[:1] == b"\1" else data[1:], "run/step-00000001/manifest.json")
    found = checkpoint.newest_valid(SCRATCH / "run")
    if found is not None:
        with suppress(OSError):
            checkpoint.load(found[0])


def _foreign_checkpoints() -> Iterable[bytes]:
    import torch
    from safetensors.torch import save

    state = {"betas": torch.zeros(1000), "scale_factor": torch.tensor(0.3), "w": torch.zeros(2, 3).t()}
    for content in (state, {"state_dict": state}, [1], torch.nn.Linear(1, 1).state_dict()):
        out = io.BytesIO()
        torch.save(content, out)
        yield out.getvalue()
    yield save({name: tensor.contiguous() for name, tensor in state.items()})


def _audiosr(data: bytes) -> None:
    from latentsr.convert.audiosr_file import Checkpoint
    from latentsr.model_folder.loading import ModelError

    try:
        file = Checkpoint(_file(data, "pytorch_model.bin"))
        file.check({"betas": (1000,), "scale_factor": (), "w": (3, 2)})
        assert file.betas and file.scale_factor
    except ModelError as error:
        assert "\n" not in str(error)


def _pickle(data: bytes) -> None:
    """What the child process does, here: an answer, whatever the file."""
    from latentsr.convert import unpickle_child

    answer = unpickle_child.look(io.BytesIO(data), [["state_dict"], []], r"numpy\..+")
    assert answer.keys() in ({"found"}, {"code"}, {"damaged"})
    json.dumps(answer)


TARGETS: dict[str, Target] = {
    "containers": Target("audio/parts.py and what it asks: what headers claim", _recordings, _containers),
    "audio": Target("audio/reader.py, with libsndfile and FFmpeg behind it", _recordings, _audio),
    "manifest": Target("data/manifest.py", _manifests, _manifest),
    "layouts": Target("data/layouts.py: trees of files", _trees, _layout),
    "shards": Target("data/shards.py: the headers and members of a tar", lambda: [_shard()], _shards),
    "shard-index": Target("data/shards.py: shards.json", _shard_index, _shards_by_index, "json"),
    "config": Target("config.py and the recipe: YAML and overrides", _configs, _config),
    "model-folder": Target("folder.py: index, hashes, configs", _model_parts, _model_folder, "json"),
    "tensor-file": Target("headers of safetensors in a model folder", _tensor_files, _tensor_file, "safetensors"),
    "checkpoint": Target("training/checkpoint.py: manifest, tensors", _manifests_of_checkpoints, _checkpoint, "json"),
    "pickle": Target("convert/unpickle_child.py, in this process", _foreign_checkpoints, _pickle),
    "audiosr": Target("convert/audiosr_file.py: foreign checkpoints", _foreign_checkpoints, _audiosr),
    "tags": Target("audio/tags: RIFF chunks, ID3, Vorbis comments, read and fitted", tags.seeds, tags.run),
}  # fmt: skip
