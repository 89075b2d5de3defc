"""Number formats by name, without torch: what networks run in, and what weights are stored in."""

from __future__ import annotations

from typing import Any, Literal, get_args

Dtype = Literal["float32", "float16", "bfloat16"]  # of networks, and of the files that they are converted to
GraphDtype = Literal["float32", "float16", "int8"]  # of the large weights in ONNX files
TrainedDtype = Literal["fp16", "fp32"]  # of the files that training ends with
DTYPES, GRAPH_DTYPES = get_args(Dtype), get_args(GraphDtype)
TRAINED_DTYPES: dict[str, Dtype] = {"fp16": "float16", "fp32": "float32"}


def name_of(dtype: Any) -> str:
    """The name of one of torch's: torch.float16 is float16."""
    return str(dtype).removeprefix("torch.")
