"""The command `latentsr`. Importing this imports no torch: `latentsr --help` answers at once.

Exit codes: 0 done; 1 the job failed (why, and what to do, in one line on stderr); 2 wrong usage;
3 some of several files failed, each named once, and the outputs of the others stay; 4 training was stopped by
--max-minutes and can go on; 130 interrupted.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from latentsr import __version__
from latentsr.apps.options import Settings, takes_settings
from latentsr.apps.terminal import (
    FAILED,
    INTERRUPTED,
    SOME_FAILED,
    USAGE,
    fail,
    make_folder,
    printable,
    progress_bar,
    warn,
)
from latentsr.config import AUDIO
from latentsr.errors import UsageError

if TYPE_CHECKING:
    from latentsr.apps.restore import Job, Record
    from latentsr.audio import SourceFile
    from latentsr.options import Options
    from latentsr.restoring.files import RestoredFile

CONTEXT = {"help_option_names": ["-h", "--help"]}
OTHERS = "Options"


class GroupedCommand(TyperCommand):
    """A command whose help lists its options under the headings that they name (`rich_help_panel`)."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, then each group of options in the order in which they come."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                kind = "Arguments" if parameter.param_type_name == "argument" else OTHERS
                groups.setdefault(getattr(parameter, "rich_help_panel", None) or kind, []).append(record)
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)


def plain_app(**settings: Any) -> typer.Typer:
    """An app that prints plain text."""
    plain: dict[str, Any] = {"pretty_exceptions_enable": False, "rich_markup_mode": None, "context_settings": CONTEXT}
    return typer.Typer(**plain | settings)


