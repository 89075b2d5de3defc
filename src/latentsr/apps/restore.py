"""One file in, one restored file out: shared by `latentsr restore` and whatever runs many of them.

Importing this imports no torch; the pipeline is an argument.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from latentsr.config import AUDIO
from latentsr.signal import audio
from latentsr.signal.audio import AudioError

if TYPE_CHECKING:  # it imports torch
    from latentsr.files import RestoredFile

COMPAT_FILTER, COMPAT_SEED = "ellip", 42  # audiosr's own: what it draws for its seed

# What one file can die of without harm to the next: bad media, a bad request, too little memory, a full disk.
FILE_ERRORS = (ValueError, RuntimeError, OSError, MemoryError)


class UsageError(ValueError):
    """A request that makes no sense, noticed before any work is done."""


@dataclass(frozen=True)
class Options:
    """How to restore; the same words as `Pipeline.__call__`, and how to write."""

    head: str | None = None  # None: the model's default
    steps: int | None = None
    guidance_scale: float | None = None
    temperature: float | None = None
    seed: int = 0
    denoise: bool = False
    cutoff_hz: float | None = None
    use_latents: bool = False
    sample_rate: int | Literal["source"] | None = None  # of the output, Hz, or the source's own; None = the pipeline's
    salvage: bool = False  # restore what can be decoded of a recording that is cut short
    on_nonfinite: Literal["error", "zero"] = "error"  # samples of the input that are NaN or infinite
    format: str | None = None  # None = by the output's extension
    overwrite: bool = False
    compat_filter: str | None = None  # not None: as audiosr 0.0.7 does, with this low-pass


@dataclass(frozen=True)
class Job:
    """A file to restore and where to."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Record:
    """What became of one file; `error` is None where it went well."""

    input: str
    output: str | None
    error: str | None = None
    error_type: str | None = None  # its class: TruncatedAudio, ...
    cutoff_hz: float | None = None  # estimated or given; per file
    duration_s: float | None = None  # of the audio
    seconds: float | None = None  # of work, model loading not counted
    real_time_factor: float | None = None  # seconds of work per second of audio
    sample_rate: int | None = None
    channels: int | None = None
    samples: int | None = None
    subtype: str | None = None
    gain: float | None = None  # 1.0 unless an input above full scale had to be scaled into PCM
    note: str | None = None  # what should be known of the result
    lines_hz: list[float] | None = None  # steady tones that --denoise took out
    head: str | None = None
    seed: int | None = None
    compat_filter: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Everything that is known, for JSON."""
        known = {key: value for key, value in dataclasses.asdict(self).items() if value is not None}
        return {"input": self.input, "output": self.output, **known}


def plan(
    sources: Iterable[Path], *, output: Path | None = None, out_dir: Path | None = None, format: str | None = None
) -> list[Job]:
    """Where each file goes; raises `UsageError` for clashes before anything is started.

    Args:
        sources: the inputs.
        output: the one output of one input.
        out_dir: the folder of all outputs, each under its input's name.
        format: the extension of the outputs, where their names do not give it.

    Returns:
        One job per input, in order.
    """
    sources = list(sources)
    _check_output(output, format)
    if output is not None and out_dir is not None:
        raise UsageError("give either -o or --out-dir, not both")
    if output is not None and len(sources) > 1:
        raise UsageError(f"-o names one file, but there are {len(sources)} inputs; use --out-dir")
    jobs = [Job(source, output or _target(source, out_dir, format)) for source in sources]
    inputs = {key: source for source in sources if (key := file_id(source)) is not None}
    taken: dict[str, Path] = {}
    for job in jobs:
        clash = inputs.get(file_id(job.target) or (-1, -1))
        if clash is not None:
            which = "the input itself" if clash == job.source else f"the input {clash}"
            raise UsageError(f"the output of {job.source} would replace {which}; name another with -o or --out-dir")
        other = taken.setdefault(_name_id(job.target), job.source)
        if other is not job.source:
            raise UsageError(f"{other} and {job.source} would both be written to {job.target}; restore them separately")
    return jobs


def preflight(job: Job, options: Options) -> None:
    """Raise `AudioError` for what can be known before a model is loaded: no such file, no room to write."""
    info = audio.probe(job.source, salvage=options.salvage)
    name = audio.container(job.target, options.format)
    rate_hz = _output_rate(options, info.sample_rate)
    audio.check_format(job.target, name, audio.choose_subtype(name, info.subtype), info.channels, rate_hz)
    audio.check_writable(job.target, overwrite=options.overwrite)


def restore_file(
    pipe: Any,
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    options: Options = Options(),
    progress: Callable[[float, float], None] | None = None,
) -> Record:
    """Restore one file; what goes wrong with it is in the record, not raised.

    Args:
        pipe: a `latentsr.Pipeline`.
        source: the recording.
        target: where the result goes: written whole or not at all.
        options: how.
        progress: called with (seconds done, seconds in all) of audio.

    Returns:
        What was written, or why nothing was.
    """
    source, target = Path(source), Path(target)
    try:
        return _restore(pipe, source, target, options, progress)
    except FILE_ERRORS as error:
        return failed_record(source, error)


def failed_record(source: Path, error: BaseException) -> Record:
    """The record of a file that could not be restored."""
    return Record(str(source), None, error=one_line(error, source), error_type=type(error).__name__)


def one_line(error: BaseException, path: Path | None = None) -> str:
    """What went wrong in one line; errors that are not ours are named, with the file they happened on."""
    text = " ".join(str(error).split())
    if type(error).__module__.partition(".")[0] == "latentsr":  # ours say what is wrong and what to do
        return text
    if os.environ.get("LATENTSR_DEBUG"):
        raise error
    where = f"{path}: " if path is not None else ""
    return f"{where}{type(error).__name__}: {text or 'no message'} (LATENTSR_DEBUG=1 shows where)"


def _restore(
    pipe: Any, source: Path, target: Path, options: Options, progress: Callable[[float, float], None] | None
) -> Record:
    started = time.perf_counter()
    if options.compat_filter is not None:
        written = _compat(pipe, source, target, options, progress)
    else:
        written = _restore_in_blocks(pipe, source, target, options, progress)
    seconds = time.perf_counter() - started
    return Record(
        input=str(source),
        output=str(target),
        cutoff_hz=round(float(written.cutoff_hz), 1),
        duration_s=round(written.seconds, 6),
        seconds=round(seconds, 3),
        real_time_factor=round(seconds / written.seconds, 4),
        sample_rate=written.sample_rate,
        channels=written.channels,
        samples=written.samples,
        subtype=written.subtype,
        gain=written.gain,
        note="; ".join(written.notes) or None,
        lines_hz=[round(hz, 2) for hz in written.lines_hz] or None,
        head=_head(pipe, options),
        seed=options.seed,
        compat_filter=options.compat_filter,
    )


def _restore_in_blocks(
    pipe: Any, source: Path, target: Path, options: Options, progress: Callable[[float, float], None] | None
) -> RestoredFile:
    return pipe.restore_file(
        source,
        target,
        head=_head(pipe, options),
        steps=options.steps,
        guidance_scale=options.guidance_scale,
        temperature=options.temperature,
        seed=options.seed,
        denoise=options.denoise,
        cutoff_hz=options.cutoff_hz,
        use_latents=options.use_latents,
        sample_rate=options.sample_rate,
        format=options.format,
        overwrite=options.overwrite,
        salvage=options.salvage,
        on_nonfinite=options.on_nonfinite,
        progress=progress,
    )


def _compat(
    pipe: Any, source: Path, target: Path, options: Options, progress: Callable[[float, float], None] | None
) -> RestoredFile:
    """The compat preset, which has defaults of its own for what is None, and holds the whole recording in memory."""
    from latentsr.files import RestoredFile

    info = audio.probe(source)
    given = {"steps": options.steps, "guidance_scale": options.guidance_scale}
    settings = {name: value for name, value in given.items() if value is not None}
    out = pipe.compat(source, filter=options.compat_filter, seed=options.seed, progress=progress, **settings)
    rate_hz, name = _output_rate(options, info.sample_rate), audio.container(target, options.format)
    gain = out.save(target, overwrite=options.overwrite, format=name, sample_rate=rate_hz)
    channels, samples = out.audio.shape
    return RestoredFile(
        path=target,
        sample_rate=rate_hz,
        channels=channels,
        samples=audio.output_length(samples, out.sample_rate, rate_hz),
        subtype=audio.choose_subtype(name, info.subtype),
        cutoff_hz=out.cutoff_hz,
        seconds=samples / out.sample_rate,
        gain=gain,
        notes=(out.note,) if out.note else (),
    )


def _output_rate(options: Options, source_hz: int) -> int:
    return source_hz if options.sample_rate == "source" else options.sample_rate or AUDIO.sample_rate


def _head(pipe: Any, options: Options) -> str:
    return options.head or pipe.config.default_head


def _check_output(output: Path | None, format: str | None) -> None:
    if output is None:
        return
    if output.is_dir():
        raise UsageError(f"-o names one file, and {output} is a directory; use --out-dir {output}")
    if format is not None and output.suffix and output.suffix.lower() != f".{format}":
        raise UsageError(f"-o {output} and --format {format} disagree; leave one out")
    try:
        audio.container(output, format)
    except AudioError as error:
        raise UsageError(str(error)) from None


def _target(source: Path, out_dir: Path | None, format: str | None) -> Path:
    extension = format or writable_extension(source)
    if out_dir is not None:
        return out_dir / f"{source.stem}.{extension}"
    return source.with_name(f"{source.stem}.{AUDIO.sample_rate // 1000}k.{extension}")


def writable_extension(source: Path) -> str:
    """The input's own extension where that can be written, else flac (m4a, wma, video, no extension)."""
    extension = source.suffix.removeprefix(".")
    try:
        audio.container(source)
    except AudioError:
        return "flac"
    return extension


def file_id(path: Path) -> tuple[int, int] | None:
    """Equal for two names of one existing file; None where there is none."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _name_id(path: Path) -> str:
    """Equal for two names that could become one file, on file systems that ignore case too."""
    try:
        return str(path.resolve()).casefold()
    except (OSError, ValueError, RuntimeError):
        return str(path.absolute()).casefold()
