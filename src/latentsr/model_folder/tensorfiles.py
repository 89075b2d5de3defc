"""Files of a model folder before anything is loaded from them: names, JSON and the headers of safetensors, bounded.

A folder may come from anywhere. What it says about itself is compared with the files that are there, nothing is
allocated from it, and no name in it leads out of it. Nothing here imports torch.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

MAX_JSON_BYTES = 4 * 2**20  # AudioSR's own index of 2,000 tensors has 0.2 MB
MAX_HEADER_BYTES = 16 * 2**20
INDEX_SUFFIX = ".safetensors.index.json"
_BITS = {"BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "U16": 16, "I16": 16, "F16": 16, "BF16": 16,
         "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64, "C64": 64}  # fmt: skip
ANEW = "copy the folder anew"


class ModelError(ValueError):
    """A model folder that cannot be used; the message says which file and what to do."""


@dataclass(frozen=True)
class StoredTensor:
    """What a header says of one tensor."""

    dtype: str  # safetensors' name
    shape: tuple[int, ...]


def read_json(path: Path) -> dict[str, Any]:
    """The mapping in a JSON file of at most `MAX_JSON_BYTES`; `ModelError` where it holds none."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_JSON_BYTES + 1)
        if len(text) > MAX_JSON_BYTES:
            raise ModelError(f"{path} has more than {MAX_JSON_BYTES // 2**20} MB, more than any model's has; {ANEW}")
        content = json.loads(text)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}; {ANEW}") from None
    except RecursionError:
        raise ModelError(f"{path} is nested too deeply; {ANEW}") from None
    except ModelError:
        raise
    except ValueError as error:
        raise ModelError(f"{path} cannot be read: {first_line(error)}; {ANEW}") from None
    if not isinstance(content, dict):
        raise ModelError(f"{path} must hold a mapping; {ANEW}")
    return content


def header(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a safetensors file by name; `ModelError` unless they fill the file exactly."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 0 < length <= size - 8:
            raise ModelError(f"{path} is cut short or not safetensors; fetch the file again")
        if length > MAX_HEADER_BYTES:
            raise ModelError(f"{path} has a header of {length} bytes, at most {MAX_HEADER_BYTES} are read")
        text = file.read(length)
    try:
        entries = json.loads(text)
        entries.pop("__metadata__", None)
        spans = sorted(_span(entry) for entry in entries.values())
        tensors = {name: StoredTensor(entry["dtype"], tuple(entry["shape"])) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ModelError(f"{path} has a damaged header; fetch the file again") from None
    end = max((last for _, last in spans), default=0)
    if 8 + length + end != size:
        raise ModelError(f"{path} has {size} bytes, its header says {8 + length + end}; fetch the file again")
    if any(one[1] != other[0] for one, other in zip(spans, spans[1:], strict=False)) or (spans and spans[0][0]):
        raise ModelError(f"{path} has tensors that overlap or leave gaps; fetch the file again")
    return tensors


def _span(entry: Mapping[str, Any]) -> tuple[int, int]:
    """Where a tensor lies among the data; ValueError unless its shape and type fill that."""
    shape, (first, last) = entry["shape"], entry["data_offsets"]
    if not all(type(n) is int and 0 <= n < 2**48 for n in (*shape, first, last)) or len(shape) > 16:
        raise ValueError("not sizes")
    bits = _BITS.get(entry["dtype"])
    if bits is not None and math.prod(shape) * bits != 8 * (last - first):
        raise ValueError("another size")
    return first, last


def inside(folder: Path, name: str) -> Path:
    """The file `name` of `folder`, where `name` was read from a file: it must not lead out of the folder.

    Links are followed within the folder only, and in the Hub's cache, whose snapshots are links into its blobs.
    """
    pure = PurePosixPath(name)
    if not name or pure.is_absolute() or ".." in pure.parts or any(c in name for c in "\\\0:\n"):
        raise ModelError(
            f"{folder} names {name!r}, a path that leads out of the folder; take a model from a source you trust"
        )
    path = folder / pure
    real = Path(os.path.realpath(path))
    roots = [Path(os.path.realpath(folder))]
    roots += [parent.parent for parent in roots[0].parents if parent.name == "snapshots"]
    if not any(real.is_relative_to(root) for root in roots):
        raise ModelError(f"{path} is a link out of the model folder; put the file itself there")
    return path


def weight_files(component: Path) -> list[Path]:
    """The safetensors files of a component, all there and within its folder."""
    indices = sorted(p for p in component.glob(f"*{INDEX_SUFFIX}"))
    if not indices:
        found = [component / f"{stem}.safetensors" for stem in ("diffusion_pytorch_model", "model")]
        found = [inside(component, path.name) for path in found if os.path.lexists(path)]
    else:
        weight_map = read_json(inside(component, indices[0].name)).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
            raise ModelError(f"{indices[0]} has no weight_map of files; {ANEW}")
        names = sorted(set(weight_map.values()))
        bad = [name for name in names if "/" in name or not name.endswith(".safetensors")]
        if bad:
            raise ModelError(f"{indices[0]} names {bad[0]!r}, which is no .safetensors beside it; {ANEW}")
        found = [inside(component, name) for name in names]
    missing = [path for path in found if not path.is_file()]
    if missing or not found:
        raise ModelError(f"{missing[0] if missing else component / '*.safetensors'} is missing; {ANEW}")
    return found


def first_line(error: BaseException) -> str:
    """What an error says, on one line and not longer than 200 characters."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return text if len(text) <= 200 else f"{text[:200]}..."