def grouped(app: typer.Typer, **settings: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a command whose help is grouped."""
    return app.command(cls=GroupedCommand, context_settings=CONTEXT, **settings)


app = plain_app(
    help="Restore sound: recordings that lost their top come back at 48 kHz, with what was there untouched.",
    no_args_is_help=True,
)

# Commands that live elsewhere and are imported when they are called: name -> (module, function, help).
LAZY = {
    "batch": ("latentsr.apps.batch.command", "batch_command", "Restore an archive, over kills and bad files."),
    "live": ("latentsr.apps.live", "live_command", "Restore while it is played: pipes or audio devices."),
    "inspect": ("latentsr.apps.inspect", "inspect_command", "Say what recordings are, and what cut them."),
    "shard": ("latentsr.apps.shard", "shard_command", "Pack recordings into WebDataset shards to train from."),
    "convert": ("latentsr.apps.convert", "convert_command", "Make a model folder of an official AudioSR checkpoint."),
    "export": ("latentsr.apps.export", "export_command", "Write networks as ONNX, for onnxruntime without torch."),
    "spectrogram": ("latentsr.apps.evaluate", "spectrogram_command", "Draw recordings before and after."),
    "eval": ("latentsr.apps.evaluate", "eval_command", "Score restorations of recordings that were cut."),
    "demo": ("latentsr.apps.web.command", "demo_command", "Serve a page to restore recordings in a browser."),
}


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


@grouped(app, short_help="Restore recordings.")
@takes_settings
def restore(
    inputs: Annotated[list[Path], typer.Argument(metavar="IN...", help="Recordings to restore.")],
    settings: Settings,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The output of a single input.")] = None,
    out_dir: Annotated[Path | None, typer.Option(help="Write DIR/<input's name>; DIR is made.", metavar="DIR")] = None,
    write_band: Annotated[
        Path | None, typer.Option(help="Write what is made, alone, to this file too.", metavar="FILE")
    ] = None,
    draws: Annotated[
        int | None,
        typer.Option(min=2, max=1000, metavar="N", help="Draw N seeds from --seed on: <stem>.48k.seed<k>.<ext>."),
    ] = None,
    best: Annotated[bool, typer.Option("--best", help="Of --draws, keep the one nearest to the mean of all.")] = False,
    album: Annotated[
        bool,
        typer.Option("--album", help="The inputs are tracks in their order: one gain, one cutoff, joints restored."),
    ] = False,
) -> None:
    """Restore recordings; each comes back at 48 kHz as <stem>.48k.<ext> beside it unless told otherwise."""
    from latentsr.apps.draws import seeds_of, with_band, with_seeds
    from latentsr.apps.restore import check_clashes, plan

    if output is None and out_dir is None and len(inputs) == 2 and inputs[0].exists() and not inputs[1].exists():
        raise UsageError(f"{inputs[1]} is not there; to write the result to it, say -o {inputs[1]}")
    options = settings.decided()
    jobs = plan(inputs, output=output, out_dir=out_dir, format=options.format)
    if write_band is not None or draws is not None or best:
        _check_beside(options, write_band, draws, best)
    if album:
        _check_album(options, jobs, draws)
    if write_band is not None:
        jobs = with_band(jobs, write_band)
    if draws is not None:
        jobs = with_seeds(jobs, seeds_of(options, draws), best)
    check_clashes(jobs)
    if out_dir is not None:
        make_folder(out_dir)
    try:
        _restore_all(jobs, options, settings, album)
    except KeyboardInterrupt:  # typer would leave without a word
        fail("interrupted; nothing half-written is left", INTERRUPTED)


def _check_beside(options: Options, write_band: Path | None, draws: int | None, best: bool) -> None:
    """Refuse what goes with no other, before anything is read."""
    if best and draws is None:
        raise UsageError("--best keeps one of several draws; add --draws N")
    if write_band is not None and draws is not None:
        raise UsageError("--write-band is of one result; leave out --draws, and give its seed by --seed")
    if options.compat_filter is not None and (write_band or draws):
        raise UsageError("--compat does as audiosr does and takes no --write-band and no --draws; leave out one")


def _check_album(options: Options, jobs: Sequence[Job], draws: int | None) -> None:
    if len(jobs) == 1:
        raise UsageError("--album joins several tracks; name them in their order, or leave --album out")
    if draws is not None or options.compat_filter is not None:
        other = "--compat" if draws is None else "--draws"
        raise UsageError(f"--album and {other} do not go together; leave out one")


@grouped(app, short_help="Say what is installed, and what a model is made of.")
def info(
    model: Annotated[str | None, typer.Argument(help="Model folder; the embedded default if not given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as JSON.")] = False,
) -> None:
    """Say what is installed and what a model is made of, without loading its weights."""
    from latentsr.apps.info import ModelError, describe, lines

    try:
        facts = describe(model)
    except ModelError as error:
        fail(str(error), FAILED)
    print(json.dumps(facts) if as_json else "\n".join(lines(facts)))


@app.command(
    help="Train a stage of a model, or all of a recipe.",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False},
)
def train(context: typer.Context) -> None:
    from latentsr.apps.train import train_command

    raise typer.Exit(train_command(context.args))


def _register_lazy(name: str) -> None:
    module, function, text = LAZY[name]

    def forward(context: typer.Context) -> None:
        command = plain_app(add_completion=False)
        grouped(command, help=text)(getattr(import_module(module), function))
        typer.main.get_command(command).main(args=context.args, prog_name=f"latentsr {name}", standalone_mode=True)

    settings = {"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False}
    app.command(name, help=text, add_help_option=False, context_settings=settings)(forward)


for _name in LAZY:
    _register_lazy(_name)


def main() -> None:
    """The console script: one line for every failure, never a traceback (LATENTSR_DEBUG=1 shows it)."""
    # Threads that wait for work would spin, and take a busy machine's cores from those that have some. Read with torch.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # A polite kill unwinds the stack, so that the temporary file of the output is removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        app(prog_name="latentsr")
    except (Exception, MemoryError) as error:
        from latentsr.apps.restore import one_line

        fail(one_line(error), USAGE if isinstance(error, UsageError) else FAILED)


def _restore_all(jobs: list[Job], options: Options, settings: Settings, album: bool) -> None:
    """Check everything, then load the model once, then restore file by file, or an album as one."""
    from latentsr.apps.restore import FILE_ERRORS, failed_record, preflight

    ready, failed, as_json = [], 0, settings.as_json
    for job in jobs:
        try:
            source = preflight(job, options)
            if len(jobs) > 1:  # a system opens a thousand files at once, and no more
                source.release()
            ready.append((source, job))
        except FILE_ERRORS as error:
            failed += 1
            _report(failed_record(job.source, error), as_json)
    if album and failed:
        fail(f"{failed} of {len(jobs)} tracks cannot be restored, so the album was not", FAILED)
    records = _album(ready, options, settings) if album else _one_by_one(ready, options, settings)
    for record in records:
        failed += record.error is not None
        _report(record, as_json)
    if failed:
        if len(jobs) > 1 and not album:
            warn(f"{failed} of {len(jobs)} files failed")
        raise typer.Exit(FAILED if album or failed == len(jobs) else SOME_FAILED)


def _album(ready: list[tuple[SourceFile, Job]], options: Options, settings: Settings) -> list[Record]:
    from latentsr.apps.restore import restore_album
    from latentsr.audio import Album

    tracks, jobs = Album([source for source, _ in ready]), [job for _, job in ready]
    model = settings.loader()
    with nullcontext() if settings.as_json else progress_bar(f"{len(jobs)} tracks") as progress:
        return restore_album(model, tracks, jobs, options, progress, settings.as_json)


def _one_by_one(ready: list[tuple[SourceFile, Job]], options: Options, settings: Settings) -> Iterator[Record]:
    from latentsr.apps.draws import restore_best
    from latentsr.apps.restore import restore_file

    model = settings.loader() if ready else None
    for source, job in ready:
        assert model is not None
        with nullcontext() if settings.as_json else progress_bar(source.path.name) as progress:
            if len(job.seeds) > 1:
                record = restore_best(model, source, job.target, options, job.seeds, progress)
            else:
                asked = options.but(seed=job.seeds[0]) if job.seeds else options
                more: dict[str, Any] = {} if job.band is None else {"write_band": job.band}
                if settings.as_json and options.compat_filter is None:
                    more["bands"] = True
                record = restore_file(model, source, job.target, asked, progress, more)
        yield record


def _report(record: Record, as_json: bool) -> None:
    if as_json:
        print(json.dumps(record.to_dict()), flush=True)  # ASCII, so that any file name can be printed anywhere
    if record.error is not None:
        warn(record.error)
    elif not as_json and (made := record.written) is not None:
        facts = [f"{made.seconds:.1f} s in {record.seconds:.1f} s", _what(made, record.options)]
        if made.gain != 1.0:
            facts.append(f"scaled by {made.gain:.4f}")
        if (draws := record.draws) is not None:
            nearest, seeds = min(draws["distances_db"]), len(draws["seeds"])
            facts.append(f"seed {record.options.seed}, of {seeds} draws the nearest to their mean: {nearest:.2f} dB")
        read = "" if made.account is None else f"  read: {made.account.in_words()}"
        text = f"{record.input} -> {record.output}  ({', '.join(facts)}){read}"
        print(printable(text, sys.stdout.encoding), flush=True)
        if record.note is not None:
            warn(f"{record.output}: {record.note}")


def _what(made: RestoredFile, options: Options) -> str:
    """What was done to a recording: which band was made by what, or why none was."""
    if made.copied is not None:
        return f"{made.copied}: copied"
    top_hz = min(options.ceiling_hz or AUDIO.sample_rate / 2, made.sample_rate / 2)
    if made.cutoff_hz >= top_hz:
        done = [word for word, was in (("cleaned", options.denoise), ("repaired", any(made.holes_hz))) if was]
        return f"{_cutoffs(made)}: {' and '.join(done) or 'nothing made'}"
    return f"{_cutoffs(made)}: {made.head} made the band up to {top_hz / 1000:g} kHz"


def _cutoffs(made: RestoredFile) -> str:
    """Where a recording ends: one figure, or from where to where and in how many stretches of time."""
    values = [round(hz, 1) for channel in made.cutoff_track for _, hz in channel]
    if len(set(values)) < 2:
        return f"cutoff {made.cutoff_hz:.0f} Hz"
    stretches = len({round(start_s, 3) for channel in made.cutoff_track for start_s, _ in channel})
    span = f"cutoff {min(values):.0f} to {max(values):.0f} Hz"
    return f"{span} in {stretches} stretches" if stretches > 1 else f"{span} in {len(values)} channels"


if __name__ == "__main__":
    main()
