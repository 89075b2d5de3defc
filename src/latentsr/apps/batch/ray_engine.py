"""Ray Data: a pool of actors with a model each, on this machine or on all of a cluster.

Paths travel, never samples: SRC and DEST have to be the same folders on every node. Actors keep the journal
themselves, so that a task which Ray runs again after a kill passes over what is done.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import socket
import sys
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from latentsr.apps.batch.engine import Event, Replaced
from latentsr.apps.batch.journal import ENDS, BatchError, Journal
from latentsr.apps.batch.plan import Item
from latentsr.apps.batch.worker import Outcome, Setup, Worker, outcome_of
from latentsr.apps.restore import UsageError, one_line
from latentsr.signal import audio
from latentsr.signal.audio import AudioError

PATIENCE_S = 5.0  # with tasks that are at work when a batch ends before its end
POLL_S = 0.5  # how often the journal is read for what the actors have done
PROBED_AT_ONCE = 128  # files, in one task
GROUPS_PER_WORKER = 8  # few enough to cost nothing, enough for a fast worker to take from a slow one
LONGEST_GROUP_S, MOST_IN_GROUP = 3_600.0, 64
SLOWEST_BYTES_PER_S = 500.0  # no codec goes lower: a declared duration beyond that is a lie


def run(setup: Setup, items: Sequence[Item], workers: int | None, address: str | None) -> Generator[Event, None, None]:
    """The engine `ray`; `address` is that of a cluster, None starts one of this machine alone."""
    setup = replace(setup, alarm=True)
    items = [replace(item, source=Path(os.path.abspath(item.source))) for item in items]  # noqa: PTH100 - keeps links
    with _cluster(workers, address) as ray:
        workers, share = _pool(ray, setup, workers)
        groups = grouped(items, _durations(ray, items), workers)
        rows: queue.Queue[Any] = queue.Queue()
        over = threading.Event()
        thread = threading.Thread(target=_work, args=(setup, groups, workers, share, rows, over), daemon=True)
        thread.start()
        try:
            yield from _outcomes(setup, items, rows)
        finally:
            over.set()
            thread.join(PATIENCE_S)  # a thread that talks to Ray after its shutdown ends the whole process, silently
            ray.shutdown()  # which ends the thread where it waits for a long task
            thread.join(10.0)


def grouped(items: Sequence[Item], seconds: Sequence[float], workers: int) -> list[list[Item]]:
    """Items in groups of about equal seconds of audio, the longest first; a long recording is a group of its own."""
    limit = min(LONGEST_GROUP_S, sum(seconds) / (workers * GROUPS_PER_WORKER))
    groups: list[list[Item]] = []
    filled = 0.0
    for duration_s, item in sorted(zip(seconds, items, strict=True), key=lambda pair: (-pair[0], pair[1].name)):
        if not groups or filled + duration_s > limit or len(groups[-1]) >= MOST_IN_GROUP:
            groups.append([])
            filled = 0.0
        groups[-1].append(item)
        filled += duration_s
    return groups


class Actor:
    """A worker as Ray Data calls it: a group of items in, their outcomes out, as JSON."""

    def __init__(self, setup: Setup) -> None:
        self.error: str | None = None
        try:
            self.worker = Worker(setup)
        except Exception as error:  # Ray would wrap it in pages of its own, and start the actor again for ever
            self.error = one_line(error)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """The rows of a batch: each is a group of items, and becomes a list of outcomes."""
        return {"outcomes": [self._group(str(text)) for text in batch["items"]]}

    def _group(self, text: str) -> str:
        if self.error is not None:
            return json.dumps({"broken": self.error})
        try:
            items = [Item(**{**fields, "source": Path(fields["source"])}) for fields in json.loads(text)]
            return json.dumps([asdict(self.worker(item)) for item in items])
        except BatchError as error:
            return json.dumps({"broken": one_line(error)})


def _pool(ray: Any, setup: Setup, workers: int | None) -> tuple[int, dict[str, Any]]:
    """How many actors, and what of the cluster each takes: no more than there is, or Ray would wait for it."""
    there = ray.cluster_resources()
    if there.get("GPU", 0) and getattr(setup.loader, "device", None) != "cpu":
        most, share = int(there["GPU"]), {"num_cpus": 0, "num_gpus": 1}
    else:
        most, share = int(there.get("CPU", 1)) // setup.threads, {"num_cpus": setup.threads}
    return max(1, min(workers or most, most)), share


def _work(
    setup: Setup,
    groups: list[list[Item]],
    workers: int,
    share: dict[str, Any],
    rows: queue.Queue[Any],
    over: threading.Event,
) -> None:
    """Run all groups, in a thread; what comes of them goes into `rows`, and then what it ended with.

    Where it is over before, the thread leaves at the next row, and ends Ray Data's own threads as it does.
    """
    import ray
    from ray.data import ActorPoolStrategy

    try:
        texts = [{"items": json.dumps([_fields(item) for item in group])} for group in groups]
        data = ray.data.from_items(texts, override_num_blocks=len(texts)).map_batches(
            Actor,
            fn_constructor_args=(setup,),
            batch_size=1,
            compute=ActorPoolStrategy(size=min(workers, len(texts)), max_tasks_in_flight_per_actor=1),
            **share,
        )
        generator: Any = iter(data.iter_rows())
        with closing(generator) as made:
            for row in made:
                if over.is_set():
                    return
                rows.put(json.loads(row["outcomes"]))
        rows.put(None)
    except Exception as error:
        rows.put({"broken": f"Ray gave up: {_last_line(error)}"})


def _outcomes(setup: Setup, items: Sequence[Item], rows: queue.Queue[Any]) -> Iterator[Event]:
    """Each outcome once: from the journal as soon as it is written there, else with its group."""
    journal, open_names = Journal(setup.dest, setup.run), {item.name for item in items}
    begun: set[str] = set()
    while True:
        try:
            row = rows.get(timeout=POLL_S)
        except queue.Empty:
            row = []
        if isinstance(row, dict):
            raise BatchError(row["broken"])
        for entry in journal.refresh():
            if entry["run"] != setup.run or entry.get("file") not in open_names:
                continue
            if entry["event"] == "start":
                if entry["file"] in begun:
                    yield Replaced(f"the worker of {entry['file']} was lost")
                begun.add(entry["file"])
            elif entry["event"] in ENDS:
                open_names.remove(entry["file"])
                yield outcome_of(entry)
        for fields in row or []:
            if fields["name"] in open_names:
                open_names.remove(fields["name"])
                yield Outcome(**fields)
        if row is None:
            break
    if open_names:
        raise BatchError(f"Ray lost {len(open_names)} files, the first {min(open_names)}; add --resume for them")


def _durations(ray: Any, items: Sequence[Item]) -> list[float]:
    """Seconds that recordings claim to hold, asked for in tasks, which may die of them; then their size has to do."""
    probing = ray.remote(max_retries=0, num_cpus=1)(_claimed)
    chunks = [items[start : start + PROBED_AT_ONCE] for start in range(0, len(items), PROBED_AT_ONCE)]
    asked = [probing.remote([str(item.source) for item in chunk]) for chunk in chunks]
    seconds: list[float] = []
    for chunk, reference in zip(chunks, asked, strict=True):
        try:
            claims = ray.get(reference)
        except ray.exceptions.RayError:
            claims = [None] * len(chunk)
        for item, claim in zip(chunk, claims, strict=True):
            most = item.size / SLOWEST_BYTES_PER_S
            seconds.append(most / 100 if claim is None else min(claim, most))
    return seconds


def _claimed(paths: list[str]) -> list[float | None]:
    return [_claim(path) for path in paths]


def _claim(path: str) -> float | None:
    try:
        info = audio.probe(path)
    except (AudioError, OSError, ValueError, RuntimeError):
        return 0.0  # it will fail as fast again
    return None if info.frames is None else info.frames / info.sample_rate


@contextmanager
def _cluster(workers: int | None, address: str | None) -> Iterator[Any]:
    """A connection to a cluster, without Ray's own messages, figures for its makers, and dashboard."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"  # or a thread that is still at it would start Ray again
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what its C++ side says of each actor
    try:
        import ray
    except ImportError:
        remedy = "pip install 'latentsr[ray]', or take --engine local"
        raise UsageError(f"--engine ray needs the extra ray; {remedy}") from None
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL, "configure_logging": True}
    if address is None:
        cores = max(
            workers or 1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        )
        quiet.update(include_dashboard=False, num_cpus=max(workers or 1, cores))
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        try:
            if address is not None:
                _check_reachable(address)
            with _silent():
                ray.init(address=address, **quiet)
        except (OSError, RuntimeError, ValueError) as error:
            hint = "" if address is None else "; one that was started with a token needs RAY_AUTH_MODE=token"
            where = "start Ray here" if address is None else f"reach a Ray cluster at {address}"
            raise BatchError(f"cannot {where}: {_last_line(error)}{hint}") from None
        for number, handler in before.items():  # Ray puts handlers of its own there
            signal.signal(number, handler)
        _hush()
        yield ray
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Raise `OSError` where nobody answers: Ray itself would go on asking for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10.0).close()


@contextmanager
def _silent() -> Iterator[None]:
    """Without what Ray's C++ side prints while it connects; `LATENTSR_DEBUG` lets it."""
    if os.environ.get("LATENTSR_DEBUG"):
        yield
        return
    sys.stderr.flush()
    before, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nowhere)


def _hush() -> None:
    from ray.data import DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _fields(item: Item) -> dict[str, Any]:
    return {**asdict(item), "source": str(item.source)}


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[-1]
