#!/usr/bin/env bash
# What FFmpeg writes into a pipe declares "length not known" in WAV, and no sound at all in RF64 and AIFF.
#
# A size that could not be filled in is 2^32 - 1 in the WAV that FFmpeg writes into a pipe, and 2^63 - 1 in its Wave64; one
# would expect the like in RF64, whose data chunk says 2^32 - 1 too: "see ds64". But ds64 says 0 there, and so does the
# sound chunk of AIFF. Both look as if they held nothing, or as if a recorder had been killed; all of the sound follows.
#
# Seen with PyAV 18.1.0 (libavformat 62).
#
# Exit status: 0 while that is so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "av==18.1.0" "numpy==2.4.6"
"$work/venv/bin/python" - <<'PY'
import struct
import sys

import av
import numpy as np


class Pipe:
    """A file that cannot be sought."""

    def __init__(self):
        self.data = b""

    def write(self, piece):
        self.data += bytes(piece)
        return len(piece)


def piped(muxer, codec, **options):
    pipe = Pipe()
    with av.open(pipe, "w", format=muxer, options=options) as out:
        stream = out.add_stream(codec, rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.ones((1, 48_000), np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts = 48_000, 0
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            out.mux(packet)
    return pipe.data


def number(data, name, layout, skip=0):
    return struct.unpack_from(layout, data, data.index(name) + len(name) + skip)[0]


wav, rf64 = piped("wav", "pcm_s16le"), piped("wav", "pcm_s16le", rf64="always")
w64, aiff = piped("w64", "pcm_s16le"), piped("aiff", "pcm_s16be")
found = {
    "WAV data": number(wav, b"data", "<I"),
    "RF64 data": number(rf64, b"data", "<I"),
    "RF64 ds64": number(rf64, b"ds64", "<Q", 12),
    "Wave64 data": number(w64, b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a", "<Q"),
    "AIFF SSND": number(aiff, b"SSND", ">I"),
}
print(f"av {av.__version__}:", found)
whole = all(len(data) > 96_000 for data in (wav, rf64, w64, aiff))
sys.exit(0 if whole and list(found.values()) == [2**32 - 1, 2**32 - 1, 0, 2**63 - 1, 0] else "that has changed")
PY
