"""How many threads the commands take: one where operations are small, and none that spin while they wait."""

import os
import subprocess
import sys

import pytest
import torch

from latentsr.apps.loading import THREADS, Loader


@pytest.mark.parametrize(
    ("head", "said", "set_to"), [("mamba-gan", None, [1]), ("mamba-gan", "2", []), ("vocoder", None, [])]
)
def test_a_head_of_one_pass_takes_one_thread_unless_told_otherwise(monkeypatch, head, said, set_to):
    seen: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", seen.append)
    monkeypatch.delenv(THREADS, raising=False)
    if said:
        monkeypatch.setenv(THREADS, said)
    Loader(head=head, device="cpu")()
    assert seen == set_to


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
