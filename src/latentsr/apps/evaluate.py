"""`latentsr eval` and `latentsr spectrogram`. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from latentsr.apps.options import Threads
from latentsr.apps.terminal import FAILED, INTERRUPTED, USAGE, fail
from latentsr.errors import UsageError

NONE = "none"


def eval_command(
    context: typer.Context,
    ref_dir: Annotated[Path, typer.Argument(help="Folder of wide-band references, or of a data set known by name.")],
    dataset: Annotated[
        str,
        typer.Option(help="vctk, musdb18-hq, musdb18, esc-50 (their test recordings), folder, manifest, or auto."),
    ] = "auto",
    preset: Annotated[
        str | None,
        typer.Option(
            help="A paper's protocol: audiosr-table1, aeromamba-musdb or nuwave-vctk; options given beside it count."
        ),
    ] = None,
    cutoffs: Annotated[str, typer.Option(help="Cutoffs in Hz, separated by commas, or 'none'.")] = "4000,8000",
    rates: Annotated[
        str, typer.Option(help="Lower sampling rates in Hz, separated by commas: inputs at these rates too.")
    ] = NONE,
    filter_name: Annotated[
        str,
        typer.Option(
            "--filter",
            help="Separated by commas, each cutoff with each: cheby1, ellip, butter, boxcar, resampler; or a resampler "
            "down to twice the cutoff and back: soxr, soxr-hq, soxr-mq, soxr-lq, soxr-qq, scipy-poly, scipy-fft, swr.",
        ),
    ] = "cheby1",
    order: Annotated[int, typer.Option(help="Order of the filter.")] = 8,
    resampler: Annotated[
        str, typer.Option(help="What makes the inputs of --rates; separated by commas, each rate with each.")
    ] = "soxr",
    noise: Annotated[
        str,
        typer.Option(
            help="Separated by commas, a row each under every cutoff: none, tone, white, hum, clicks, crackle, "
            "mixture, clipping; and without a cutoff: telephone, mp3-RATE, vorbis-RATE, opus-RATE, in kb/s."
        ),
    ] = NONE,
    cases: Annotated[
        str | None,
        typer.Option(
            help="Files as others left them, by name, separated by commas, or 'all' or 'none': file-44k1, linear, "
            "bessel, quiet, codec-chain, ... [default: file-44k1 where no other condition is given]"
        ),
    ] = None,
    noise_amplitude: Annotated[
        str | None,
        typer.Option(
            help="Standard deviation of white noise, peak of the others, fundamental of hum; 1 is full scale; LOW-HIGH "
            "draws per clip. [default: tone, white and hum 0.02, clicks 0.2, crackle 0.05]"
        ),
    ] = None,
    noise_snr_db: Annotated[
        float | None, typer.Option(help="Instead: this far below the programme, under 0.8 x cutoff, dB.")
    ] = None,
    heads: Annotated[
        str | None,
        typer.Option(
            help="Heads to score, separated by commas; NAME+latents lets one decode latents; 'none' loads no model. "
            "[default: the model's]"
        ),
    ] = None,
    steps: Annotated[
        str | None,
        typer.Option(help="Steps, separated by commas: a row each for heads that take steps. [default: the model's]"),
    ] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance scale. [default: the model's]")] = None,
    temperature: Annotated[float | None, typer.Option(help="Of the initial noise. [default: the model's]")] = None,
    denoise: Annotated[bool, typer.Option("--denoise", help="Ask the heads to remove noise too.")] = False,
    use_latents: Annotated[bool, typer.Option("--use-latents", help="NAME+latents for every head.")] = False,
    known_cutoff: Annotated[bool, typer.Option("--known-cutoff", help="Tell the heads the true cutoff.")] = False,
    model: Annotated[str | None, typer.Option(help="Folder or hub id. [default: the embedded model]")] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(help="NAME=PATH, repeated: rows of each head for each model; PATH may be 'embedded'."),
    ] = None,
    device: Annotated[str, typer.Option(help="Where the model runs.")] = "cpu",
    threads: Threads = None,
    seed: Annotated[int, typer.Option(help="Seed of the noise, of the diffusion and of the bootstrap.")] = 0,
    limit: Annotated[int | None, typer.Option(help="Score at most this many clips of each group.")] = None,
    ceiling: Annotated[bool, typer.Option(help="Score the truth passed through VAE and vocoder.")] = True,
    visqol: Annotated[bool, typer.Option(help="Score ViSQOL too, half a second a clip and row.")] = True,
    zimtohrli: Annotated[bool, typer.Option(help="Score Zimtohrli too.")] = True,
    memory: Annotated[
        bool | None,
        typer.Option(
            "--memory/--no-memory", help="Measure each head's peak memory in a fresh process. [default: with --html]"
        ),
    ] = None,
    overall: Annotated[bool, typer.Option(help="Add rows of all clips together. [default: with --preset]")] = False,
    baseline: Annotated[
        str, typer.Option(help="The row that paired differences are from, by the name in the table.")
    ] = "unprocessed",
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes that score; figures do not depend on it. [default: the cores]")
    ] = None,
    outputs: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=DIR: score another system's files, DIR/<cutoff, cutoff-noise, codec, rate-RATE or case>/<path "
            "below REF_DIR>."
        ),
    ] = None,
    systems: Annotated[
        list[str] | None,
        typer.Option(
            "--system",
            metavar='NAME="CMD {in} {out}"',
            help="Run and time another system, once for each case: it reads the WAV file {in} and writes {out}. May be "
            "repeated.",
        ),
    ] = None,
    draws: Annotated[
        int | None,
        typer.Option(min=2, help="Ask heads that draw for so many seeds more, and say how their draws spread."),
    ] = None,
    write_inputs: Annotated[
        Path | None, typer.Option(help="Write the degraded inputs here, for another system to restore.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Write the table here as CSV.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write conditions, table and every clip's figures here.")] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html", "--report", help="Write one page with tables, pictures, players and a blind listening test."
        ),
    ] = None,
    html_clips: Annotated[int, typer.Option(min=0, help="Clips to listen to in the page.")] = 6,
) -> None:
    """Degrade references, restore them, and print how far the results are from the truth."""
    from latentsr.apps.evaluation_run import evaluate
    from latentsr.apps.options import given_in

    with one_line_errors():
        try:
            evaluate(dict(context.params), given_in(context), rerun_command(context))
        except KeyboardInterrupt:
            fail("interrupted; no table and no page was written", INTERRUPTED)


def rerun_command(context: typer.Context) -> str:
    """The command line that makes the same figures; folders and files by name, not by their place on this machine."""
    words = ["latentsr", "eval"]
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        if source is None or source.name == "DEFAULT":
            continue
        value = context.params[str(parameter.name)]
        if not parameter.opts[0].startswith("-"):
            words.append(_without_place(value))
        elif isinstance(value, bool):
            words.append(parameter.opts[0] if value else (parameter.secondary_opts or parameter.opts)[0])
        else:
            for each in value if isinstance(value, list | tuple) else [value]:
                of_command = parameter.name == "systems"
                shown = re.sub(r"""[^\s='"]*/""", "", each) if of_command else _without_place(each)
                words += [parameter.opts[0], shown]
    return shlex.join(words)


def _without_place(value: Any) -> str:
    name, equals, place = str(value).partition("=")
    if equals:
        return f"{name}={Path(place).name}"
    return value.resolve().name if isinstance(value, Path) else str(value)


def spectrogram_command(
    files: Annotated[list[Path], typer.Argument(help="Recordings, drawn one above the other in this order.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="PNG to write. [default: the first recording's name and .png]")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the PNG if it is there.")] = False,
) -> None:
    """Draw spectrograms of recordings, before and after, in one colour scale."""
    output = output or files[0].with_suffix(".png")
    with one_line_errors():
        if output.exists() and not overwrite:
            raise UsageError(f"{output} is there already; pass --overwrite to replace it")
        from latentsr.audio import read, resample
        from latentsr.evaluation import report

        audios = [read(path) for path in files]
        rate = max(audio.sample_rate for audio in audios)
        monos = [resample(audio.samples.mean(axis=0), audio.sample_rate, rate) for audio in audios]
        names = [
            f"{name} ({audio.sample_rate / 1000:g} kHz)" for name, audio in zip(_told_apart(files), audios, strict=True)
        ]
        report.spectrogram_png(list(zip(names, monos, strict=True)), output, rate)
    typer.echo(output)


def _told_apart(files: list[Path]) -> list[str]:
    """Names of files, with as many of their folders as it takes to tell them apart."""
    for parts in range(1, max(len(path.parts) for path in files) + 1):
        names = ["/".join(path.parts[-parts:]) for path in files]
        if len(set(names)) == len(set(files)):
            break
    return names


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Wrong values leave with 2, failures that the user can mend with 1; each says so in one line on stderr."""
    from latentsr.config import ConfigError

    try:
        yield
    except (ConfigError, UsageError) as error:
        fail(str(error), USAGE)
    except (ValueError, OSError, ImportError) as error:
        fail(str(error), FAILED)
