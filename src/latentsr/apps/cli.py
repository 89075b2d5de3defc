"""The command `latentsr`. Importing this imports no torch: `latentsr --help` answers at once.

Exit codes: 0 done; 1 the job failed (why, and what to do, in one line on stderr); 2 wrong usage;
3 some of several files failed, each named once, and the outputs of the others stay.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from latentsr import __version__
from latentsr.apps.loading import load_pipeline as _load_pipeline
from latentsr.apps.options import Settings, given_in, takes_settings
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

app = typer.Typer(
    help="Restore sound: recordings that lost their top come back at 48 kHz, with what was there untouched.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

# Commands that live elsewhere and are imported when they are called: name -> (module, function, help).
LAZY = {
    "batch": ("latentsr.apps.batch.command", "batch_command", "Restore an archive, over kills and bad files."),
    "shard": ("latentsr.apps.shard", "shard_command", "Pack recordings into WebDataset shards to train from."),
    "convert": ("latentsr.apps.convert", "convert_command", "Make a model folder of an official AudioSR checkpoint."),
    "export": ("latentsr.apps.export", "export_command", "Write networks as ONNX, for onnxruntime without torch."),
    "spectrogram": ("latentsr.apps.evaluate", "spectrogram_command", "Draw recordings before and after."),
    "eval": ("latentsr.apps.evaluate", "eval_command", "Cut wide-band recordings, restore them, and score the result."),
    "demo": ("latentsr.apps.web.command", "demo_command", "Serve a page to restore recordings in a browser."),
}


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


@app.command()
@takes_settings
def restore(
    context: typer.Context,
    inputs: Annotated[list[Path], typer.Argument(metavar="IN...", help="Recordings to restore.")],
    settings: Settings,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The output of a single input.")] = None,
    out_dir: Annotated[Path | None, typer.Option(help="Write DIR/<input's name>; DIR is made.", metavar="DIR")] = None,
) -> None:
    """Restore recordings; each comes back at 48 kHz as <stem>.48k.<ext> beside it unless told otherwise."""
    from latentsr.apps.restore import plan

    options = settings.options(given_in(context))
    jobs = plan(inputs, output=output, out_dir=out_dir, format=options.format)
    if out_dir is not None:
        make_folder(out_dir)
    model = settings.loader()

    def load() -> Any:
        return _load_pipeline(model.model, model.head, model.device, model.dtype, model.vocoder)

    try:
        _restore_all(jobs, options, load, settings.as_json)
    except KeyboardInterrupt:  # typer would leave without a word
        fail("interrupted; nothing half-written is left", INTERRUPTED)


@app.command()
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


def _register_lazy(name: str) -> None:
    module, function, text = LAZY[name]

    def forward(context: typer.Context) -> None:
        command = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
        command.command(help=text)(getattr(import_module(module), function))
        typer.main.get_command(command).main(args=context.args, prog_name=f"latentsr {name}", standalone_mode=True)

    settings = {"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False}
    app.command(name, help=text, add_help_option=False, context_settings=settings)(forward)


for _name in LAZY:
    _register_lazy(_name)


def main() -> None:
    """The console script: one line for every failure, never a traceback (LATENTSR_DEBUG=1 shows it)."""
    # A polite kill unwinds the stack, so that the temporary file of the output is removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        app(prog_name="latentsr")
    except (Exception, MemoryError) as error:
        from latentsr.apps.restore import UsageError, one_line

        fail(one_line(error), USAGE if isinstance(error, UsageError) else FAILED)


def _restore_all(jobs: list[Any], options: Any, load: Callable[[], Any], as_json: bool) -> None:
    """Check everything, then load the model once, then restore file by file."""
    from latentsr.apps.restore import FILE_ERRORS, failed_record, preflight, restore_file

    ready, failed = [], 0
    for job in jobs:
        try:
            preflight(job, options)
            ready.append(job)
        except FILE_ERRORS as error:
            failed += 1
            _report(failed_record(job.source, error), as_json)
    pipe = load() if ready else None
    for job in ready:
        with progress_bar(job.source.name, as_json) as progress:
            record = restore_file(pipe, job.source, job.target, options, progress)
        failed += record.error is not None
        _report(record, as_json)
    if failed:
        if len(jobs) > 1:
            warn(f"{failed} of {len(jobs)} files failed")
        raise typer.Exit(FAILED if failed == len(jobs) else SOME_FAILED)


def _report(record: Any, as_json: bool) -> None:
    if as_json:
        print(json.dumps(record.to_dict()), flush=True)  # ASCII, so that any file name can be printed anywhere
    if record.error is not None:
        warn(record.error)
    elif not as_json:
        gain = f", scaled by {record.gain:.4f}" if record.gain != 1.0 else ""
        text = (
            f"{record.input} -> {record.output}  ({record.duration_s:.1f} s in {record.seconds:.1f} s, "
            f"cutoff {record.cutoff_hz:.0f} Hz{gain})"
        )
        print(printable(text, sys.stdout.encoding), flush=True)
        if record.note is not None:
            warn(f"{record.output}: {record.note}")


if __name__ == "__main__":
    main()
