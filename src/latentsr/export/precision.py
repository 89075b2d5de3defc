"""Smaller files: weights in half precision or in 8 bits, computed with in single precision all the same.

A processor without arithmetic of 16 bits gains nothing by computing in it, and activations of 8 bits cost more quality
than the weights do (docs/onnx.md). So what shrinks is the file: each large weight is stored small and brought to
single precision by nodes that onnxruntime folds away when it loads the model.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import helper, numpy_helper

LEAST_ELEMENTS = 4096  # of a weight that is worth it


def store_as(model: onnx.ModelProto, dtype: str) -> None:
    """Store the large weights of a model in `dtype`, in place. Those of loops stay as they are."""
    if dtype == "float32":
        return
    make: Callable[..., tuple[list[onnx.TensorProto], list[onnx.NodeProto]]] = _half if dtype == "float16" else _bytes
    channels = _output_axes(model.graph)
    kept, small, nodes = [], [], []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        worth = values.dtype == np.float32 and values.size >= LEAST_ELEMENTS and values.ndim >= 2
        if not worth or (dtype == "int8" and tensor.name not in channels):
            kept.append(tensor)
            continue
        tensors, added = make(tensor.name, values, channels.get(tensor.name, 0))
        small += tensors
        nodes += added
    rest = list(model.graph.node)
    for field, content in ((model.graph.initializer, kept + small), (model.graph.node, nodes + rest)):
        del field[:]
        field.extend(content)


def _output_axes(graph: onnx.GraphProto) -> dict[str, int]:
    """The weights of products and convolutions, and along which axis their outputs lie."""
    axes: dict[str, int] = {}
    for node in graph.node:
        if node.op_type == "MatMul":
            axes[node.input[1]] = -1
        elif node.op_type == "Gemm":
            transposed = any(each.name == "transB" and each.i for each in node.attribute)
            axes[node.input[1]] = 0 if transposed else -1
        elif node.op_type == "Conv":
            axes[node.input[1]] = 0
        elif node.op_type == "ConvTranspose":
            axes[node.input[1]] = 1
    return axes


def _half(name: str, values: np.ndarray, _axis: int) -> tuple[list[onnx.TensorProto], list[onnx.NodeProto]]:
    stored = numpy_helper.from_array(values.astype(np.float16), f"{name}.half")
    return [stored], [helper.make_node("Cast", [stored.name], [name], to=onnx.TensorProto.FLOAT)]


def _bytes(name: str, values: np.ndarray, axis: int) -> tuple[list[onnx.TensorProto], list[onnx.NodeProto]]:
    """One scale for each output, symmetric: w = scale * q, q in [-127, 127]."""
    others = tuple(place for place in range(values.ndim) if place != axis % values.ndim)
    scale = np.maximum(np.abs(values).max(axis=others, keepdims=True), 1e-12) / 127
    stored = numpy_helper.from_array(np.round(values / scale).astype(np.int8), f"{name}.int8")
    scales = numpy_helper.from_array(scale.astype(np.float32), f"{name}.scale")
    cast = helper.make_node("Cast", [stored.name], [f"{name}.cast"], to=onnx.TensorProto.FLOAT)
    return [stored, scales], [cast, helper.make_node("Mul", [f"{name}.cast", scales.name], [name])]
