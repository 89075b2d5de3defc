"""What a person sees of a batch: how far it is, how it ended, and each failure once."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from latentsr.apps.batch.plan import Item
from latentsr.apps.batch.protocol import Event, Replaced, Working
from latentsr.apps.batch.worker import Outcome
from latentsr.apps.terminal import FAILED, SOME_FAILED, bar_manners, printable, warn

STATUSES = ("done", "kept", "skipped", "failed")


@dataclass
class Summary:
    """Sums over the outcomes of a run."""

    files: int
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STATUSES, 0))  # how many ended how
    audio_s: float = 0.0  # restored in this run
    replaced: int = 0  # workers
    began: float = field(default_factory=time.monotonic)

    def add(self, event: Event) -> None:
        """Count an event."""
        if isinstance(event, Replaced):
            self.replaced += 1
        elif isinstance(event, Outcome):
            self.outcomes[event.name] = event
            self.counts[event.status] += 1
            if event.status == "done":
                self.audio_s += event.record.get("duration_s") or 0.0

    @property
    def wall_s(self) -> float:
        """Since the run began."""
        return time.monotonic() - self.began

    @property
    def exit_code(self) -> int:
        """0, or that of some or all files failed."""
        failed = self.counts["failed"]
        return 0 if not failed else FAILED if failed == self.files else SOME_FAILED

    def to_dict(self) -> dict[str, Any]:
        """The figures, for the journal."""
        wall_s = self.wall_s
        factor = round(wall_s / self.audio_s, 4) if self.audio_s else None
        return {
            **self.counts, "audio_s": round(self.audio_s, 3), "wall_s": round(wall_s, 1), "real_time_factor": factor,
            "workers_replaced": self.replaced,
        }  # fmt: skip

    def lines(self) -> list[str]:
        """The table at the end, and each failure once."""
        facts = self.to_dict()
        factor = "" if facts["real_time_factor"] is None else f", real-time factor {facts['real_time_factor']:.3f}"
        rows = {
            "done": f"{facts['done']:6}   {_clock(self.audio_s)} of audio in {_clock(facts['wall_s'])}{factor}",
            "kept": f"{facts['kept']:6}   done before",
            "skipped": f"{facts['skipped']:6}   hold nothing to restore",
            "failed": f"{facts['failed']:6}   each says what to do or to add; then the same command with --resume",
            "workers": f"{self.replaced:6}   lost and replaced",
        }
        shown = [name for name in rows if name == "done" or (self.replaced if name == "workers" else facts[name])]
        table = [f"{name:8}{rows[name]}" for name in shown]
        bad = [o for o in self.outcomes.values() if o.status in ("failed", "skipped")]
        return table + [f"{o.status}: {o.error}" for o in sorted(bad, key=lambda o: (o.status, o.name))]


class Display:
    """Progress on stderr, and with --json an object per file on stdout."""

    def __init__(self, items: Sequence[Item], as_json: bool) -> None:
        from tqdm import tqdm  # type: ignore[import-untyped, unused-ignore]

        self.as_json = as_json
        self.summary = Summary(len(items))
        self.sizes = {item.name: item.size for item in items}
        self.working: dict[str, Working] = {}  # files in work
        self.finished = 0
        shape = "{desc} {percentage:3.0f}%|{bar}| [{elapsed}<{remaining}]"
        # In bytes: what a file will take is not known before it is opened, and its size tells more than its count.
        self.bar = tqdm(total=sum(self.sizes.values()) or 1, bar_format=shape, disable=as_json, **bar_manners())

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()

    def show(self, event: Event) -> None:
        """Count an event and draw what it changes."""
        self.summary.add(event)
        if isinstance(event, Outcome):
            self.working.pop(event.name, None)
            self.finished += self.sizes.get(event.name, 0)
            if self.as_json:
                print(json.dumps({"file": event.name, "status": event.status, **_facts(event)}), flush=True)
        elif isinstance(event, Working) and event.total_s > 0:
            self.working[event.name] = event
        self._draw()

    def _draw(self) -> None:
        summary = self.summary
        failed = summary.counts["failed"]
        audio_s = summary.audio_s + sum(event.done_s for event in self.working.values())
        factor = f", real-time factor {summary.wall_s / audio_s:.3f}" if audio_s else ""
        text = f"{len(summary.outcomes)}/{summary.files} files, {_clock(audio_s)} of audio{factor}"
        self.bar.set_description_str(text + (f", {failed} failed" if failed else ""), refresh=False)
        shares = (self.sizes.get(name, 0) * min(one.done_s / one.total_s, 1.0) for name, one in self.working.items())
        done = self.finished + sum(shares)
        self.bar.update(max(0, int(done) - self.bar.n))


def print_summary(summary: Summary) -> None:
    """On stderr, so that stdout stays JSON."""
    for line in summary.lines():
        if line.startswith(("failed: ", "skipped: ")):
            warn(line)
        else:
            print(printable(line, getattr(sys.stderr, "encoding", None)), file=sys.stderr)


def _facts(outcome: Outcome) -> dict[str, Any]:
    return outcome.record if outcome.error is None else {"output": None, "error": outcome.error}


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
