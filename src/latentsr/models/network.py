"""What our own networks have in common: the arguments they were built with, and the folder that holds their weights."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from safetensors.torch import load_file
from torch import nn

CONFIG = "config.json"
WEIGHTS = "diffusion_pytorch_model{suffix}.safetensors"  # the names in diffusers' folders, which ours are

N = TypeVar("N", bound="Network")


class Arguments(Mapping[str, Any]):
    """What a network was built with: a mapping that cannot be changed, and each value an attribute too."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.__dict__.update(values)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __getitem__(self, name: str) -> Any:
        return self.__dict__[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.__dict__)

    def __len__(self) -> int:
        return len(self.__dict__)

    def __setattr__(self, name: str, value: Any) -> None:
        raise TypeError(f"a network's config cannot be changed: the weights were made for the {name} that they have")

    def __repr__(self) -> str:
        return f"Arguments({self.__dict__})"


class Network(nn.Module):
    """A network that knows the arguments of its constructor as `config`, and can be written and read with them.

    Before a folder is read the network is built on torch's meta device, without memory. So constants, which are not
    stored, are made with device="cpu".

    >>> class Gain(Network):
    ...     def __init__(self, channels: int = 2) -> None:
    ...         super().__init__()
    ...         self.gain = nn.Parameter(torch.ones(channels))
    >>> Gain(3).config.channels, Gain.from_config({"channels": 4}).gain.shape
    (3, torch.Size([4]))
    """

    config: Arguments

    def __new__(cls, *arguments: Any, **named: Any) -> Network:
        network = super().__new__(cls)
        bound = inspect.signature(cls.__init__).bind_partial(network, *arguments, **named)  # a copy gets no arguments
        bound.apply_defaults()
        network.config = Arguments({name: value for name, value in bound.arguments.items() if name != "self"})
        return network

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return next(self.parameters()).dtype

    def register_to_config(self, **values: Any) -> None:
        """Write measured values into the config, in the place of those the network was built with."""
        self.config = Arguments({**self.config, **values})

    @classmethod
    def from_config(cls: type[N], config: Mapping[str, Any]) -> N:
        """Build from a `config` or what a config.json holds; names that begin with _ are about the file."""
        return cls(**{name: value for name, value in config.items() if not name.startswith("_")})

    def fill(self: N, files: Iterable[Path], dtype: torch.dtype) -> N:
        """Take all weights from files of safetensors, in `dtype` and in memory of their own.

        Raises:
            ValueError: a tensor is missing, or one is there that the network has no place for.
        """
        tensors = {
            # One by one: as they come they are views of the whole file.
            name: tensor.to(dtype if tensor.is_floating_point() else tensor.dtype, copy=True)
            for file in files
            for name, tensor in load_file(file).items()
        }
        found = self.load_state_dict(tensors, strict=False, assign=True)
        wrong = {"missing": found.missing_keys, "unexpected": found.unexpected_keys}
        if any(wrong.values()):
            raise ValueError(f"what is stored does not fit its config: {wrong}")
        return self.to(dtype).eval()

    @classmethod
    def from_pretrained(cls: type[N], folder: str | os.PathLike[str], torch_dtype: torch.dtype = torch.float32) -> N:
        """Read a folder that `save_pretrained` wrote; for one of somebody else's there is `model_folder.loading`."""
        folder = Path(folder)
        files = sorted(folder.glob(WEIGHTS.format(suffix="*"))) or [folder / "model.safetensors"]  # the estimator's
        with torch.device("meta"):
            network = cls.from_config(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
        return network.fill(files, torch_dtype)

    def save_pretrained(self, folder: str | os.PathLike[str], max_shard_size: int | str = "10GB") -> None:
        """Write the config and the weights, as they are, in files of at most `max_shard_size` bytes."""
        from huggingface_hub import save_torch_state_dict

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = {"_class_name": type(self).__name__, **self.config}
        (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        save_torch_state_dict(self.state_dict(), folder, filename_pattern=WEIGHTS, max_shard_size=max_shard_size)
