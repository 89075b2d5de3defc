"""Loops of a traced module as ONNX' `Scan`: a stand-in node is traced, and its body is put in afterwards.

Tracing would unroll a loop to the length of the example. So the loops of the networks are `autograd.Function`s, traced
as one node of our own domain; here each becomes a `Scan`, whose body is written in ONNX' text form.
"""

from __future__ import annotations

import onnx
from onnx import helper, parser

DOMAIN = "latentsr"

# Each: states, what is scanned, then what the body reads from outside; the letters are those of `models/ssm.py`.
SELECTIVE_SCAN = """
selective_scan (float[b,k,n,d] h, float[b,k,one,d] delta, float[b,k,one,d] entering, float[b,k,n,one] B,
                float[b,k,one,n] C) => (float[b,k,n,d] h_next, float[b,k,one,d] y) {
    exponent = Mul(delta, A)
    decay = Exp(exponent)
    kept = Mul(decay, h)
    added = Mul(B, entering)
    h_next = Add(kept, added)
    y = MatMul(C, h_next)
}
"""
# `signal/passband.py` explains it. Log-sigmoid is -log(1 + e^x): onnxruntime's sigmoid ends at 0.
KALMAN_FILTER = """
kalman_filter (float[b,n] state, float[b,n] variance, float[b,n] band, float[b,n] loss)
        => (float[b,n] state_next, float[b,n] variance_next, float[b,n] likelihood) {
    zero = Constant <value_float: float = 0.0> ()
    one = Constant <value_float: float = 1.0> ()
    lowered = Add(state, loss)
    negative = Neg(lowered)
    positive = Max(negative, zero)
    size = Abs(lowered)
    downward = Neg(size)
    small = Exp(downward)
    small1 = Add(small, one)
    rest = Log(small1)
    softplus = Add(positive, rest)
    log_share = Neg(softplus)
    share = Exp(log_share)
    slope = Sub(one, share)
    error = Add(log_share, band)
    moved = Mul(slope, variance)
    slope2 = Mul(slope, slope)
    grained = Mul(slope2, grain)
    floored = Add(grained, floor)
    carried = Mul(slope, moved)
    spread = Add(floored, carried)
    error2 = Mul(error, error)
    beyond = Sub(error2, spread)
    shared = Mul(beyond, doubt)
    scale = Add(spread, shared)
    doubted = Max(scale, spread)
    gain = Div(moved, doubted)
    correction = Mul(gain, error)
    state_next = Sub(state, correction)
    shrink = Mul(gain, moved)
    shrunk = Sub(variance, shrink)
    drifted = Add(shrunk, drift)
    excess = Sub(doubted, spread)
    jumped = Mul(slope, excess)
    jumps = Mul(jumped, jump)
    variance_next = Add(drifted, jumps)
    log_spread = Log(spread)
    log_scale = Log(scale)
    by_spread = Mul(log_spread, spread_weight)
    by_scale = Mul(log_scale, scale_weight)
    likelihood = Sub(by_spread, by_scale)
}
"""
# Of each stand-in: the body, how many states it has, and the names that its last inputs have in the body.
BODIES: dict[str, tuple[str, int, tuple[str, ...]]] = {
    "SelectiveScan": (SELECTIVE_SCAN, 1, ("A",)),
    "KalmanFilter": (
        KALMAN_FILTER, 2, ("grain", "floor", "doubt", "drift", "jump", "spread_weight", "scale_weight")
    ),
}  # fmt: skip


def put_loops(model: onnx.ModelProto) -> None:
    """Replace every stand-in of a model by its `Scan`, in place."""
    nodes = []
    for number, node in enumerate(model.graph.node):
        nodes.append(_scan(node, f"scan_{number}") if node.domain == DOMAIN else node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    kept = [each for each in model.opset_import if each.domain != DOMAIN]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def _scan(stand_in: onnx.NodeProto, prefix: str) -> onnx.NodeProto:
    text, states, outside = BODIES[stand_in.op_type]
    inputs, read = list(stand_in.input)[: -len(outside)], list(stand_in.input)[-len(outside) :]
    body = parser.parse_graph(text)
    names = dict(zip(outside, read, strict=True))

    def renamed(name: str) -> str:  # a name of a body may not be one of the graph around it
        return names.get(name, f"{prefix}.{name}")

    for value in (*body.input, *body.output):
        value.name = renamed(value.name)
    for node in body.node:
        node.input[:] = [renamed(name) for name in node.input]
        node.output[:] = [renamed(name) for name in node.output]
    last = [f"{prefix}.last_{state}" for state in range(states)]
    return helper.make_node(
        "Scan", inputs, [*last, *stand_in.output], name=prefix, body=body, num_scan_inputs=len(inputs) - states
    )
