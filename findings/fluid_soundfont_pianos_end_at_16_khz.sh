#!/usr/bin/env bash
# The pianos of the FluidR3 General MIDI soundfont are sampled at 32 kHz: a render at 48 kHz holds no piano above 16 kHz.
#
# One would expect 44.1 kHz of a set that renders at any rate without a word, and take its renders for wide-band
# recordings: to train on, to measure bandwidth extension with, or as a reference. A synthesiser interpolates whatever
# rate a sample has, and no tool on the way names it. Each sample's rate stands in the file's `shdr` list (SoundFont
# 2.04, section 7.10: records of 46 bytes, the rate as a 32-bit number at byte 36).
#
# Seen with Debian's fluid-soundfont-gm 3.1-5.3:
#   1,418 samples: 817 at 44,100 Hz, 328 at 32,000 Hz, 171 at 22,050 Hz, the rest between 11 and 48 kHz
#   the 40 samples of the grand piano (P200 Piano ...): 32,000 Hz, all of them
#
# Exit status: 0 while that is so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
apt-get download -qq fluid-soundfont-gm=3.1-5.3 2>/dev/null
dpkg-deb -x fluid-soundfont-gm_3.1-5.3_all.deb unpacked
python3 - unpacked/usr/share/sounds/sf2/FluidR3_GM.sf2 <<'PY'
import re
import struct
import sys
from collections import Counter
from pathlib import Path

data = Path(sys.argv[1]).read_bytes()
at = data.rfind(b"shdr")
size = struct.unpack("<I", data[at + 4 : at + 8])[0]
records = data[at + 8 : at + 8 + size]
samples = []
for start in range(0, size - 46, 46):  # the last one is a terminator
    name = records[start : start + 20].split(b"\0")[0].decode("ascii", "replace")
    samples.append((name, struct.unpack("<I", records[start + 36 : start + 40])[0]))
counts = Counter(rate for _, rate in samples)
pianos = Counter(rate for name, rate in samples if re.match(r"P200 Piano", name))
print(f"{len(samples)} samples; most common rates {counts.most_common(3)}; of the grand piano {dict(pianos)}")
sys.exit(0 if counts[44_100] == 817 and counts[32_000] == 328 and set(pianos) == {32_000} and sum(pianos.values()) > 20 else 1)
PY
