"""Where the time of a training step goes, by part, printed as a table.

    python benchmarks/training.py mamba_gan configs/vocoder/mamba_gan.yaml data=DIR batch_size=8 corpus.cache=cache

Any key of the stage's config can be given as key=value. The steps are those of the real loop; the parts are timed by
wrapping the functions that do them, each without what it calls. Crops and augmentation run in the loop's own thread
beside the network and count as what they take there. Times on a CPU are those of the thread (other work on the machine
does not count, so keep to one thread: OMP_NUM_THREADS=1); on a GPU they are wall time, each part waited for.
"""

from __future__ import annotations

import argparse
import functools
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import EMAModel

from latentsr.config import AUDIO, load
from latentsr.data.dataset import Corpus
from latentsr.data.prefetch import Prefetch
from latentsr.signal import degrade, effects
from latentsr.signal.codecs import CODECS, codec_edge_hz
from latentsr.training import loop, stage
from latentsr.training.interrupt import Interrupt
from latentsr.training.stages import STAGES, build_stage

DATA = ("crops, augmentation", "drawing recipes", "low-pass", "effects", "codecs", "cutoff estimate", "rounding, cut")
FRONT, NETWORK, OPTIMISER = "mel, latents", ("forward, losses", "backward"), "optimiser, averages"
OTHER = "the rest of the loop"


class Watch:
    """Seconds of each part, without those of the parts within it, by thread."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now, self.local = now, threading.local()
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)

    def wrap(self, owner: Any, name: str, part: str) -> None:
        """Time a function or method from now on."""
        inner = getattr(owner, name)

        @functools.wraps(inner)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._turn(part)
            self.calls[part] += 1
            try:
                return inner(*args, **kwargs)
            finally:
                self._turn(None)

        setattr(owner, name, timed)

    def _turn(self, part: str | None) -> None:
        """Begin a part, or end the one in work; what was under way gets the time until now."""
        parts = self.local.__dict__.setdefault("parts", [])
        now = self.now()
        if parts:
            self.seconds[parts[-1]] += now - self.local.since
        if part is None:
            parts.pop()
        else:
            parts.append(part)
        self.local.since = self.now()


def main() -> None:
    options = parse()
    kind, config_type = STAGES[options.kind]
    silent = ["log_every=1000000", "validate_every=1000000", "save_every=1000000"]
    config = load(config_type, options.config, [*options.overrides, f"steps={options.steps}", *silent])
    if not config.data:
        raise SystemExit("no training data: add data=FOLDER")
    for name, codec in CODECS.items():  # measured once per run
        for kbps in codec.rates_kbps:
            codec_edge_hz(name, float(kbps), config.audio.sample_rate)
    torch.set_flush_denormal(True)
    on_gpu = torch.cuda.is_available()
    watch, waited = Watch(gpu_time if on_gpu else time.thread_time), Watch(time.perf_counter)
    wrap_parts(watch, kind)
    waited.wrap(Prefetch, "__next__", "waiting")
    with tempfile.TemporaryDirectory() as folder:
        corpus = Corpus.open(config.data, config.corpus)
        trainer = loop.Trainer(build_stage(kind, config), corpus, Path(folder) / "run", [])
        trainer.restore(resume=False)
        train(trainer, watch, waited, options.warm_up)
        wall_s = time.perf_counter()
        train(trainer, watch, waited, options.steps)
        wall_s = time.perf_counter() - wall_s
    report(watch.seconds, waited.seconds["waiting"], wall_s, options.steps)
    audio_s = config.batch_size * config.samples / AUDIO.sample_rate
    where = torch.cuda.get_device_name() if on_gpu else f"CPU, {torch.get_num_threads()} threads"
    print(f"\n{options.kind}, {config.batch_size} x {config.samples / AUDIO.sample_rate:.2f} s, {config.precision}, "
          f"{options.steps} steps, {audio_s * options.steps / wall_s:.1f} s of audio per second; {where}")  # fmt: skip


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=list(STAGES), help="stage")
    parser.add_argument("config", type=Path, help="its YAML")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for instance data=FOLDER batch_size=8")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warm-up", type=int, default=2, help="steps before that do not count")
    return parser.parse_intermixed_args()


def gpu_time() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


def wrap_parts(watch: Watch, kind: type[stage.Stage]) -> None:
    crops, recipes, lowpass, added, codecs, estimate, cut = DATA
    watch.wrap(Corpus, "batch", crops)
    watch.wrap(stage, "draw_recipe", recipes)
    watch.wrap(stage, "cutoff_3db_hz", recipes)
    watch.wrap(stage, "degrade", lowpass)
    watch.wrap(degrade, "apply_effects", added)
    watch.wrap(effects, "round_trip", codecs)
    watch.wrap(stage, "cutoffs_hz", estimate)
    for module in {stage, __import__(kind.__module__, fromlist=["degraded"])}:
        watch.wrap(module, "degraded", cut)
    watch.wrap(kind, "prepare", FRONT)
    watch.wrap(kind, "losses", NETWORK[0])
    watch.wrap(torch.Tensor, "backward", NETWORK[1])
    watch.wrap(loop.Trainer, "_optimize", OPTIMISER)
    watch.wrap(EMAModel, "step", OPTIMISER)
    watch.wrap(loop.Trainer, "_step", OTHER)


def train(trainer: loop.Trainer, watch: Watch, waited: Watch, steps: int) -> None:
    """So many steps of the real loop, from the first on, timed anew and without a checkpoint at the end."""
    trainer._save = lambda: None  # type: ignore[method-assign]
    trainer.step, trainer.config = 0, trainer.config.model_copy(update={"steps": steps})
    for each in (watch, waited):
        each.seconds.clear()
        each.calls.clear()
    with Interrupt() as interrupt:
        trainer.train(interrupt, max_minutes=None)
    watch.seconds[DATA[0]] *= steps / watch.calls[DATA[0]]  # the loop makes some batches more than it takes


def report(seconds: dict[str, float], waiting_s: float, wall_s: float, steps: int) -> None:
    total = sum(seconds.values())
    print("| part | ms per step | share |\n|---|---:|---:|")
    for name in (*DATA, FRONT, *NETWORK, OPTIMISER, OTHER):
        print(f"| {name} | {1000 * seconds[name] / steps:.1f} | {100 * seconds[name] / total:.1f} % |")
    print(f"| all | {1000 * total / steps:.1f} | 100 % |")
    data = sum(seconds[name] for name in DATA)
    print(f"\ndata: {100 * data / total:.1f} % (without what the loop's thread does beside the network: "
          f"{100 * (data - seconds[DATA[0]]) / (total - seconds[DATA[0]]):.1f} %)")  # fmt: skip
    print(f"wall: {1000 * wall_s / steps:.1f} ms per step, of which {1000 * waiting_s / steps:.1f} waiting for a batch")


if __name__ == "__main__":
    main()
