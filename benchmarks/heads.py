"""Speed and memory of the heads side by side: python benchmarks/heads.py [HEAD ...] [--threads 2] [--batch 32]

Without names, all of `latentsr.heads.HEADS`; NAME+latents lets a head decode latents that can do without them. Every
head runs in two fresh processes. The first loads it, warms it up on 2 s and times `pipe(wave)` on 10 s and 60 s of one
channel. The second loads it and restores 10 s: its memory is the peak after that, less the peak after the import of the
pipeline and with it torch. With `--batch` the head alone decodes so many waves of 10 s at once, as it would on a GPU; a
head of latents gets those of the wave itself, and no diffusion runs.

With `--device cuda` the memory is the peak of what torch allocated there. That path has been run on no GPU yet.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import speed

SECONDS = (10, 60)  # of the waves
LATENTS = "+latents"
HEADINGS = ("head", "load s", *(f"real-time factor, {s} s" for s in SECONDS), "memory, 10 s, MB")


def main() -> None:
    options = parse()
    if options.task:
        return TASKS[options.task](options)
    heads = options.heads or own(options, "names")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "wave.wav"
        words = ["--task", "make", "--file", str(file), "--seconds", str(max(SECONDS))]
        speed.measure([sys.executable, speed.__file__, *words], options)
        rows = [row(options, head, file) for head in heads]
    headings = HEADINGS + ((f"batch of {options.batch}, s/s",) if options.batch else ())
    for line in (headings, ["---", *["--:"] * (len(headings) - 1)], *rows):
        print("| " + " | ".join(line) + " |")
    model = Path(options.model).name if options.model else "embedded"
    print(f"\nFactors: minimum / median of {options.runs} runs. Model {model}, device {options.device}, ", end="")
    print(f"{options.threads} threads, {platform.machine()}, Python {platform.python_version()}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("heads", nargs="*", metavar="HEAD", help="all of them unless given")
    parser.add_argument("--model", help="folder or hub id; the embedded model unless given")
    parser.add_argument("--steps", type=int, help="of the heads that take steps; their default unless given")
    parser.add_argument("--runs", type=int, default=3, help="of each timing")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of each process")
    parser.add_argument("--device", default="cpu", help="where the networks run")
    parser.add_argument("--batch", type=int, default=0, help="waves of 10 s that the head decodes at once; 0: left out")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def row(options: argparse.Namespace, head: str, file: Path) -> list[str]:
    """The cells of one head."""
    timed, memory = own(options, "time", head, file), own(options, "memory", head, file)
    factors = [[taken / seconds for taken in timed[str(seconds)]] for seconds in SECONDS]
    cells = [head, f"{timed['load']:.2f}"]
    cells += [f"{min(factor):.3f} / {statistics.median(factor):.3f}" for factor in factors]
    return [*cells, f"{memory / 1e6:.0f}", *([f"{timed['batch']:.0f}"] if options.batch else [])]


def own(options: argparse.Namespace, task: str, head: str | None = None, file: Path | None = None) -> Any:
    """What one task of this file prints, run in a process of its own."""
    values = {"model": options.model, "steps": options.steps, "file": file, "task": task}
    values |= {name: getattr(options, name) for name in ("runs", "threads", "device", "batch")}
    words = [word for key, value in values.items() if value is not None for word in (f"--{key}", str(value))]
    command = [sys.executable, __file__, *([] if head is None else [head]), *words]
    return json.loads(speed.measure(command, options)[0].splitlines()[-1])


# --- tasks, each in a process of its own -----------------------------------------------------------------------------


def names(options: argparse.Namespace) -> None:
    """Print the names of all heads."""
    from latentsr.heads import HEADS

    print(json.dumps(list(HEADS)))


def measure_time(options: argparse.Namespace) -> None:
    """Print seconds: of loading, of each run for each length, and what a batch makes in one second."""
    import latentsr.pipeline  # noqa: F401  # not part of loading

    started = time.perf_counter()
    pipe, restore = load(options)
    found: dict[str, Any] = {"load": time.perf_counter() - started}
    wave, rate = read(options.file)
    restore(wave[: 2 * rate], rate)
    for seconds in SECONDS:
        once = partial(restore, wave[: seconds * rate], rate)
        found[str(seconds)] = [clock(once, options) for _ in range(options.runs)]
    if options.batch:
        decode = batched(pipe, wave[: SECONDS[0] * rate], options)
        decode()
        fastest = min(clock(decode, options) for _ in range(options.runs))
        found["batch"] = options.batch * SECONDS[0] / fastest
    print(json.dumps(found))


def measure_memory(options: argparse.Namespace) -> None:
    """Print the bytes that loading the head and restoring 10 s take over those of the import."""
    import torch

    import latentsr.pipeline  # noqa: F401  # counts as import

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _, restore = load(options)
    wave, rate = read(options.file)
    restore(wave[: SECONDS[0] * rate], rate)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    on_gpu = options.device.startswith("cuda")
    print(torch.cuda.max_memory_allocated() if on_gpu else (after - before) * speed.RSS_UNIT)


def load(options: argparse.Namespace) -> tuple[Any, Callable[[Any, int], Any]]:
    """The pipeline with all that the head needs, and the call that restores by it."""
    from latentsr.options import Options
    from latentsr.pipeline import Pipeline

    (word,) = options.heads
    head = word.removesuffix(LATENTS)
    asked = {"head": head, "steps": options.steps, "use_latents": word != head}
    pipe = Pipeline.from_pretrained(options.model, heads=[head]).to(options.device)
    pipe.set_progress_bar_config(disable=True)
    pipe.load(Options(head=head).kind.needs(word != head))  # the networks of the latents too, if asked for
    return pipe, lambda wave, rate: pipe(wave, sample_rate=rate, **asked)


def batched(pipe: Any, wave: Any, options: argparse.Namespace) -> Callable[[], Any]:
    """The head alone on a batch of one wave (T,), all on the device."""
    import torch

    from latentsr.options import Options

    (word,) = options.heads
    head = word.removesuffix(LATENTS)
    decoder, diffusion = pipe.chains(Options(head=head, use_latents=word != head)).args
    low = torch.from_numpy(wave).to(options.device).expand(options.batch, 1, -1).contiguous()
    cutoff_hz = torch.full((options.batch,), 4000.0, device=options.device)
    with torch.inference_mode():
        latents = None if diffusion is None else diffusion.encode(low)
    return torch.inference_mode()(lambda: decoder(low, cutoff_hz, latents, steps=options.steps))


def clock(call: Callable[[], Any], options: argparse.Namespace) -> float:
    """Seconds that a call takes, to the end of what it has asked of a GPU."""
    import torch

    synchronize = torch.cuda.synchronize if options.device.startswith("cuda") else lambda: None
    synchronize()
    started = time.perf_counter()
    call()
    synchronize()
    return time.perf_counter() - started


def read(file: Path) -> tuple[Any, int]:
    """Samples (T,) float32 and their rate."""
    import soundfile

    samples, rate = soundfile.read(file, dtype="float32")
    return samples, rate


TASKS = {"names": names, "time": measure_time, "memory": measure_memory}

if __name__ == "__main__":
    main()
