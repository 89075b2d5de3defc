"""Training and validation side by side, from a run's metrics.jsonl: one PNG a stage."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from latentsr.evaluation.report import MissingExtraError

Curves = dict[str, tuple[list[float], list[float]]]  # name -> (minutes, values)


def read_curves(run: Path, seconds: float, step: int) -> tuple[Curves, Curves]:
    """The losses' totals, and the distances on validation, against minutes of training.

    Where a line has no seconds of its own, it lies between the lines that have, by its step; the run ended at `step`
    after `seconds`.
    """
    file = run / "metrics.jsonl"
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
    timed = sorted(
        {(0, 0.0), (step, seconds)} | {(line["step"], line["seconds"]) for line in lines if "seconds" in line}
    )
    steps, times = zip(*timed, strict=True)
    training: Curves = {}
    validation: Curves = {}
    for line in lines:
        minutes = float(np.interp(line["step"], steps, times)) / 60
        for name, value in line.items():
            if name.startswith("total_"):
                _add(training, name.removeprefix("total_"), minutes, value)
            elif name.startswith("validation_") and "lsd" in name:
                _add(validation, name.removeprefix("validation_"), minutes, value)
    return training, validation


def draw_curves(run: Path, png: Path, seconds: float, step: int) -> None:
    """Draw both panels; nothing is drawn of a run that has written no figures."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise MissingExtraError("curves need matplotlib; install it with: pip install 'latentsr[train]'") from None
    panels = dict(zip(("training loss", "validation distance"), read_curves(run, seconds, step), strict=True))
    if not any(panels.values()):
        return
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    axes: Any = figure.subplots(1, 2)
    for axis, (title, curves) in zip(axes, panels.items(), strict=True):
        for name, (minutes, values) in curves.items():
            axis.plot(minutes, values, marker="." if len(values) < 50 else "", label=name)
        axis.set_title(f"{run.name}: {title}")
        axis.set_xlabel("minutes")
        if curves:
            axis.legend()
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=100)
    png.parent.mkdir(parents=True, exist_ok=True)
    png.write_bytes(picture.getvalue())


def _add(curves: Curves, name: str, minutes: float, value: float) -> None:
    times, values = curves.setdefault(name, ([], []))
    times.append(minutes)
    values.append(value)
