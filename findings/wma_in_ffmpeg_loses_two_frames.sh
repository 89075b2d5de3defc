#!/usr/bin/env bash
# What FFmpeg encodes to WMA and decodes again has lost its first 2048 samples.
#
# A click in the first hundredth of a second is coded, and is in the file; one would expect the decoder to give it back,
# if late by what an MDCT codec is late by. FFmpeg's WMA decoder takes two frames (2 x 2048 samples at 48 kHz) off the
# start of every stream, whoever wrote it, and its encoder is late by one frame only.
#
# Seen with PyAV 18.1.0 (libavcodec 62.28): of a second at 48 kHz the samples from 2048 on come back, at sample 0; with
# AV_CODEC_FLAG2_SKIP_MANUAL all come back, at sample 2048. The same round trip through AAC in MP4 starts at sample 0.
#
# Exit status: 0 while that is so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "av==18.1.0" "numpy==2.4.6"
cd "$work"
"$work/venv/bin/python" - <<'PY'
import sys

import av
import numpy as np

RATE_HZ = 48_000
wave = 0.2 * np.random.default_rng(0).standard_normal(RATE_HZ).astype(np.float32)


def encode(name, muxer, codec):
    with av.open(name, "w", format=muxer) as out:
        stream = out.add_stream(codec, rate=RATE_HZ, layout="mono")
        stream.bit_rate = 128_000
        shaper = av.AudioResampler(format="fltp", layout="mono", rate=RATE_HZ, frame_size=stream.codec_context.frame_size)
        frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = RATE_HZ, 0
        for part in [*shaper.resample(frame), *shaper.resample(None), None]:
            for packet in stream.encode(part):
                out.mux(packet)


def start(name, manual=False):
    """Where in the decoded samples the encoded ones begin."""
    with av.open(name) as container:
        context = container.streams.audio[0].codec_context
        if manual:
            context.flags2 |= 1 << 29  # AV_CODEC_FLAG2_SKIP_MANUAL
        got = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    product = np.conj(np.fft.rfft(wave, 2**18)) * np.fft.rfft(got, 2**18)
    lag = int(np.argmax(np.abs(np.fft.irfft(product))))
    return lag - 2**18 if lag > 2**17 else lag


encode("a.wma", "asf", "wmav2")
encode("a.m4a", "mp4", "aac")
found = start("a.wma"), start("a.wma", manual=True), start("a.m4a")
print(f"av {av.__version__}: WMA begins at {found[0]}, with manual skipping at {found[1]}; AAC in MP4 at {found[2]}")
sys.exit(0 if found == (-2048, 2048, 0) else "that has changed")
PY
