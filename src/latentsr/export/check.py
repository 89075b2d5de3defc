"""Does the exported graph compute what the network does? onnxruntime beside torch, at several lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import torch

from latentsr.export.graphs import ExportError, Graph
from latentsr.models.fastconv import ordinary_convolutions

TOLERANCE = 1e-3  # of the largest value, where that is above 1
SHAPES = ((1, 1), (2, 9), (1, 40))  # batch and length


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
