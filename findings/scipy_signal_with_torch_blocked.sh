#!/usr/bin/env bash
# SciPy's signal module does not import where PyTorch has been blocked with sys.modules["torch"] = None.
#
# Python documents a None in sys.modules as the way to make an import fail, and a program that must prove that it runs
# without PyTorch does just that. One would expect a library that does not need PyTorch to go on as if it were not
# installed. scipy.signal looks whether "torch" is among the loaded modules, finds the None, and asks it for its Tensor.
#
# Seen with scipy 1.17.1, numpy 2.4.6, Python 3.11:   AttributeError: 'NoneType' object has no attribute 'Tensor'
# `import scipy` alone works; so does scipy.signal where "torch" is missing from sys.modules.
#
# Exit status: 0 while that is so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "scipy==1.17.1" "numpy==2.4.6"
"$work/venv/bin/python" - <<'PY'
import sys

import scipy

sys.modules["torch"] = None
try:
    import scipy.signal
except AttributeError as error:
    print(f"scipy {scipy.__version__}: AttributeError: {error}")
else:
    sys.exit(f"scipy {scipy.__version__}: scipy.signal imports beside a blocked torch now")
del sys.modules["torch"]
for name in [name for name in sys.modules if name.startswith("scipy")]:
    del sys.modules[name]
import scipy.signal

print("without the None it imports:", scipy.signal.firwin(3, 0.5).round(3).tolist())
PY
