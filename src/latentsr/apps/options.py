"""The options that say how to restore, in one home for all commands that do. Importing this imports no torch."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer

if TYPE_CHECKING:
    from latentsr.apps.loading import Loader
    from latentsr.apps.restore import Options

NOT_COMPAT = ("head", "vocoder", "temperature", "denoise", "cutoff", "use_latents")  # what audiosr 0.0.7 has not
LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 1_000, 768_000


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


class OnNonfinite(str, Enum):
    """What to do with samples that are NaN or infinite."""

    ERROR = "error"
    ZERO = "zero"


def _finite(value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter("must be a finite number")
    return value


def _rate(text: str | None) -> str | None:
    if text is None or text == "source":
        return text
    if not (text.isascii() and text.isdigit() and len(text) <= 6 and LOWEST_RATE_HZ <= int(text) <= HIGHEST_RATE_HZ):
        raise typer.BadParameter(f"{text[:40]!r} is neither 'source' nor Hz from {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ}")
    return text


@dataclass(frozen=True)
class Settings:
    """What was asked for, as the command line has it."""

    model: Annotated[
        str | None,
        typer.Option(help="Model folder, hub id, or AudioSR checkpoint file; the embedded default if not given."),
    ] = None
    vocoder: Annotated[
        str | None,
        typer.Option(metavar="embedded|FOLDER", help="Take the vocoder of another model; AudioSR's is slow."),
    ] = None
    compat: Annotated[
        bool, typer.Option("--compat", help="What audiosr 0.0.7 computes, with its steps 50, guidance 3.5, seed 42.")
    ] = False
    compat_filter: Annotated[
        Filter | None, typer.Option(help="Its low-pass, which it draws at random; ellip if not given.")
    ] = None
    head: Annotated[
        str | None,
        typer.Option(help="What makes the wave: mamba-gan, vocoder, diffwave-mamba; the model's default if not given."),
    ] = None
    steps: Annotated[int | None, typer.Option(min=1, help="Diffusion steps; the model's default if not given.")] = None
    guidance: Annotated[
        float | None, typer.Option(min=0.0, callback=_finite, help="Classifier-free guidance; 1 is none.")
    ] = None
    temperature: Annotated[
        float | None,
        typer.Option(min=0.0, callback=_finite, help="Scales the initial noise; below 1 is nearer to the mean."),
    ] = None
    seed: Annotated[int, typer.Option(help="The same seed draws the same band.")] = 0
    denoise: Annotated[bool, typer.Option("--denoise", help="Also clean the low band of tones and hiss.")] = False
    cutoff: Annotated[
        float | None,
        typer.Option(
            callback=_finite,
            min=100.0,
            max=24_000.0,
            metavar="HZ",
            help="Where the recording ends; measured if not given.",
        ),
    ] = None
    use_latents: Annotated[bool, typer.Option("--use-latents", help="Let a Mamba head decode the latents.")] = False
    salvage: Annotated[
        bool, typer.Option("--salvage", help="Restore what can be decoded of a recording that is cut short.")
    ] = False
    on_nonfinite: Annotated[
        OnNonfinite, typer.Option(help="Refuse samples that are NaN or infinite, or put zeros there.")
    ] = OnNonfinite.ERROR
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps; CUDA where there is one.")] = None
    dtype: Annotated[Dtype | None, typer.Option(help="Type the networks run in.")] = None
    format: Annotated[Format | None, typer.Option(help="Format of the outputs; by their names if not given.")] = None
    sample_rate: Annotated[
        str | None,
        typer.Option(callback=_rate, metavar="HZ|source", help="Rate of the outputs; 48000 if not given."),
    ] = None
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")] = False
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per file on stdout, no progress bar.")] = (
        False
    )

    def options(self, given: set[str]) -> Options:
        """How to restore; raises `UsageError` for what --compat cannot do.

        Args:
            given: names of the settings that were given, and not left at their defaults.
        """
        from latentsr.apps.restore import COMPAT_FILTER, COMPAT_SEED, Options, UsageError

        if self.compat:
            self._check_compat(given)
        elif self.compat_filter is not None:
            raise UsageError("--compat-filter is of --compat; add that, or leave it out")
        rate: int | Literal["source"] | None = None
        if self.sample_rate is not None:
            rate = "source" if self.sample_rate == "source" else int(self.sample_rate)
        return Options(
            head=self.head,
            steps=self.steps,
            guidance_scale=self.guidance,
            temperature=self.temperature,
            seed=self.seed if "seed" in given or not self.compat else COMPAT_SEED,
            denoise=self.denoise,
            cutoff_hz=self.cutoff,
            use_latents=self.use_latents,
            sample_rate=rate,
            salvage=self.salvage,
            on_nonfinite=self.on_nonfinite.value,
            format=self.format.value if self.format else None,
            overwrite=self.overwrite,
            compat_filter=(self.compat_filter.value if self.compat_filter else COMPAT_FILTER) if self.compat else None,
        )

    def loader(self) -> Loader:
        """The model that was asked for."""
        from latentsr.apps.loading import Loader

        dtype = self.dtype.value if self.dtype else None
        return Loader(self.model, self.head, self.device, dtype, self.vocoder)

    def _check_compat(self, given: set[str]) -> None:
        from latentsr.apps.restore import UsageError

        if self.model is None:
            raise UsageError("--compat needs an AudioSR model; pass --model haoheliu/audiosr_basic, or yours")
        wrong = [f"--{name.replace('_', '-')}" for name in NOT_COMPAT if name in given]
        if wrong:
            raise UsageError(
                f"--compat does as audiosr does and takes no {', '.join(wrong)}; leave out one or the other"
            )


def takes_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command with a parameter `settings: Settings` have every field of it as an option of its own."""
    hints = get_type_hints(Settings, include_extras=True)
    names = [field.name for field in fields(Settings)]
    own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "settings"]
    shared = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in fields(Settings)
    ]

    @functools.wraps(command)
    def run(**words: Any) -> None:
        settings = Settings(**{name: words.pop(name) for name in names})
        command(**words, settings=settings)

    del run.__wrapped__  # typer would look behind the new signature
    run.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *shared)}
    return run


def given_in(context: typer.Context) -> set[str]:
    """The parameters that were given on the command line."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {name for name, source in sources.items() if source is not None and source.name != "DEFAULT"}
