#!/usr/bin/env bash
# FFmpeg's denoisers afftdn and anlmdn give their sound back late: 25 ms and 8 ms, and as much of the end is lost.
#
# As many samples come out as went in, with the same time stamps, so one would expect each to stand where it stood, as
# with the neighbours adeclick, adeclip and afwtdn, which also need to look ahead. The look-ahead of the first two is
# not taken off: half a window (afftdn), or the reach of patch and search (anlmdn), of silence stands in front, and as
# much of the recording's end never comes. Asked to change next to nothing they do the same. What a before and an after
# have in difference is then no noise but the whole sound, and a score of the denoised against the clean recording
# measures the shift. At every rate the delay has the same length in time.
#
# Seen with PyAV 18.1.0 (libavfilter 11.14), three seconds of noise at 16, 44.1 and 48 kHz, strengths next to nothing for
# the two; samples late, and SI-SDR of what comes out against what went in:
#   afftdn 400, 1102, 1200 (below -30 dB); anlmdn 128, 353, 384 (below -25 dB); adeclick, adeclip and afwtdn 0 (over 23)
#
# Exit status: 0 while that is so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "av==18.1.0" "numpy==2.4.6"
"$work/venv/bin/python" - <<'PY'
import sys
from fractions import Fraction

import av
import numpy as np
from av.filter import Graph

av.logging.set_level(av.logging.PANIC)
RATES_HZ, SECONDS, BLOCK = (16_000, 44_100, 48_000), 3, 1_024
FILTERS = {"afftdn": "noise_reduction=0.01", "anlmdn": "strength=0.00001", "adeclick": "", "adeclip": "", "afwtdn": ""}


def filtered(wave, rate_hz, name, settings):
    """What comes out, and the time stamp of its first sample."""
    graph = Graph()
    source = graph.add_abuffer(sample_rate=rate_hz, format="fltp", layout="mono", time_base=Fraction(1, rate_hz))
    nodes = [source, graph.add(name, settings or None), graph.add("aformat", "sample_fmts=fltp"), graph.add("abuffersink")]
    for one, next_one in zip(nodes, nodes[1:]):
        one.link_to(next_one)
    graph.configure()
    out = []

    def pull():
        while True:
            try:
                out.append(nodes[-1].pull())
            except (av.BlockingIOError, av.EOFError):
                return

    for at in range(0, len(wave), BLOCK):
        frame = av.AudioFrame.from_ndarray(wave[None, at : at + BLOCK], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate_hz, at, Fraction(1, rate_hz)
        source.push(frame)
        pull()
    source.push(None)
    pull()
    return np.concatenate([frame.to_ndarray()[0] for frame in out]), out[0].pts


def late(wave, got):
    product = np.conj(np.fft.rfft(wave, 2**19)) * np.fft.rfft(got, 2**19)
    lag = int(np.argmax(np.abs(np.fft.irfft(product))))
    return lag - 2**19 if lag > 2**18 else lag


def si_sdr_db(wave, got):
    aimed = wave * (got @ wave) / (wave @ wave)
    return 10 * np.log10((aimed**2).sum() / ((got - aimed) ** 2).sum())


held = True
print(f"PyAV {av.__version__}, libavfilter {av.library_versions['libavfilter']}; at {RATES_HZ} Hz:")
for name, settings in FILTERS.items():
    delays, scores = [], []
    for rate_hz in RATES_HZ:
        count = SECONDS * rate_hz
        hz = np.fft.rfftfreq(count, 1 / rate_hz)
        wave = np.fft.irfft(np.fft.rfft(np.random.default_rng(0).standard_normal(count)) * (hz > 60) * (hz < 6_000) / (hz + 200))
        wave = (0.1 * wave / wave.std()).astype(np.float32)
        got, stamp = filtered(wave, rate_hz, name, settings)
        held &= len(got) == count and stamp == 0
        delays.append(late(wave, got))
        scores.append(si_sdr_db(wave.astype(float), got.astype(float)))
    print(f"{name:8} late by {delays}; SI-SDR {' '.join(f'{score:.1f}' for score in scores)} dB")
    expected = {"afftdn": 0.025, "anlmdn": 0.008}.get(name, 0)
    held &= all(abs(delay - expected * rate_hz) <= 3 for delay, rate_hz in zip(delays, RATES_HZ))
    held &= max(scores) < 0 if expected else min(scores) > 10
sys.exit(0 if held else "that has changed")
PY
