#!/usr/bin/env bash
# ONNX's MelWeightMatrix of 0 to 24 kHz ends at 23.3 kHz, and of 40 bands to 8 kHz at 7.5: all bands sit too low.
#
# N triangles between two limits have N + 2 corners, N + 1 steps of mel apart; librosa, torchaudio and HTK have the last
# corner at the upper limit, and the operator's text says that lower_edge_hertz and upper_edge_hertz bound the spectrum.
# Its definition divides by N + 2, so the last corner is one step short, and each band sits lower by its share of that
# step. ONNX Runtime and onnx's own reference agree to the bit, so that a test of one against the other passes. A
# network that was trained on a library's mel and is exported with this operator gets bands that are up to one band off.
# A matrix that is stored as a constant has the wanted corners.
#
# Seen with onnx 1.23.2, onnxruntime 1.32.0, librosa 0.11.0 (htk=True, norm=None); the last band's peak and upper end:
#   40 bands to 8 kHz: 7000 and 7469 Hz; librosa 7469 and 8000, the band before its last 7000
#   80 bands to 8 kHz: 7472 and 7709 Hz; librosa 7730 and 7989, the band before its last 7472
#   128 bands to 24 kHz: 22,688 and 23,297 Hz; librosa 23,320 and 23,977, the band before its last 22,664
#
# Exit status: 0 while that is so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "onnx==1.23.2" "onnxruntime==1.32.0" "librosa==0.11.0" "numpy==2.4.6"
"$work/venv/bin/python" - <<'PY'
import sys

import librosa
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

SETTINGS = [(40, 512, 16_000, 8_000.0), (80, 1_024, 22_050, 8_000.0), (128, 2_048, 48_000, 24_000.0)]
INT, FLOAT = TensorProto.INT64, TensorProto.FLOAT


def by_onnx(bands, points, rate_hz, top_hz):
    """(frequencies, bands) by ONNX Runtime, after a look at onnx's reference."""
    given = {"bands": (INT, bands), "points": (INT, points), "rate": (INT, rate_hz)}
    given |= {"low": (FLOAT, 0.0), "top": (FLOAT, top_hz)}
    constants = [helper.make_tensor(name, kind, [], [value]) for name, (kind, value) in given.items()]
    node = helper.make_node("MelWeightMatrix", list(given), ["weights"])
    graph = helper.make_graph([node], "mel", [], [helper.make_tensor_value_info("weights", FLOAT, None)], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    weights, reference = session.run(None, {})[0], ReferenceEvaluator(model).run(None, {})[0]
    return weights, float(np.abs(weights - reference).max())


def peak_and_end_hz(weights, points, rate_hz):
    return weights[:, -1].argmax() * rate_hz / points, (weights[:, -1] > 0).nonzero()[0][-1] * rate_hz / points


print(f"onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}, librosa {librosa.__version__}")
held = True
for bands, points, rate_hz, top_hz in SETTINGS:
    weights, apart = by_onnx(bands, points, rate_hz, top_hz)
    wanted = librosa.filters.mel(sr=rate_hz, n_fft=points, n_mels=bands, fmax=top_hz, htk=True, norm=None).T
    peak_hz, end_hz = peak_and_end_hz(weights, points, rate_hz)
    wanted_peak_hz, wanted_end_hz = peak_and_end_hz(wanted, points, rate_hz)
    before_hz = wanted[:, -2].argmax() * rate_hz / points
    print(f"{bands} bands to {top_hz:.0f} Hz: peak {peak_hz:.0f}, end {end_hz:.0f}; "
          f"librosa {wanted_peak_hz:.0f}, {wanted_end_hz:.0f}, the band before its last {before_hz:.0f}; "
          f"reference and runtime differ by {apart:.1e}")  # fmt: skip
    held &= end_hz < 0.975 * top_hz < wanted_end_hz and abs(peak_hz - before_hz) < 0.1 * abs(peak_hz - wanted_peak_hz)
    held &= apart < 1e-5
sys.exit(0 if held else "that has changed")
PY
