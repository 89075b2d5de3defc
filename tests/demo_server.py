"""`latentsr demo` in a process of its own, with a temporary folder that can be looked into."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

PATIENCE_S = 240.0


@dataclass
class Demo:
    """A server that runs."""

    process: subprocess.Popen[bytes]
    temporary: Path
    url: str = ""
    said: list[str] = field(default_factory=list)

    @property
    def files(self) -> list[Path]:
        """The folders of uploads and results, without the examples."""
        found = self.temporary.glob("latentsr-demo-*/files/*")
        return [path for path in found if path.name != "examples"]

    def until(self, condition, what: str):
        """Wait for something to become true, and return it."""
        end = time.monotonic() + PATIENCE_S
        while not (value := condition()):
            assert time.monotonic() < end, f"{what}; the server said: {self.said}"
            assert self.process.poll() is None, f"the server ended: {self.said}"
            time.sleep(0.05)
        return value

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(60)


@contextmanager
def running(temporary: Path, *words: str) -> Iterator[Demo]:
    """A server with these words on its command line."""
    command = [sys.executable, "-m", "latentsr", "demo", "--port", "0", "--device", "cpu", *words]
    surroundings = {**os.environ, "TMPDIR": str(temporary)}
    process = subprocess.Popen(command, env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    demo = Demo(process, temporary)
    reader = threading.Thread(target=_read, args=(demo,), daemon=True)
    reader.start()
    try:
        line = demo.until(lambda: next((line for line in demo.said if " on http" in line), None), "no address")
        demo.url = next(word for word in line.split() if word.startswith("http"))
        yield demo
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def processes_of(pid: int) -> list[int]:
    """Children of a process, and theirs."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = path.read_text().rpartition(")")
        except OSError:
            continue
        if int(rest.split()[1]) == pid:
            child = int(name.split(" ", 1)[0])
            found += [child, *processes_of(child)]
    return found


def _read(demo: Demo) -> None:
    assert demo.process.stdout is not None
    for line in demo.process.stdout:
        demo.said.append(line.decode(errors="replace").rstrip())
