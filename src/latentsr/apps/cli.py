"""The command `latentsr`. Importing this imports no torch: `latentsr --help` answers at once.

Exit codes: 0 done; 1 the job failed (why, and what to do, in one line on stderr); 2 wrong usage;
3 some of several files failed, each named once, and the outputs of the others stay.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from latentsr import __version__

FAILED, USAGE, SOME_FAILED, INTERRUPTED = 1, 2, 3, 130
NOT_COMPAT = ("head", "vocoder", "temperature", "denoise", "cutoff", "use_latents")  # what audiosr 0.0.7 has not

app = typer.Typer(
    help="Restore sound: recordings that lost their top come back at 48 kHz, with what was there untouched.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

# Commands that live elsewhere and are imported when they are called: name -> (module, function, help).
LAZY = {
    "shard": ("latentsr.apps.shard", "shard_command", "Pack recordings into WebDataset shards to train from."),
    "convert": ("latentsr.apps.convert", "convert_command", "Make a model folder of an official AudioSR checkpoint."),
    "spectrogram": ("latentsr.apps.evaluate", "spectrogram_command", "Draw recordings before and after."),
    "eval": ("latentsr.apps.evaluate", "eval_command", "Cut wide-band recordings, restore them, and score the result."),
}


def _finite(value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter("must be a finite number")
    return value


class Format(str, Enum):
    """Formats that can be written."""

    WAV = "wav"
    FLAC = "flac"
    MP3 = "mp3"
    OGG = "ogg"
    OPUS = "opus"


class Filter(str, Enum):
    """Low-pass filters that audiosr draws from."""

    BUTTER = "butter"
    CHEBY1 = "cheby1"
    ELLIP = "ellip"
    BESSEL = "bessel"


class Dtype(str, Enum):
    """Types the networks can run in."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


