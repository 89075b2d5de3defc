"""A module becomes an ONNX model: traced, translated by torch's exporter, and rid of what it says of this machine.

It is torch's older exporter: the newer one takes a hundred times as long over a diffusers UNet of any length.
"""

from __future__ import annotations

import io
import re
import warnings
from typing import Any

import onnx
import torch

from latentsr.export.graphs import ExportError, Graph
from latentsr.export.scan import DOMAIN, put_loops, scans_for_export
from latentsr.models.fastconv import ordinary_convolutions

DEFAULT_OPSET = 20  # the first with Gelu; onnxruntime 1.17 and newer
LOWEST_OPSET, HIGHEST_OPSET = 17, 20  # the first with LayerNormalization; the last that torch's exporter writes
MAX_BYTES = 2**31  # of one protobuf file
EXAMPLE = (2, 5)  # batch and length that are traced


def to_onnx(graph: Graph, name: str, opset: int = DEFAULT_OPSET) -> onnx.ModelProto:
    """Trace and translate; the name is for messages and in the file.

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
    axes = {
        name: {place: axis for place, axis in enumerate(shape) if isinstance(axis, str)}
        for name, shape in graph.inputs.items()
    }
    file: Any = io.BytesIO()  # torch takes it, though its types say a path
    with warnings.catch_warnings(), scans_for_export(), ordinary_convolutions(), torch.no_grad():
        warnings.simplefilter("ignore")  # that tracing takes sizes for constants is tested for
        try:
            torch.onnx.export(
                graph.module.eval(), graph.example(*EXAMPLE), file, dynamo=False, dynamic_axes=axes,
                input_names=list(graph.inputs), output_names=list(graph.outputs), opset_version=opset,
                custom_opsets={DOMAIN: 1} if graph.loops else None,
            )  # fmt: skip
        except Exception as error:  # the exporter has a class for each of its stages
            raise ExportError(_reason(error, name, opset)) from error
    model = onnx.load_from_string(file.getvalue())
    put_loops(model)
    _anonymous(model.graph)
    model.graph.name, model.producer_name, model.doc_string = name, "latentsr", ""
    del model.metadata_props[:]
    return model


def _check_opset(opset: int) -> None:
    if not LOWEST_OPSET <= opset <= HIGHEST_OPSET:
        raise ExportError(
            f"opset {opset} cannot be written; choose --opset {LOWEST_OPSET} (LayerNormalization is new in it) to "
            f"{HIGHEST_OPSET}"
        )


def _reason(error: Exception, name: str, opset: int) -> str:
    """One line: the operation that has no ONNX form, if that is what is wrong, else what the exporter says."""
    found = re.search(r"operator '([^']+)' to ONNX", str(error))
    if found:
        return f"{name} cannot be exported: ONNX has no form of {found.group(1)} at opset {opset}"
    return f"{name} cannot be exported at opset {opset}: {' '.join(str(error).split())[:300]}"


def _anonymous(graph: onnx.GraphProto) -> None:
    """Take out what the exporter notes of each node: stack traces, with the paths of this machine."""
    for each in (graph, *graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output):
        del each.metadata_props[:]
        each.doc_string = ""
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _anonymous(attribute.g)
