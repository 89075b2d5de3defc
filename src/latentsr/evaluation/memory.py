"""Peak memory of a row: a fresh process loads the model and restores one recording, and the kernel says what it took.

    python -m latentsr.evaluation.memory WAVE.npy '{"model": null, "device": "cpu", "rate": 48000, "asked": {...}}'

That counts everything: the interpreter, torch, the weights and the work. In this process the models of other rows and
the references would be counted too.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from latentsr.evaluation.noises import Wave

LONGEST_S = 30.0  # of what is restored for it


class MemoryProbeError(ValueError):
    """The process that was to be measured failed."""


def peak_memory_mb(model: str | None, device: str, asked: Mapping[str, Any], wave: Wave, rate: int) -> float:
    """Highest resident memory, in MB (1e6 bytes), of a process that restores at most `LONGEST_S` of a wave (T,).

    `model` None is the embedded one; `asked` is what the pipeline is called with. Memory of a GPU is not counted.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "wave.npy"
        np.save(file, wave[: round(LONGEST_S * rate)].astype(np.float32))
        request = json.dumps({"model": model, "device": device, "rate": rate, "asked": dict(asked)})
        command = [sys.executable, "-m", "latentsr.evaluation.memory", str(file), request]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise MemoryProbeError(
            f"memory of {asked.get('head')}: {(done.stderr.strip() or 'it was killed').splitlines()[-1]}"
        )
    return float(done.stdout.split()[-1]) / 1e6


def _measure(file: str, request: str) -> None:
    """In the fresh process: restore, and print the peak in bytes."""
    from latentsr.pipeline import Pipeline

    values = json.loads(request)
    asked = values["asked"]
    pipe = Pipeline.from_pretrained(values["model"], heads=[asked["head"]]).to(values["device"])
    pipe.set_progress_bar_config(disable=True)
    pipe(np.load(file), sample_rate=values["rate"], **asked)
    print(_peak_bytes())


def _peak_bytes() -> int:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # BSD counts bytes, Linux kilobytes


if __name__ == "__main__":
    _measure(*sys.argv[1:])
