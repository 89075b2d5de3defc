"""Runs commands in processes that have imported torch already, which takes longer than most commands of the tests.

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
from importlib import import_module
from pathlib import Path

PRELUDE = "WARM_PRELUDE"  # of the environment: a module beside this file, whose `adapt(words)` is called before


def warm_up() -> None:
    """Import what most commands import, once for all. Nothing is computed: threads would not survive a fork."""
    import latentsr.apps.batch.command
    import latentsr.apps.evaluate
    import latentsr.apps.loading
    import latentsr.apps.restore
    import latentsr.evaluation.benchmark
    import latentsr.pipeline
    import latentsr.training.driver  # noqa: F401


def main(address: str) -> None:
    sys.path.append(str(Path(__file__).resolve().parent))
    warm_up()
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
    connection.send(os.getpid().to_bytes(8, "big"))
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


def run(*words: str) -> int:
    if PRELUDE in os.environ:
        words = tuple(import_module(os.environ[PRELUDE]).adapt(list(words)))
    if words[0] == "latentsr":
        from latentsr.apps.cli import main as cli

        sys.argv = list(words)
        cli()
        return 0
    if words[0] == "accelerate":  # `accelerate launch SCRIPT WORDS`, in one process
        assert words[1] == "launch", words
        words = ("python", *words[2:])
    return python(*words[1:])


def python(*words: str) -> int:
    """`python -c CODE`, `python -` (from stdin), `python -m MODULE` or `python SCRIPT`, each with its words."""
    if words[0] in ("-c", "-"):
        code, rest = (words[1], words[2:]) if words[0] == "-c" else (sys.stdin.read(), words[1:])
        sys.argv = [words[0], *rest]
        exec(compile(code, words[0], "exec"), {"__name__": "__main__"})
    elif words[0] == "-m":
        sys.argv = list(words[1:])
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = list(words)
        sys.path.insert(0, str(Path(words[0]).resolve().parent))
        runpy.run_path(words[0], run_name="__main__")
    return 0


if __name__ == "__main__":
    main(sys.argv[1])
