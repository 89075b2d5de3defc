#!/usr/bin/env bash
# pydub's set_frame_rate has no low-pass: going down, a tone above the new Nyquist frequency comes back folded, at full level.
#
# One would expect what every resampler does, to take away what the new rate cannot hold. `AudioSegment.set_frame_rate`
# calls audioop.ratecv, which joins samples by straight lines and filters nothing: 15 kHz in a file of 48 kHz becomes
# 1 kHz at 16 kHz, not a tenth of a dB softer. Whoever makes narrow recordings with it to train or to measure a bandwidth
# extension has the top of the truth in the input. Going up it leaves the images of straight lines, and a dull top.
#
# Seen with pydub 0.25.1, numpy 2.4.6, Python 3.11 (audioop left the standard library with 3.13):
#   15 kHz at 48 kHz, set_frame_rate(16000): a tone of 1000 Hz, 0.0 dB against the one given
#   white noise at 16 kHz, set_frame_rate(48000): -3.0 dB at 5.6 kHz; its image, 10.4 kHz, 9.8 dB below that
#
# Exit status: 0 while that is so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "pydub==0.25.1" "numpy==2.4.6"
"$work/venv/bin/python" -W ignore - <<'PY'
import sys

import numpy as np
from pydub import AudioSegment


def resampled(wave, rate_hz, wanted_hz):
    given = AudioSegment((wave * 32767).astype("<i2").tobytes(), frame_rate=rate_hz, sample_width=2, channels=1)
    return np.array(given.set_frame_rate(wanted_hz).get_array_of_samples()) / 32767


def rms_db(wave):
    return 10 * np.log10(np.mean(wave**2))


tone = 0.5 * np.sin(2 * np.pi * 15_000 * np.arange(96_000) / 48_000)
folded = resampled(tone, 48_000, 16_000)
hz = np.fft.rfftfreq(len(folded), 1 / 16_000)[np.abs(np.fft.rfft(folded)).argmax()]
change_db = rms_db(folded) - rms_db(tone)
print(f"15 kHz from 48 to 16 kHz: {hz:.0f} Hz, {change_db:.1f} dB against the tone given")

noise = 0.1 * np.random.default_rng(0).standard_normal(160_000)
power = np.abs(np.fft.rfft(resampled(noise, 16_000, 48_000))) ** 2
freqs_hz = np.fft.rfftfreq(480_000, 1 / 48_000)[: len(power)]
at = {hz: 10 * np.log10(power[np.abs(freqs_hz - hz) < 200].mean()) for hz in (500, 5_600, 10_400)}
top_db, image_db = at[5_600] - at[500], at[10_400] - at[5_600]
print(f"noise from 16 to 48 kHz: {top_db:.1f} dB at 5.6 kHz; its image at 10.4 kHz {image_db:.1f} dB against that")
held = abs(hz - 1_000) < 1 and abs(change_db) < 0.1 and top_db < -2.5 and -13 < image_db < -8
sys.exit(0 if held else "that has changed")
PY
