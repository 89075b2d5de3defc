"""Model folders from anywhere: what is wrong with one is a line that says so, and nothing of it is run or leaves it."""

import json
import os
import shutil
import struct
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

from latentsr.diffusion.sampling import SCHEDULERS, training_scheduler
from latentsr.model_folder import loading as folders
from latentsr.model_folder.loading import EMBEDDED, ModelError, load_component, load_network, read_index, write_hashes
from latentsr.model_folder.tensorfiles import header, inside, weight_files
from latentsr.models.hifigan import build_vocoder
from latentsr.models.vocos import ISTFTVocoder
from latentsr.pipeline import Pipeline

WEIGHTS = "vocoder/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model") / "whole"
    Pipeline(vocoder=ISTFTVocoder(channels=8, hidden=8, layers=1), scheduler=training_scheduler()).save_pretrained(
        folder
    )
    return folder


@pytest.fixture
def model(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "model")


def load(model, name="vocoder"):
    return load_component(model, name, read_index(model), torch.float32)


def change(path, **values):
    """Other values in a JSON file, and no hashes to notice it: as a folder of somebody else's comes."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    (path.parents[1] / "sha256.json").unlink(missing_ok=True)


def refused(model, message, name="vocoder"):
    began = time.process_time()
    with pytest.raises(ModelError, match=message) as caught:
        load(model, name)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000
    assert time.process_time() - began < 2


# --- damage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", [WEIGHTS, "vocoder/config.json", "model_index.json"])
def test_one_flipped_bit_in_any_file_is_noticed(model, file):
    data = bytearray((model / file).read_bytes())
    data[len(data) // 2] ^= 1
    (model / file).write_bytes(data)
    refused(model, "damaged|cannot be read|does not know|has no vocoder")


def test_the_embedded_model_must_have_its_hashes(model, monkeypatch):
    (model / "sha256.json").unlink()
    assert load(model).config.channels == 8  # a folder of somebody else's may come without
    monkeypatch.setattr(folders, "EMBEDDED", model)
    refused(model, "has no sha256.json; the installation is damaged")
    assert (EMBEDDED / "sha256.json").is_file()


def test_a_file_that_the_hashes_do_not_name_is_refused(model):
    (model / "vocoder/diffusion_pytorch_model.safetensors.index.json").write_text("{}")
    refused(model, "is not in sha256.json; remove the file")


@pytest.mark.parametrize("cut", [1, 4, 100, 1000])
def test_cut_short(model, cut):
    (model / "sha256.json").unlink()
    data = (model / WEIGHTS).read_bytes()
    (model / WEIGHTS).write_bytes(data[:-cut] if cut > 1 else b"")
    refused(model, "cut short|fetch the file again")


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (lambda t: t.pop("embed.weight"), "does not fit its config.*embed.weight"),
        (lambda t: t.update(extra=torch.zeros(3)), "does not fit its config.*extra"),
        (lambda t: t.update({"embed.bias": torch.zeros(9)}), r"embed.bias is \(9,\) instead of \(8,\)"),
        (lambda t: t.update({"embed.weight": t["embed.weight"].mT.contiguous()}), "instead of"),
    ],
    ids=["missing", "extra", "shape", "transposed"],
)
def test_keys_and_shapes_are_strict_without_hashes_too(model, alter, message):
    tensors = load_file(model / WEIGHTS)
    alter(tensors)
    save_file(tensors, model / WEIGHTS, metadata={"format": "pt"})
    (model / "sha256.json").unlink()
    refused(model, message)


# --- ways out of the folder -----------------------------------------------------------------------------------------


def sharded(model, name):
    """The folder with its weights in the file that an index calls `name`."""
    index = {"metadata": {}, "weight_map": dict.fromkeys(load_file(model / WEIGHTS), name)}
    (model / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    (model / "sha256.json").unlink()


@pytest.mark.parametrize(
    "name", ["../../x.safetensors", "/x.safetensors", "sub/x.safetensors", "..\\x.safetensors", "x\0"]
)
def test_an_index_of_shards_leads_nowhere_else(model, tmp_path, name):
    shutil.copy(model / WEIGHTS, tmp_path / "x.safetensors")
    sharded(model, name)
    (model / WEIGHTS).unlink()
    refused(model, "leads out of the folder|no .safetensors beside it")


def test_shards_beside_their_index_are_read(model):
    (model / WEIGHTS).rename(model / "vocoder/a.safetensors")
    shutil.copy(model / "vocoder/a.safetensors", model / WEIGHTS)
    sharded(model, "a.safetensors")
    (model / WEIGHTS).unlink()
    assert [path.name for path in weight_files(model / "vocoder")] == ["a.safetensors"]
    assert load(model).config.channels == 8


@pytest.mark.parametrize("name", ["vocoder/../../secret.json", "/etc/passwd", "vocoder/..\\x"])
def test_the_hashes_name_no_file_elsewhere(model, tmp_path, name):
    (tmp_path / "secret.json").write_text("{}")
    hashes = json.loads((model / "sha256.json").read_text())
    (model / "sha256.json").write_text(json.dumps({**hashes, name: "0" * 64}))
    if name.startswith("vocoder"):
        refused(model, "leads out of the folder")
    else:
        assert load(model).config.channels == 8  # of no component: not looked at


@pytest.mark.parametrize("file", [WEIGHTS, "vocoder/config.json"])
def test_a_link_out_of_the_folder_is_not_followed(model, tmp_path, file):
    (model / file).rename(tmp_path / "elsewhere")
    (model / file).symlink_to(tmp_path / "elsewhere")
    refused(model, "is a link out of the model folder")
    (model / "sha256.json").unlink()
    refused(model, "is a link out of the model folder")


def test_links_of_the_hubs_cache_and_to_the_whole_folder_are_followed(model, tmp_path):
    blobs, snapshot = tmp_path / "models--a--b/blobs", tmp_path / "models--a--b/snapshots/0123"
    blobs.mkdir(parents=True)
    for file in [path for path in model.rglob("*") if path.is_file()]:
        place = snapshot / file.relative_to(model)
        place.parent.mkdir(parents=True, exist_ok=True)
        blob = blobs / file.relative_to(model).as_posix().replace("/", "-")
        shutil.copy(file, blob)
        place.symlink_to(os.path.relpath(blob, place.parent))
    assert load(snapshot).config.channels == 8
    (tmp_path / "link").symlink_to(model)
    assert load(tmp_path / "link").config.channels == 8


def test_a_pipe_instead_of_weights_does_not_hang(model):
    (model / "sha256.json").unlink()
    (model / WEIGHTS).unlink()
    os.mkfifo(model / WEIGHTS)
    refused(model, "is missing")


def test_names_inside_and_outside(tmp_path):
    assert inside(tmp_path, "a/b.json") == tmp_path / "a/b.json"
    for name in ("", "..", "a/../../b", "/a", "a\\b", "c:x", "a\0"):
        with pytest.raises(ModelError):
            inside(tmp_path, name)


# --- what a config claims -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        {"hidden": 2**20},
        {"channels": 2**17, "hidden": 2**17},
        {"layers": 100_000},
        {"n_fft": 10**12},
        {"n_fft": 2**17, "layers": 50_000},
        {"channels": -1},
        {"channels": "8"},
        {"layers": 0},
        {"mel_mean": float("nan")},
        {"hidden": 10**400},
        {"kernel_size": [[[]]]},
        {"chanels": 8},
        {"self": 8},
    ],
    ids=str,
)
def test_hostile_sizes_are_refused_before_memory_is_taken(model, values):
    change(model / "vocoder/config.json", **values)
    refused(model, "described as larger|at most|makes no network|instead of|cannot be read|does not fit")


@pytest.mark.parametrize(
    "values",
    [
        {"num_train_timesteps": 10**12},
        {"num_train_timesteps": -5},
        {"num_train_timesteps": "many"},
        {"beta_end": float("inf")},
        {"beta_schedule": "something"},
        {"trained_betas": [float("nan")] * 1000},
        {"_class_name": "UNet2DModel"},
    ],
    ids=str,
)
def test_hostile_schedules_are_refused(model, values):
    change(model / "scheduler/scheduler_config.json", **values)
    refused(model, "must be 1 to|at most|makes no scheduler|is of a", "scheduler")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"_class_name": "UNet2DModel"}, "is of a UNet2DModel, model_index.json says ISTFTVocoder"),
        ({"auto_map": {"AutoModel": "evil--repo.Model"}}, "asks for auto_map"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "asks for quantization_config"),
    ],
    ids=["class", "remote code", "quantizer"],
)
def test_a_config_brings_no_class_and_no_code(model, values, message):
    change(model / "vocoder/config.json", **values)
    refused(model, message)


@pytest.mark.parametrize(
    "entry", [["os", "system"], ["diffusers", "StableDiffusionPipeline"], ["x", ["y"]], ["x"], "x", 7, {"a": 1}]
)
def test_an_index_names_no_class_but_ours(model, entry):
    index = json.loads((model / "model_index.json").read_text())
    (model / "model_index.json").write_text(json.dumps({**index, "vocoder": entry}))
    write_hashes(model)
    refused(model, "does not know|has no vocoder")


@pytest.mark.parametrize(
    "values", [{"default_steps": 10**12}, {"default_guidance_scale": "x"}, {"default_steps": None}]
)
def test_defaults_that_make_no_sense(model, values):
    index = json.loads((model / "model_index.json").read_text())
    (model / "model_index.json").write_text(json.dumps({**index, **values}))
    refused(model, "default_.* must be")


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"7", b"\xff\xfe", b"[" * 100_000, b"{" + b" " * 5_000_000 + b"}", b"9" * 5000],
    ids=["empty", "list", "number", "not UTF-8", "deep", "large", "long number"],
)  # fmt: skip
@pytest.mark.parametrize("file", ["model_index.json", "sha256.json", "vocoder/config.json"])
def test_json_that_is_none(model, file, text):
    (model / file).write_bytes(text)
    if file == "vocoder/config.json":
        (model / "sha256.json").unlink()
    refused(model, "cannot be read|must hold a mapping|nested too deeply|more than any model")


@pytest.mark.parametrize(
    "text",
    [
        b"7",
        b'{"a": 1}',
        b'{"a": {"dtype": "F32", "shape": [1099511627776], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [1, 5]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, "b": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}',  # noqa: E501
        b"[" * 50_000,
    ],
)
def test_headers_that_lie(tmp_path, text):
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(4))
    with pytest.raises(ModelError):
        header(path)
    path.write_bytes(struct.pack("<Q", 2**63) + text)
    with pytest.raises(ModelError, match="cut short"):
        header(path)


# --- what is whole is read ------------------------------------------------------------------------------------------


def test_every_class_of_ours_passes_the_checks_that_hostile_ones_fail(tmp_path):
    """Nothing that `save_pretrained` writes is refused, hashes or not: the embedded model, HiFi-GAN, each scheduler."""
    index = read_index(EMBEDDED)
    shutil.copytree(EMBEDDED, tmp_path / "bare")
    (tmp_path / "bare/sha256.json").unlink()
    for name in ("vae", "unet", "vocoder", "mamba_gan", "diffwave_mamba", "scheduler"):
        bare = load_component(tmp_path / "bare", name, index, torch.float32)
        assert type(bare).__name__ == index[name][1]
    gan = build_vocoder("hifigan", channels=32)
    for number, kind in enumerate(SCHEDULERS.values()):
        folder = tmp_path / str(number)
        Pipeline(vocoder=gan, scheduler=kind.from_config(training_scheduler().config)).save_pretrained(folder)
        assert type(load(folder, "scheduler")) is kind
        for ours, theirs in zip(gan.parameters(), load(folder).parameters(), strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", ["mamba_gan", "diffwave_mamba", "vocoder"])
def test_a_network_of_our_own_needs_no_other_library(name):
    code = (
        "import sys, torch; before = set(sys.modules)\n"
        "from latentsr.model_folder.loading import EMBEDDED, load_component, read_index\n"
        f"load_component(EMBEDDED, {name!r}, read_index(EMBEDDED), torch.float32)\n"
        "roots = {module.partition('.')[0] for module in set(sys.modules) - before}\n"
        "print(sorted(roots & {'diffusers', 'transformers', 'accelerate', 'sympy', 'huggingface_hub'}))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_a_network_in_a_folder_of_its_own_is_of_the_class_it_names(tmp_path):
    assert load_network(EMBEDDED / "vocoder", torch.float16).dtype == torch.float16
    gan = build_vocoder("hifigan", channels=32)
    gan.save_pretrained(tmp_path / "gan")
    assert type(load_network(tmp_path / "gan")) is type(gan)
    (tmp_path / "gan/config.json").write_text(json.dumps({"architectures": ["GPT2Model"]}))
    with pytest.raises(ModelError, match="is a GPT2Model, which this version does not know"):
        load_network(tmp_path / "gan")
