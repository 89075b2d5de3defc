#!/usr/bin/env bash
# noisereduce takes a sustained note for noise, in both of its modes, and removes it nearly whole.
#
# One would expect the loud tone to stay and the faint hiss to go: the note is 46 dB above the hiss. Without a
# recording of the noise the package learns what noise is from the recording itself, per frequency: what a bin holds on
# the average (stationary) or has held lately (non-stationary, the default) is the noise, and what does not rise above
# that is gated. An organ, a drone or a pad is its own average. Told the noise (`y_noise`), the stationary mode keeps it.
#
# Seen with noisereduce 3.0.3, numpy 2.4.6, scipy 1.17.1, a 10 s tone of 440 Hz and its octave under white noise, at 5 s:
#   the default: -92 dB; stationary=True: -60 dB; stationary=True with y_noise: 0.0 dB
#
# Exit status: 0 while that is so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "noisereduce==3.0.3" "numpy==2.4.6" "scipy==1.17.1"
MPLCONFIGDIR=$work MPLBACKEND=agg "$work/venv/bin/python" -W ignore - <<'PY'
import sys

import noisereduce
import numpy as np

RATE_HZ = 48_000
seconds = np.arange(10 * RATE_HZ) / RATE_HZ
draw = np.random.default_rng(0)
hiss = 1e-3 * draw.standard_normal(len(seconds))
note = 0.3 * np.sin(2 * np.pi * 440 * seconds) + 0.1 * np.sin(2 * np.pi * 880 * seconds)
middle = slice(5 * RATE_HZ, 6 * RATE_HZ)


def change_db(**options):
    got = noisereduce.reduce_noise(y=note + hiss, sr=RATE_HZ, **options)
    return 10 * np.log10(np.mean(got[middle] ** 2) / np.mean((note + hiss)[middle] ** 2))


lately = change_db()
average = change_db(stationary=True)
told = change_db(stationary=True, y_noise=1e-3 * draw.standard_normal(2 * RATE_HZ))
print(f"default {lately:.1f} dB, stationary {average:.1f} dB, stationary with y_noise {told:.1f} dB")
sys.exit(0 if lately < -40 and average < -40 and abs(told) < 1 else "that has changed")
PY
