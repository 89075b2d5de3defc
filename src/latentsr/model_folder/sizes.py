"""Whether a network's config fits its weights, found out before any memory is taken for it."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks

from latentsr.model_folder.tensorfiles import ANEW, ModelError, StoredTensor, first_line, header

# A weight norm or an attention that is split registers a parameter more than once; windows and bases are not stored.
SPARE_FACTOR, SPARE_TENSORS, SPARE_ELEMENTS = 4, 256, 2**24
MAX_NUMBER = 2**17  # in a config; the largest in use is the sampling rate
MAX_STEPS = 100_000  # of a noise schedule; every one in use has 1000


class _TooLargeError(Exception):
    """More was built than the files hold."""


def check_sizes(cls: type[nn.Module], config: Mapping[str, Any], component: Path, files: list[Path]) -> nn.Module:
    """Raise `ModelError` unless `config` makes a network of `cls` whose tensors have the shapes that are stored.

    The network is built on torch's meta device, without memory, and building stops once it is larger than the files:
    a config may claim any width or depth. It is returned as it was built.
    """
    check_numbers(config, component / "config.json")
    stored: dict[str, StoredTensor] = {}
    for file in files:
        stored |= header(file)
    elements = sum(math.prod(tensor.shape) for tensor in stored.values())
    try:
        most = SPARE_FACTOR * len(stored) + SPARE_TENSORS, SPARE_FACTOR * elements + SPARE_ELEMENTS
        with _at_most(*most), torch.device("meta"):
            kind: Any = cls
            if hasattr(cls, "config_class"):  # of transformers
                network = kind(kind.config_class.from_dict(dict(config)))
            else:
                network = kind.from_config(dict(config))
    except _TooLargeError:
        raise ModelError(f"{component} is described as larger than its weights ({elements} numbers); {ANEW}") from None
    except Exception as error:  # whatever its class raises where a size makes no sense
        raise ModelError(f"{component / 'config.json'} makes no network: {first_line(error)}; {ANEW}") from error
    wrong = [
        f"{name} is {stored[name].shape} instead of {tuple(tensor.shape)}"
        for name, tensor in network.state_dict().items()
        if name in stored and stored[name].shape != tuple(tensor.shape)
    ]
    if wrong:
        raise ModelError(f"{component} does not fit its config: {wrong[0]} ({len(wrong)} such in all); {ANEW}")
    return network


def check_scheduler(config: Mapping[str, Any], path: Path) -> None:
    """Raise `ModelError` where a noise schedule claims numbers that nobody can mean: it is computed when it is made."""
    steps = config.get("num_train_timesteps", 1000)
    if type(steps) is not int or not 1 <= steps <= MAX_STEPS:
        raise ModelError(f"{path}: num_train_timesteps must be 1 to {MAX_STEPS}, got {_short(steps)}; {ANEW}")
    check_numbers(config, path)


def check_numbers(value: Any, path: Path, name: str = "") -> None:
    """Raise `ModelError` where a number in a config is not finite or beyond any size that a network here has."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            check_numbers(inner, path, str(key))
    elif isinstance(value, list):
        for inner in value:
            check_numbers(inner, path, name)
    elif isinstance(value, (int, float)) and not abs(value) <= MAX_NUMBER:  # a NaN is not either
        if name == "lambda_min_clipped" and value == -math.inf:  # diffusers' own "not clipped"
            return
        raise ModelError(f"{path}: {name[:40]} is {_short(value)}, at most {MAX_NUMBER} makes sense; {ANEW}")


def _short(value: object) -> str:
    return repr(value)[:40]


@contextmanager
def _at_most(tensors: int, elements: int) -> Iterator[None]:
    """Stop the building of networks in this thread at so many tensors, or so many numbers in them."""
    mine, made, numbers = threading.get_ident(), 0, 0

    def count(_module: nn.Module, _name: str, tensor: Tensor | None) -> None:
        nonlocal made, numbers
        if tensor is not None and threading.get_ident() == mine:
            made, numbers = made + 1, numbers + math.prod(tensor.shape)
            if made > tensors or numbers > elements:
                raise _TooLargeError

    handles = [
        hooks.register_module_parameter_registration_hook(count),
        hooks.register_module_buffer_registration_hook(count),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
