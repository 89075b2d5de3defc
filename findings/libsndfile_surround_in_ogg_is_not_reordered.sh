#!/usr/bin/env bash
# A 5.1 recording that libsndfile copies from WAV to Ogg has its right surround coded as the low-frequency channel.
#
# One would expect a library that reads and writes both to keep channels where they are, or at least to give back what
# was put in. WAV and FLAC have left, right, centre, LFE, surrounds; Vorbis I (section 4.3.9) and Opus (RFC 7845,
# section 5.1.1.2) have left, centre, right, surrounds, LFE. libsndfile hands the samples on as they stand. Other
# decoders then play the centre on the right and the right in the centre, and, worse, both encoders treat the sixth
# channel as LFE: of the right surround the sound above a few hundred hertz is gone, also for who reads the file with
# libsndfile again and finds each channel in its old place.
#
# Seen with soundfile 0.14.0 (libsndfile 1.2.2) and PyAV 18.1.0, six independent noises from 200 Hz to 8 kHz:
#   the right surround has lost over 50 dB between 1 and 8 kHz in Opus, over 30 in Vorbis; the others under 2 dB
#   FFmpeg's FL FR FC LFE BL BR are FL FC FR BR LFE BL of what was written; in FLAC, and in WAV, none has moved
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

RATE_HZ, SECONDS = 48_000, 4
NAMES = ["FL", "FR", "FC", "LFE", "BL", "BR"]  # the order of WAV
HZ = np.fft.rfftfreq(SECONDS * RATE_HZ, 1 / RATE_HZ)
rng = np.random.default_rng(0)
spectra = np.fft.rfft(rng.standard_normal((6, SECONDS * RATE_HZ))) * ((HZ > 200) & (HZ < 8_000)) / np.sqrt(HZ + 1)
waves = np.fft.irfft(spectra)
waves *= 0.03 / waves.std()
TREBLE = (HZ > 1_000) & (HZ < 8_000)


def treble(channels):
    """Energy between 1 and 8 kHz of each channel."""
    return (np.abs(np.fft.rfft(channels)[:, TREBLE]) ** 2).sum(axis=1)


def by_ffmpeg(name):
    """Which noise each of FFmpeg's channels holds, by the name under which it was written; FFmpeg's names."""
    with av.open(name) as container:
        frames = list(container.decode(audio=0))
    layout = frames[0].layout
    blocks = [f.to_ndarray() if f.format.is_planar else f.to_ndarray().reshape(-1, 6).T for f in frames]
    got = np.concatenate(blocks, axis=1)[:, : 3 * RATE_HZ].astype(float)
    alike = np.abs(np.corrcoef(got, waves[:, : 3 * RATE_HZ])[:6, 6:])
    return " ".join(NAMES[one] for one in alike.argmax(axis=1)), [channel.name for channel in layout.channels]


print(f"soundfile {soundfile.__version__} ({soundfile.__libsndfile_version__}), PyAV {av.__version__}")
held = True
for kind, subtype in (("WAVEX", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS")):
    soundfile.write("six", waves.T, RATE_HZ, format=kind, subtype=subtype)
    back_db = 10 * np.log10(treble(soundfile.read("six")[0].T) / treble(waves))
    order, theirs = by_ffmpeg("six")
    print(f"{kind} {subtype}: treble by libsndfile {back_db.round(1)} dB; FFmpeg's {' '.join(theirs)} are {order}")
    if kind == "OGG":
        held &= order == "FL FC FR BR LFE BL" and back_db[5] < -25 and back_db[:5].min() > -3
    else:
        held &= order == " ".join(NAMES) and np.abs(back_db).max() < 0.1
sys.exit(0 if held else "that has changed")
PY
