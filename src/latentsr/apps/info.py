"""What a model folder holds, from its configs and the headers of its safetensors: no weight is read."""

from __future__ import annotations

import math
import re
from importlib import metadata
from importlib.resources import files
from pathlib import Path
from typing import Any

import latentsr
from latentsr.head_kinds import DEFAULT_HEAD, HEADS
from latentsr.model_folder.tensorfiles import ModelError, StoredTensor, header, inside, read_json

__all__ = ["ModelError", "describe", "describe_model", "lines"]


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
    path = folder / "model_index.json"
    if not path.is_file():
        raise ModelError(f"{folder} has no {path.name}; name a folder that Pipeline.save_pretrained wrote")
    index = read_json(path)
    components = {
        name: _component(inside(folder, name), entry)
        for name, entry in index.items()
        if not name.startswith("_") and isinstance(entry, list) and any(entry)
    }
    return {
        "path": str(folder),
        "embedded": model is None,
        "licence": _licence(folder),
        "heads": [head for head, kind in HEADS.items() if kind.components[-1] in components],
        "default_head": index.get("default_head", DEFAULT_HEAD),
        "parameters": sum(part["parameters"] for part in components.values()),
        "bytes": sum(part["bytes"] for part in components.values()),
        "components": components,
    }


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
    tensors: dict[str, StoredTensor] = {}
    weights = sorted(folder.glob("*.safetensors"))
    for path in weights:
        tensors |= header(path)
    return {
        "class": str(entry[-1]),
        "parameters": sum(math.prod(tensor.shape) for tensor in tensors.values()),
        "bytes": sum(path.stat().st_size for path in weights),
        "dtypes": sorted({tensor.dtype for tensor in tensors.values()}),
    }


def _embedded() -> Path | None:
    folder = Path(str(files("latentsr") / "weights"))
    return folder if (folder / "model_index.json").is_file() else None


def _licence(folder: Path) -> str | None:
    """`license:` of the model card's front matter."""
    card = folder / "README.md"
    found = re.search(r"^license:\s*(.+)$", card.read_text("utf-8"), re.MULTILINE) if card.is_file() else None
    return found.group(1).strip() if found else None


def _torch() -> dict[str, str]:
    """Its version, and where networks run without --device, both known without its import, which takes seconds."""
    version = metadata.version("torch")
    cuda = Path("/dev/nvidiactl").exists() and not version.endswith("+cpu")
    return {"version": version, "device": "cuda" if cuda else "cpu"}
