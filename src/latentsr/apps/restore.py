"""One file in, one restored file out: shared by `latentsr restore` and whatever runs many of them.

Importing this imports no torch; the pipeline is an argument.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import latentsr.audio as audio
from latentsr.audio import AudioError
from latentsr.config import AUDIO
from latentsr.errors import UsageError
from latentsr.options import Options

if TYPE_CHECKING:  # it imports torch
    from latentsr.restoring.files import RestoredFile
    from latentsr.restoring.flow import Restores

# What one file can die of without harm to the next: bad media, a bad request, too little memory, a full disk.
FILE_ERRORS = (ValueError, RuntimeError, OSError, MemoryError)
LOSSY = ("MPEG_LAYER_III", "VORBIS", "OPUS")

Progress = Callable[[float, float], None]  # (seconds done, seconds in all) of audio


@dataclass(frozen=True)
class Job:
    """A file to restore and where to."""

    source: Path
    target: Path
    band: Path | None = None  # where what is made goes too, alone
    seeds: tuple[int, ...] = ()  # instead of that of the options; of several, the best draw is kept


@dataclass(frozen=True)
class Record:
    """What became of one file; `error` is None where it went well, and `written` where it did not."""

    input: str
    output: str | None
    error: str | None = None
    error_type: str | None = None  # its class: TruncatedAudio, ...
    written: RestoredFile | None = None
    seconds: float = 0.0  # of work, model loading not counted
    options: Options = Options()
    notes: tuple[str, ...] = ()  # on what the command chose
    draws: dict[str, Any] | None = None  # seeds and their distances, where this is the best of several

    @property
    def note(self) -> str | None:
        """What should be known of the result."""
        return "; ".join((*self.written.notes, *self.notes)) or None if self.written is not None else None

    def to_dict(self) -> dict[str, Any]:
        """Everything that is known, for JSON; what is None is left out, but for the output."""
        known: dict[str, Any] = {"error": self.error, "error_type": self.error_type}
        if (made := self.written) is not None:
            known = {
                "cutoff_hz": round(float(made.cutoff_hz), 1),
                "cutoff_track": [[(round(at, 3), round(hz, 1)) for at, hz in channel] for channel in made.cutoff_track],
                "duration_s": round(made.seconds, 6),
                "seconds": round(self.seconds, 3),
                "real_time_factor": round(self.seconds / made.seconds, 4),
                **{name: getattr(made, name) for name in ("sample_rate", "channels", "samples", "subtype", "gain")},
                "note": self.note,
                "lines_hz": [round(hz, 2) for hz in made.lines_hz] or None,
                "holes_hz": list(made.holes_hz) or None,
                "read": None if made.account is None else asdict(made.account),
                "head": made.head,
                "copied": made.copied,
                "seed": self.options.seed,
                "draws": self.draws,
                "band": None if made.band is None else str(made.band),
                "bands": None if made.bands is None else made.bands.to_dict(),
                "compat_filter": self.options.compat_filter,
            }
        there = {key: value for key, value in known.items() if value is not None}
        return {"input": self.input, "output": self.output, **there}


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
    if output is not None:
        if output.is_dir():
            raise UsageError(f"-o names one file, and {output} is a directory; use --out-dir {output}")
        if format is not None and output.suffix and output.suffix.lower() != f".{format}":
            raise UsageError(f"-o {output} and --format {format} disagree; leave one out")
        check_container(output, format)
    if output is not None and out_dir is not None:
        raise UsageError("give either -o or --out-dir, not both")
    if output is not None and len(sources) > 1:
        raise UsageError(f"-o names one file, but there are {len(sources)} inputs; use --out-dir")
    jobs = [Job(source, output or _target(source, out_dir, format)) for source in sources]
    check_clashes(jobs)
    return jobs


def check_clashes(jobs: Sequence[Job]) -> None:
    """Raise `UsageError` where two files would be written to one, or to an input."""
    inputs = {key: job.source for job in jobs if (key := file_id(job.source)) is not None}
    taken: dict[str, Path] = {}
    for job in [*jobs, *(Job(job.source, job.band) for job in jobs if job.band is not None)]:
        clash = inputs.get(file_id(job.target) or (-1, -1))
        if clash is not None:
            which = "the input itself" if clash == job.source else f"the input {clash}"
            raise UsageError(f"the output of {job.source} would replace {which}; name another with -o or --out-dir")
        other = taken.setdefault(_name_id(job.target), job.source)
        if other is not job.source:
            raise UsageError(f"{other} and {job.source} would both be written to {job.target}; restore them separately")
    for job in jobs:
        if job.band is not None and _name_id(job.band) == _name_id(job.target):
            raise UsageError(f"the result and its made band would both be written to {job.band}; name another file")


def preflight(job: Job, options: Options) -> audio.SourceFile:
    """Open a recording; raise `AudioError` for what can be known before a model is loaded: no room to write."""
    if job.source.is_dir():
        raise AudioError(
            f"{job.source} is a directory; to restore what it holds, say: latentsr batch {job.source} DEST"
        )
    source = audio.SourceFile(job.source, **options.reading)
    try:
        info, rate = source.info, options.output_rate(source.sample_rate)
        files = [audio.Target.of(job.target, options.format, like=info.subtype, overwrite=options.overwrite)]
        if job.band is not None:
            files.append(audio.Target.of(job.band, like="FLOAT", overwrite=options.overwrite))
        for file in files:
            file.check_now(info.channels, rate)
    except BaseException:
        source.release()
        raise
    return source


def restore_file(
    model: Restores,
    source: audio.SourceFile,
    target: Path,
    options: Options,
    progress: Progress | None = None,
    more: Mapping[str, Any] | None = None,
) -> Record:
    """Restore one file; what goes wrong with it is in the record, not raised.

    Args:
        model: a `Pipeline` or `Model`.
        source: the recording.
        target: where the result goes: written whole or not at all.
        options: how.
        progress: called with (seconds done, seconds in all) of audio.
        more: what else is asked of the model's own `restore_file`, by name.

    Returns:
        What was written, or why nothing was.
    """
    started = time.perf_counter()
    try:
        if options.compat_filter is None:
            written = model.restore_file(source, target, options=options, progress=progress, **(more or {}))
        else:
            from latentsr.apps.compat import restore_as_audiosr

            written = restore_as_audiosr(model, source, target, options, progress)
        seconds = time.perf_counter() - started
        return Record(
            str(source.path), str(target), written=written, seconds=seconds, options=options,
            notes=_notes_on_format(source, written.subtype, options),
        )  # fmt: skip
    except FILE_ERRORS as error:
        return failed_record(source.path, error)
    finally:
        source.release()


def restore_album(
    model: Restores, album: audio.Album, jobs: Sequence[Job], options: Options, progress: Progress | None, bands: bool
) -> list[Record]:
    """Restore the tracks of an album as the one recording that they are: a record of each, or one of what failed."""
    started = time.perf_counter()
    try:
        targets = [job.target for job in jobs]
        done = model.restore_album(album.sources, targets, options=options, progress=progress, bands=bands)
    except FILE_ERRORS as error:
        named = (job.source for job in jobs if str(job.source) in str(error))
        return [failed_record(next(named, jobs[0].source.parent), error)]
    pace = (time.perf_counter() - started) / sum(written.seconds for written in done)
    return [
        Record(
            str(source.path), str(written.path), written=written, seconds=pace * written.seconds, options=options,
            notes=_notes_on_format(source, written.subtype, options),
        )
        for source, written in zip(album.sources, done, strict=True)
    ]  # fmt: skip


def _notes_on_format(source: audio.SourceFile, subtype: str, options: Options) -> tuple[str, ...]:
    """On a format that nobody asked for by name."""
    name = source.path.suffix.removeprefix(".")
    if options.format is not None:
        return ()
    if name and writable_extension(source.path) != name:
        return (f"{name} cannot be written: FLAC",)
    if subtype in LOSSY and source.info.subtype in LOSSY:
        return (f"{name.upper()} again: a second loss; choose --format flac",)
    return ()


def failed_record(source: Path, error: BaseException) -> Record:
    """The record of a file that could not be restored."""
    return Record(str(source), None, error=one_line(error, source), error_type=type(error).__name__)


def one_line(error: BaseException, path: Path | None = None) -> str:
    """What went wrong in one line, with the file that it happened on; errors that are not ours are named."""
    text = " ".join(str(error).split())
    if type(error).__module__.partition(".")[0] == "latentsr":  # ours say what is wrong and what to do
        named = path is None or path.name in text or text.startswith("cannot write")
        return text if named else f"{path}: {text}"
    if os.environ.get("LATENTSR_DEBUG"):
        raise error
    where = f"{path}: " if path is not None else ""
    return f"{where}{type(error).__name__}: {text or 'no message'} (LATENTSR_DEBUG=1 shows where)"


def check_container(output: Path, format: str | None = None) -> None:
    """Raise `UsageError` where a name says no format that can be written."""
    try:
        audio.container(output, format)
    except AudioError as error:
        raise UsageError(str(error)) from None


def _target(source: Path, out_dir: Path | None, format: str | None) -> Path:
    extension = format or writable_extension(source)
    if out_dir is not None:
        return out_dir / f"{source.stem}.{extension}"
    return source.parent / f"{source.stem}.{AUDIO.sample_rate // 1000}k.{extension}"  # "." has no name to replace


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
