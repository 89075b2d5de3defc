#!/usr/bin/env bash
# pedalboard reads an MP3 1105 samples late, and longer than it is, also its own: each copy of a copy adds 23 ms.
#
# An MP3's `Info` header says by how many samples the encoder is late and how many it has padded. pedalboard writes that
# header, and takes the number of frames from the one that it reads, so one would expect it to take off what stands
# there as well, as libsndfile and FFmpeg do; its documentation names no delay, and exact_duration_known is True. It
# keeps encoder's and decoder's delay (576 + 529 samples) in front, and the padding behind. A low-passed or restored
# version made with it is compared with a reference 23 ms away, and the loop of reading and writing that its
# documentation shows adds as much with every generation.
#
# Seen with pedalboard 0.9.26, soundfile 0.14.0 (libsndfile 1.2.2) and PyAV 18.1.0; a second at 48 kHz, 48,000 samples:
#   written by pedalboard; read by pedalboard: 49,536 samples, 1105 late; by libsndfile and by FFmpeg: 48,000, at 0
#   three generations through pedalboard: 1105, 2210, 3315 late; through soundfile: 0, 0, 0
#
# Exit status: 0 while that is so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "pedalboard==0.9.26" "soundfile==0.14.0" "av==18.1.0" "numpy==2.4.6"
cd "$work"
"$work/venv/bin/python" - <<'PY'
import sys

import av
import numpy as np
import pedalboard
import soundfile
from pedalboard.io import AudioFile

RATE_HZ = 48_000
hz = np.fft.rfftfreq(RATE_HZ, 1 / RATE_HZ)
wave = np.fft.irfft(np.fft.rfft(np.random.default_rng(0).standard_normal(RATE_HZ)) * (hz < 8_000) / (hz + 100))
wave = (0.3 * wave / np.abs(wave).max()).astype(np.float32)


def late(got):
    product = np.conj(np.fft.rfft(wave, 2**18)) * np.fft.rfft(got, 2**18)
    lag = int(np.argmax(np.abs(np.fft.irfft(product))))
    return lag - 2**18 if lag > 2**17 else lag


def write_by_pedalboard(samples):
    with AudioFile("a.mp3", "w", RATE_HZ, 1, quality=192) as file:
        file.write(samples)


def read_by_pedalboard():
    with AudioFile("a.mp3") as file:
        assert file.exact_duration_known
        return file.read(file.frames)[0]


def read_by_ffmpeg():
    with av.open("a.mp3") as container:
        return np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])


def write_by_soundfile(samples):
    soundfile.write("a.mp3", samples, RATE_HZ)


def read_by_soundfile():
    return soundfile.read("a.mp3", dtype="float32")[0]


def generations(write, read):
    """How late the sound is after one, two and three copies."""
    samples, lags = wave, []
    for _ in range(3):
        write(samples)
        samples = read()
        lags.append(late(samples))
    return lags


print(f"pedalboard {pedalboard.__version__}, soundfile {soundfile.__version__}, PyAV {av.__version__}")
write_by_pedalboard(wave)
with open("a.mp3", "rb") as file:
    tagged = b"Info" in file.read(200)
found = [(len(got), late(got)) for got in (read_by_pedalboard(), read_by_soundfile(), read_by_ffmpeg())]
print(f"Info header: {tagged}; (samples, late) by pedalboard {found[0]}, libsndfile {found[1]}, FFmpeg {found[2]}")
theirs = generations(write_by_pedalboard, read_by_pedalboard)
others = generations(write_by_soundfile, read_by_soundfile)
print(f"three generations: pedalboard {theirs}, soundfile {others}")
whole = found[1:] == [(RATE_HZ, 0)] * 2 and others == [0, 0, 0]
behind = found[0] == (49_536, 1_105) and theirs == [1_105, 2_210, 3_315]
sys.exit(0 if tagged and whole and behind else "that has changed")
PY
