#!/usr/bin/env bash
# torchaudio's wheels are built for CUDA; beside a CPU torch they used to break every import of diffusers.
# Installs it there, in an environment of its own, and restores a file.
set -euo pipefail
cd "$(dirname "$0")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

python3 -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install -q ".[torchaudio]"
"$scratch/venv/bin/python" -c '
from latentsr import Pipeline
import torchaudio
print("torchaudio", torchaudio.__version__, "beside torch", __import__("torch").__version__)
'
"$scratch/venv/bin/latentsr" restore examples/phone_speech.flac -o "$scratch/phone.flac" </dev/null
[ -s "$scratch/phone.flac" ]
