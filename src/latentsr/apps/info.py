"""What a model folder holds, from its configs and the headers of its safetensors: no weight is read."""

from __future__ import annotations

import json
import math
import re
import struct
from importlib import metadata
from importlib.resources import files
from pathlib import Path
from typing import Any

import latentsr

HEADS = {"vocoder": "vocoder", "mamba_gan": "mamba-gan", "diffwave_mamba": "diffwave-mamba"}  # component: head
MAX_HEADER_BYTES = 100_000_000  # safetensors' own limit


class ModelError(ValueError):
    """A folder that is no model; the message says what is missing and what to do."""


def describe(model: str | Path | None = None) -> dict[str, Any]:
    """Version, torch and device, and what the model is made of.

    Args:
        model: a model folder; None = the embedded default.

    Returns:
        A dict ready for JSON; `model` in it is None where no default is embedded.
    """
    facts = None if model is None and _embedded() is None else describe_model(model)
    return {"version": latentsr.__version__, "torch": _torch(), "model": facts}


def describe_model(model: str | Path | None = None) -> dict[str, Any]:
    """Components with parameters and bytes, heads and licence of a model folder (None = the embedded default)."""
    folder = _embedded() if model is None else Path(model)
    if folder is None:
        raise ModelError("this installation has no embedded model; name one with --model or install the wheel")
    if not folder.is_dir():
        raise ModelError(f"{folder} is not a folder; name one that Pipeline.save_pretrained wrote")
    index = _read_json(folder / "model_index.json")
    components = {
        name: _component(folder / name, entry)
        for name, entry in index.items()
        if not name.startswith("_") and isinstance(entry, list) and entry[-1] is not None
    }
    return {
        "path": str(folder),
        "embedded": model is None,
        "licence": _licence(folder),
        "heads": [head for component, head in HEADS.items() if component in components],
        "default_head": index.get("default_head", "vocoder"),  # of the command line
        "parameters": sum(part["parameters"] for part in components.values()),
        "bytes": sum(part["bytes"] for part in components.values()),
        "components": components,
    }


def tensor_header(path: Path) -> dict[str, Any]:
    """The header of a safetensors file, name -> {dtype, shape, data_offsets}; checked against the file's size."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 0 < length <= min(size - 8, MAX_HEADER_BYTES):
            raise ModelError(f"{path} is cut short or not safetensors; fetch it again")
        try:
            header = json.loads(file.read(length))
        except ValueError:
            raise ModelError(f"{path} has a damaged header; fetch it again") from None
    header.pop("__metadata__", None)
    end = max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
    if 8 + length + end != size:
        raise ModelError(f"{path} has {size} bytes, its header says {8 + length + end}; fetch it again")
    return header


def lines(facts: dict[str, Any]) -> list[str]:
    """The same facts for people."""
    torch, model = facts["torch"], facts["model"]
    out = [f"latentsr {facts['version']}, torch {torch['version']} on {torch['device']}"]
    if model is None:
        return [*out, "no embedded model in this installation"]
    out += [
        f"model    {'embedded default' if model['embedded'] else model['path']}",
        f"licence  {model['licence'] or 'not stated'}",
        f"heads    {', '.join(model['heads']) or 'none'} (default {model['default_head']})",
    ]
    for name, part in {**model["components"], "in all": model}.items():
        if part["bytes"]:
            kind = f"{part['class']}, {'/'.join(part['dtypes'])}" if "class" in part else ""
            out.append(f"{name:<16} {part['parameters'] / 1e6:8.2f} M {part['bytes'] / 1e6:8.2f} MB  {kind}".rstrip())
        else:
            out.append(f"{name:<16} {part['class']}")
    return out


def _component(folder: Path, entry: list[Any]) -> dict[str, Any]:
    tensors: dict[str, Any] = {}
    weights = sorted(folder.glob("*.safetensors"))
    for path in weights:
        tensors |= tensor_header(path)
    return {
        "class": str(entry[-1]),
        "parameters": sum(math.prod(tensor["shape"]) for tensor in tensors.values()),
        "bytes": sum(path.stat().st_size for path in weights),
        "dtypes": sorted({tensor["dtype"] for tensor in tensors.values()}),
    }


def _embedded() -> Path | None:
    folder = Path(str(files("latentsr") / "weights"))
    return folder if (folder / "model_index.json").is_file() else None


def _licence(folder: Path) -> str | None:
    """`license:` of the model card's front matter."""
    card = folder / "README.md"
    found = re.search(r"^license:\s*(.+)$", card.read_text("utf-8"), re.MULTILINE) if card.is_file() else None
    return found.group(1).strip() if found else None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ModelError(
            f"{path.parent} has no {path.name}; name a folder that Pipeline.save_pretrained wrote"
        ) from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read ({error}); fetch the model again") from None


def _torch() -> dict[str, str]:
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {"version": metadata.version("torch"), "device": device}
