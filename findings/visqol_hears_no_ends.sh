#!/usr/bin/env bash
# ViSQOL gives full marks to a clip whose first quarter second, and whose last half second, are noise.
#
# One would expect a score of a clip to count all of it. ViSQOL compares patches of 0.6 s: the first begins 0.3 s into
# the clip, and a rest that is too short for one more is dropped. What stands before and behind does not count: up to
# 0.9 s, a sixth of a clip of five seconds. It is where a network has no neighbours, and where an end may be cut off. Silence around both waves, 0.3 s in front and 0.6 s behind, brings the ends in.
#
# Seen with visqol-python 3.8.0, audio mode, 48 kHz, on 3.3 s of noise that swells; the clip itself scores 4.732. With
# 0.2 s of white noise in its place from
#   0.0 s: 4.731; 0.4 s: 4.286; 1.5 s: 4.318; 2.4 s: 4.572; 2.7 s: 4.732; 2.9 s: 4.732; 3.1 s: 4.731
#   the same with silence around: 0.0 s: 4.517; 2.9 s: 4.515; 3.1 s: 4.437
#
# Exit status: 0 while that is so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "visqol-python==3.8.0" "numpy==2.4.6"
export OMP_NUM_THREADS=1
"$work/venv/bin/python" - <<'PY'
import sys

import numpy as np
from visqol import VisqolApi

RATE_HZ, SECONDS, NOISE_S = 48_000, 3.3, 0.2
STARTS_S = (0.0, 0.4, 1.5, 2.4, 2.7, 2.9, 3.1)
UNHEARD_S = (0.0, 2.7, 2.9, 3.1)
rng = np.random.default_rng(0)
count = round(SECONDS * RATE_HZ)
hz, time_s = np.fft.rfftfreq(count, 1 / RATE_HZ), np.arange(count) / RATE_HZ
clip = np.fft.irfft(np.fft.rfft(rng.standard_normal(count)) * (hz > 50) / (hz + 500), count)
clip *= 1 + 0.8 * np.sin(19 * time_s)
clip *= 0.1 / clip.std()
noise = 0.1 * rng.standard_normal(count)
api = VisqolApi()
api.create(mode="audio")


def marks(start_s, silence_s=(0, 0)):
    """Of the clip with noise in one place; both with silence around."""
    damaged, place = clip.copy(), slice(round(start_s * RATE_HZ), round((start_s + NOISE_S) * RATE_HZ))
    damaged[place] = noise[place]
    around = [round(length_s * RATE_HZ) for length_s in silence_s]
    return api.measure_from_arrays(np.pad(clip, around), np.pad(damaged, around), RATE_HZ).moslqo


whole = api.measure_from_arrays(clip, clip, RATE_HZ).moslqo
plain = {start_s: marks(start_s) for start_s in STARTS_S}
padded = {start_s: marks(start_s, (0.3, 0.6)) for start_s in (0.0, 2.9, 3.1)}
print(f"the clip itself, {SECONDS} s: {whole:.3f}")
print("noise from", " ".join(f"{start_s} s: {mark:.3f};" for start_s, mark in plain.items()))
print("with silence around", " ".join(f"{start_s} s: {mark:.3f};" for start_s, mark in padded.items()))
held = all((whole - mark < 0.005) == (start_s in UNHEARD_S) for start_s, mark in plain.items())
sys.exit(0 if held and max(padded.values()) < whole - 0.05 else "that has changed")
PY
