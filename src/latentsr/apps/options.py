"""The options of the commands that restore, made of `latentsr.options.Options`. Importing this imports no torch."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import Field, dataclass, fields
from enum import Enum
from typing import Annotated, Any, Optional

import typer

from latentsr.apps.loading import Loader
from latentsr.dtypes import Dtype
from latentsr.errors import UsageError
from latentsr.head_kinds import DEFAULT_HEAD
from latentsr.options import COMPAT_FILTERS, SOURCE, Choice, Options, choice_of

# What audiosr 0.0.7 has not, by the names of Options; and what it draws for its seed.
NOT_COMPAT = (
    "head", "temperature", "denoise", "repair", "cutoff_hz", "use_latents", "mid_side", "amount", "tilt", "sibilance",
    "ceiling_hz", "no_floor",
)  # fmt: skip
COMPAT_FILTER, COMPAT_SEED = COMPAT_FILTERS[2], 42


Model = Annotated[
    Optional[str],  # noqa: UP045, typer reads annotations when they are made
    typer.Option(
        help="Take this model: a folder, a hub id, or an AudioSR checkpoint; without it, the embedded one.",
        rich_help_panel="Model",
    ),
]
Device = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="Run on cpu, cuda, cuda:1 or mps; without it, on CUDA where there is one.",
                 rich_help_panel="Model"),
]  # fmt: skip


Threads = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(
        min=1, max=1024, metavar="N", rich_help_panel="Model",
        help="Use so many CPU threads; without it, as many as there are cores, up to 4.",
    ),
]  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """What was asked for on a command line."""

    options: Options
    loader: Loader  # of the model that was asked for
    as_json: bool = False

    def decided(self) -> Options:
        """How to restore, its head decided and checked before anything is loaded."""
        compat, loader = self.options.compat_filter is not None, self.loader
        options = self.options.with_head(DEFAULT_HEAD if compat else loader.default_head())
        if loader.vocoder is not None and "vocoder" not in options.kind.components:
            raise UsageError(f"the {options.head} head has no vocoder; leave --vocoder out, or say --head vocoder")
        if loader.dtype not in (None, "float32") and options.kind.live:
            raise UsageError(f"the {options.head} head runs in float32 alone; leave --dtype out")
        return options


def takes_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command with a parameter `settings: Settings` take an option for every choice of a restoration."""
    signature = inspect.signature(command, eval_str=True)
    own = [p for p in signature.parameters.values() if p.name not in ("settings", "context")]
    shared = [*_MODEL.values(), *_CHOICES.values(), *_COMPAT.values(), _JSON]
    context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)

    @functools.wraps(command)
    def run(context: typer.Context, **words: Any) -> None:
        asked = {parameter.name: words.pop(parameter.name) for parameter in shared}
        command(**words, settings=_settings(asked, context))

    del run.__wrapped__  # typer would look behind the new signature
    every = [context, *own, *shared]
    run.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in every}
    return run


