#!/usr/bin/env bash
# libsndfile opens no MP3 without an ID3v2 tag while the current folder holds a folder named .AppleDouble, not even an
# MP3 that it is given in memory.
#
# A file in memory has no name and no neighbours, so one would expect what lies in the current folder to change nothing.
# Before libsndfile takes the first bytes for MPEG audio it asks for the resource fork of a Mac file, beside a name that
# is empty here; a directory can be opened for that, and what is read from it is no fork.
#
# Seen with soundfile 0.14.0 (libsndfile 1.2.2): LibsndfileError, "bad map offset" or "bad resource fork"; netatalk
# makes such folders in everything that it serves. With an ID3v2 tag in front, or without the folder, it opens.
#
# Exit status: 0 while that is so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "soundfile==0.14.0" "numpy==2.4.6"
mkdir -p "$work/here/.AppleDouble"
cd "$work/here"
"$work/venv/bin/python" - <<'PY'
import io
import os
import sys

import numpy as np
import soundfile

out = io.BytesIO()
soundfile.write(out, 0.1 * np.random.default_rng(0).standard_normal(48_000), 48_000, format="MP3")
mp3 = out.getvalue()
assert not mp3.startswith(b"ID3")


def frames(data):
    try:
        return soundfile.SoundFile(io.BytesIO(data)).frames
    except soundfile.LibsndfileError as error:
        return error.error_string


beside = frames(mp3)
tagged = frames(b"ID3\4\0\0\0\0\0\x0a" + bytes(10) + mp3)
os.rmdir(".AppleDouble")
alone = frames(mp3)
print(f"soundfile {soundfile.__version__}, {soundfile.__libsndfile_version__}")
print(f"beside .AppleDouble: {beside}; with a tag: {tagged}; without the folder: {alone}")
sys.exit(0 if isinstance(beside, str) and tagged == alone == 48_000 else "that has changed")
PY
