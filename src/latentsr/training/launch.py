"""The command line of a training script: `--config FILE [--resume] [--max-minutes M] [key=value ...]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from accelerate import PartialState

from latentsr.config import load
from latentsr.data.dataset import Corpus
from latentsr.training.loop import fit
from latentsr.training.stage import Stage, StageConfig
from latentsr.training.stages import build_stage

INTERRUPTED = 130  # the shell's code for SIGINT


def launch(
    stage: type[Stage], config_type: type[StageConfig], default_config: Path, argv: Sequence[str] | None = None
) -> int:
    """Parse, build the stage, train. Returns the exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    parser = argparse.ArgumentParser(description=f"Train {stage.__name__}. Any config key can be given as key=value.")
    parser.add_argument("--config", type=Path, default=default_config, help=f"YAML (default {default_config})")
    parser.add_argument("--resume", action="store_true", help="go on even if values have changed")
    parser.add_argument("--max-minutes", type=float, help="stop cleanly after this time, leaving a resumable state")
    parser.add_argument("--tracker", action="append", default=[], help="tensorboard, wandb, ... (repeatable)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for instance data=FOLDER batch_size=8")
    args = parser.parse_intermixed_args(argv)
    try:
        config = load(config_type, args.config, args.overrides)
        if not config.data:
            parser.error("no training data: add data=FOLDER (audio files) or data=manifest.csv")
        run = Path(config.out or f"runs/{stage.__name__.removesuffix('Stage').lower()}")
        built = build_stage(stage, config)
        corpus = Corpus.open(config.data, config.corpus)
        exported = fit(
            built, corpus, run, resume=args.resume, max_minutes=args.max_minutes, trackers=args.tracker
        )  # fmt: skip
        PartialState().destroy_process_group()
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if exported is None:
        print(f"stopped and saved in {run}; the same command goes on from there")
        return INTERRUPTED
    print(f"weights are in {exported}")
    return 0


def launch_architecture(
    choices: Mapping[str, tuple[type[Stage], type[StageConfig]]],
    default_config: Path,
    argv: Sequence[str] | None = None,
) -> int:
    """`launch` for the stage that the config's key `architecture` names; the first one where it names none."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--config", type=Path, default=default_config)
    known, rest = parser.parse_known_args(argv)
    named = [word.partition("=")[2] for word in rest if word.startswith("architecture=")]
    if not named and known.config.is_file():  # what is wrong with the file is said by `launch`
        try:
            values = yaml.safe_load(known.config.read_text(encoding="utf-8"))
        except yaml.YAMLError:
            values = None
        named = [str(values["architecture"])] if isinstance(values, dict) and "architecture" in values else []
    name = named[-1] if named else next(iter(choices))
    if name not in choices:
        print(f"error: unknown architecture {name!r}; choose one of {', '.join(choices)}", file=sys.stderr)
        return 1
    return launch(*choices[name], default_config, argv)
