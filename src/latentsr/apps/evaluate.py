"""`latentsr eval` and `latentsr spectrogram`. Nothing heavy is imported before a command runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from latentsr.evaluation.benchmark import Clip, System
    from latentsr.evaluation.conditions import Conditions

NONE = "none"


def eval_command(
    ref_dir: Annotated[Path, typer.Argument(help="Folder of wide-band references, searched recursively.")],
    cutoffs: Annotated[str, typer.Option(help="Cutoffs in Hz, separated by commas, or 'none'.")] = "4000,8000",
    rates: Annotated[
        str, typer.Option(help="Lower sampling rates in Hz, separated by commas: inputs at these rates too.")
    ] = NONE,
    filter_name: Annotated[str, typer.Option("--filter", help="cheby1, ellip, butter or boxcar.")] = "cheby1",
    order: Annotated[int, typer.Option(help="Order of the filter.")] = 8,
    noise: Annotated[
        str,
        typer.Option(
            help="Separated by commas, a row each under every cutoff: none, tone, white, hum, clicks, crackle, "
            "mixture, clipping; and without a cutoff: telephone, mp3-RATE, vorbis-RATE, opus-RATE, in kb/s."
        ),
    ] = NONE,
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
        str,
        typer.Option(
            help="Heads to score, separated by commas; NAME+latents lets one decode latents; 'none' loads no model."
        ),
    ] = "vocoder",
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
    device: Annotated[str, typer.Option(help="Where the model runs.")] = "cpu",
    seed: Annotated[int, typer.Option(help="Seed of the noise and of the diffusion.")] = 0,
    limit: Annotated[int | None, typer.Option(help="Score at most this many clips of each group.")] = None,
    ceiling: Annotated[bool, typer.Option(help="Score the truth passed through VAE and vocoder.")] = True,
    visqol: Annotated[bool, typer.Option(help="Score ViSQOL too, about 3 s a clip and row.")] = True,
    outputs: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=DIR: score another system's files, DIR/<cutoff, cutoff-noise, codec or rate-RATE>/<path below "
            "REF_DIR>."
        ),
    ] = None,
    write_inputs: Annotated[
        Path | None, typer.Option(help="Write the degraded inputs here, for another system to restore.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Write the table here as CSV.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write conditions, table and every clip's figures here.")] = None,
) -> None:
    """Degrade references, restore them, and print how far the results are from the truth."""
    from rich.console import Console
    from rich.progress import track

    from latentsr.config import build
    from latentsr.evaluation import benchmark, metrics, report
    from latentsr.evaluation.conditions import Conditions

    values = {
        "cutoffs_hz": [] if cutoffs == NONE else _numbers(cutoffs, float, "--cutoffs"),
        "rates_hz": [] if rates == NONE else _numbers(rates, int, "--rates"),
        "filter": filter_name,
        "order": order,
        "noise": noise,
        "noise_amplitude": noise_amplitude,
        "noise_snr_db": noise_snr_db,
        "seed": seed,
        "known_cutoff": known_cutoff,
        "limit": limit,
    }
    step_counts = [None] if steps is None else _numbers(steps, int, "--steps")
    options = {"guidance_scale": guidance, "temperature": temperature, "denoise": denoise, "use_latents": use_latents}
    asked = {
        name: value for name, value in options.items() if value is not None and value is not False
    }  # the pipeline's defaults stay its own
    with _one_line_errors():
        _make_folders(csv, json)
        conditions = build(Conditions, values, where="eval")
        clips = benchmark.find_clips(ref_dir, limit)
        systems = [benchmark.unprocessed(), *_foreign(outputs or [], clips, conditions)]
        about: dict[str, Any] = {"model": None}
        if heads != NONE:
            rows, about = _load_rows(
                model, [head.strip() for head in heads.split(",")], step_counts, device, ceiling, conditions, asked
            )
            systems += rows
        if visqol and not metrics.visqol_installed():
            typer.echo("ViSQOL is n/a: install it with pip install 'latentsr[eval]'", err=True)
        console = Console(stderr=True)
        bar = track(clips, "scoring", console=console, disable=not console.is_terminal)
        records = benchmark.run(bar, systems, conditions, visqol=visqol, inputs_dir=write_inputs)
        summary = report.summarise(records)
        described = report.describe(conditions, {"references": ref_dir.name, "visqol": visqol, **about, **asked})
        if csv is not None:
            report.write_csv(csv, summary, described)
        if json is not None:
            report.write_json(json, summary, records, described)
    typer.echo(report.format_table(summary))
    typer.echo(report.format_conditions(described))


def spectrogram_command(
    files: Annotated[list[Path], typer.Argument(help="Recordings, drawn one above the other in this order.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="PNG to write.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the PNG if it is there.")] = False,
) -> None:
    """Draw spectrograms of recordings, before and after, in one colour scale."""
    if output.exists() and not overwrite:
        raise typer.BadParameter(f"{output} is there already; pass --overwrite to replace it")
    with _one_line_errors():
        from latentsr.evaluation import report
        from latentsr.signal.audio import read, resample

        audios = [read(path) for path in files]
        rate = max(audio.sample_rate for audio in audios)
        monos = [resample(audio.samples.mean(axis=0), audio.sample_rate, rate) for audio in audios]
        names = [f"{path.name} ({audio.sample_rate / 1000:g} kHz)" for path, audio in zip(files, audios, strict=True)]
        report.spectrogram_png(dict(zip(names, monos, strict=True)), output, rate)


def _load_rows(
    model: str | None,
    heads: list[str],
    step_counts: list[int | None],
    device: str,
    ceiling: bool,
    conditions: Conditions,
    asked: dict[str, Any],
) -> tuple[list[System], dict[str, Any]]:
    """Rows of the pipeline's heads, and which model they are."""
    import torch

    from latentsr.config import AUDIO
    from latentsr.evaluation import benchmark
    from latentsr.pipeline import Pipeline

    pipe = Pipeline.from_pretrained(model, heads=[head.removesuffix(benchmark.LATENTS) for head in heads]).to(device)
    pipe.set_progress_bar_config(disable=True)
    asked = {"seed": conditions.seed, **asked}
    rows = benchmark.head_rows(pipe, heads, step_counts, conditions.known_cutoff, asked)
    if ceiling:
        pipe.reconstruct(torch.zeros(1, 1, AUDIO.sample_rate))  # loads what no head has loaded, untimed
        rows.append(benchmark.ceiling(pipe.reconstruct))
    about = {
        "model": Path(model).name if model else "embedded",
        "device": device,
        "model_sha256": benchmark.model_hash(pipe.components.items()),
    }
    return rows, about


def _foreign(words: list[str], clips: list[Clip], conditions: Conditions) -> list[System]:
    from latentsr.evaluation import benchmark

    pairs = [word.partition("=") for word in words]
    for name, _, folder in pairs:
        if not (name and folder):
            raise typer.BadParameter(f"--outputs takes NAME=DIR, got {name!r}")
    return [benchmark.outputs(name, Path(folder), clips, conditions) for name, _, folder in pairs]


def _numbers(text: str, kind: type, option: str) -> list[Any]:
    try:
        return [kind(word) for word in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{option} takes numbers separated by commas, got {text!r}") from None


def _make_folders(*paths: Path | None) -> None:
    """Before hours of scoring, not after."""
    for path in paths:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Wrong values leave with 2, failures that the user can mend with 1; each says so in one line on stderr."""
    from latentsr.config import ConfigError

    try:
        yield
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from None
    except (ValueError, OSError, ImportError) as error:
        typer.echo(f"latentsr: {error}", err=True)
        raise typer.Exit(1) from None
