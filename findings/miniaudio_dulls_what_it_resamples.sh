#!/usr/bin/env bash
# miniaudio's decoders, asked for another rate, take 3 dB at 13.6 kHz from a file of 44.1 kHz that is read at 48 kHz.
#
# One would expect the audible band to stay: `miniaudio.decode` takes a rate for playback, 44100 unless told otherwise.
# What it converts with is as gentle as straight lines between samples: a file of 44.1 kHz that a player reads at 48 kHz
# loses its top, one of 16 kHz its upper third. Going down from 48 to 16 kHz, a tone that 16 kHz cannot hold is folded,
# 33 dB below what it was.
#
# Seen with miniaudio 1.71 (Python binding), numpy 2.4.6, scipy 1.17.1, white noise:
#   44.1 -> 48 kHz: -3 dB at 13.6 kHz, -5 dB at 19.8 kHz; 16 -> 48 kHz: -3 dB at 5.1 kHz, the image at 12 kHz at -38 dB
#   15 kHz, 48 -> 16 kHz: folded to 1 kHz at -33 dB
#
# Exit status: 0 while that is so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "miniaudio==1.71" "numpy==2.4.6" "scipy==1.17.1"
"$work/venv/bin/python" -W ignore - <<'PY'
import io
import sys
import wave

import miniaudio
import numpy as np
from scipy.signal import welch


def read_at(samples, rate_hz, wanted_hz):
    memory = io.BytesIO()
    with wave.open(memory, "wb") as file:
        file.setparams((1, 2, rate_hz, 0, "NONE", ""))
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return np.array(miniaudio.decode(memory.getvalue(), nchannels=1, sample_rate=wanted_hz).samples) / 32767


def gain_db(rate_hz, wanted_hz):
    noise = 0.1 * np.random.default_rng(0).standard_normal(10 * rate_hz)
    hz, power = welch(read_at(noise, rate_hz, wanted_hz), wanted_hz, nperseg=4096)
    return hz, 10 * np.log10(power / power[(hz > 300) & (hz < 1_000)].mean())


held = True
for rate_hz, end_hz in ((44_100, 13_600), (16_000, 5_100)):
    hz, gain = gain_db(rate_hz, 48_000)
    found_hz = hz[np.argmax((gain < -3) & (hz > 1_500))]
    top_db, image_db = (np.interp(share * rate_hz, hz, gain) for share in (0.45, 0.75))
    print(f"{rate_hz} -> 48000 Hz: -3 dB at {found_hz:.0f} Hz, {top_db:.1f} dB at 0.9 of the band, image {image_db:.1f} dB")
    held &= abs(found_hz / end_hz - 1) < 0.1 and top_db < -4 and (rate_hz != 16_000 or image_db > -45)
tone = 0.5 * np.sin(2 * np.pi * 15_000 * np.arange(96_000) / 48_000)
folded_db = 10 * np.log10(np.mean(read_at(tone, 48_000, 16_000) ** 2) / np.mean(tone**2))
print(f"15 kHz, 48 -> 16 kHz: folded at {folded_db:.1f} dB")
sys.exit(0 if held and -38 < folded_db < -28 else "that has changed")
PY
