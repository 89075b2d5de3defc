"""A dry run: a few steps, a validation, a checkpoint and the weights of a stage, and what all of it will cost."""

from __future__ import annotations

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from latentsr.data.dataset import Corpus
from latentsr.training.interrupt import Interrupt
from latentsr.training.loop import Trainer
from latentsr.training.pace import duration, gpu_memory
from latentsr.training.stage import Stage

STEPS = 3  # the first one compiles and loads
FOLDER = "dry-run"  # in the run's


def dry_run(stage: Stage, corpus: Corpus, run: Path) -> float:
    """Do once, in the new folder `run`, what a run does; print what the whole run will take.

    The steps are the last ones of the run, when every phase is active.

    Returns:
        Seconds that the whole run is predicted to take.
    """
    config, trainer = stage.config, Trainer(stage, corpus, run, [])
    if trainer.accelerator.is_main_process:
        shutil.rmtree(run, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    journal, pace = trainer.journal, trainer.pace
    trainer.announce()
    trainer.restore(resume=False)
    trainer.step = max(config.steps - STEPS, 0)
    steps = config.steps - trainer.step
    with Interrupt() as interrupt:
        trainer.train(interrupt, max_minutes=None)
    if trainer.interrupted:
        raise KeyboardInterrupt
    weights = trainer.finish()
    if not trainer.accelerator.is_main_process:
        return 0.0
    last = journal.last
    total = pace.seconds_left(0, last["seconds_per_step"]) + pace.mean("weights")
    samples = run / "samples" / f"step-{config.steps:08d}"
    sizes = {name: _bytes(run / name) for name in ("checkpoints", "weights")}
    shutil.rmtree(run / "checkpoints")
    (weights / "training.json").unlink()  # they are nobody's weights
    seen = ", ".join(sorted(file.name for file in samples.iterdir())) if samples.is_dir() else "none"
    journal.say(
        f"dry run of {steps} steps of {config.batch_size} x {config.samples / config.audio.sample_rate:.2f} s\n"
        f"  time     {last['seconds_per_step']:.3g} s/step, {last['data_share']:.0%} of it waiting for data; "
        f"a validation {pace.mean('validation'):.3g} s, a checkpoint {pace.mean('checkpoint'):.3g} s\n"
        f"           {config.steps} steps in {duration(total)}\n"
        f"  memory   {_memory(trainer)}\n"
        f"  disk     a checkpoint {sizes['checkpoints'] / 1e6:.1f} MB, {config.keep} are kept; weights "
        f"{sizes['weights'] / 1e6:.1f} MB\n"
        f"  samples  {samples}: {seen}"
    )
    return total


def _memory(trainer: Trainer) -> str:
    """The most that was held."""
    parts = [gpu_memory(trainer.accelerator.device)] if trainer.accelerator.device.type == "cuda" else []
    if find_spec("resource") is not None:  # Windows has none
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        parts.append(f"{peak / 1e9:.2f} GB of main memory, recordings included")
    return "; ".join(parts) or "not measured on this system"


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
