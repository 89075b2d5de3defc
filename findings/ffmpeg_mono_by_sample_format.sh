#!/usr/bin/env bash
# FFmpeg's mono of a stereo recording is 3 dB louder as float than as integers, and passes full scale.
#
# A sample format is a way of storing numbers, and one would expect the mono mix in it to have one level, half of left
# plus right, or at least one and the same. libswresample begins with 0.707 of each, and scales the coefficients down
# so that they cannot overflow only where integers come out. What goes in does not count. A data set of 16-bit files is
# 3 dB below a float decode of the same files; of six channels the stereo is 7.7 dB louder as float. On the command line
# `-ac 1` to a float WAV is 3.0 dB louder than to a 16-bit WAV (FFmpeg 5.1.9). rematrix_maxval=1 gives floats the
# integers' level; so does a mean that the program takes itself.
#
# Seen with PyAV 18.1.0 (libswresample 6.3); all channels alike, at 0.9 of full scale:
#   stereo to mono: 0.900 in s16 and s32, 1.273 in flt and dbl, 3.01 dB more; 5.1 to stereo: 0.900 and 2.173, 7.66 dB
#   stereo to mono in flt with rematrix_maxval=1: 0.900
#
# Exit status: 0 while that is so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "av==18.1.0" "numpy==2.4.6"
"$work/venv/bin/python" - <<'PY'
import sys

import av
import numpy as np
from av.filter import Graph

RATE_HZ, LEVEL, FULL = 48_000, 0.9, {"s16p": 2**15, "s32p": 2**31}
INTEGERS, FLOATS = ("s16p", "s32p"), ("fltp", "dblp")
TYPES = {"s16p": np.int16, "s32p": np.int32, "fltp": np.float32, "dblp": np.float64}


def frame_of(form, layout, channels):
    samples = np.full((channels, 4_800), LEVEL * FULL.get(form, 1)).astype(TYPES[form])
    frame = av.AudioFrame.from_ndarray(samples, format=form, layout=layout)
    frame.sample_rate, frame.pts = RATE_HZ, 0
    return frame


def level(frame):
    return float(frame.to_ndarray()[0, 2_400]) / FULL.get(frame.format.name, 1)


def mixed(form_in, form_out, layout_in, layout_out, channels):
    resampler = av.AudioResampler(format=form_out, layout=layout_out, rate=RATE_HZ)
    return level(resampler.resample(frame_of(form_in, layout_in, channels))[0])


def held_back():
    """The float mix of floats with FFmpeg's own limit on the coefficients."""
    graph = Graph()
    source = graph.add_abuffer(sample_rate=RATE_HZ, format="fltp", layout="stereo", channels=2)
    nodes = [source, graph.add("aresample", "out_chlayout=mono:rematrix_maxval=1"), graph.add("abuffersink")]
    for one, next_one in zip(nodes, nodes[1:]):
        one.link_to(next_one)
    graph.configure()
    source.push(frame_of("fltp", "stereo", 2))
    source.push(None)
    return level(nodes[-1].pull())


print(f"PyAV {av.__version__}, libswresample {av.library_versions['libswresample']}; all channels at {LEVEL}:")
held = True
for layouts in (("stereo", "mono", 2), ("5.1", "stereo", 6)):
    found = {}
    for forms, name in ((INTEGERS, "integers"), (FLOATS, "floats")):
        levels = [mixed(one, other, *layouts) for one in INTEGERS + FLOATS for other in forms]
        held &= max(levels) - min(levels) < 1e-3  # whatever goes in
        found[name] = levels[0]
    louder_db = 20 * np.log10(found["floats"] / found["integers"])
    print(f"{layouts[0]} to {layouts[1]}: {found['integers']:.3f} in integers, {found['floats']:.3f} in floats, {louder_db:.2f} dB")
    held &= abs(found["integers"] - LEVEL) < 1e-3 and louder_db > 2.9
print(f"stereo to mono in floats with rematrix_maxval=1: {held_back():.3f}")
sys.exit(0 if held and abs(held_back() - LEVEL) < 1e-3 else "that has changed")
PY
