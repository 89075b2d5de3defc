#!/usr/bin/env bash
# PyPI's torchaudio links CUDA. Beside a CPU torch it cannot be imported, and then diffusers cannot either.
# Installs it there, in an environment of its own, shows that it is broken, and restores a file with latentsr.
#
#   benchmarks/torchaudio_beside_cpu_torch.sh [VENV [MODEL]]
#
# VENV: an environment to reuse instead of a temporary one; MODEL: a model folder instead of the embedded default.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
venv=${1:-$scratch/venv}

[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/pip" install -q "$root"
"$venv/bin/pip" install -q --no-deps torchaudio

cd "$scratch" # the installed package, not the checkout
"$venv/bin/python" - <<'PY'
import subprocess
import sys

import torch
from importlib import metadata

print("torch", torch.__version__, "torchaudio", metadata.version("torchaudio"))
plain = subprocess.run([sys.executable, "-c", "import torchaudio"], capture_output=True, text=True)
print("import torchaudio, without latentsr:", "works" if plain.returncode == 0 else plain.stderr.splitlines()[-1][:70])

import latentsr
import torchaudio

print("import torchaudio, after latentsr: works")
PY
"$venv/bin/latentsr" restore "$root/examples/phone_speech.flac" -o restored.flac --json ${2:+--model "$2"}
[ -s restored.flac ]
echo "restored beside torchaudio"
