#!/usr/bin/env bash
# Read as integers, a loud Vorbis or Opus file comes out of libsndfile with its peaks turned over, from +1 to -1.
#
# A lossy codec gives back more than full scale where a master reaches it. Asked for int16, a decoder can only clip, and
# libsndfile does so for MP3; soundfile switches clipping on for every file that it opens. For Vorbis and Opus that
# switch is not asked: the integer wraps around, and each peak becomes a full-scale click of the other sign. As float32
# nothing is lost. A data pipeline that reads int16 trains on thousands of clicks, and a listener hears a broken file
# where a whole one lies. (libsndfile's pull request 746, closed.)
#
# Seen with soundfile 0.14.0 (libsndfile 1.2.2), numpy 2.4.6; five seconds of noise that was cut at 0.98, at the levels
# of compression 0.4 (Vorbis) and 0.5; samples turned over as int16, and signal to error as int16 and as clipped float:
#   Vorbis: 3534 of 3538 over full scale, 5.8 and 16.5 dB; Opus: 4481 of 4481, 4.6 and 13.6 dB; MP3: 0 of 6192, 7.4 dB
#
# Exit status: 0 while that is so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "soundfile==0.14.0" "numpy==2.4.6"
"$work/venv/bin/python" - <<'PY'
import io
import sys

import numpy as np
import soundfile

RATE_HZ, SECONDS = 48_000, 5
FILES = {"Vorbis": ("OGG", "VORBIS", 0.4), "Opus": ("OGG", "OPUS", 0.5), "MP3": ("MP3", "MPEG_LAYER_III", 0.5)}
hz = np.fft.rfftfreq(RATE_HZ * SECONDS, 1 / RATE_HZ)
noise = np.fft.irfft(np.fft.rfft(np.random.default_rng(0).standard_normal(RATE_HZ * SECONDS)) * (hz > 30) / np.sqrt(hz + 50))
wave = np.clip(0.5 * noise / noise.std(), -0.98, 0.98).astype(np.float32)


def signal_to_error_db(got):
    return 10 * np.log10((wave**2).sum() / ((got[: len(wave)] - wave) ** 2).sum())


print(f"soundfile {soundfile.__version__} ({soundfile.__libsndfile_version__})")
held = True
for name, (container, subtype, level) in FILES.items():
    file = io.BytesIO()
    soundfile.write(file, wave, RATE_HZ, format=container, subtype=subtype, compression_level=level)
    got = {}
    for dtype in ("float32", "int16"):
        file.seek(0)
        got[dtype] = soundfile.read(file, dtype=dtype)[0]
    floats, integers = got["float32"], got["int16"] / 32_768
    clipped, over = floats.clip(-1, 1), int((np.abs(floats) > 1).sum())
    turned = int((np.abs(integers - clipped) > 1).sum())
    print(f"{name:6} peak {np.abs(floats).max():.2f}, {over} over full scale, {turned} turned over as int16; "
          f"{signal_to_error_db(integers):.1f} dB as int16, {signal_to_error_db(clipped):.1f} dB as clipped float")  # fmt: skip
    held &= over > 500 and (turned == 0 if name == "MP3" else turned > 0.95 * over)
sys.exit(0 if held else "that has changed")
PY
