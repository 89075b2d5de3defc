"""A disk that is really full: a file system of 4 MB in memory, in a mount namespace of a child process."""

import json
import shutil
import subprocess
import sys

import pytest

IN_A_SMALL_DISK = 'mount -t tmpfs -o size=4m tmpfs "$0" && exec "$@"'

CODE = """
import json, os, sys
from pathlib import Path
import numpy as np, torch
from latentsr.pipeline import Pipeline
from latentsr.models.vocos import ISTFTVocoder
from latentsr.audio import AudioError, write
from latentsr.training import checkpoint

disk, found = Path(sys.argv[1]), {}

def tree():
    return sorted(str(path.relative_to(disk)) for path in disk.rglob("*") if path.is_file())

def attempt(name, job):
    try:
        job()
        said = None
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
    found[name] = [said, tree()]

checkpoint.save(disk, 1, {"model.a": {"w": torch.ones(500_000)}}, {"seconds": 1.0, "config": {}})
attempt("checkpoint", lambda: checkpoint.save(disk, 2, {"model.a": {"w": torch.ones(700_000)}}, {}))
found["newest"] = checkpoint.newest_valid(disk)[1]["step"]
for format in ("wav", "flac"):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 1_000_000)).astype(np.float32)
    attempt(format, lambda: write(disk / f"a.{format}", noise, 48_000))
model = Pipeline(vocoder=ISTFTVocoder(channels=256, hidden=768, layers=4))
attempt("model folder", lambda: model.save_pretrained(disk / "model"))
print(json.dumps(found))
"""


def small_disk(folder, *words):
    if sys.platform != "linux" or shutil.which("unshare") is None:
        pytest.skip("needs a mount namespace")
    probe = subprocess.run(["unshare", "-rm", "sh", "-c", IN_A_SMALL_DISK, str(folder), "true"], capture_output=True)
    if probe.returncode != 0:
        pytest.skip("this system gives no mount namespace to ordinary users")
    command = ["unshare", "-rm", "sh", "-c", IN_A_SMALL_DISK, str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=240)


@pytest.mark.slow
def test_everything_that_writes_says_so_and_leaves_what_was_there(tmp_path):
    done = small_disk(tmp_path, sys.executable, "-c", CODE, str(tmp_path))
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    whole = ["step-00000001/manifest.json", "step-00000001/model.a.safetensors"]
    said, left = found["checkpoint"]
    assert said.startswith("OSError: cannot write checkpoint") and "make room" in said and "No space left" in said
    assert left == whole and found["newest"] == 1
    for format in ("wav", "flac"):
        said, left = found[format]
        assert said.startswith("AudioError") and "no space left" in said.lower(), said
        assert left == whole
    said, left = found["model folder"]
    assert said is not None and "No space left" in said
    assert not [
        name for name in left if name.endswith("sha256.json")
    ]  # a folder that is not whole is never declared so
