"""AEROMamba's published checkpoints: the authors' names onto ours, tensors only, none of their code run."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentsr.convert.audiosr_folder import new_folder
from latentsr.convert.pickled import UnreadableError, counted, look
from latentsr.errors import reason_of
from latentsr.model_folder.loading import INDEX, MAX_SHARD_BYTES, ModelError, write_hashes
from latentsr.models.aero_layers import MambaPlace
from latentsr.models.aeromamba import AeroMamba

# The training code stores its configuration and its classes beside the weights; these names may stand in the file.
EXPECTED_CODE = (
    r"(src|omegaconf|typing|collections|numpy)\..+"
    r"|_operator\.getitem|(builtins|__builtin__)\.(dict|list|tuple|int|float|str|bool)"
)
NAMES = (
    (r"^freq_emb\.embedding\.weight$", "embedding"),
    (r"^(encoder\.\d+)\.pre_conv\.", r"\1.enter."),
    (r"^(encoder\.\d+)\.conv\.", r"\1.down."),
    (r"^(decoder\.\d+)\.conv_tr\.", r"\1.up."),
    (r"\.freq_attn_block\.conv1\.", ".attention.squeeze."),
    (r"\.freq_attn_block\.conv1d\.", ".attention.gate."),
    (r"\.freq_attn_block\.freq_fc\.", ".attention.mix."),
    (r"\.freq_attn_block\.conv2\.", ".attention.fuse."),
    (r"\.dconv\.layers\.", ".residual."),
    (r"^(.+\.residual\.\d+)\.conv1\.", r"\1.squeeze."),
    (r"^(.+\.residual\.\d+)\.act\.", r"\1.activation."),
    (r"^(.+\.residual\.\d+)\.conv2\.", r"\1.expand."),
    (r"\.mamba\.conv1d\.", ".mamba.directions.0.conv."),
    (r"\.mamba\.(x_proj|dt_proj|A_log|D)\b", r".mamba.directions.0.\1"),
)


def load(path: str | os.PathLike[str], mamba: MambaPlace = "dead", **sizes: Any) -> AeroMamba:
    """The generator of a checkpoint of AEROMamba's training code, for inference.

    Args:
        path: the checkpoint.th, whole or reduced to the generator's state dict.
        mamba: as in `AeroMamba`; the published weights were made by "dead".
        sizes: other arguments of `AeroMamba`, where the file was trained with others than the published ones.

    >>> load("checkpoint.th")(torch.zeros(1, 1, 11_025)).shape  # doctest: +SKIP
    torch.Size([1, 1, 44100])
    """
    state = {rename(name): tensor for name, tensor in read_state(path).items()}
    network = AeroMamba(mamba=mamba, **sizes)
    wanted = network.state_dict()
    faults = {
        "missing": [name for name in wanted if name not in state],
        "unexpected": [name for name in state if name not in wanted],
        "of another shape": [k for k, v in wanted.items() if k in state and state[k].shape != v.shape],
        "with NaN or infinity": [k for k in wanted if k in state and not state[k].isfinite().all()],
    }
    if found := counted(faults):
        raise ModelError(
            f"{path} does not hold the tensors of this AEROMamba: {found}; "
            "pass a checkpoint of the published configuration, or the sizes that the file was trained with"
        )
    network.load_state_dict(state)
    if mamba != "dead" and mamba_is_untrained(state):
        warnings.warn(
            f"{path}: the Mamba layers were never trained, and {mamba!r} runs them; "
            "train on, or load the checkpoint as 'dead'",
            stacklevel=2,
        )
    return network.eval()


def convert(
    checkpoint: str | os.PathLike[str],
    out_dir: str | os.PathLike[str],
    *,
    mamba: MambaPlace = "dead",
    dtype: torch.dtype = torch.float32,
    overwrite: bool = False,
    **sizes: Any,
) -> Path:
    """Write a checkpoint as a model folder whose default head is `aeromamba`. It is complete, or not there.

    Args:
        checkpoint: the checkpoint.th of the authors' training code.
        out_dir: the folder to make.
        mamba: as in `load`.
        dtype: of the files.
        overwrite: replace a model folder of that name.
        sizes: as in `load`.

    Returns:
        `out_dir`.

    Raises:
        ModelError: the file is damaged, or another model's, or the folder cannot be written.
    """
    network, target = load(checkpoint, mamba, **sizes).to(dtype), Path(out_dir)
    size = sum(tensor.nbytes for tensor in network.state_dict().values())
    index = {"_class_name": "Pipeline", "default_head": "aeromamba", "aeromamba": [AeroMamba.__module__, "AeroMamba"]}
    with new_folder(target, size, overwrite) as folder:
        network.save_pretrained(folder / "aeromamba", max_shard_size=MAX_SHARD_BYTES)
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
        write_hashes(folder)
    return target


def rename(name: str) -> str:
    """Our name of a tensor, by the authors'.

    >>> rename("encoder.0.dconv.layers.1.conv2.3.scale")
    'encoder.0.residual.1.expand.3.scale'
    """
    for theirs, ours in NAMES:
        name = re.sub(theirs, ours, name)
    return name


def mamba_is_untrained(state: Mapping[str, Tensor]) -> bool:
    """Whether every Mamba layer still has the decays 1, 2, ... and the skips 1 that it was built with.

    `state`: under our names or the authors'. An optimiser leaves parameters without a gradient as they are.
    """
    decays = [v.float() for k, v in state.items() if k.endswith(".A_log")]
    skips = [v.float() for k, v in state.items() if k.endswith("mamba.D") or k.endswith("directions.0.D")]
    if not decays:
        raise ModelError("the state dict holds no Mamba layer; pass a checkpoint of AEROMamba, not one of AERO")
    start = [torch.arange(1, v.shape[1] + 1).log().expand_as(v) for v in decays]
    return all(torch.allclose(v, s, atol=1e-3) for v, s in zip(decays, start, strict=True)) and all(
        torch.allclose(v, torch.ones_like(v), atol=1e-3) for v in skips
    )


def read_state(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The generator's tensors under the authors' names.

    A child process looks into the file; no name in it is imported or called (`convert/pickled.py`).
    """
    try:
        contents = look(Path(path), (("models", "generator", "state"), ("state",), ()), EXPECTED_CODE)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {reason_of(error)}") from None
    except UnreadableError as error:
        raise ModelError(error.refusal(path, "not a checkpoint of torch >= 1.6, or damaged ({})")) from None
    for inside in contents:
        if isinstance(inside, Mapping) and inside and all(isinstance(v, Tensor) for v in inside.values()):
            return {name: tensor for name, tensor in inside.items() if isinstance(tensor, Tensor)}
    raise ModelError(f"{path} holds no state dict of a generator; pass the checkpoint.th of AEROMamba's training code")
