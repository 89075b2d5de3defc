"""What the commands print: one line for every failure, and progress in seconds of audio."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from latentsr.errors import reason_of
from latentsr.restoring.progress import SHAPE

FAILED, USAGE, SOME_FAILED, INTERRUPTED = 1, 2, 3, 130


def warn(text: str) -> None:
    """One line on stderr."""
    line = f"latentsr: {' '.join(text.split())}"
    print(printable(line, getattr(sys.stderr, "encoding", None)), file=sys.stderr, flush=True)


def fail(text: str, code: int) -> NoReturn:
    """One line on stderr, and the end."""
    warn(text)
    sys.exit(code)


def printable(text: str, encoding: str | None) -> str:
    """`text` with what this terminal cannot show escaped; file names need not be valid UTF-8."""
    known = os.fsencode(text).decode("utf-8", "backslashreplace")
    return known.encode(encoding or "ascii", "backslashreplace").decode(encoding or "ascii")


def make_folder(folder: Path) -> None:
    """Make a folder for outputs, or end with one line."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(f"cannot make the folder {folder}: {reason_of(error)}; choose another one", FAILED)


@contextmanager
def progress_bar(name: str) -> Iterator[Callable[[float, float], None]]:
    """A bar in seconds of audio on stderr, with the real-time factor and the time left."""
    from tqdm import tqdm  # type: ignore[import-untyped, unused-ignore]

    label = printable(name, getattr(sys.stderr, "encoding", None))
    bars: list[Any] = []

    def progress(done_s: float, total_s: float) -> None:
        if not bars:  # nothing is drawn for a file that fails before its first sample
            bars.append(tqdm(total=total_s, desc=label, bar_format=SHAPE, **bar_manners()))
        bar = bars[0]
        if done_s > bar.n:
            bar.set_postfix_str(f"real-time factor {bar.format_dict['elapsed'] / done_s:.2f}", refresh=False)
            bar.n = min(done_s, total_s)  # steps that add up may pass the end by a rounding, of which tqdm warns
            bar.update(0)

    try:
        yield progress
    finally:
        for bar in bars:
            bar.close()


def bar_manners() -> dict[str, Any]:
    """A terminal sees a bar move and sees it go; a log file gets a line every ten seconds and the last one."""
    terminal = sys.stderr.isatty()
    return {"mininterval": 0.1 if terminal else 10.0, "leave": not terminal, "file": sys.stderr}