def given_in(context: typer.Context) -> set[str]:
    """The parameters that were given on the command line."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {name for name, source in sources.items() if source is not None and source.name != "DEFAULT"}


def _settings(asked: dict[str, Any], context: typer.Context) -> Settings:
    """What was asked for; raises `UsageError` where it makes no sense."""
    words = {name: value.value if isinstance(value, Enum) else value for name, value in asked.items()}
    choices = {name: words[name] for name in _CHOICES if words[name] is not None}
    if words["compat"]:
        given = given_in(context)
        _check_compat(words, given)
        choices["compat_filter"] = words["compat_filter"] or COMPAT_FILTER
        choices["seed"] = words["seed"] if "seed" in given else COMPAT_SEED
    elif words["compat_filter"] is not None:
        raise UsageError("--compat-filter works with --compat alone; add --compat, or leave --compat-filter out")
    loader = Loader(words["model"], words["head"], words["device"], words["dtype"], words["vocoder"], words["threads"])
    return Settings(Options(**choices), loader, words["as_json"])


def _check_compat(words: dict[str, Any], given: set[str]) -> None:
    if words["model"] is None:
        raise UsageError("--compat needs an AudioSR model; pass --model haoheliu/audiosr_basic, or yours")
    flags = {"vocoder": "--vocoder"} | {name: _flag(field) for name, field in _FIELDS.items()}
    wrong = [flags[name] for name in ("vocoder", *NOT_COMPAT) if name in given]
    if wrong:
        raise UsageError(f"--compat does as audiosr does and takes no {', '.join(wrong)}; leave out one or the other")


def _flag(field: Field[Any]) -> str:
    choice: Choice = field.metadata["choice"]
    return f"--{choice.flag or field.name.replace('_', '-')}"


def _parameter(field: Field[Any]) -> inspect.Parameter:
    """A choice of `Options` as an option of the command line."""
    choice: Choice = field.metadata["choice"]
    kind = _kind(field, choice)
    default = kind(field.default) if isinstance(field.default, str) else field.default
    if field.name == "amount":  # `Options` reads its words
        kind, default = str, None
    ranged = kind in (int, float) and field.name != "seed"  # the range of seeds says nothing to a reader
    span = f" [{choice.low:g} to {choice.high:g}]" if ranged else ""  # said here, checked by `Options` in one line
    option = typer.Option(
        _flag(field), help=choice.help + span, metavar=choice.metavar, rich_help_panel=choice.group,
        parser=_rate if field.name == "sample_rate" else None, show_default="100%" if field.name == "amount" else True,
    )  # fmt: skip
    annotation: Any = Annotated[kind if default is not None else Optional[kind], option]  # noqa: UP045
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _kind(field: Field[Any], choice: Choice) -> Any:
    """The type that typer reads a word as; a list of words is an enumeration there."""
    if field.name == "head":
        return str  # `Options` says which there are, in one line
    if choice.one_of:
        return Enum(field.name, [(word, word) for word in choice.one_of], type=str)
    if isinstance(field.default, bool) or field.name == "sample_rate":
        return type(field.default) if isinstance(field.default, bool) else str
    return int if field.name in ("steps", "seed", "track") else float


def _rate(text: str) -> int | str:
    """A rate in Hz, or the word for the recording's own."""
    low, high = int(_RATE.low or 0), int(_RATE.high or 0)
    if text == SOURCE:
        return SOURCE
    digits = text.isascii() and text.isdigit() and len(text) <= len(str(high))
    if not (digits and low <= int(text) <= high):
        raise typer.BadParameter(f"{text[:40]!r} is neither 'source' nor Hz from {low} to {high}")
    return int(text)


def _own(name: str, annotation: Any, default: Any = None) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


_RATE = choice_of("sample_rate")
_FIELDS = {field.name: field for field in fields(Options) if "choice" in field.metadata}
_CHOICES = {name: _parameter(field) for name, field in _FIELDS.items() if name != "compat_filter"}
_VOCODER = typer.Option(
    metavar="embedded|FOLDER", help="Take the vocoder of this model; AudioSR's own is slow.", rich_help_panel="Model"
)
_DTYPE = typer.Option(help="Run the networks in this type; without it, in float32.", rich_help_panel="Model")
_MODEL = {
    "model": _own("model", Model),
    "vocoder": _own("vocoder", Annotated[Optional[str], _VOCODER]),  # noqa: UP045
    "device": _own("device", Device),
    "dtype": _own("dtype", Annotated[Optional[Dtype], _DTYPE]),  # noqa: UP045
    "threads": _own("threads", Threads),
}
_COMPAT_HELP = "Compute what audiosr 0.0.7 does, with its 50 steps, guidance 3.5 and seed 42."
_COMPAT = {
    "compat": _own("compat", Annotated[bool, typer.Option("--compat", help=_COMPAT_HELP, rich_help_panel="AudioSR")],
                   False),
    "compat_filter": _parameter(_FIELDS["compat_filter"]),
}  # fmt: skip
_JSON = _own(
    "as_json",
    Annotated[bool, typer.Option("--json", help="Print one JSON object per file, and no progress bar.",
                                 rich_help_panel="Output")],
    False,
)  # fmt: skip
