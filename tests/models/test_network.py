"""What all our own networks share: a config that says how they were built, and folders that give them back."""

import copy
import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from latentsr.models.aeromamba import AeroMamba
from latentsr.models.cutoff import CutoffNet
from latentsr.models.diffwave_mamba import DiffWaveMamba
from latentsr.models.mamba_gan import MambaGenerator
from latentsr.models.mambawave import MambaWave
from latentsr.models.network import Network
from latentsr.models.vocos import ISTFTVocoder

WEIGHTS = "diffusion_pytorch_model.safetensors"
OURS = {
    AeroMamba: dict(channels=8, n_fft=128, hop_length=64),
    CutoffNet: dict(channels=8, hidden=8, dilations=(1, 2)),
    DiffWaveMamba: dict(bands=48, channels=8, hidden=8, latent_size=12),
    ISTFTVocoder: dict(channels=8, hidden=8, layers=2),
    MambaGenerator: dict(channels=16, hidden=16, mixer="lstm"),
    MambaWave: dict(channels=4, layers=2),
}


@pytest.fixture(params=OURS.items(), ids=lambda item: item[0].__name__)
def network(request):
    torch.manual_seed(0)
    kind, arguments = request.param
    return kind(**arguments)


def test_the_config_has_every_argument_as_a_value_and_as_an_attribute():
    config = ISTFTVocoder(80, channels=8).config
    assert dict(config) == dict(n_mels=80, channels=8, hidden=768, layers=8, kernel_size=7, n_fft=1920, hop_length=480,
                                mel_mean=-5.0, mel_std=3.0)  # fmt: skip
    assert config.n_mels == config["n_mels"] == 80 and len(config) == 9 and "hop_length" in config


def test_the_config_cannot_be_changed_but_measured_values_are_registered():
    network = MambaGenerator(channels=16)
    with pytest.raises(TypeError, match="the weights were made for the channels that they have"):
        network.config.channels = 32
    with pytest.raises(TypeError):
        network.config["channels"] = 32
    network.register_to_config(noise_share=0.5)
    assert network.config.noise_share == 0.5 and network.config.channels == 16


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network))])
def test_a_copy_has_the_same_config(network, copied):
    assert copied(network).config == network.config


def test_a_folder_gives_the_network_back(network, tmp_path):
    network.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", WEIGHTS]
    assert json.loads((tmp_path / "config.json").read_text())["_class_name"] == type(network).__name__
    again = type(network).from_pretrained(tmp_path)
    assert json.dumps(dict(again.config)) == json.dumps(dict(network.config))  # tuples come back as lists
    assert not again.training and all(parameter.requires_grad for parameter in again.parameters())
    for mine, its in ((network.state_dict(), again.state_dict()), map(dict, (network.named_buffers(), again.named_buffers()))):  # fmt: skip  # noqa: E501
        assert mine.keys() == its.keys() and all(torch.equal(mine[name], its[name]) for name in mine)


def test_shards_are_as_small_as_asked_and_those_of_before_go(network, tmp_path):
    network.save_pretrained(tmp_path, max_shard_size=4_000)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1 and (tmp_path / f"{WEIGHTS}.index.json").is_file()
    state = type(network).from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())
    network.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.glob("*.safetensors*")] == [WEIGHTS]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_tensors_come_in_the_type_asked_and_in_memory_of_their_own(tmp_path, dtype):
    MambaWave(channels=4, layers=2).half().save_pretrained(tmp_path)
    again = MambaWave.from_pretrained(tmp_path, torch_dtype=dtype)
    assert again.dtype == dtype and again.device.type == "cpu"
    for tensor in again.state_dict().values():
        assert tensor.dtype in (dtype, torch.int64)  # batches are counted
        assert tensor.untyped_storage().nbytes() == tensor.nbytes


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (lambda t: t.pop("embed.weight"), "does not fit its config: .*'missing': .'embed.weight'"),
        (lambda t: t.update(extra=torch.zeros(3)), "does not fit its config: .*'unexpected': .'extra'"),
    ],
    ids=["missing", "extra"],
)
def test_every_tensor_must_be_there_and_no_other(tmp_path, alter, message):
    ISTFTVocoder(channels=8, hidden=8, layers=1).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    alter(tensors)
    save_file(tensors, tmp_path / WEIGHTS)
    with pytest.raises(ValueError, match=message):
        ISTFTVocoder.from_pretrained(tmp_path)


def test_an_unknown_name_in_a_config_is_an_error_unless_it_is_about_the_file():
    values = dict(ISTFTVocoder(channels=8).config, _class_name="ISTFTVocoder", _diffusers_version="0.42.1")
    assert ISTFTVocoder.from_config(values).config.channels == 8
    with pytest.raises(TypeError, match="chanels"):
        ISTFTVocoder.from_config(dict(values, chanels=8))


def test_arguments_without_defaults_and_positional_ones_are_kept():
    class Gain(Network):
        def __init__(self, channels: int, *, gain: float = 2.0) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.full((channels,), gain))

    assert dict(Gain(3).config) == dict(channels=3, gain=2.0)
    assert copy.deepcopy(Gain(3, gain=1.0)).config.gain == 1.0
    with pytest.raises(TypeError, match="channels"):
        Gain()
