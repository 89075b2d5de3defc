#!/usr/bin/env bash
# Float samples that soundfile writes as PCM in WAV, AIFF, CAF or W64 are rounded down, not to the nearest step.
#
# One would expect the nearest integer, as in a FLAC of the same library, where the error is between -0.5 and 0.5 steps.
# soundfile switches libsndfile's clipping on, and with it the integers are made 32 bits wide and lose their low bits: the
# error is between -1 and 0 steps. That is 6 dB more noise than rounding makes, and half a step of direct current under
# everything, which in 8 bits stands at -48 dB. A WAV and a FLAC of the same array differ in half of their samples.
# Integers, rounded by the program, are stored as they are. (libsndfile's issue 362; its pull request 959 rounds, and
# came after 1.2.2.)
#
# Seen with soundfile 0.14.0 (libsndfile 1.2.2), numpy 2.4.6, on noise of 0.1:
#   WAV, AIFF, CAF, W64, 8 to 24 bits, and ALAC: the mean error is -0.50 steps, its power 6.0 dB over rounding's
#   FLAC, 8 to 24 bits: 0.00 steps, 0.0 dB; WAV and FLAC of 16 bits differ in 50 % of the samples
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

BITS = {"PCM_U8": 8, "PCM_S8": 8, "PCM_16": 16, "ALAC_16": 16, "PCM_24": 24}
DOWN = [("WAV", "PCM_U8"), ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("AIFF", "PCM_16"), ("CAF", "PCM_16")]
DOWN += [("CAF", "ALAC_16"), ("W64", "PCM_16")]
NEAREST = [("FLAC", "PCM_S8"), ("FLAC", "PCM_16"), ("FLAC", "PCM_24")]
wave = 0.1 * np.random.default_rng(0).standard_normal(200_000)


def stored(samples, container, subtype):
    file = io.BytesIO()
    soundfile.write(file, samples, 48_000, format=container, subtype=subtype)
    file.seek(0)
    return soundfile.read(file)[0]


print(f"soundfile {soundfile.__version__} ({soundfile.__libsndfile_version__}); error in steps:")
held = True
for container, subtype in DOWN + NEAREST:
    error = (stored(wave, container, subtype) - wave) * 2 ** (BITS[subtype] - 1)
    worse_db = 10 * np.log10(np.mean(error**2) * 12)  # than a uniform error of one step around 0
    print(f"{container:4} {subtype:7} from {error.min():5.2f} to {error.max():5.2f}, mean {error.mean():6.3f}, "
          f"power {worse_db:4.1f} dB over rounding")  # fmt: skip
    held &= (-0.51 < error.mean() < -0.49 and worse_db > 5.8) if (container, subtype) in DOWN else worse_db < 0.2
wav, flac = stored(wave, "WAV", "PCM_16"), stored(wave, "FLAC", "PCM_16")
print(f"WAV and FLAC of 16 bits differ in {np.mean(wav != flac):.0%} of the samples")
sys.exit(0 if held and 0.45 < np.mean(wav != flac) < 0.55 else "that has changed")
PY
