#!/usr/bin/env bash
# Apple Lossless in CAF: FFmpeg does not give back the end of what it wrote itself, up to 85 ms of it.
#
# One would expect a lossless codec in Apple's own container to return every sample, as the same codec in MP4 does.
# CAF's packet table says how many frames of the last packet are no sound (mRemainderFrames). A last packet of ALAC
# knows its own length, and its decoder gives that many samples; FFmpeg takes the remainder off again. Up to 4095
# samples are missing, without a warning, while the stream's duration still counts them. All are there if FFmpeg is
# told to leave skipping to its caller (AV_CODEC_FLAG2_SKIP_MANUAL). ALAC in CAF by libsndfile fares alike.
#
# Seen with PyAV 18.1.0 (libavformat 62) and soundfile 0.14.0 (libsndfile 1.2.2), 48,007 samples = 12 packets less 1145:
#   FFmpeg to CAF to FFmpeg: 46,862 samples; declared: 48,007; told to leave skipping alone: 48,007, equal to the bit
#   libsndfile to CAF to FFmpeg: 46,862; to libsndfile: 48,007; FFmpeg to MP4 to FFmpeg: 48,007
#
# Exit status: 0 while that is so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "av==18.1.0" "soundfile==0.14.0" "numpy==2.4.6"
cd "$work"
"$work/venv/bin/python" - <<'PY'
import sys

import av
import numpy as np
import soundfile

FRAMES, PACKET = 48_007, 4_096
LOST = -FRAMES % PACKET
wave = (8_000 * np.random.default_rng(0).standard_normal(FRAMES)).clip(-32_768, 32_767).astype(np.int16)


def write(name, muxer):
    with av.open(name, "w", format=muxer) as out:
        stream = out.add_stream("alac", rate=48_000, layout="mono")
        stream.codec_context.format = "s16p"
        shaper = av.AudioResampler(format="s16p", layout="mono", rate=48_000, frame_size=PACKET)
        frame = av.AudioFrame.from_ndarray(wave[None], format="s16p", layout="mono")
        frame.sample_rate, frame.pts = 48_000, 0
        for part in [*shaper.resample(frame), *shaper.resample(None), None]:
            for packet in stream.encode(part):
                out.mux(packet)


def read(name, manual=False):
    """The samples that FFmpeg decodes, and how many the file declares."""
    with av.open(name) as container:
        stream = container.streams.audio[0]
        if manual:
            stream.codec_context.flags2 |= 1 << 29  # AV_CODEC_FLAG2_SKIP_MANUAL
        samples = np.concatenate([frame.to_ndarray().reshape(-1) for frame in container.decode(stream)])
        return samples, round(stream.duration * stream.time_base * 48_000)


write("av.caf", "caf")
write("av.m4a", "mp4")
soundfile.write("sf.caf", wave, 48_000, format="CAF", subtype="ALAC_16")
(caf, declared), (whole, _), (mp4, _) = read("av.caf"), read("av.caf", manual=True), read("av.m4a")
foreign, own = read("sf.caf")[0], soundfile.read("sf.caf", dtype="int16")[0]
print(f"PyAV {av.__version__}, soundfile {soundfile.__version__}; {FRAMES} samples went in")
print(f"CAF by FFmpeg: {len(caf)} of {declared} declared, {len(whole)} if nothing is skipped; MP4: {len(mp4)}")
print(f"CAF by libsndfile: {len(foreign)} by FFmpeg, {len(own)} by libsndfile")
exact = all(np.array_equal(got, wave) for got in (whole, mp4, own))
short = all(np.array_equal(got, wave[: FRAMES - LOST]) for got in (caf, foreign))
sys.exit(0 if exact and short and declared == FRAMES else "that has changed")
PY
