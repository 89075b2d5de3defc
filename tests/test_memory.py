"""When memory runs out: smaller batches, then shorter windows, and a word about it."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import latentsr
from latentsr.diffusion.drawing import Diffusion
from latentsr.evaluation.metrics import kept_band_error_db
from latentsr.restoring.engine import TooLittleMemoryError, is_out_of_memory
from tiny import RATE, programme, tiny_pipeline

SRC = Path(latentsr.__file__).parents[1]
ERRORS = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried to ..."),
]


@pytest.fixture
def pipe():
    return tiny_pipeline()


def short_of_memory(monkeypatch, most, error):
    """Let diffusion fail on more latent frames than `most` in all."""
    real = Diffusion.denoise

    def limited(self, condition, noise, cutoff_hz):
        if condition.shape[0] * condition.shape[2] > most:
            raise error
        return real(self, condition, noise, cutoff_hz)

    monkeypatch.setattr(Diffusion, "denoise", limited)


@pytest.mark.parametrize("error", ERRORS)
def test_the_batch_is_halved_first_and_changes_nothing(pipe, monkeypatch, caplog, error):
    wave = programme(21)
    whole = pipe(wave, sample_rate=RATE, cutoff_hz=4000.0, steps=1, batch_size=4)
    assert whole.note is None
    short_of_memory(monkeypatch, 100, error)
    with caplog.at_level(logging.WARNING, "latentsr"):
        made = pipe(wave, sample_rate=RATE, cutoff_hz=4000.0, steps=1, batch_size=4)
    assert "out of memory: diffusion goes on with 1 windows at once" in made.note
    assert len(caplog.records) == len(made.notes) == 2  # 4 -> 2 -> 1
    assert np.abs(made.audio - whole.audio).max() < 1e-4


def test_then_the_windows_and_the_kept_band_stays(pipe, monkeypatch):
    wave = programme(21)
    short_of_memory(monkeypatch, 50, MemoryError())
    made = pipe(wave, sample_rate=RATE, cutoff_hz=4000.0, steps=1)
    assert "diffusion goes on with windows of 2.56 s" in made.note
    error_db = kept_band_error_db(torch.from_numpy(wave), torch.from_numpy(made.audio), 3200.0)
    assert float(error_db.max()) < -60


def test_where_nothing_helps_it_says_what_does(pipe, monkeypatch):
    short_of_memory(monkeypatch, 5, MemoryError())
    with pytest.raises(TooLittleMemoryError, match=r"windows of 0.64 s; close other programs, or take a smaller head"):
        pipe(programme(21), sample_rate=RATE, cutoff_hz=4000.0, steps=1)


def test_other_errors_are_no_shortage(pipe, monkeypatch):
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))
    short_of_memory(monkeypatch, 5, RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        pipe(programme(2), sample_rate=RATE, cutoff_hz=4000.0, steps=1)


REAL = """
import resource
import numpy as np
import torch
from latentsr import Pipeline
torch.set_num_threads(1)
pipe = Pipeline.from_pretrained(heads=["mamba-gan"])
pipe.set_progress_bar_config(disable=True)
wave = 0.1 * np.random.default_rng(0).standard_normal((1, 480_000)).astype(np.float32)
pipe(wave[:, :20_000], sample_rate=48_000, cutoff_hz=4000.0, head="mamba-gan")
for spare in range(80, 10, -3):  # MB: less and less, until a window of 5 s no longer fits
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, -1))
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + spare * 2**20, -1))
    out = pipe(wave, sample_rate=48_000, cutoff_hz=4000.0, head="mamba-gan")
    if out.note:
        break
print(out.audio.shape, out.note)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
@pytest.mark.slow
def test_a_real_limit_on_memory():
    # What is freed goes back to the system at once: blocks kept for later would let any limit hold.
    malloc = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
    env = {**os.environ, "PYTHONPATH": str(SRC), "OMP_NUM_THREADS": "1", **malloc}
    done = subprocess.run([sys.executable, "-c", REAL], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "(1, 480000) out of memory: decoding goes on with windows of" in done.stdout
