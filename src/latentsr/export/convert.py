"""A module becomes an ONNX model: traced, translated by torch's exporter, and rid of what it says of this machine."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import onnx
import torch
from torch import nn

from latentsr.export.cutoff import filters_for_export
from latentsr.export.errors import ExportError
from latentsr.export.graphs import Graph
from latentsr.export.scan import scans_for_export
from latentsr.models.fastconv import FastConv1d, FastConv2d

DEFAULT_OPSET = 20  # the first with Gelu; onnxruntime 1.17 and newer
LOWEST_OPSET = 18  # that torch's exporter writes
MAX_BYTES = 2**31  # of one protobuf file
EXAMPLE = (2, 5)  # batch and length that are traced; no size of the network, so that none is taken for it


def to_onnx(graph: Graph, name: str, opset: int = DEFAULT_OPSET) -> onnx.ModelProto:
    """Trace and translate.

    Args:
        graph: what to export.
        name: of it, for messages and in the file.
        opset: version of ONNX' operators.

    Raises:
        ExportError: it is too large for one file, or uses an operation that ONNX lacks at this opset.
    """
    _check_opset(opset)
    size = sum(tensor.numel() * 4 for tensor in graph.module.parameters())
    if size >= MAX_BYTES:
        raise ExportError(
            f"{name} has {size / 1e9:.1f} GB of weights in float32, more than the 2 GB that one ONNX file holds; "
            "export the other parts with --part"
        )
    axes = {axis: torch.export.Dim(axis) for shape in graph.inputs.values() for axis in shape if isinstance(axis, str)}
    shapes = tuple(_dynamic(shape, axes, graph.multiple) for shape in graph.inputs.values())
    with _quiet(), scans_for_export(), filters_for_export(), _plain_convolutions(graph.module), torch.no_grad():
        try:
            program: Any = torch.onnx.export(
                graph.module.eval(), graph.example(*EXAMPLE), dynamo=True, dynamic_shapes=shapes, verbose=False,
                input_names=list(graph.inputs), output_names=list(graph.outputs), opset_version=opset,
            )  # fmt: skip
        except Exception as error:  # the exporter has a class for each of its stages
            raise ExportError(_reason(error, name, opset)) from error
    model: onnx.ModelProto = program.model_proto
    versions = {each.domain: each.version for each in model.opset_import}
    if versions.get("") != opset:
        raise ExportError(
            f"{name} came out at opset {versions.get('')} instead of {opset}; pass --opset {versions['']}"
        )
    _anonymous(model.graph)
    model.graph.name, model.producer_name, model.doc_string = name, "latentsr", ""
    del model.metadata_props[:]
    return model


def _dynamic(shape: tuple[int | str, ...], axes: dict[str, Any], multiple: int) -> dict[int, Any]:
    return {
        place: multiple * axes[axis] if axis == "frames" and multiple > 1 else axes[axis]
        for place, axis in enumerate(shape)
        if isinstance(axis, str)
    }


def _check_opset(opset: int) -> None:
    highest = onnx.defs.onnx_opset_version()
    if not LOWEST_OPSET <= opset <= highest:
        raise ExportError(f"opset {opset} cannot be written; choose --opset {LOWEST_OPSET} to {highest}")


def _reason(error: BaseException, name: str, opset: int) -> str:
    """One line: the operation that has no ONNX form, if the exporter says so, else what it says last."""
    text, cause = [], error
    while cause is not None:
        text.append(str(cause))
        found = re.search(r"OpOverload\(op='([^']+)'", text[-1])
        if found:
            return f"{name} cannot be exported: ONNX has no form of {found.group(1)} at opset {opset}"
        cause = cause.__cause__  # type: ignore[assignment]
    last = next((line.strip() for line in text[-1].splitlines() if line.strip()), type(error).__name__)
    return f"{name} cannot be exported at opset {opset}: {last[:300]}"


@contextmanager
def _plain_convolutions(module: nn.Module) -> Iterator[None]:
    """Within, convolutions are the library's own: their fast forms are written for torch's memory."""
    changed = [(each, type(each)) for each in module.modules() if isinstance(each, FastConv1d | FastConv2d)]
    for each, kind in changed:
        each.__class__ = nn.Conv1d if kind is FastConv1d else nn.Conv2d
    try:
        yield
    finally:
        for each, kind in changed:
            each.__class__ = kind


@contextmanager
def _quiet() -> Iterator[None]:
    """Within, the exporter keeps its warnings to itself."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _anonymous(graph: onnx.GraphProto) -> None:
    """Take out what the exporter notes of each node: stack traces, with the paths of this machine."""
    for each in (graph, *graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output):
        del each.metadata_props[:]
        each.doc_string = ""
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _anonymous(attribute.g)
