"""What the page's buttons do, without a word of how it looks: uploads looked at, orders checked, jobs followed."""

from __future__ import annotations

import math
import shutil
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from latentsr.apps.web.look import Seen, WrongFileError, hear_from_outside, look_from_outside
from latentsr.apps.web.store import Store
from latentsr.apps.web.supervisor import Engine, Job, QueueFullError
from latentsr.apps.web.work import BAND, Order
from latentsr.errors import UsageError
from latentsr.options import Options, choice_of

MOST_STEPS = 100
MOST_PERCENT = 200
MOST_TILT = choice_of("tilt").high or 0
HIGHEST_CUTOFF_HZ = round(choice_of("cutoff_hz").high or 0)
MOST_LOOKS = 4  # at uploads, at once
SOURCE = ".source"  # in a result's folder: what it was made of
LOOK_S = 0.1  # between two looks at a job
NAME_LENGTH = 80


@dataclass(frozen=True)
class Limits:
    """What a visitor may ask for."""

    max_mb: float = 50.0
    max_seconds: float = 300.0
    queue: int = 8
    time_limit_s: float = 300.0


class WrongOrderError(ValueError):
    """Something is asked for that there is not; the message is one sentence for the page."""


@dataclass(frozen=True)
class Form:
    """The fields of the page, as they come. An empty or zero field leaves the choice to the model."""

    head: Any
    steps: Any = None
    seed: Any = 0
    denoise: Any = False
    cutoff_hz: Any = None
    mend: Any = False
    repair: Any = False
    amount: Any = 100
    tilt: Any = 0

    def choices(self, heads: Collection[str]) -> dict[str, Any]:
        """The words of an order; raises `WrongOrderError`."""
        if self.head not in heads:
            raise WrongOrderError(f"There is no such head; choose one of {', '.join(heads)}")
        if not 0 <= (steps := _number(self.steps, "steps")) <= MOST_STEPS:
            raise WrongOrderError(f"Steps are 1 to {MOST_STEPS}; 0 takes the model's own")
        return _valid({
            "head": self.head, "steps": _whole(steps) or None, "seed": _whole(_number(self.seed, "seed")),
            "denoise": bool(self.denoise), "cutoff_hz": _number(self.cutoff_hz, "cutoff") or None,
            "salvage": bool(self.mend), "on_nonfinite": "zero" if self.mend else "error", "repair": bool(self.repair),
            **_gains(self.amount, self.tilt),
        })  # fmt: skip


