"""The command line of training: `[--config FILE] [--resume] [--max-minutes M] [--dry-run] [key=value ...]`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
import yaml
from accelerate import PartialState

import latentsr
from latentsr.config import ConfigError, load
from latentsr.data.dataset import Corpus
from latentsr.training.dry_run import FOLDER, dry_run
from latentsr.training.loop import fit
from latentsr.training.names import ARCHITECTURES, CONFIGS
from latentsr.training.stage import Stage, StageConfig
from latentsr.training.stages import STAGES, build_stage

DONE, FAILED, TIME_UP, INTERRUPTED = 0, 1, 4, 130  # exit codes; argparse makes 2 of wrong usage
ERRORS = (ValueError, OSError, FloatingPointError, ImportError)  # what a user can do something about
NO_DATA = "no training data: add data=FOLDER (audio files) or data=manifest.csv"


def launch_stage(name: str, argv: Sequence[str] | None = None) -> int:
    """Train the stage of that name, or the one of its family that the config's key `architecture` names.

    Returns:
        The exit code: 0 done, 1 failed, 2 wrong usage, 4 stopped by --max-minutes, 130 interrupted.
    """
    default = default_config(CONFIGS[name])
    if name in ARCHITECTURES:
        choices = ARCHITECTURES[name]
        architecture = _architecture(default, argv) or next(iter(choices))
        if architecture not in choices:
            return failed(ConfigError(f"unknown architecture {architecture!r}; choose one of {', '.join(choices)}"))
        name = choices[architecture]
    return launch(*STAGES[name], default, argv)


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """States that have decayed to denormal numbers cost a CPU ten times a product; what comes later has them again."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@denormals_flushed()
def launch(
    stage: type[Stage], config_type: type[StageConfig], default_config: Path, argv: Sequence[str] | None = None
) -> int:
    """Parse, build the stage, train. Returns the exit code of `launch_stage`."""
    parser, args = parse("Train a stage. Any config key can be given as key=value.", default_config, argv)
    try:
        config = load(config_type, args.config, args.overrides)
        if not config.data:
            parser.error(NO_DATA)
        run = Path(config.out or f"runs/{next(name for name, (kind, _) in STAGES.items() if kind is stage)}")
        built = build_stage(stage, config)
        corpus = Corpus.open(config.data, config.corpus)
        if args.dry_run:
            dry_run(built, corpus, run / FOLDER)
            return DONE
        exported = fit(
            built, corpus, run, resume=args.resume, max_minutes=args.max_minutes, trackers=args.tracker
        )  # fmt: skip
        PartialState().destroy_process_group()
    except ERRORS as error:
        return failed(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    if exported is None:
        print(f"stopped and saved in {run}; the same command goes on from there")
        return INTERRUPTED
    reached = json.loads((exported / "training.json").read_text(encoding="utf-8"))
    if not reached["finished"]:
        at = f"step {reached['step']} of {config.steps}"
        print(f"stopped by --max-minutes at {at}, weights so far in {exported}; the same command goes on from there")
        return TIME_UP
    print(f"weights are in {exported}")
    return DONE


def parse(
    description: str, default: Path, argv: Sequence[str] | None
) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """What every command of training takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--config", type=Path, default=default, help=f"YAML (default {'/'.join(default.parts[-3:])})")
    parser.add_argument("--resume", action="store_true", help="go on even if values have changed")
    parser.add_argument("--max-minutes", type=float, help="stop cleanly after this time, leaving a resumable state")
    parser.add_argument("--dry-run", action="store_true",
                        help="one batch through everything, into RUN/dry-run; time and memory predicted")  # fmt: skip
    parser.add_argument("--tracker", action="append", default=[],
                        help="any of accelerate: tensorboard, wandb, mlflow, ..., all (repeatable)")  # fmt: skip
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for instance data=FOLDER batch_size=8")
    args = parser.parse_intermixed_args(argv)
    if args.dry_run and (args.resume or args.tracker or args.max_minutes is not None):
        parser.error("--dry-run begins anew and ends by itself; leave out --resume, --tracker and --max-minutes")
    return parser, args


def failed(error: Exception) -> int:
    """Say why in one line. Returns the exit code."""
    print(f"error: {error}", file=sys.stderr)
    return FAILED


def default_config(name: str) -> Path:
    """A file of configs/: in a clone beside src/, in a wheel within the package."""
    package = Path(latentsr.__file__).parent
    found = [folder / name for folder in (package.parents[1] / "configs", package / "configs")]
    return next((path for path in found if path.is_file()), found[-1])


def _architecture(default: Path, argv: Sequence[str] | None) -> str:
    """The last value of `architecture` on the command line, else that of the config; nothing where neither has it."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--config", type=Path, default=default)
    known, rest = parser.parse_known_args(argv)
    named = [word.partition("=")[2] for word in rest if word.startswith("architecture=")]
    if named or not known.config.is_file():  # what is wrong with the file is said by `launch`
        return named[-1] if named else ""
    try:
        values = yaml.safe_load(known.config.read_text(encoding="utf-8"))
    except yaml.YAMLError:
        values = None
    return str(values.get("architecture", "")) if isinstance(values, dict) else ""
