#!/usr/bin/env bash
# torch.randn on a CPU, same seed, same torch: the numbers differ by which vector instructions the processor has.
#
# One would expect a seeded CPU generator to give the same bits on every x86-64 machine: its integers come from a
# Mersenne twister. But 16 and more normal numbers are made of them by vector code where there is AVX2, and by the
# plain library where there is not, and the two round logarithm and cosine apart. Two in five numbers of a thousand
# differ, by up to 1.3e-06. A file of "expected" noise, or a test for
# equality of a seeded result, holds on the machine that made it only.
#
# Seen with torch 2.13.0 (CPU build), numpy 2.4.6, Python 3.11, by torch's own switch for its code paths:
#   ATEN_CPU_CAPABILITY=default and =avx2: 387 of 1000 numbers differ, at most 1.31e-06; rand (uniform): 0 differ
#
# Exit status: 0 while that is so, 1 when it has changed, 2 where the processor has no AVX2 to compare.
set -euo pipefail
grep -qw avx2 /proc/cpuinfo || { echo "this processor has no AVX2"; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "torch==2.13.0" "numpy==2.4.6"
cat >"$work/draw.py" <<'PY'
import sys

import torch

numbers = [draw(1000, generator=torch.Generator().manual_seed(0)) for draw in (torch.randn, torch.rand)]
torch.save(numbers, sys.argv[1])
PY
for code in default avx2; do
  ATEN_CPU_CAPABILITY=$code "$work/venv/bin/python" "$work/draw.py" "$work/$code.pt"
done
"$work/venv/bin/python" - "$work" <<'PY'
import sys

import torch

plain, vector = (torch.load(f"{sys.argv[1]}/{code}.pt") for code in ("default", "avx2"))
normal, uniform = (int((a != b).sum()) for a, b in zip(plain, vector))
largest = float((plain[0] - vector[0]).abs().max())
print(f"randn: {normal} of 1000 differ, at most {largest:.2e}; rand: {uniform} differ")
sys.exit(not (100 < normal < 900 and 1e-7 < largest < 1e-5 and uniform == 0))
PY
