"""Typed, closed configuration: the one home of the sampling rate, the STFT and the mel scale.

Every config is a frozen pydantic model. An unknown key is an error that names the nearest known
one; files are read as plain YAML values, overridden with dotted `key=value` words and written
back resolved beside every run.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError


class Config(BaseModel):
    """Base of all configs: frozen, and closed against unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


MAX_FILE_BYTES = 2**20
MAX_FAULTS = 20  # of a config that are named


class AudioConfig(Config):
    """Sampling rate, STFT and mel scale (AudioSR's front end, arXiv 2309.07314)."""

    sample_rate: int = 48_000  # Hz
    n_fft: int = 2048  # samples; the Hann window is as long
    hop_length: int = 480  # samples = 10 ms
    n_mels: int = 256  # Slaney bands
    fmin_hz: float = 20.0
    fmax_hz: float = 24_000.0
    floor: float = 1e-5  # smallest mel magnitude before the logarithm

    @property
    def frames_per_second(self) -> float:
        return self.sample_rate / self.hop_length

    @property
    def padding(self) -> int:
        """Reflected samples at each end, so that T samples give T / hop_length frames."""
        return (self.n_fft - self.hop_length) // 2


AUDIO = AudioConfig()

C = TypeVar("C", bound=Config)


class ConfigError(ValueError):
    """A config that cannot be used; the message names the key and the remedy."""


def build(cls: type[C], values: dict[str, Any], where: str = "config") -> C:
    """Validate `values` into `cls`; raise `ConfigError` naming each bad key and its near match."""
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        faults = error.errors()[:MAX_FAULTS]
        raise ConfigError(f"{where}: " + "; ".join(_explain(cls, fault) for fault in faults)) from None


def load(cls: type[C], path: str | Path, overrides: Iterable[str] = ()) -> C:
    """Read a YAML file into `cls`, after applying `dotted.key=value` overrides."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read config {path}: {error.strerror}; pass --config FILE.yaml") from None
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError(f"{path} has more than {MAX_FILE_BYTES} bytes, which is no config; pass --config FILE.yaml")
    try:
        values = parse(content.decode("utf-8-sig")) or {}
    except ValueError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold a mapping of keys, got {type(values).__name__}")
    for word in overrides:
        _override(values, word)
    return build(cls, values, where=str(path))


def parse(text: str) -> Any:
    """What a YAML text says; plain values alone. ValueError where it is none.

    Aliases are refused: a few lines of them can stand for more values than memory has.
    """
    try:
        return yaml.load(text, Loader=_PlainLoader)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (yaml.YAMLError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(str(error)) from None


def dump(config: Config, path: str | Path) -> None:
    """Write the resolved config as YAML."""
    Path(path).write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), encoding="utf-8")


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Lines `key: old -> new` for every leaf that differs, to show when a run is resumed."""
    lines = []
    for key in sorted(old.keys() | new.keys()):
        a, b, name = old.get(key), new.get(key), f"{prefix}{key}"
        if isinstance(a, dict) and isinstance(b, dict):
            lines += differences(a, b, f"{name}.")
        elif a != b:
            lines.append(f"{name}: {a!r} -> {b!r}")
    return lines


class _PlainLoader(yaml.SafeLoader):
    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError(f"aliases (*{self.peek_event().anchor}) are not read; write the value out")
        return super().compose_node(parent, index)


def parse_word(word: str) -> tuple[str, Any]:
    """The dotted key and the value of `key=value`."""
    key, equals, text = word.partition("=")
    if not equals or not key:
        raise ConfigError(f"override {word!r} is not of the form key=value")
    try:
        return key, parse(text)
    except ValueError:
        raise ConfigError(f"override {word!r}: the value is not valid YAML") from None


def _override(values: dict[str, Any], word: str) -> None:
    key, value = parse_word(word)
    *parents, leaf = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise ConfigError(f"override {word!r}: {parent!r} holds a value, not a section")
    values[leaf] = value


def _explain(cls: type[Config], error: Any) -> str:
    path = ".".join(str(part)[:60] for part in error["loc"])
    if error["type"] != "extra_forbidden":
        return f"{path}: {error['msg'].removeprefix('Value error, ')} (got {reprlib.repr(error['input'])})"
    known = _fields_at(cls, error["loc"][:-1])
    near = difflib.get_close_matches(str(error["loc"][-1])[:60], known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known) or 'none'}"
    return f"{path}: unknown key; {hint}"


def _fields_at(cls: type[Config], parents: tuple[Any, ...]) -> list[str]:
    for name in parents:
        field = cls.model_fields.get(str(name))
        annotation = field.annotation if field else None
        if not (isinstance(annotation, type) and issubclass(annotation, Config)):
            return []
        cls = annotation
    return list(cls.model_fields)
