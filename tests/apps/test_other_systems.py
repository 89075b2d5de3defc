"""What Windows lacks is replaced before batch and demo are imported; neither runs on Windows or macOS here."""

import os
import subprocess
import sys

import pytest

from latentsr.apps import locking

WINDOWS = """
import os, signal, sys, types
import multiprocessing.connection, multiprocessing.resource_tracker, multiprocessing.spawn, shutil, soundfile, soxr
import subprocess, tempfile, torch, typer  # what is not ours knows this system
held = []  # (descriptor, first, last)
def locking(descriptor, mode, count):
    first = os.lseek(descriptor, 0, os.SEEK_CUR)
    if mode == 0:
        held[:] = [one for one in held if one[0] != descriptor]
    elif any(one[1] < first + count and first < one[2] for one in held):
        raise OSError(13, "locked")
    else:
        held.append((descriptor, first, first + count))
sys.modules["fcntl"] = None
sys.modules["msvcrt"] = types.SimpleNamespace(LK_UNLCK=0, LK_NBLCK=2, locking=locking)
for name in ("getuid", "pread", "O_NOFOLLOW", "O_CLOEXEC", "O_NONBLOCK"):
    delattr(os, name)
for name in ("SIGALRM", "setitimer", "pthread_sigmask", "SIGKILL"):
    delattr(signal, name)
import latentsr.apps.batch.command, latentsr.apps.batch.worker, latentsr.apps.web.store, latentsr.apps.children
from pathlib import Path
from latentsr.apps.locking import lock, unlock
folder = Path(sys.argv[1])
one, two, three = (os.open(folder / "lock", os.O_RDWR | os.O_CREAT) for _ in range(3))
assert lock(one, shared=True) and lock(two, shared=True) and not lock(three)
unlock(one), unlock(two)
assert lock(three) and not lock(one, shared=True)
unlock(three)
with latentsr.apps.batch.worker.alarm(0.001):
    pass
print("done")
"""


def test_batch_and_demo_are_imported_where_there_is_no_fcntl(tmp_path):
    ran = subprocess.run([sys.executable, "-c", WINDOWS, tmp_path], capture_output=True, text=True)
    assert (ran.stdout.strip(), ran.returncode) == ("done", 0), ran.stderr


@pytest.mark.parametrize(("shared", "second"), [(False, False), (True, True)])
def test_a_lock_is_alone_or_shared(tmp_path, shared, second):
    descriptors = [os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT) for _ in range(2)]
    assert locking.lock(descriptors[0], shared=shared)
    assert locking.lock(descriptors[1], shared=True) is second
    for descriptor in descriptors:
        os.close(descriptor)
