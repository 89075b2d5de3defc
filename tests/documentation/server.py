"""Runs commands in processes that have imported torch already, which takes longer than most commands of the pages.

A client connects, sends its words, folder and environment with its stdin, stdout and stderr, and gets the exit code.
What runs is what `latentsr`, `python` or `accelerate launch` would: the same entry points, in processes of their own.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import socket
import sys
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
SMALL = ["steps=2", "batch_size=2", "frames=48", "validation_examples=1", "save_every=100", "validate_every=100"]
TINY = {  # what a script trains where a page names no config: the same stage in thousands of parameters
    "train.py": "recipes/tiny.yaml",
    "train_vae.py": "tiny/vae.yaml",
    "train_ldm.py": "tiny/ldm.yaml",
    "train_hifigan.py": "tiny/vocoder.yaml",
    "train_mamba_gan.py": "tiny/mamba_gan.yaml",
    "train_diffwave_mamba.py": "tiny/diffwave_mamba.yaml",
}


def main(address: str) -> None:
    sys.path.insert(0, str(HERE))
    sys.path.append(str(HERE.parent))
    import offline

    offline.warm_up()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are not waited for
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        while True:
            connection, _ = listener.accept()
            message, streams, _, _ = socket.recv_fds(connection, 1 << 20, 3)
            if os.fork() == 0:
                listener.close()
                serve(connection, json.loads(message), streams)
            connection.close()
            for stream in streams:
                os.close(stream)


def serve(connection: socket.socket, asked: dict, streams: list[int]) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    for stream in streams:
        os.close(stream)
    code = 1
    try:
        os.chdir(asked["folder"])
        os.environ.clear()
        os.environ.update(asked["environment"])
        code = run(*asked["words"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        connection.send(bytes([code]))
        os._exit(code)


def run(program: str, *words: str) -> int:
    import offline

    offline.patch()
    if program == "latentsr":
        from latentsr.apps.cli import main as cli

        sys.argv = ["latentsr", *words]
        cli()
        return 0
    if program == "accelerate":  # `accelerate launch SCRIPT WORDS`, one process
        assert words[0] == "launch", words
        words = tuple(words[1:])
    return python(*words)


def python(*words: str) -> int:
    """`python -c CODE`, `python -m MODULE` or `python SCRIPT`, each with its words."""
    if words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        exec(compile(words[1], "-c", "exec"), {"__name__": "__main__"})
        return 0
    if words[0] == "-m":
        sys.argv = list(words[1:])
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        return 0
    script = Path(words[0])
    sys.argv = [str(script), *(small(script, list(words[1:])) if script.name in TINY else words[1:])]
    sys.path.insert(0, str(script.resolve().parent))
    runpy.run_path(str(script), run_name="__main__")
    return 0


def small(script: Path, words: list[str]) -> list[str]:
    """A training command with its own words, in seconds: two steps, and tiny networks where it trains from nothing."""
    if "--help" in words:
        return words
    shrunk = [word for word in words if word.split("=")[0] not in {item.split("=")[0] for item in SMALL}]
    if any(word.startswith("initial_weights=") for word in words):  # their sizes are given
        return [*shrunk, *SMALL, "batch_size=1"]
    if "--config" in shrunk:
        at = shrunk.index("--config") + 1
        known = Path("configs/tiny", Path(shrunk[at]).name)
        if shrunk[at].startswith("configs/"):
            assert Path(shrunk[at]).is_file(), shrunk[at]
            shrunk[at] = str(known) if known.is_file() else f"configs/{TINY[script.name]}"
        return [*shrunk, *SMALL]
    return ["--config", f"configs/{TINY[script.name]}", *shrunk, *SMALL]


if __name__ == "__main__":
    main(sys.argv[1])
