#!/usr/bin/env bash
# A local ray.init() changes how the next `ray start` behaves: clusters ask for a token from then on.
#
# A program that starts a cluster for itself alone should leave nothing behind. Ray turns on token authentication for
# such a cluster and writes a token to ~/.ray/auth_token. `ray start` takes the file's presence for a wish: the same
# command that gave a cluster without tokens before gives one with tokens now, and ray.init(address=...), which does not
# look for the file, cannot join it unless RAY_AUTH_MODE=token is set.
#
# Seen with ray 2.60.0, Python 3.11:   before: joined; after a local ray.init(): ConnectionError; with RAY_AUTH_MODE: joined
#
# Exit status: 0 while that is so, 1 when it has changed.
set -euo pipefail
work=$(mktemp -d)
if pgrep -x raylet >/dev/null; then
  echo "a Ray cluster runs on this machine; this would disturb it" >&2
  exit 2
fi
trap '"$work/venv/bin/ray" stop --force >/dev/null 2>&1 || true; rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "ray==2.60.0"
export HOME=$work RAY_USAGE_STATS_ENABLED=0
unset RAY_AUTH_MODE RAY_AUTH_TOKEN RAY_AUTH_TOKEN_PATH RAY_ADDRESS
cat >"$work/join.py" <<'PY'
import ray

try:
    ray.init(address="127.0.0.1:6398", log_to_driver=False)
    print("joined")
except ConnectionError as error:
    print(type(error).__name__)
PY
start_and_join() { # what comes of joining a cluster that `ray start` has started
  "$work/venv/bin/ray" start --head --port 6398 --include-dashboard=false >"$work/log" 2>&1
  env "$@" "$work/venv/bin/python" "$work/join.py" 2>/dev/null
  "$work/venv/bin/ray" stop --force >"$work/log" 2>&1
  rm -rf /tmp/ray/ray_current_cluster
}
before=$(start_and_join A=)
"$work/venv/bin/python" -c 'import ray; ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False); ray.shutdown()' 2>/dev/null
left=$(cd "$work" && ls .ray)
after=$(start_and_join A=)
told=$(start_and_join RAY_AUTH_MODE=token)
echo "before: $before; a local ray.init() leaves ~/.ray/$left; after it: $after; with RAY_AUTH_MODE=token: $told"
[ "$before" = joined ] && [ "$left" = auth_token ] && [ "$after" = ConnectionError ] && [ "$told" = joined ]
