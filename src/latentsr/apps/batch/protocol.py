"""What an engine is: items in, events out, as they happen. The three of them differ in nothing that can be heard.

An engine is a generator function `run(setup, items, workers, address)`; closing it ends its workers at once.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast

from latentsr.apps.batch.plan import Item
from latentsr.apps.batch.worker import Outcome, Setup

ENGINES = {
    "serial": "latentsr.apps.batch.serial",
    "local": "latentsr.apps.batch.processes",
    "ray": "latentsr.apps.batch.ray_engine",
}


@dataclass(frozen=True)
class Working:
    """A file is being restored: seconds of audio done, and in all."""

    name: str
    done_s: float
    total_s: float


@dataclass(frozen=True)
class Replaced:
    """A worker was lost, and another one takes its place."""

    cause: str


Event = Outcome | Working | Replaced


class Engine(Protocol):
    """Restores all items with some workers; every item comes back as one `Outcome`, in any order."""

    def __call__(
        self, setup: Setup, items: Sequence[Item], workers: int | None, address: str | None
    ) -> Generator[Event, None, None]: ...


def engine(name: str) -> Engine:
    """An engine by its name; raises `UsageError` where an extra is missing."""
    return cast(Engine, import_module(ENGINES[name]).run)
