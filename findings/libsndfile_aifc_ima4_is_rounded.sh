#!/usr/bin/env bash
# IMA ADPCM in AIFF-C: libsndfile decodes its own file with 5 dB more noise than FFmpeg does.
#
# ADPCM is defined by integers, and one would expect two decoders of one file to differ in nothing. Apple's form has a
# predictor of 9 bits in front of each 64 samples. libsndfile begins every block from that rounded value; FFmpeg goes on
# from the last sample of the block before, where that rounds to it, as the encoder did. In a WAV, where the predictor
# has 16 bits, the two agree to the bit.
#
# Seen with soundfile 0.14.0 (libsndfile 1.2.2) and PyAV 18.1.0: see the output.
#
# Exit status: 0 while that is so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "soundfile==0.14.0" "av==18.1.0" "numpy==2.4.6"
cd "$work"
"$work/venv/bin/python" - <<'PY'
import sys

import av
import numpy as np
import soundfile

rng = np.random.default_rng(0)
spectrum = np.fft.rfft(rng.standard_normal(48_000))
hz = np.fft.rfftfreq(48_000, 1 / 48_000)
wave = np.fft.irfft(spectrum * (hz < 3_000) / np.maximum(hz, 300))
wave *= 0.4 / np.abs(wave).max()


def noise_db(got):
    return 10 * np.log10((wave**2).sum() / ((got[: len(wave)] - wave) ** 2).sum())


def by_ffmpeg(path):
    with av.open(path) as container:
        frames = [frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]
    return np.concatenate(frames).astype(float) / 32_768


rows = {}
for kind, name in (("AIFF", "a.aifc"), ("WAV", "a.wav")):
    soundfile.write(name, wave, 48_000, format=kind, subtype="IMA_ADPCM")
    theirs, ours = by_ffmpeg(name), soundfile.read(name)[0]
    same = np.array_equal(np.rint(theirs * 32_768), np.rint(ours * 32_768))
    rows[kind] = noise_db(theirs) - noise_db(ours)
    print(f"{kind}: signal to noise {noise_db(ours):.1f} dB by libsndfile, {noise_db(theirs):.1f} dB by FFmpeg; equal: {same}")
sys.exit(0 if rows["AIFF"] > 3 and abs(rows["WAV"]) < 0.01 else "that has changed")
PY
