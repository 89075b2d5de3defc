"""`export`: a graph in one file, or all that a head's runner needs in a folder; whole or not at all.

What is written is compared with the network first: onnxruntime beside torch, at several lengths.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from latentsr import __version__
from latentsr.dtypes import GRAPH_DTYPES
from latentsr.export.convert import DEFAULT_OPSET, MAX_BYTES, to_onnx
from latentsr.export.description import describe
from latentsr.export.graphs import HEAD_PARTS, PARTS, ExportError, Graph
from latentsr.export.precision import store_as
from latentsr.models.fastconv import ordinary_convolutions
from latentsr.options import Options
from latentsr.wholefiles import replace_file, replacing_folder

DESCRIPTION = "latentsr.json"
KEY = "latentsr"  # of the description in a graph's metadata
TOLERANCE = 1e-3  # of the largest value, where that is above 1
SHAPES = ((1, 1), (2, 9), (1, 40))  # batch and length


@dataclass(frozen=True)
class Form:
    """How graphs are written.

    Attributes:
        dtype: in which large weights are stored.
        opset: version of ONNX' operators.
        overwrite: replace what an earlier export left.
        check: run every graph in onnxruntime beside torch.
        model_hash: of the model, to be noted in the files.
    """

    dtype: str = "float32"
    opset: int = DEFAULT_OPSET
    overwrite: bool = False
    check: bool = True
    model_hash: str = ""


@dataclass(frozen=True)
class Exported:
    """A graph that was written."""

    part: str
    path: Path
    size: int  # bytes
    difference: float | None  # from torch, relative where values are above 1; None: not checked


def export(
    pipe: Any,
    target: str | os.PathLike[str],
    head: str = "mamba-gan",
    part: str | None = None,
    form: Form = Form(),
    on_part: Callable[[str], None] | None = None,
) -> list[Exported]:
    """Write networks of a pipeline as ONNX.

    Args:
        pipe: a `latentsr.Pipeline` on the CPU, in float32.
        target: a name that ends in .onnx for one graph; one without extension for a folder with all graphs of the head
            and `latentsr.json`.
        head: whose networks: a key of `HEAD_PARTS`.
        part: which graph; None: the head's network, if it has a single one.
        form: how they are written.
        on_part: called with the name of each part before it is begun.

    Raises:
        ExportError: nothing was written.
    """
    target = Path(target)
    parts = chosen_parts(target, head, part)
    check_target(target, form.overwrite)
    if form.dtype not in GRAPH_DTYPES:
        raise ExportError(f"weights cannot be stored as {form.dtype}; choose one of {', '.join(GRAPH_DTYPES)}")
    pipe.load(Options(head=head).kind.needs())
    about = describe(pipe, head, form.model_hash, sampled=not target.suffix)
    about |= {"dtype": form.dtype, "opset": form.opset}

    def write(name: str, path: Path) -> Exported:
        if on_part is not None:
            on_part(name)
        return _write(pipe, name, path, about, form)

    if target.suffix:
        return [write(parts[0], target)]
    with replacing_folder(target.absolute()) as place:
        made = [write(name, place / f"{name}.onnx") for name in parts]
        text = json.dumps({**about, "graphs": {name: f"{name}.onnx" for name in parts}})
        (place / DESCRIPTION).write_text(text, "utf-8")
    return [replace(each, path=target / each.path.name) for each in made]


def chosen_parts(target: Path, head: str, part: str | None) -> Sequence[str]:
    """The parts to write; raise `ExportError` where the name of the target does not fit them."""
    if head not in HEAD_PARTS:
        raise ExportError(f"the {head} head cannot be exported; choose one of {', '.join(HEAD_PARTS)}")
    known = HEAD_PARTS[head]
    if part is not None and part not in known:
        raise ExportError(f"the {head} head has no part {part!r}; choose one of {', '.join(known)}")
    if target.suffix not in ("", ".onnx"):
        raise ExportError(f"{target} must end in .onnx, or have no extension for a folder with all parts")
    if part is None and target.suffix:
        if len([each for each in known if each != "cutoff"]) > 1:
            raise ExportError(
                f"the {head} head is several graphs ({', '.join(known)}); name a folder, without .onnx, or pick one "
                "with --part"
            )
        part = head
    if part is not None and not target.suffix:
        raise ExportError(f"one part goes into one file: {target} must end in .onnx")
    return known if part is None else (part,)


def check_target(target: Path, overwrite: bool) -> None:
    """Raise `ExportError` where something lies at the target that must not be replaced."""
    _existing_parent(target)
    if not os.path.lexists(target):
        return
    if target.suffix and (target.is_dir() or target.is_symlink()):
        raise ExportError(f"{target} is a {'folder' if target.is_dir() else 'link'}; choose another name")
    if not overwrite:
        raise ExportError(f"{target} exists; choose another name, or pass --overwrite (overwrite=True)")
    if not target.suffix and not (target / DESCRIPTION).is_file():
        raise ExportError(f"{target} is no folder of an export (it holds no {DESCRIPTION}); choose another name")


def _write(pipe: Any, part: str, path: Path, about: dict[str, Any], form: Form) -> Exported:
    graph = PARTS[part](pipe)
    model = to_onnx(graph, part, form.opset)
    difference = None
    if form.check:  # before weights are rounded: that is no fault of the graph
        difference = largest_difference(graph, model)
    store_as(model, "float32" if part == "cutoff" else form.dtype)
    values = {KEY: json.dumps({**about, "part": part}), "version": __version__, "model": about["model"], "part": part}
    for key, value in values.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    size = model.ByteSize()
    if size >= MAX_BYTES:
        raise ExportError(f"{part} would take {size / 1e9:.1f} GB, more than one ONNX file holds; pass --dtype float16")
    replace_file(path, model.SerializeToString())
    return Exported(part, path, size, difference)


def _existing_parent(target: Path) -> Path:
    parent = target.absolute().parent
    if not parent.is_dir():
        raise ExportError(f"the folder {target.parent} does not exist; make it first")
    return parent


def largest_difference(graph: Graph, model: onnx.ModelProto) -> float:
    """The largest |a - b| / max(1, max |b|) of both on the same inputs.

    Raises:
        ExportError: it is beyond the tolerance, or onnxruntime cannot run the model; the message says where.
    """
    session = open_session(model)
    wanted_names = [each.name for each in session.get_inputs()]
    worst = 0.0
    for batch, length in SHAPES:
        inputs = graph.example(batch, length)
        with torch.inference_mode(), ordinary_convolutions():
            wanted = graph.module(*inputs)
        feeds = dict(zip(graph.inputs, (each.numpy() for each in inputs), strict=True))
        try:
            made = session.run(list(graph.outputs), {name: feeds[name] for name in wanted_names})
        except Exception as error:
            text = " ".join(str(error).split())[:300]
            raise ExportError(f"onnxruntime fails at batch {batch}, length {length}: {text}") from error
        for name, a, b in zip(graph.outputs, made, wanted if isinstance(wanted, tuple) else (wanted,), strict=True):
            difference = _difference(a, b.numpy())
            if not difference <= TOLERANCE:  # a NaN is not either
                raise ExportError(
                    f"{model.graph.name}: {name} differs from torch's by {difference:.2g} at batch {batch}, "
                    f"length {length * graph.multiple}; at most {TOLERANCE:g} is allowed"
                )
            worst = max(worst, difference)
    return worst


def open_session(model: onnx.ModelProto) -> Any:
    """onnxruntime's session of a model in memory, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise ExportError(f"onnxruntime {onnxruntime.__version__} does not take {model.graph.name}: {text}") from error


def _difference(made: np.ndarray, wanted: np.ndarray) -> float:
    if made.shape != wanted.shape:
        return float("inf")
    return float(np.abs(made - wanted).max() / max(1.0, float(np.abs(wanted).max())))
