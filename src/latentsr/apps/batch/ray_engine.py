"""Ray Data: a pool of actors with a model each, on this machine or on all of a cluster.

Paths travel, never samples: SRC and DEST have to be the same folders on every node. Actors keep the journal
themselves, so that a task which Ray runs again after a kill passes over what is done.

Ray ends a process that it has lost its footing in at once, without a word. So all that talks to it is in a process of
its own, the driver. Nothing depends on how that ends once it has said that all is over.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from latentsr import audio
from latentsr.apps.batch.journal import ENDS, BatchError, Journal
from latentsr.apps.batch.locks import workers_end
from latentsr.apps.batch.plan import Item
from latentsr.apps.batch.protocol import Event, Replaced
from latentsr.apps.batch.worker import Outcome, Setup, Worker, outcome_of
from latentsr.apps.children import BrokenError, Child, GoneError, say
from latentsr.apps.loading import cores
from latentsr.apps.restore import one_line
from latentsr.audio import AudioError
from latentsr.errors import UsageError

START_S = 240.0  # for a cluster to come up, or to answer: minutes on a busy machine
PATIENCE_S = 15.0  # with the driver, which ends the cluster that it started, and then with actors
POLL_S = 0.5  # how often the journal is read for what the actors have done
PROBED_AT_ONCE = 128  # files, in one task
GROUPS_PER_WORKER = 8  # few enough to cost nothing, enough for a fast worker to take from a slow one
LONGEST_GROUP_S, MOST_IN_GROUP = 3_600.0, 64
SLOWEST_BYTES_PER_S = 500.0  # no codec goes lower: a declared duration beyond that is a lie


def run(setup: Setup, items: Sequence[Item], workers: int | None, address: str | None) -> Generator[Event, None, None]:
    """The engine `ray`; `address` is that of a cluster, None starts one of this machine alone."""
    if find_spec("ray") is None:
        raise UsageError("--engine ray needs the extra ray; pip install 'latentsr[ray]', or take --engine local")
    setup = replace(setup, alarm=True)
    items = [replace(item, source=Path(os.path.abspath(item.source))) for item in items]  # noqa: PTH100 - keeps links
    drive = partial(_drive, setup, items, workers)
    driver = Child(partial(_connect, workers, address), drive, {"RAY_USAGE_STATS_ENABLED": "0", **_tokens(address)})
    try:
        yield from _outcomes(setup, items, driver)
    except BrokenError as error:
        raise BatchError(str(error)) from None
    except GoneError as error:
        raise BatchError(f"the process that drives Ray {error}; what is done is kept: add --resume to go on") from None
    finally:
        driver.end(PATIENCE_S)
        workers_end(setup.dest, PATIENCE_S)


def _tokens(address: str | None) -> dict[str, str]:
    """Variables that say whether Ray asks for a token, where the user has not said it."""
    if "RAY_AUTH_MODE" in os.environ:
        return {}
    if address is None:  # else Ray writes one to the home folder, and every later `ray start` would ask for it
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex()}
    kept = [os.environ.get("RAY_AUTH_TOKEN_PATH"), Path.home() / ".ray" / "auth_token"]
    if os.environ.get("RAY_AUTH_TOKEN") or any(path and Path(path).is_file() for path in kept):
        return {"RAY_AUTH_MODE": "token"}  # as `ray start` decides it; a cluster without tokens takes it too
    return {}


def _outcomes(setup: Setup, items: Sequence[Item], driver: Child) -> Iterator[Event]:
    """Each outcome once: from the journal as soon as it is written there, else from the driver, with its group."""
    journal, open_names = Journal(setup.dest, setup.run), {item.name for item in items}
    begun: set[str] = set()
    over, latest_start = False, time.monotonic() + START_S
    while not over:
        message = driver.hear(POLL_S) or {}
        if not driver.ready and time.monotonic() > latest_start:
            raise BatchError(f"Ray was not there after {START_S:.0f} s; add --resume to try again, or --engine local")
        if "ready" in message:
            driver.send({})
        if "error" in message:
            raise BatchError(message["error"])
        over = "over" in message
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
        fields = message.get("working")
        if fields is not None and fields["name"] in open_names:
            open_names.remove(fields["name"])
            yield Outcome(**fields)
    if open_names:
        raise BatchError(f"Ray lost {len(open_names)} files, the first {min(open_names)}; add --resume for them")


# --- the driver -------------------------------------------------------------------------------------------------------


def _connect(workers: int | None, address: str | None) -> Any:
    """Ray, connected to a cluster."""
    import ray

    how: dict[str, Any] = {"log_to_driver": False}
    if address is None:  # "local": with no address Ray would join a cluster that somebody has started here
        how.update(address="local", include_dashboard=False, num_cpus=max(workers or 1, cores()))
    else:
        how.update(address=address)
    try:
        if address is not None:
            _check_reachable(address)
        ray.init(**how)
    except (OSError, RuntimeError, ValueError) as error:
        hint = "" if address is None else "; one that was started with a token needs RAY_AUTH_MODE=token"
        where = "start Ray here" if address is None else f"reach a Ray cluster at {address}"
        raise BatchError(f"cannot {where}: {_last_line(error)}{hint}") from None
    return ray


def _check_reachable(address: str) -> None:
    """Raise `OSError` where nobody answers: Ray itself would go on asking for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10.0).close()


def _drive(
    setup: Setup, items: Sequence[Item], workers: int | None, ray: Any, job: dict[str, Any], pipe: Connection
) -> dict[str, Any]:
    """Run all items, and tell what comes of them and, while there is time to clear up, what ended it."""
    from ray.data import ActorPoolStrategy, from_items

    try:
        workers, share = _pool(ray, setup, workers)
        groups = grouped(items, _durations(ray, items), workers)
        texts = [{"items": json.dumps([item.to_dict() for item in group])} for group in groups]
        data = from_items(texts, override_num_blocks=len(texts)).map_batches(
            Actor,
            fn_constructor_args=(setup,),
            batch_size=1,
            compute=ActorPoolStrategy(size=min(workers, len(texts)), max_tasks_in_flight_per_actor=1),
            **share,
        )
        for row in data.iter_rows():
            outcomes = json.loads(row["outcomes"])
            if isinstance(outcomes, dict):
                raise BatchError(outcomes["broken"])
            for outcome in outcomes:
                say(pipe, working=outcome)
    except BatchError as error:
        return {"error": str(error)}
    except Exception as error:
        return {"error": f"Ray gave up: {_last_line(error)}"}
    return {"over": True}


def _pool(ray: Any, setup: Setup, workers: int | None) -> tuple[int, dict[str, Any]]:
    """How many actors, and what of the cluster each takes: no more than there is, or Ray would wait for it."""
    there = ray.cluster_resources()
    if there.get("GPU", 0) and getattr(setup.loader, "device", None) != "cpu":
        most, share = int(there["GPU"]), {"num_cpus": 0, "num_gpus": 1}
    else:
        most, share = int(there.get("CPU", 1)) // setup.threads, {"num_cpus": setup.threads}
    return max(1, min(workers or most, most)), share


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


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[-1]


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


# --- on the cluster ---------------------------------------------------------------------------------------------------


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
            return json.dumps([asdict(self.worker(Item.of(fields))) for fields in json.loads(text)])
        except BatchError as error:
            return json.dumps({"broken": one_line(error)})
