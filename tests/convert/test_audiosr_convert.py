"""AudioSR's checkpoints become model folders exactly, or are refused in one line with nothing left behind."""

import ast
import copy
import json
import os
import pickle
import resource
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from latentsr import Pipeline
from latentsr.convert import audiosr, audiosr_file, audiosr_folder
from latentsr.convert.audiosr import architecture, convert, first_stage_encoder, load, name_map
from latentsr.convert.audiosr_file import Checkpoint
from latentsr.convert.audiosr_names import is_skipped, their_shapes
from latentsr.diffusion.sampling import SCHEDULERS, sample
from latentsr.model_folder.loading import ModelError, load_component, read_index, sha256

NETWORKS = ("vae", "unet", "vocoder")
DERIVED = {"alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod"}


def parameters(network) -> int:
    return sum(p.numel() for p in network.parameters())


def loaded(folder: Path, dtype=torch.float32) -> dict:
    index = read_index(folder)
    return {name: load_component(folder, name, index, dtype) for name in (*NETWORKS, "scheduler")}


def contents(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def listing(shared) -> dict[str, tuple[tuple[int, ...], bool]]:
    """{key: (shape, is it used)}, from a model that audiosr 0.0.7 built."""
    lines = (shared / "specs" / "audiosr_state_dict.txt").read_text().splitlines()
    fields = [line.split("\t") for line in lines if line and not line.startswith("#")]
    return {key: (ast.literal_eval(shape), use.startswith("USED")) for key, shape, _, use in fields}


@pytest.fixture(scope="module")
def recorded(shared):
    with np.load(shared / "oracle" / "audiosr" / "oracle.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


@pytest.fixture(scope="module")
def folder(shared, tmp_path_factory):
    source = shared / "oracle" / "audiosr"
    return convert(source / "pytorch_model.bin", tmp_path_factory.mktemp("oracle") / "m", source / "config.json")


@pytest.fixture(scope="module")
def networks(folder):
    return loaded(folder)


class TestFullSize:
    """The official architecture, on meta tensors."""

    def test_keys_and_shapes_are_those_in_use(self, listing):
        sizes = architecture()
        ours = their_shapes(sizes, name_map(sizes))
        assert ours == {key: shape for key, (shape, used) in listing.items() if used and key not in DERIVED}

    def test_all_other_keys_are_known_and_left_behind(self, listing):
        others = [key for key, (_, used) in listing.items() if not used or key in DERIVED]
        assert len(others) == 3742 - 1612
        assert all(is_skipped(key) for key in others)
        assert not any(is_skipped(key) for key in listing.keys() - set(others))

    def test_no_tensor_is_taken_twice(self):
        pairs = [their for names in name_map(architecture()).values() for their in names.values()]
        assert len(pairs) == len(set(pairs)) == 1104 + 142 + 110 + 254

    def test_parameter_counts(self):
        networks = architecture().build()
        vae = networks["vae"]
        assert parameters(networks["unet"]) == 258_195_088
        assert parameters(vae.encoder) + parameters(vae.quant_conv) == 90_011_328
        assert parameters(vae.decoder) + parameters(vae.post_quant_conv) == 133_524_241
        assert parameters(networks["vocoder"]) == 190_281_889

    def test_the_official_configuration_is_the_default(self, shared):
        assert architecture(shared / "specs" / "audiosr_default_config.json") == architecture()


class TestOracle:
    """Against a run of audiosr 0.0.7: a folder made from its checkpoint computes what it computed."""

    TOLERANCE = 1e-4  # of the largest value; 1.1e-6 is measured

    def near(self, result, expected):
        assert result.shape == expected.shape
        assert (result - expected).abs().max() < self.TOLERANCE * expected.abs().max()

    @torch.no_grad()
    def test_unet(self, networks, recorded):
        x = torch.cat([recorded["unet_x"], networks["vae"].config.scaling_factor * recorded["unet_cond"]], dim=1)
        self.near(networks["unet"](x, recorded["unet_t"], encoder_hidden_states=None).sample, recorded["unet_v"])

    @torch.no_grad()
    def test_decoder(self, networks, recorded):
        self.near(networks["vae"].decode(recorded["dec_z"]).sample, recorded["dec_mel"])

    @torch.no_grad()
    def test_vocoder(self, networks, recorded):
        wave = networks["vocoder"](recorded["voc_mel"].transpose(1, 2))
        self.near(wave.reshape(recorded["voc_wave"].shape), recorded["voc_wave"])
        assert wave.shape[-1] == 480 * recorded["voc_mel"].shape[2] + 16

    @torch.no_grad()
    def test_the_encoder_is_the_condition_stages(self, networks, recorded):
        posterior = networks["vae"].encode(recorded["lowpass_mel"][None]).latent_dist
        self.near(posterior.mean, recorded["cond_mean"])
        self.near(posterior.logvar, recorded["cond_logvar"])

    @torch.no_grad()
    def test_the_first_stages_own_encoder(self, shared, recorded):
        source = shared / "oracle" / "audiosr"
        vae = first_stage_encoder(source / "pytorch_model.bin", source / "config.json")
        posterior = vae.encode(recorded["enc_mel"]).latent_dist
        self.near(posterior.mean, recorded["enc_mean"])
        self.near(posterior.logvar, recorded["enc_logvar"])

    def test_schedule_and_scale(self, folder, shared):
        state = torch.load(shared / "oracle" / "audiosr" / "pytorch_model.bin", weights_only=True)["state_dict"]
        networks = loaded(folder)
        assert networks["vae"].config.scaling_factor == float(state["scale_factor"])
        assert_close(networks["scheduler"].alphas_cumprod, state["alphas_cumprod"], rtol=0, atol=1e-6)
        assert networks["scheduler"].alphas_cumprod[999] <= 2**-24  # what DPM-Solver++ puts in place of zero


class TestConversion:
    @pytest.mark.parametrize("dtype", audiosr.DTYPES, ids=str)
    def test_a_folder_holds_what_load_gives(self, official, checkpoint, tmp_path, dtype):
        convert(checkpoint, tmp_path / "m", official.config, dtype)
        direct = load(checkpoint, official.config, dtype)
        folder = loaded(tmp_path / "m", dtype)
        for name in NETWORKS:
            a, b = direct[name].state_dict(), folder[name].state_dict()
            assert a.keys() == b.keys()
            assert all(b[key].dtype == dtype and torch.equal(a[key], b[key]) for key in a)
            assert not any(p.requires_grad for p in direct[name].parameters())
        assert folder["vae"].config.scaling_factor == pytest.approx(0.3342401385, abs=1e-9)
        assert torch.equal(direct["scheduler"].alphas_cumprod, folder["scheduler"].alphas_cumprod)

    def test_every_weight_arrives_where_the_map_says(self, official, checkpoint):
        made = load(checkpoint, official.config)
        for component, names in name_map(architecture(official.config)).items():
            tensors = made[component].state_dict()
            assert all(
                torch.equal(tensors[our].flatten(), official.state[their].flatten()) for our, their in names.items()
            )

    def test_safetensors_and_a_bare_dict_give_the_same(self, official, checkpoint, tmp_path):
        save_file({name: tensor.clone() for name, tensor in official.state.items()}, tmp_path / "a.safetensors")
        torch.save(official.state, tmp_path / "bare.ckpt")
        hashes = []
        for source in (checkpoint, tmp_path / "a.safetensors", tmp_path / "bare.ckpt"):
            folder = convert(source, tmp_path / f"{source.stem}.m", official.config)
            hashes.append([sha256(file) for file in sorted(folder.rglob("*.safetensors"))])
        assert len(hashes[0]) == 3
        assert hashes[0] == hashes[1] == hashes[2]

    def test_shards_are_bounded_and_complete(self, official, checkpoint, tmp_path, monkeypatch):
        limit = 600_000
        monkeypatch.setattr(audiosr_folder, "SHARD_BYTES", limit)
        folder = convert(checkpoint, tmp_path / "m", official.config)
        shards = sorted((folder / "unet").glob("*.safetensors"))
        index = json.loads((folder / "unet" / "diffusion_pytorch_model.safetensors.index.json").read_text())
        assert len(shards) > 2
        assert shards[0].name == f"diffusion_pytorch_model-00001-of-{len(shards):05d}.safetensors"
        for shard in shards:
            tensors = load_file(shard)
            assert sum(t.nbytes for t in tensors.values()) <= limit or len(tensors) == 1
            assert all(index["weight_map"][name] == shard.name for name in tensors)
        assert index["metadata"]["total_size"] == 4 * parameters(loaded(folder)["unet"])

    def test_the_pipeline_takes_it(self, official, checkpoint, tmp_path):
        pipe = Pipeline.from_pretrained(convert(checkpoint, tmp_path / "m", official.config))
        assert [type(getattr(pipe, name)).__name__ for name in NETWORKS] == [
            "AutoencoderKL", "AudioLDM2UNet2DConditionModel", "SpeechT5HifiGan",
        ]  # fmt: skip
        assert pipe.config.default_steps == audiosr.DEFAULTS["default_steps"]
        assert read_index(tmp_path / "m")["unconditional_latent"] == -11.4981

    def test_the_folder_says_where_it_comes_from(self, official, checkpoint, tmp_path):
        folder = convert(checkpoint, tmp_path / "m", official.config, torch.bfloat16)
        origin = json.loads((folder / "conversion.json").read_text())
        assert origin["source_sha256"] == sha256(checkpoint)
        assert (origin["source_file"], origin["dtype"]) == ("pytorch_model.bin", "bfloat16")
        assert origin["scale_factor"] == pytest.approx(0.33424, abs=1e-5)
        assert sha256(checkpoint) in (folder / "README.md").read_text()
        hashed = json.loads((folder / "sha256.json").read_text())
        assert "conversion.json" in hashed
        assert "vocoder/model.safetensors" in hashed

    def test_files_have_the_rights_of_their_folder(self, official, checkpoint, tmp_path):
        folder = convert(checkpoint, tmp_path / "m", official.config)
        assert {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()} == {
            folder.stat().st_mode & 0o666
        }

    def test_loading_draws_no_random_numbers(self, official, checkpoint):
        before = torch.get_rng_state()
        load(checkpoint, official.config)
        assert torch.equal(torch.get_rng_state(), before)

    def test_progress_ends_at_the_whole(self, official, checkpoint, tmp_path):
        steps = []
        folder = convert(checkpoint, tmp_path / "m", official.config, on_progress=lambda *step: steps.append(step))
        tensors = sum(t.nbytes for file in folder.rglob("*.safetensors") for t in load_file(file).values())
        assert steps[-1] == (tensors, tensors)

    def test_unread_tensors_may_be_missing(self, official, tmp_path):
        names = name_map(architecture(official.config))
        wanted = their_shapes(architecture(official.config), names)
        torch.save({name: official.state[name] for name in wanted}, tmp_path / "slim.bin")
        assert parameters(load(tmp_path / "slim.bin", official.config)["unet"]) > 0

    def test_pages_of_the_file_can_be_let_go_unharmed(self, official, checkpoint):
        file, name = Checkpoint(checkpoint), "model.diffusion_model.middle_block.0.in_layers.2.weight"
        shape = tuple(official.state[name].shape)
        first = file.tensor(name, shape, torch.float32, copy=True)
        assert torch.equal(file.tensor(name, shape, torch.float32), first)
        assert torch.equal(first, official.state[name])

    @pytest.mark.parametrize("steps", [1, 2, 4, 10, 50])
    @pytest.mark.parametrize("name", SCHEDULERS)
    def test_every_scheduler_is_finite_on_these_betas(self, official, checkpoint, name, steps):
        theirs = load(checkpoint, official.config)["scheduler"]
        scheduler = SCHEDULERS[name].from_config(theirs.config)
        noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
        assert sample(lambda x, t: -x, noise, scheduler, steps).isfinite().all()


class RunsCode:
    """Its pickle makes a file when it is opened carelessly."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def truncated(path, official):
    whole = official.write(path).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def truncated_safetensors(path, official):
    save_file({name: tensor.clone() for name, tensor in official.state.items()}, path)
    path.write_bytes(path.read_bytes()[:-1000])


def other_model(path, _):
    torch.save(torch.nn.Linear(2, 2).state_dict(), path)


def with_code(path, official):
    torch.save({"state_dict": official.state, "callback": RunsCode(path.with_name("marker"))}, path)


def bare_pickle_with_code(path, _):
    path.write_bytes(pickle.dumps(RunsCode(path.with_name("marker"))))


def missing(path, official):
    official.write(path, model__diffusion_model__out__2__bias=None)


def unexpected(path, official):
    official.write(path, model__diffusion_model__adapter__weight=torch.zeros(2))


def transposed(path, official):
    weight = official.state["first_stage_model.vocoder.ups.0.weight"]
    official.write(path, first_stage_model__vocoder__ups__0__weight=weight.transpose(0, 1).contiguous())


def integers(path, official):
    official.write(path, model__diffusion_model__out__2__bias=torch.zeros(4, dtype=torch.int64))


def not_finite(path, official):
    official.write(path, model__diffusion_model__out__2__bias=torch.tensor([0.0, torch.inf, 0.0, 0.0]))


def odd_betas(path, official):
    official.write(path, betas=torch.full((1000,), 1.5))


def odd_scale(path, official):
    official.write(path, scale_factor=torch.tensor(0.0))


def a_list(path, _):
    torch.save([torch.zeros(2)], path)


def lfs_pointer(path, _):
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 6178147545\n")


def web_page(path, _):
    path.write_text("<!DOCTYPE html>\n<html><head><title>404</title></head></html>\n")


BAD = {
    truncated: "truncated or damaged",
    truncated_safetensors: "truncated or damaged",
    other_model: r"\d+ missing \(.*2 unexpected \(weight, bias\)",
    with_code: r"holds code \((posix|nt)\.mkdir\), which was not run",
    bare_pickle_with_code: "is a bare pickle",
    missing: r"1 missing \(model\.diffusion_model\.out\.2\.bias\)",
    unexpected: r"1 unexpected \(model\.diffusion_model\.adapter\.weight\)",
    transposed: r"ups\.0\.weight is \(16, 32, 12\) instead of \(32, 16, 12\)",
    integers: r"out\.2\.bias is \(4,\) in int64 instead of \(4,\)",
    not_finite: r"out\.2\.bias holds NaN or infinity",
    odd_betas: "betas must lie in 0..1",
    odd_scale: "scale_factor is 0.0; it must be positive",
    a_list: "holds a list instead of a state dict",
    lfs_pointer: "git-lfs pointer",
    web_page: "web page",
    lambda path, _: path.write_bytes(b""): "is empty",
    lambda path, _: path.write_bytes(b"RIFF\x00\x00\x00\x00WAVEfmt "): "neither a PyTorch checkpoint nor safetensors",
    lambda path, _: path.mkdir(): "is a folder; pass the checkpoint file itself",
    lambda path, _: None: "cannot be read: no such file",
}


class TestBadInput:
    """One line that says what is wrong; nothing half-written; nothing run."""

    @pytest.mark.parametrize(("make", "message"), BAD.items())
    def test_is_refused(self, official, tmp_path, make, message):
        source = tmp_path / "pytorch_model.bin"
        make(source, official)
        before = contents(tmp_path)
        for use in (
            lambda: convert(source, tmp_path / "new" / "m", official.config),
            lambda: load(source, official.config),
        ):
            with pytest.raises(ModelError, match=message) as raised:
                use()
            assert str(source) in str(raised.value)
            assert "\n" not in str(raised.value)
            assert contents(tmp_path) == before  # neither the folder, nor its parent, nor what the pickle would make

    def test_another_configuration(self, checkpoint, tmp_path):
        with pytest.raises(ModelError, match="missing .* of another shape .* or the configuration that"):
            convert(checkpoint, tmp_path / "m")
        assert contents(tmp_path) == ["pytorch_model.bin"]

    def test_weights_too_large_for_half_precision(self, official, tmp_path):
        large = official.write(tmp_path / "a.bin", model__diffusion_model__out__2__bias=torch.full((4,), 1e5))
        with pytest.raises(ModelError, match=r"out\.2\.bias does not fit float16; choose bfloat16 or float32"):
            convert(large, tmp_path / "m", official.config, torch.float16)
        assert contents(tmp_path) == ["a.bin"]
        assert load(large, official.config)["unet"].conv_out.bias[0] == 1e5

    @pytest.mark.parametrize(
        ("key", "value", "message"),
        [
            ("model.params.parameterization", "eps", "parameterization = 'eps'; only 'v'"),
            ("model.params.unet_config.params.transformer_depth", 2, "transformer_depth = 2; only 1"),
            ("model.params.unet_config.params.channel_mult", [1, 0], "channel_mult.1 = 0"),
            ("model.params.unet_config.params.num_head_channels", 24, "num_head_channels 24 does not divide"),
            ("model.params.first_stage_config.params.ddconfig.ch", None, "has no .*ddconfig.ch;"),
            ("preprocessing.stft.hop_length", 512, "hop_length = 512; only 480"),
            ("vocoder.resblock_dilation_sizes", [[1, 3], [1, 5]], "resblock_dilation_sizes"),
        ],
    )
    def test_configurations_that_cannot_be_built(self, official, key, value, message):
        config = copy.deepcopy(official.config)
        *parents, leaf = key.split(".")
        section = config
        for parent in parents:
            section = section[parent]
        if value is None:
            del section[leaf]
        else:
            section[leaf] = value
        with pytest.raises(ModelError, match=message):
            architecture(config)

    @pytest.mark.parametrize(
        ("text", "message"), [("{", "is not JSON"), ("[]", "must hold a mapping"), (None, "no such")]
    )
    def test_configuration_files_that_are_none(self, checkpoint, tmp_path, text, message):
        if text is not None:
            (tmp_path / "c.json").write_text(text)
        with pytest.raises(ModelError, match=message):
            load(checkpoint, tmp_path / "c.json")


class TestVariant:
    @pytest.fixture
    def other(self, official, tmp_path):
        """As speech may be: another scale factor."""
        return official.write(tmp_path / "other.bin", scale_factor=torch.tensor(0.41))

    def test_a_speech_checkpoint_given_as_basic(self, official, other, tmp_path):
        with pytest.raises(ModelError, match=r"0\.4100000 .* is not audiosr_basic's \(0\.3342401\).*--variant speech"):
            convert(Checkpoint(other, "basic"), tmp_path / "m", official.config)
        assert contents(tmp_path) == ["other.bin"]

    def test_a_basic_checkpoint_given_as_speech(self, official, checkpoint, tmp_path):
        with pytest.raises(ModelError, match=r"is audiosr_basic's, not audiosr_speech's.*--variant basic"):
            convert(Checkpoint(checkpoint, "speech"), tmp_path / "m", official.config)
        assert contents(tmp_path) == ["pytorch_model.bin"]

    def test_each_as_itself(self, official, checkpoint, other, tmp_path):
        assert convert(Checkpoint(checkpoint, "basic"), tmp_path / "basic", official.config).is_dir()
        assert convert(Checkpoint(other, "speech"), tmp_path / "speech", official.config).is_dir()

    def test_half_precision_moves_the_scale_factor_a_little(self, official, tmp_path):
        half = official.write(tmp_path / "half.bin", scale_factor=torch.tensor(0.3342401385307312).bfloat16())
        assert abs(Checkpoint(half).scale_factor - audiosr_file.BASIC_SCALE_FACTOR) > audiosr_file.TOLERANCE
        assert convert(Checkpoint(half, "basic"), tmp_path / "m", official.config).is_dir()

    def test_a_known_hash_has_the_last_word(self, official, checkpoint, tmp_path, monkeypatch):
        monkeypatch.setitem(audiosr_file.PUBLISHED_SHA256, sha256(checkpoint), "speech")
        with pytest.raises(ModelError, match="is audiosr_speech, as its hash says"):
            convert(Checkpoint(checkpoint, "basic"), tmp_path / "m", official.config)
        folder = convert(Checkpoint(checkpoint, "speech"), tmp_path / "m", official.config)
        assert json.loads((folder / "conversion.json").read_text())["published_as"] == "haoheliu/audiosr_speech"

    def test_a_published_file_may_hold_more_than_we_know(self, official, tmp_path, monkeypatch):
        source = official.write(tmp_path / "a.bin", first_stage_model__loss__logvar=torch.zeros(1))
        with pytest.raises(ModelError, match="1 unexpected"):
            load(source, official.config)
        monkeypatch.setitem(audiosr_file.PUBLISHED_SHA256, sha256(source), "basic")
        assert load(source, official.config)["vae"].config.scaling_factor == pytest.approx(0.33424, abs=1e-5)

    def test_unknown_names(self, official, checkpoint, tmp_path):
        with pytest.raises(ValueError, match="unknown variant 'music'; choose one of basic, speech"):
            convert(Checkpoint(checkpoint, "music"), tmp_path / "m", official.config)
        assert contents(tmp_path) == ["pytorch_model.bin"]


class TestWriting:
    """Whole, or not there; what was there before stays until the new one is complete."""

    def test_no_room(self, official, checkpoint, tmp_path, monkeypatch):
        usage = namedtuple("usage", "total used free")
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 10**6, 10**6))
        with pytest.raises(ModelError, match=r"needs \d\.\d MB, but 1\.0 MB are free .* --dtype bfloat16"):
            convert(checkpoint, tmp_path / "new" / "m", official.config)
        assert contents(tmp_path) == ["pytorch_model.bin"]

    @pytest.mark.parametrize("replaces", [False, True])
    def test_the_disk_refuses_half_way(self, official, checkpoint, tmp_path, replaces):
        target = tmp_path / "new" / "m"
        if replaces:
            convert(checkpoint, target, official.config, torch.bfloat16)
            before = {path: path.read_bytes() for path in target.rglob("*") if path.is_file()}
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))
        try:
            with pytest.raises(
                ModelError, match="cannot be written: file too large; .* nothing of it was left"
            ) as raised:
                convert(checkpoint, target, official.config, overwrite=True)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert "\n" not in str(raised.value)
        if replaces:
            assert before == {path: path.read_bytes() for path in target.rglob("*") if path.is_file()}
            assert contents(target.parent) == ["m"]
        else:
            assert contents(tmp_path) == ["pytorch_model.bin"]

    def test_interrupted(self, official, checkpoint, tmp_path):
        def interrupt(*_):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            convert(checkpoint, tmp_path / "new" / "m", official.config, on_progress=interrupt)
        assert contents(tmp_path) == ["pytorch_model.bin"]

    def test_an_existing_folder_needs_overwrite(self, official, checkpoint, tmp_path):
        target = convert(checkpoint, tmp_path / "m", official.config)
        with pytest.raises(ModelError, match="m exists; .* --overwrite"):
            convert(checkpoint, target, official.config, torch.bfloat16)
        convert(checkpoint, target, official.config, torch.bfloat16, overwrite=True)
        assert json.loads((target / "conversion.json").read_text())["dtype"] == "bfloat16"
        assert contents(tmp_path) == ["m", "pytorch_model.bin"]

    def test_only_model_folders_are_replaced(self, official, checkpoint, tmp_path):
        (tmp_path / "home").mkdir()
        (tmp_path / "home" / "thesis.txt").write_text("years of work")
        with pytest.raises(ModelError, match="home is not a model folder .* and is not replaced"):
            convert(checkpoint, tmp_path / "home", official.config, overwrite=True)
        assert (tmp_path / "home" / "thesis.txt").read_text() == "years of work"

    def test_a_file_or_a_link_in_the_way(self, official, checkpoint, tmp_path):
        (tmp_path / "f").write_text("")
        (tmp_path / "l").symlink_to(tmp_path / "f")
        for name, kind in (("f", "file"), ("l", "link")):
            with pytest.raises(ModelError, match=f"is a {kind}, not a folder"):
                convert(checkpoint, tmp_path / name, official.config, overwrite=True)

    def test_the_checkpoint_is_never_replaced(self, official, checkpoint):
        with pytest.raises(ModelError, match="lies in .*, which would be replaced"):
            convert(checkpoint, checkpoint.parent, official.config, overwrite=True)
        assert checkpoint.is_file()

    def test_a_place_where_no_folder_can_be(self, official, checkpoint):
        with pytest.raises(ModelError, match="cannot be written: not a directory"):
            convert(checkpoint, checkpoint / "m", official.config)
        assert contents(checkpoint.parent) == ["pytorch_model.bin"]

    def test_unknown_types(self, official, checkpoint, tmp_path):
        with pytest.raises(ValueError, match=r"dtype must be one of torch.float32, .* got torch.float64"):
            convert(checkpoint, tmp_path / "m", official.config, torch.float64)
