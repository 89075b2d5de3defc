"""`latentsr train STAGE`: the stages of training by name, in one process or several, with their own exit codes."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

RECIPE = "recipe"  # in the place of a stage: all of them
GRACE_S = 60.0  # that the other processes have to save and leave when one has left
FORWARDED = (signal.SIGINT, signal.SIGTERM)


def train_command(argv: Sequence[str]) -> int:
    """Train as asked for. Returns the exit code: 0, 1, 2, 4 stopped by --max-minutes, 130 interrupted."""
    from latentsr.training.names import CONFIGS

    listed = "\n".join(f"  {name:16}configs/{config}" for name, config in CONFIGS.items())
    parser = argparse.ArgumentParser(
        prog="latentsr train", formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
        usage="latentsr train STAGE [--processes N] [options] [key=value ...]", description="Train a stage of a model.",
        epilog=f"stages, and the config of each where --config names none:\n{listed}\n  {RECIPE:16}configs/recipes/"
        "default.yaml: all the stages of a recipe\n\nlatentsr train STAGE --help has the options.",
    )  # fmt: skip
    parser.add_argument("stage", metavar="STAGE", choices=[*CONFIGS, RECIPE], help="one of the list below")
    if not argv or argv[0] in ("-h", "--help"):
        parser.parse_args(argv or ["--help"])
    stage = parser.parse_args(argv[:1]).stage
    own = argparse.ArgumentParser(prog=f"latentsr train {stage}", add_help=False, allow_abbrev=False)
    own.add_argument("--processes", type=int, default=1)
    known, rest = own.parse_known_args(argv[1:])
    if known.processes < 1:
        own.error(f"--processes must be at least 1, got {known.processes}")
    if known.processes > 1:
        return _train_in_processes(known.processes, [stage, *rest])
    sys.argv[0] = own.prog  # in the usage that the stage's own parser prints
    from latentsr.training.driver import launch_recipe
    from latentsr.training.launch import default_config, launch_stage

    return launch_recipe(default_config("recipes/default.yaml"), rest) if stage == RECIPE else launch_stage(stage, rest)


def _train_in_processes(count: int, words: list[str]) -> int:
    """One process for each part of the batch; a signal is handed to all of them once, so that each saves."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    command = [sys.executable, "-m", "latentsr.apps.cli", "train", *words]
    workers = [
        subprocess.Popen(
            command, env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}, start_new_session=True,
            stdout=subprocess.DEVNULL if rank else None,
        )
        for rank in range(count)
    ]  # fmt: skip

    def forward(number: int, frame: object) -> None:
        for worker in workers:
            worker.send_signal(number)

    for number in FORWARDED:
        signal.signal(number, forward)
    left = None  # when the first one failed or stopped
    while any(worker.poll() is None for worker in workers):
        time.sleep(0.1)
        if left is None and any(worker.returncode for worker in workers):
            left = time.monotonic()
        if left is not None and time.monotonic() - left > GRACE_S:
            for worker in workers:
                worker.kill()
    codes = [worker.returncode for worker in workers]
    return 1 if 1 in codes or min(codes) < 0 else max(codes)
