#!/usr/bin/env bash
# libsamplerate's "linear" and "zero_order_hold" are late by one sample of the input; at a ratio of 1 they shift by one.
#
# Linear interpolation between neighbours has no delay to speak of, and the sinc converters of the same library have
# none, so one would expect output sample n at the time n / ratio whatever the converter's name, and a ratio of 1 to
# change nothing where samples are only held or joined by lines. Both converters begin by repeating the first sample and
# go on one behind; the last one never comes out. A comparison of resamplers, or a training pair, that has one of them
# in it is 0.125 ms off at 8 kHz: a tone of 300 Hz is then 13 dB from itself, where interpolation alone leaves 46.
# librosa.resample's res_type="linear" is this converter.
#
# Seen with samplerate 0.2.4 (libsamplerate), numpy 2.4.6:
#   1 2 3 4 5 6 at a ratio of 1, linear and zero_order_hold: 1 1 2 3 4 5
#   a tone of 300 Hz from 8 to 48 kHz, linear: -12.6 dB from the tone, -45.9 dB from the tone one input sample later;
#   sinc_best: -150.4 dB from the tone; numpy.interp: -45.9 dB from the tone
#
# Exit status: 0 while that is so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "samplerate==0.2.4" "numpy==2.4.6"
"$work/venv/bin/python" - <<'PY'
import sys

import numpy as np
import samplerate

FROM_HZ, TO_HZ, MARGIN = 8_000, 48_000, 6_000
given_s = np.arange(FROM_HZ) / FROM_HZ


def tone(seconds):
    return np.sin(2 * np.pi * 300 * seconds)


def difference_db(got, wanted):
    got, wanted = (wave[MARGIN : TO_HZ - MARGIN] for wave in (got, wanted))
    return 10 * np.log10(((got - wanted) ** 2).sum() / (wanted**2).sum())


held = True
wave = np.arange(1.0, 7.0)
out_s = np.arange(TO_HZ) / TO_HZ
plain = np.interp(out_s, given_s, tone(given_s))
print(f"samplerate {samplerate.__version__}; 300 Hz by numpy.interp: {difference_db(plain, tone(out_s)):.1f} dB")
for converter in ("linear", "zero_order_hold", "sinc_best"):
    same = samplerate.resample(wave, 1.0, converter)
    got = np.resize(samplerate.resample(tone(given_s), TO_HZ / FROM_HZ, converter), TO_HZ)
    there, late = difference_db(got, tone(out_s)), difference_db(got, tone(out_s - 1 / FROM_HZ))
    print(f"{converter}: at a ratio of 1 {same.round(1)}; 300 Hz: {there:.1f} dB, one sample later {late:.1f} dB")
    if converter == "sinc_best":
        held &= there < -100
    else:
        held &= same.tolist() == [1, 1, 2, 3, 4, 5] and late < there - (30 if converter == "linear" else 0)
sys.exit(0 if held else "that has changed")
PY
