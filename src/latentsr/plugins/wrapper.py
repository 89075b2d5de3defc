"""A generator whose audio comes restored, and which is otherwise what it was."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any

import torch

from latentsr.config import AUDIO
from latentsr.plugins.samples import Samples, layout_of
from latentsr.plugins.upscaler import Upscaler

OPTIONS = "restore"  # keyword of a call that the wrapper keeps to itself: options of this one restoration


@dataclass(frozen=True)
class Call:
    """One call of a generator: what it was given, and how to restore what it made."""

    generator: Any
    arguments: Mapping[str, Any]  # by name
    upscaler: Upscaler
    sample_rate: int | None
    layout: str | None  # as the user said
    options: Mapping[str, Any]

    def restored(
        self, samples: Samples, layout: str | None = None, *, rate: float | None = None, lengths: Any = None
    ) -> Samples:
        """Samples at 48 kHz.

        Args:
            samples: what the generator made.
            layout: how two axes are read where the user said nothing.
            rate: of these samples, Hz, where the user gave none and the generator's configs none.
            lengths: of the items, where they are padded.
        """
        hz = self.sample_rate or rate
        if hz is None:
            raise ValueError(
                f"{self.upscaler.name} does not say at which rate its audio is; tell upscale: sample_rate=24_000, say"
            )
        axes = layout_of(samples, self.layout, layout)
        device = getattr(self.generator, "device", None)
        known = isinstance(device, torch.device)  # not whatever else a class may call its device
        return self.upscaler.restore(
            samples, hz, axes, lengths=lengths, device=device if known else None, **self.options
        )


@dataclass(frozen=True)
class Adapter:
    """How a kind of generator makes audio.

    Attributes:
        methods: by which; "__call__" is the call itself.
        convert: an output and its call -> the same output with restored audio.
        needs_rate: whether it is useless without a rate when it is wrapped.
    """

    methods: tuple[str, ...]
    convert: Callable[[Any, Call], Any]
    needs_rate: bool = True


class Upscaled:
    """A generator whose audio comes at 48 kHz; every other attribute and method is the generator's own.

    `upscaled.__wrapped__` is the generator itself. A call takes options of its own restoration as
    `restore={"seed": 3}`.
    """

    def __init__(
        self, generator: Any, adapter: Adapter, upscaler: Upscaler, sample_rate: int | None, layout: str | None
    ) -> None:
        state = {
            "__wrapped__": generator, "_adapter": adapter, "_upscaler": upscaler,
            "_sample_rate": sample_rate, "_layout": layout,
        }  # fmt: skip
        self.__dict__.update(state)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if "__call__" in self._adapter.methods:
            return self._run("__call__", *args, **kwargs)
        return self.__wrapped__(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "__wrapped__" not in self.__dict__:  # of copies and pickles in the making
            raise AttributeError(name)
        attribute = getattr(self.__wrapped__, name)
        if name in self._adapter.methods:
            return wraps(attribute)(partial(self._run, name))
        if inspect.ismethod(attribute) and attribute.__self__ is self.__wrapped__:
            return self._returning_itself(attribute)
        return attribute

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.__wrapped__, name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *dir(self.__wrapped__)})

    def __repr__(self) -> str:
        rate = f" at {self._sample_rate} Hz" if self._sample_rate else ""
        options = self._upscaler.options.in_words()
        return f"<{self._upscaler.name}{rate}, upscaled to {AUDIO.sample_rate} Hz{options and f' ({options})'}>"

    def _run(self, method: str, *args: Any, **kwargs: Any) -> Any:
        options = kwargs.pop(OPTIONS, {})
        if not isinstance(options, Mapping):
            raise TypeError(f"{OPTIONS} takes a mapping of options ({{'seed': 3}}), not {type(options).__name__}")
        self._upscaler.options.but(**options)  # a wrong one is refused before the generator has worked
        function = getattr(self.__wrapped__, method)
        call = Call(
            self.__wrapped__, _by_name(function, args, kwargs), self._upscaler, self._sample_rate, self._layout, options
        )
        return self._adapter.convert(function(*args, **kwargs), call)

    def _returning_itself(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """A method such as `to` or `eval` gives the generator back: then the wrapper comes in its place."""

        @wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            return self if result is self.__wrapped__ else result

        return call


def _by_name(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call by name, as far as the function's signature tells."""
    forward = getattr(getattr(function, "__self__", None), "forward", None)
    if forward is not None and getattr(function, "__name__", "") in ("__call__", "_wrapped_call_impl"):
        function = forward  # of a torch module, whose own __call__ takes anything
    try:
        bound = inspect.signature(function).bind_partial(*args, **kwargs).arguments
    except (TypeError, ValueError):  # no signature, or a call that fails anyway
        return dict(kwargs)
    return {**bound, **kwargs}
