"""What every engine runs: one pipeline, and files restored with it one after another, each at most once."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from latentsr import __version__, audio
from latentsr.apps.batch.journal import BatchError, Identity, Journal, identity
from latentsr.apps.batch.locks import share_workers_lock
from latentsr.apps.batch.plan import Item, native
from latentsr.apps.restore import FILE_ERRORS, Job, one_line, preflight, restore_file
from latentsr.audio import AudioError, EmptyAudio
from latentsr.audio.decoders import open_regular
from latentsr.errors import reason_of
from latentsr.options import Options
from latentsr.wholefiles import sha256_of

FULL = (errno.ENOSPC, errno.EDQUOT)
NO_MATTER = ("overwrite", "salvage", "on_nonfinite")  # options under which what is done stays done
LONGER = "give it more with --timeout, and --resume"  # the next step when the time is over
ALONE = "restore it alone to see of what (latentsr restore), or leave it out"  # the next step behind a dead worker
Progress = Callable[[float, float], None]  # (seconds done, seconds in all)


class TakenOverError(BatchError):
    """Another run has begun in the same DEST; this worker is a leftover and must stop."""


class Loads(Protocol):
    """Makes a pipeline, and says by a hash what its results depend on; can be sent to another process."""

    def __call__(self) -> Any: ...

    def key(self) -> str: ...


@dataclass(frozen=True)
class Setup:
    """What every worker of a run is told."""

    dest: Path  # absolute
    run: str
    options: Options
    loader: Loads
    tries: int = 2  # of a file whose worker died
    timeout_s: float | None = None  # per file and try
    threads: int = 1
    gpus: tuple[str, ...] = ()  # that workers of this machine take in turn
    alarm: bool = False  # whether a worker has to watch the time itself, because nobody else can kill it


@dataclass(frozen=True)
class Outcome:
    """What became of one file. `status`: done, kept (done before), skipped (nothing in it), failed."""

    name: str
    status: str
    record: dict[str, Any] = dataclasses.field(default_factory=dict)
    error: str | None = None


class Worker:
    """Restores items of a batch; the same in every engine."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self._lock = share_workers_lock(setup.dest)  # held for life: the next run waits until it is free
        self.journal = Journal(setup.dest, setup.run)
        try:
            self.pipe = setup.loader()
            self._context = _context_hash(setup.options, setup.loader.key())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let the next run begin."""
        os.close(self._lock)

    def __call__(self, item: Item, progress: Progress | None = None) -> Outcome:
        """Restore a recording unless that is done; bad media is an outcome, not an error.

        Raises:
            JournalError: nothing can be written down any more.
            TakenOverError: another run works here.
        """
        self.journal.refresh()
        if self.journal.latest_run not in (None, self.setup.run):
            raise TakenOverError(f"another run has begun in {self.setup.dest}")
        key = None
        try:
            key = _key(item.source, self._context)
            known = self._known(item, key)
            return known if known is not None else self._restore(item, key, progress)
        except BatchError:
            raise
        except FILE_ERRORS as error:
            return self._end(item, key, one_line(error, item.source), type(error).__name__)

    def _known(self, item: Item, key: str) -> Outcome | None:
        """What the journal, and what lies in DEST, say of it; None where it has to be restored."""
        history = self.journal.histories[item.name]
        last, begun = history.last, history.begun
        if last is not None and last.get("key") == key:
            if last["event"] == "done" and _is_file(self._output(last["output"])):
                return Outcome(item.name, "done" if last["run"] == self.setup.run else "kept", last["record"])
            if last["event"] != "done" and last["run"] == self.setup.run:
                return outcome_of(last)
        if begun is not None and begun["key"] == key and self._appeared(begun):
            return self._done(item, key, begun["output"], _described(item.source, self._output(begun["output"])))
        if history.tries >= self.setup.tries:
            return self._end(item, key, f"{item.source}: its worker died {history.tries} times over; {ALONE}")
        return None

    def _restore(self, item: Item, key: str, progress: Progress | None) -> Outcome:
        target = self._output(item.target)
        before = identity(target)
        ours = before is not None and self._is_ours(item, before)
        options = dataclasses.replace(self.setup.options, overwrite=self.setup.options.overwrite or ours)
        # Before the first decoder looks at it: a file that kills its worker must not be tried for ever.
        self.journal.append("start", item.name, key=key, output=item.target, replaces=before, worker=_who())
        with alarm(self.setup.timeout_s if self.setup.alarm else None):
            _make_folders(target.parent, self.setup.dest)
            source = preflight(Job(item.source, target), options)
            record = restore_file(self.pipe, source, target, options, progress)
        if record.error is not None:
            return self._end(item, key, record.error, record.error_type)
        return self._done(item, key, item.target, record.to_dict())

    def _done(self, item: Item, key: str, output: str, record: dict[str, Any]) -> Outcome:
        found = identity(self._output(output))
        return outcome_of(self.journal.append("done", item.name, key=key, output=output, identity=found, record=record))

    def _end(self, item: Item, key: str | None, error: str, error_type: str | None = None) -> Outcome:
        if any(os.strerror(number).lower() in error for number in FULL):  # not the fault of this file
            raise BatchError(f"{error}; then --resume goes on")
        event = "skipped" if error_type == EmptyAudio.__name__ else "failed"
        last = self.journal.histories[item.name].last
        if last is not None and (last["run"], last["event"], last.get("error")) == (self.setup.run, event, error):
            return outcome_of(last)
        return outcome_of(self.journal.append(event, item.name, key=key, error=error))

    def _appeared(self, begun: dict[str, Any]) -> bool:
        """Whether the output of a start without an end is there: the worker was killed behind the rename."""
        output = self._output(begun["output"])
        now, before = identity(output), begun.get("replaces")
        return now is not None and list(now) != before and _is_file(output) and _opens(output)

    def _is_ours(self, item: Item, now: Identity) -> bool:
        """Whether what lies where the output goes was made by this batch, and left alone since."""
        begun = self.journal.histories[item.name].begun
        if begun is not None and begun["output"] == item.target and list(now) != begun.get("replaces"):
            return True
        return self.journal.made.get(item.target) == now

    def _output(self, target: str) -> Path:
        path = self.setup.dest / native(target)
        if not path.is_relative_to(self.setup.dest) or ".." in path.parts:
            raise AudioError(f"the output {target} leads out of {self.setup.dest}; nothing is written there")
        return path


def outcome_of(entry: dict[str, Any]) -> Outcome:
    """What an entry of the journal, one of `ENDS`, says of its file."""
    return Outcome(entry["file"], entry["event"], entry.get("record", {}), entry.get("error"))


def _key(source: Path, context: str) -> str:
    """Hash of what a recording holds and of all that its result depends on."""
    with open_regular(source) as file:
        return sha256_of(file, context.encode())


def _context_hash(options: Options, model: str) -> str:
    """Of the options that matter, of the model, and of the version but its patch level, which keeps the sound.

    What is done without `salvage` and `on_nonfinite` had no need of them: adding one repeats nothing.
    """
    words = {name: value for name, value in dataclasses.asdict(options).items() if name not in NO_MATTER}
    version = ".".join(__version__.split(".")[:2])
    return hashlib.sha256(json.dumps([words, model, version], sort_keys=True).encode()).hexdigest()


def _described(source: Path, output: Path) -> dict[str, Any]:
    """The record of an output whose own was lost with its worker."""
    info = audio.probe(output)
    duration_s = None if info.frames is None else round(info.frames / info.sample_rate, 6)
    known = {
        "sample_rate": info.sample_rate,
        "channels": info.channels,
        "samples": info.frames,
        "subtype": info.subtype,
    }
    there = {key: value for key, value in {"duration_s": duration_s, **known}.items() if value is not None}
    return {"input": str(source), "output": str(output), **there}


def _opens(path: Path) -> bool:
    try:
        audio.probe(path)
    except AudioError:
        return False
    return True


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _make_folders(folder: Path, dest: Path) -> None:
    """Make the folders between DEST and an output; refuse those that lead elsewhere over a link."""
    for part in (*reversed(folder.relative_to(dest).parents), folder.relative_to(dest)):
        if (dest / part).is_symlink() and part.parts:
            raise AudioError(f"{dest / part} is a symbolic link; outputs stay within {dest}: remove it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AudioError(f"cannot make the folder {folder}: {reason_of(error)}") from None


@contextmanager
def alarm(seconds: float | None, handler: Callable[..., Any] | None = None) -> Iterator[None]:
    """SIGALRM when the block takes longer: `handler`, else the system's end of a process, whatever it is busy with."""
    if seconds is None or not hasattr(signal, "SIGALRM"):  # Windows: the local engine ends a worker from outside
        yield
        return
    before = None if handler is None else signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        if handler is not None:
            signal.signal(signal.SIGALRM, before)


def _who() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"