class Desk:
    """Takes uploads and orders of many visitors; each gets its own back. `heads`: those of the model."""

    def __init__(self, engine: Engine, store: Store, limits: Limits, heads: list[str]) -> None:
        self.engine, self.store, self.limits, self.heads = engine, store, limits, heads
        self._jobs: dict[str, Job] = {}  # of a session
        self._done: dict[str, Job] = {}  # the last of a session that has a result

    def look(self, session: str, upload: str, mend: bool = False) -> Seen:
        """What an upload is; raises `WrongFileError`."""
        path = Path(upload)
        self.store.claim(session, path)
        name = shown_name(path)
        self._check_size(path, name)
        return look_from_outside(path, name, self.limits.max_seconds, mend)

    def hear(self, upload: str, mend: bool = False) -> dict[str, Any] | None:
        """What there is to know of an upload that was looked at; None where it cannot be said."""
        return hear_from_outside(Path(upload), mend)

    def submit(self, session: str, upload: str, **words: Any) -> Job:
        """Put an order into the queue, of a session that has none there; `words` are those of `Form`.

        Raises:
            WrongFileError: not that file.
            WrongOrderError: not like that.
            QueueFullError: not now.
        """
        path = Path(upload)
        name = shown_name(path)
        self.store.claim(session, path)
        self._check_size(path, name)
        if (job := self._jobs.get(session)) is not None and not job.ended.is_set():
            raise WrongOrderError("Your last recording is still being worked on; wait for it, or stop it")
        checked = Form(**words).choices(self.heads)
        folder = self.store.new_folder(session)
        try:
            source = folder / SOURCE
            shutil.copyfile(path, source)  # the upload may go or be replaced; this stays
            order = Order(str(source), name, str(folder), self.limits.max_seconds, checked)
            self._jobs[session] = job = self.engine.submit(order)
        except (OSError, QueueFullError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, OSError):
                raise WrongFileError(f"{name} is no longer here; choose it again") from None
            raise
        return job

    def adjust(self, session: str, amount: Any, tilt: Any) -> Job | None:
        """Other gains for what a session had restored last; None where there is nothing, or it is at work.

        The head runs again only where its band was not kept. Raises `WrongOrderError`, `QueueFullError`.
        """
        last = self._jobs.get(session)
        if last is not None and last.result is not None:
            self._done[session] = last
        done = self._done.get(session)
        if done is None or last is None or not last.ended.is_set() or not Path(done.order.folder).exists():
            return None
        made = Path(done.order.folder)
        choices = _valid(done.order.choices | _gains(amount, tilt))
        folder = self.store.new_folder(session, keep=made)
        try:
            source = folder / SOURCE
            shutil.copyfile(made / SOURCE, source)
            kept = str(made) if (made / BAND).exists() else None
            order = replace(done.order, source=str(source), folder=str(folder), choices=choices, made=kept)
            self._jobs[session] = job = self.engine.submit(order)
        except (OSError, QueueFullError):
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return job

    def follow(self, job: Job) -> Iterator[tuple[int, str, float]]:
        """(how many are before it, what is done, fraction), when that changes and once a second, until it has ended.

        Closing the iterator before its end stops the job.
        """
        last, told = None, 0.0
        try:
            while not job.ended.wait(LOOK_S):
                now = (0 if job.what else self.engine.ahead(job), job.what, job.fraction)
                if now != last or time.monotonic() - told > 1.0:  # a lost connection is noticed when something is sent
                    yield now
                    last, told = now, time.monotonic()
        finally:
            job.stop.set()

    def stop(self, session: str) -> None:
        """End what a session has at work or in the queue."""
        if (job := self._jobs.get(session)) is not None:
            job.stop.set()

    def leave(self, session: str) -> None:
        """A page was closed: nothing of it stays."""
        job = self._jobs.pop(session, None)
        self._done.pop(session, None)
        if job is not None:
            job.stop.set()
            job.ended.wait(30.0)  # or its folder would be removed under its hands
        self.store.forget(session)

    def _check_size(self, path: Path, name: str) -> None:
        with suppress(OSError):
            if path.stat().st_size > self.limits.max_mb * 1e6:
                raise WrongFileError(f"{name} is larger than {self.limits.max_mb:g} MB; cut it, or save it as FLAC")


def outcome(job: Job, url: str) -> dict[str, Any]:
    """What became of a job, for programs."""
    if job.result is None:
        return {"error": job.error or "stopped"}
    return {**asdict(job.result), "download": f"{url}/{job.result.name}", "before": f"{url}/before.flac",
            "after": f"{url}/after.flac"}  # fmt: skip


def shown_name(path: Path) -> str:
    """The name of an upload, short enough for a sentence and for a file system."""
    stem = path.stem if len(path.name) <= NAME_LENGTH else f"{path.stem[: NAME_LENGTH - len(path.suffix[:10]) - 1]}…"
    return f"{stem}{path.suffix[:10]}"


def _gains(amount: Any, tilt: Any) -> dict[str, Any]:
    """Of the made band; an empty amount is all of it."""
    share = _number(100 if amount is None else amount, "amount") / 100
    return {"amount": share, "tilt": _number(tilt, "tilt") if share else 0.0}  # nothing has no tilt


def _valid(choices: dict[str, Any]) -> dict[str, Any]:
    """The same, when `Options` takes it."""
    try:
        Options(**choices)
    except UsageError as error:
        text = str(error)
        raise WrongOrderError(text[0].upper() + text[1:]) from None
    return choices


def _number(value: Any, what: str) -> float:
    try:
        number = float(value or 0)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise WrongOrderError(f"The {what} must be a number")
    return number


def _whole(number: float) -> Any:
    """A whole number as an integer; another stays, and `Options` refuses it."""
    return int(number) if number % 1 == 0 else number


def tidy_for_ever(store: Store, until: threading.Event) -> None:
    """Every minute, what nobody came back for is removed."""
    while not until.wait(60.0):
        store.tidy()
