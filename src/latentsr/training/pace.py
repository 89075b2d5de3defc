"""What a run tells of itself while it trains: where the time goes, in figures and in one line."""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from tqdm import tqdm

from latentsr.training.stage import SHOWN, StageConfig

LINES_S = 10.0  # in a file or a pipe, a line at most so often
FIGURES = ("seconds_per_step", "examples_per_second", "data_share", "eta_seconds", "gpu_memory_gb")


class Pace:
    """Where the wall time goes."""

    def __init__(self, config: StageConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        self.spent: dict[str, list[float]] = {}  # seconds of each validation, checkpoint, ...
        self.first = True  # the first step compiles and loads; it is left out of the means as soon as there is another
        self.clear()

    def clear(self) -> None:
        """Begin new means."""
        self._steps, self._waited_s, self._stepped_s = 0, 0.0, 0.0

    def begin(self) -> None:
        """A step begins to wait for its data."""
        if self.first and self._steps:
            self.first = False
            self.clear()
        self._began = time.perf_counter()

    def fetched(self) -> None:
        """The data are on the device."""
        self._waited_s += time.perf_counter() - self._began

    def stepped(self) -> None:
        """The step is done."""
        self._stepped_s += time.perf_counter() - self._began
        self._steps += 1

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Note how long something else takes."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.spent.setdefault(what, []).append(time.perf_counter() - began)

    def seconds_left(self, step: int, seconds_per_step: float) -> float:
        """From `step` to the last one, with the validations and checkpoints in between as long as those so far."""
        config, left = self.config, self.config.steps - step
        total = left * seconds_per_step
        for what, every in {"validation": config.validate_every, "checkpoint": config.save_every}.items():
            total += (config.steps // every - step // every) * self.mean(what)
        return total

    def mean(self, what: str) -> float:
        """Seconds that a validation, a checkpoint, ... took; 0 where there was none."""
        return sum(self.spent.get(what, [])) / max(len(self.spent.get(what, [])), 1)

    def figures(self, step: int) -> dict[str, float]:
        """FIGURES, means since `clear`; the memory is the most that was held, and only where there is a GPU."""
        if not self._steps:
            return {}
        seconds = self._stepped_s / self._steps
        rate, share = self.config.batch_size / seconds, self._waited_s / self._stepped_s
        values = [seconds, rate, share, self.seconds_left(step, seconds)]
        if self.device.type == "cuda":
            values.append(torch.cuda.max_memory_reserved(self.device) / 1e9)
        return dict(zip(FIGURES, values, strict=False))


class LiveLine:
    """One line that moves on a terminal; in a file or a pipe, a whole line now and then."""

    def __init__(self, name: str, steps: int) -> None:
        self.name, self.steps = name, steps
        self._bar = tqdm(total=steps, bar_format="{desc}", file=sys.stderr) if sys.stderr.isatty() else None
        self._said = -math.inf

    def show(self, step: int, losses: Mapping[str, float], rates: Mapping[str, float], pace: Pace) -> None:
        """What the step `step` gave, where somebody looks."""
        if self._bar is not None:
            width = shutil.get_terminal_size().columns - 1
            self._bar.set_description_str(self._text(step, losses, rates, pace)[:width], refresh=False)
            self._bar.update(step - self._bar.n)

    def log(self, step: int, losses: Mapping[str, float], rates: Mapping[str, float], pace: Pace) -> None:
        """The same, as means, into a file; the last step always."""
        now = time.monotonic()
        if self._bar is None and (now - self._said >= LINES_S or step == self.steps):
            self._said = now
            print(self._text(step, losses, rates, pace), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the last line where it is."""
        if self._bar is not None:
            self._bar.refresh()
            self._bar.close()

    def _text(self, step: int, losses: Mapping[str, float], rates: Mapping[str, float], pace: Pace) -> str:
        totals = {name.removeprefix("total_"): value for name, value in losses.items() if name.startswith("total_")}
        alone = len(totals) == 1
        figures = pace.figures(step)
        parts = [f"{self.name} {step}/{self.steps}", f"ETA {duration(figures['eta_seconds'])}"]
        parts += [f"loss {value:.4g}" if alone else f"{name} loss {value:.4g}" for name, value in totals.items()]
        parts.append("lr " + "/".join(f"{rate:.1e}" for rate in dict.fromkeys(rates.values())))
        parts.append(
            "{seconds_per_step:.3g} s/step, {examples_per_second:.3g} ex/s, data {data_share:.0%}".format_map(figures)
        )
        if pace.device.type == "cuda":
            parts.append(gpu_memory(pace.device))
        others = [n for n in losses if not n.startswith(("total_", "gradient_norm_"))]
        parts.append(" ".join(f"{name.removesuffix(SHOWN)} {losses[name]:.4g}" for name in others))
        return " | ".join(part for part in parts if part)


def gpu_memory(device: torch.device) -> str:
    """The most that was held on a GPU until now, of all that it has."""
    total = torch.cuda.get_device_properties(device).total_memory
    return f"GPU {torch.cuda.max_memory_reserved(device) / 1e9:.1f} of {total / 1e9:.0f} GB"


def duration(seconds: float) -> str:
    """Hours, minutes and seconds as people read them: 42 s, 9:52, 3:07:11."""
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
