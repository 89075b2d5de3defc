#!/usr/bin/env bash
# `accelerate launch --cpu --num_processes 2` runs one process on a machine without GPUs, and says nothing of it.
#
# One would expect two, as with GPUs, or an error. The number is accepted and dropped unless the launcher is told an
# address (MPI) as well; a batch that was to be shared is then done by one process in twice the time, and a log that
# names no world size hides it. torchrun with ACCELERATE_USE_CPU=true starts both.
#
# Seen with accelerate 1.15.0, torch 2.13.0 (CPU), Python 3.11:
#   accelerate launch --cpu --num_processes 2   ->  one line "processes 1"
#   torchrun --nproc_per_node 2                 ->  two lines "processes 2"
#
# Exit status: 0 while that is so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "torch==2.13.0" "accelerate==1.15.0" "numpy==2.4.6"
cat >"$work/world.py" <<'PY'
import sys

from accelerate import Accelerator

sys.stdout.write(f"processes {Accelerator(cpu=True).num_processes}\n")
PY
cd "$work"
export OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1
launched=$("$work/venv/bin/accelerate" launch --cpu --num_processes 2 --num_machines 1 --mixed_precision no \
  --dynamo_backend no world.py 2>/dev/null | grep processes)
echo "accelerate launch: ${launched//$'\n'/, }"
both=$(ACCELERATE_USE_CPU=true "$work/venv/bin/torchrun" --nproc_per_node 2 world.py 2>/dev/null | grep processes)
echo "torchrun: ${both//$'\n'/, }"
[ "$launched" = "processes 1" ] && [ "$both" = $'processes 2\nprocesses 2' ] || { echo "this has changed"; exit 1; }