@app.command()
def restore(
    context: typer.Context,
    inputs: Annotated[list[Path], typer.Argument(metavar="IN...", help="Recordings to restore.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The output of a single input.")] = None,
    out_dir: Annotated[Path | None, typer.Option(help="Write DIR/<input's name>; DIR is made.", metavar="DIR")] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Model folder, hub id, or AudioSR checkpoint file; the embedded default if not given."),
    ] = None,
    vocoder: Annotated[
        str | None,
        typer.Option(metavar="embedded|FOLDER", help="Take the vocoder of another model; AudioSR's is slow."),
    ] = None,
    compat: Annotated[
        bool, typer.Option("--compat", help="What audiosr 0.0.7 computes, with its steps 50, guidance 3.5, seed 42.")
    ] = False,
    compat_filter: Annotated[
        Filter | None, typer.Option(help="Its low-pass, which it draws at random; ellip if not given.")
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(help="What makes the wave: mamba-gan, vocoder, diffwave-mamba; the model's default if not given."),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Diffusion steps; the model's default if not given.")] = None,
    guidance: Annotated[
        float | None, typer.Option(min=0.0, callback=_finite, help="Classifier-free guidance; 1 is none.")
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(min=0.0, callback=_finite, help="Scales the initial noise; below 1 is nearer to the mean."),
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed draws the same band.")] = 0,
    denoise: Annotated[bool, typer.Option("--denoise", help="Also clean the low band of tones and hiss.")] = False,
    cutoff: Annotated[
        float | None,
        typer.Option(
            callback=_finite,
            min=100.0,
            max=24_000.0,
            metavar="HZ",
            help="Where the recording ends; measured if not given.",
        ),
    ] = None,
    use_latents: Annotated[bool, typer.Option("--use-latents", help="Let a Mamba head decode the latents.")] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps; CUDA where there is one.")] = None,
    dtype: Annotated[Dtype | None, typer.Option(help="Type the networks run in.")] = None,
    format: Annotated[Format | None, typer.Option(help="Format of the outputs; by their names if not given.")] = None,
    sample_rate: Annotated[
        int | None, typer.Option(min=1_000, max=768_000, metavar="HZ", help="Rate of the outputs; 48000 if not given.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per file on stdout, no progress bar.")
    ] = False,
) -> None:
    """Restore recordings; each comes back at 48 kHz as <stem>.48k.<ext> beside it unless told otherwise."""
    from latentsr.apps.restore import COMPAT_FILTER, COMPAT_SEED, Options, UsageError, plan

    given = _given(context)
    if compat:
        _check_compat(model, given)
    elif compat_filter is not None:
        raise UsageError("--compat-filter is of --compat; add that, or leave it out")
    options = Options(
        head=head,
        steps=steps,
        guidance_scale=guidance,
        temperature=temperature,
        seed=seed if "seed" in given or not compat else COMPAT_SEED,
        denoise=denoise,
        cutoff_hz=cutoff,
        use_latents=use_latents,
        sample_rate=sample_rate,
        format=format.value if format else None,
        overwrite=overwrite,
        compat_filter=(compat_filter.value if compat_filter else COMPAT_FILTER) if compat else None,
    )
    jobs = plan(inputs, output=output, out_dir=out_dir, format=options.format)
    if out_dir is not None:
        _make_folder(out_dir)

    def load() -> Any:
        return _load_pipeline(model, head, device, dtype.value if dtype else None, vocoder)

    _restore_all(jobs, options, load, as_json)


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
        _fail(str(error), FAILED)
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
    except KeyboardInterrupt:
        _fail("interrupted; nothing half-written is left", INTERRUPTED)
    except (Exception, MemoryError) as error:
        from latentsr.apps.restore import UsageError, one_line

        _fail(one_line(error), USAGE if isinstance(error, UsageError) else FAILED)


def _restore_all(jobs: list[Any], options: Any, load: Callable[[], Any], as_json: bool) -> None:
    """Check everything, then load the model once, then restore file by file."""
    from latentsr.apps.restore import FILE_ERRORS, Record, one_line, preflight, restore_file

    ready, failed = [], 0
    for job in jobs:
        try:
            preflight(job, options)
            ready.append(job)
        except FILE_ERRORS as error:
            failed += 1
            _report(Record(str(job.source), None, error=one_line(error, job.source)), as_json)
    pipe = load() if ready else None
    for job in ready:
        with _progress_bar(job.source.name, as_json) as progress:
            record = restore_file(pipe, job.source, job.target, options, progress)
        failed += record.error is not None
        _report(record, as_json)
    if failed:
        if len(jobs) > 1:
            _warn(f"{failed} of {len(jobs)} files failed")
        raise typer.Exit(FAILED if failed == len(jobs) else SOME_FAILED)


def _given(context: typer.Context) -> set[str]:
    """The parameters that were given on the command line."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {name for name, source in sources.items() if source is not None and source.name != "DEFAULT"}


def _check_compat(model: str | None, given: set[str]) -> None:
    """Raise `UsageError` for what --compat cannot do, before anything is loaded."""
    from latentsr.apps.restore import UsageError

    if model is None:
        raise UsageError("--compat needs an AudioSR model; pass --model haoheliu/audiosr_basic, or yours")
    wrong = [f"--{name.replace('_', '-')}" for name in NOT_COMPAT if name in given]
    if wrong:
        raise UsageError(f"--compat does as audiosr does and takes no {', '.join(wrong)}; leave out one or the other")


def _load_pipeline(
    model: str | None, head: str | None, device: str | None, dtype: str | None, vocoder: str | None = None
) -> Any:
    import torch

    from latentsr import Pipeline
    from latentsr.apps.restore import UsageError
    from latentsr.heads import HEADS
    from latentsr.pipeline import default_head

    if head is not None and head not in HEADS:
        raise UsageError(f"unknown head {head!r}; choose one of {', '.join(HEADS)}")
    if device is not None and device.partition(":")[0] == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            f"torch {torch.__version__} finds no CUDA device here; leave out --device, or say --device cpu"
        )
    pipe: Any
    torch_dtype = getattr(torch, dtype or "float32")
    if model is not None and Path(model).is_file():
        pipe = Pipeline.from_audiosr(model, vocoder=vocoder, torch_dtype=torch_dtype)
    else:
        pipe = Pipeline.from_pretrained(
            model, heads=[head or default_head(model)], vocoder=vocoder, torch_dtype=torch_dtype
        )
    pipe.set_progress_bar_config(disable=True)  # ours shows the real-time factor
    return pipe.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def _report(record: Any, as_json: bool) -> None:
    if as_json:
        print(json.dumps(record.to_dict()), flush=True)  # ASCII, so that any file name can be printed anywhere
    if record.error is not None:
        _warn(record.error)
    elif not as_json:
        gain = f", scaled by {record.gain:.4f}" if record.gain != 1.0 else ""
        text = (
            f"{record.input} -> {record.output}  ({record.duration_s:.1f} s in {record.seconds:.1f} s, "
            f"cutoff {record.cutoff_hz:.0f} Hz{gain})"
        )
        print(_printable(text, sys.stdout.encoding), flush=True)
        if record.note is not None:
            _warn(f"{record.output}: {record.note}")


@contextmanager
def _progress_bar(name: str, silent: bool) -> Iterator[Callable[[float, float], None] | None]:
    """A bar in seconds of audio on stderr, with the real-time factor and the time left."""
    if silent:
        yield None
        return
    from tqdm import tqdm  # type: ignore[import-untyped, unused-ignore]

    shape = "{desc} {percentage:3.0f}%|{bar}| {n:.1f}/{total:.1f} s [{elapsed}<{remaining}{postfix}]"
    label = _printable(name, getattr(sys.stderr, "encoding", None))
    terminal = sys.stderr.isatty()
    # A terminal sees it move and sees it go; a log file gets a line every ten seconds and the last one.
    how = {"mininterval": 0.1 if terminal else 10.0, "leave": not terminal, "file": sys.stderr}
    bars: list[Any] = []

    def progress(done_s: float, total_s: float) -> None:
        if not bars:  # nothing is drawn for a file that fails before its first sample
            bars.append(tqdm(total=total_s, desc=label, bar_format=shape, **how))
        bar = bars[0]
        if done_s > bar.n:
            bar.set_postfix_str(f"real-time factor {bar.format_dict['elapsed'] / done_s:.2f}", refresh=False)
            bar.update(min(done_s, total_s) - bar.n)

    try:
        yield progress
    finally:
        for bar in bars:
            bar.close()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _fail(f"cannot make the folder {folder}: {(error.strerror or str(error)).lower()}; choose another one", FAILED)


def _warn(text: str) -> None:
    print(_printable(f"latentsr: {' '.join(text.split())}", getattr(sys.stderr, "encoding", None)), file=sys.stderr)


def _fail(text: str, code: int) -> Any:
    _warn(text)
    sys.exit(code)


def _printable(text: str, encoding: str | None) -> str:
    """`text` with what this terminal cannot show escaped; file names need not be valid UTF-8."""
    return (
        os.fsencode(text)
        .decode("utf-8", "backslashreplace")
        .encode(encoding or "ascii", "backslashreplace")
        .decode(encoding or "ascii")
    )


if __name__ == "__main__":
    main()
