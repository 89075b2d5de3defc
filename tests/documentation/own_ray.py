"""`ray` as the blocks of a page find it: `stop` ends what they started, where Ray's own ends all of the machine."""

import os
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path

MARK = "RAY_TMPDIR"  # a folder of the page's own, which Ray hands on to all its processes


def stop() -> None:
    """Kill whatever bears the mark of this page, but this and the shell that waits for it; take its folder away."""
    mark = f"{MARK}={os.environ[MARK]}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if int(process.name) not in (os.getpid(), os.getppid()) and mark in (process / "environ").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)
    shutil.rmtree(os.environ[MARK], ignore_errors=True)


if __name__ == "__main__":
    if sys.argv[1] == "stop":
        stop()
    else:
        real = Path(sys.executable).with_name("ray")
        os.execv(real, [str(real), *sys.argv[1:]])
