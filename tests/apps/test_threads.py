"""How many threads the commands take: one where operations are small, and none that spin while they wait."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from latentsr.apps.loading import MOST_THREADS, THREADS, Loader, cores


@pytest.mark.parametrize(
    ("head", "said", "asked", "set_to", "windows"),
    [
        ("mamba-gan", None, None, [1], min(cores(), MOST_THREADS)),
        ("mamba-gan", "1", None, [1], torch.get_num_threads()),
        ("mamba-gan", "1", 3, [1], 3),
        ("vocoder", None, None, [], 1),
        ("vocoder", None, 3, [3], 1),
    ],
)
def test_threads_are_shared_among_windows_or_within_operations(monkeypatch, head, said, asked, set_to, windows):
    seen: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", seen.append)
    monkeypatch.delenv(THREADS, raising=False)
    if said:
        monkeypatch.setenv(THREADS, said)
    model = Loader(head=head, device="cpu", threads=asked)()
    assert (seen, model.threads) == (set_to, windows)


def test_windows_that_are_restored_at_once_change_no_bit():
    threads = torch.get_num_threads()
    model = Loader(head="mamba-gan", device="cpu", threads=1)()  # sets torch's
    wave = 0.1 * np.random.default_rng(0).standard_normal((2, 14 * 48_000), dtype=np.float32)  # three windows
    try:
        made = []
        for model.threads in (1, 2, 3):
            made.append(model(wave, sample_rate=48_000, cutoff_hz=4_000.0).audio)
    finally:
        torch.set_num_threads(threads)
    assert np.abs(made[0] - wave).max() > 0.01
    assert np.array_equal(made[0], made[1]) and np.array_equal(made[0], made[2])


ENDED = """
import os, sys
from latentsr.apps import cli
sys.argv = ["latentsr", "--version"]
try:
    cli.main()
except SystemExit:
    print(os.environ["OMP_WAIT_POLICY"])
"""


def test_threads_that_wait_do_not_spin():
    clean = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.run([sys.executable, "-c", ENDED], env=clean, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "PASSIVE"
