#!/usr/bin/env bash
# `ray stop` ends clusters that no `ray start` started: those of programs that called ray.init() on their own.
#
# `ray start` and `ray stop` look like a pair, and ray.init(address="local") like a cluster that belongs to its program.
# `ray stop` kills every Ray process that it finds on the machine. The program that loses its cluster is told nothing:
# its next task waits, and after a minute without its head Ray ends the whole Python process.
#
# Seen with ray 2.60.0, Python 3.11, Linux: raylet and gcs_server of the other program are gone after `ray stop`, and
# its ray.get() has not returned 20 s later.
#
# Exit status: 0 while that is so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'kill -9 $(jobs -p) 2>/dev/null || true; rm -rf "$work"' EXIT
if pgrep -x raylet >/dev/null; then
  echo "a Ray cluster runs on this machine, and this would end it" >&2
  exit 2
fi
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "ray==2.60.0"
export RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_MODE=disabled
cat >"$work/program.py" <<'PY'
import sys
import time

import ray

ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)


@ray.remote
def task():
    return 1


while True:
    ray.get(task.remote())
    print("done", flush=True)
    time.sleep(0.5)
PY
"$work/venv/bin/python" "$work/program.py" >"$work/out" 2>"$work/err" &
for _ in $(seq 120); do grep -q done "$work/out" && break; sleep 1; done
grep -q done "$work/out" || { echo "the program's cluster did not start" >&2; exit 2; }
before=$(pgrep -cx 'raylet|gcs_server')
"$work/venv/bin/ray" stop --force >"$work/stop" 2>&1
sleep 3
after=$(ps -eo comm=,stat= | awk '($1 == "raylet" || $1 == "gcs_server") && $2 !~ /^Z/' | wc -l)
done_then=$(grep -c done "$work/out" || true)
sleep 20
done_later=$(grep -c done "$work/out" || true)
echo "Ray processes of the program: $before before \`ray stop\`, $after after; tasks done: $done_then, 20 s later $done_later"
[ "$before" -ge 2 ] && [ "$after" -eq 0 ] && [ "$done_later" -eq "$done_then" ]
