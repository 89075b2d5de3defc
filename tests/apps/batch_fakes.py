"""In place of a model: copies recordings to 48 kHz, and does on the way what their names say. Run as a script, it is
the command line with that model, for tests that kill it."""

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import soundfile

from latentsr import audio
from latentsr.apps.batch import worker
from latentsr.apps.restore import FILE_ERRORS, Record, one_line


@dataclass(frozen=True)
class FakeModel:
    """Called in a worker, puts a copying function in place of the restoring one there."""

    name: str = "fake"
    vocoder: str | None = None
    dtype: str | None = None

    def __call__(self) -> str:
        if self.name == "missing":
            raise ValueError("no such model")
        if self.name == "deadly":
            os.kill(os.getpid(), signal.SIGKILL)
        worker.restore_file = copy
        return self.name

    def key(self) -> str:
        return self.name

    def default_head(self) -> str:
        return "mamba-gan"


def copy(model, recording, target, options, progress=None) -> Record:
    """deadly*: kills its process; slow*: takes as long as `wait` lies beside it; hang*: for ever; late*: dies after."""
    source = recording.path
    if source.name.startswith("deadly"):
        os.kill(os.getpid(), signal.SIGKILL)
    while source.name.startswith("hang") or (source.name.startswith("slow") and (source.parent / "wait").exists()):
        time.sleep(0.01)
    try:
        recording = audio.read(source)
        wave = audio.resample(recording.samples, recording.sample_rate, 48_000)
        audio.write(
            audio.Target.of(target, overwrite=options.overwrite), 0.5 * wave, 48_000
        )  # resampled, its peaks may lie higher
    except FILE_ERRORS as error:
        return Record(str(source), None, error=one_line(error, source))
    if source.name.startswith("late") and not (source.parent / "again").exists():
        (source.parent / "again").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    written = SimpleNamespace(  # as `RestoredFile`, whose module imports torch
        sample_rate=48_000, channels=len(wave), samples=wave.shape[1], subtype="PCM_16", cutoff_hz=24_000.0,
        seconds=recording.seconds, gain=1.0, lines_hz=(), holes_hz=(), notes=(), cutoff_track=[], head=None,
        copied=None, band=None, bands=None, account=None,
    )  # fmt: skip
    return Record(str(source), str(target), written=written)


def recording(path: Path, *, seconds: float = 0.1, rate_hz: int = 16_000, seed: int = 0) -> Path:
    """Noise in a file, whose folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).uniform(-0.2, 0.2, round(seconds * rate_hz)).astype(np.float32)
    with path.open("wb") as file:  # soundfile takes no name that is not UTF-8
        soundfile.write(file, samples, rate_hz, format="WAV")
    return path


if __name__ == "__main__":
    from batch_fakes import FakeModel as Model  # under the name that its workers find it by

    from latentsr.apps import cli, options

    options.Loader = lambda model, *_: Model(model or "fake")  # as `_settings` calls it
    sys.argv[0] = "latentsr"
    cli.main()
