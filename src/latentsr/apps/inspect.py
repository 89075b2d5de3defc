"""`latentsr inspect`: what a recording is, what probably cut it, and what restoring would do."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from latentsr.apps.restore import FILE_ERRORS, failed_record
from latentsr.apps.terminal import FAILED, INTERRUPTED, SOME_FAILED, fail, printable, warn
from latentsr.errors import UsageError

if TYPE_CHECKING:
    from latentsr.inspection import Inspection

MOST_PICTURES = 24  # recordings in one picture
WIDEST_NAME = 48  # of the table


def inspect_command(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Recordings, or folders of them.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per recording, a line each.")] = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Draw spectrograms with the band, and long-term spectra.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the PNG if it is there.")] = False,
    salvage: Annotated[
        bool, typer.Option("--salvage", help="Hear what can be decoded of a damaged recording.")
    ] = False,
    on_nonfinite: Annotated[
        str, typer.Option(help="Samples that are NaN or infinite: error, or zero puts zeros in their place.")
    ] = "error",
) -> None:
    """Say what recordings are, what probably cut their band, and what restoring would do."""
    if on_nonfinite not in ("error", "zero"):
        raise UsageError(f"--on-nonfinite is error or zero, got {on_nonfinite!r}")
    recordings = found(files)
    if plot is not None:
        _check_picture(plot, len(recordings), overwrite)
    words = {"picture": plot is not None, "salvage": salvage, "on_nonfinite": on_nonfinite}
    try:
        heard, failed = _inspect_all(recordings, words, as_json, table=len(recordings) > 1 or files[0].is_dir())
        if plot is not None and heard:
            from latentsr.apps.inspect_picture import draw

            draw(heard, plot)
    except KeyboardInterrupt:
        fail("interrupted", INTERRUPTED)
    if failed:
        if len(recordings) > 1:
            warn(f"{failed} of {len(recordings)} files failed")
        raise typer.Exit(FAILED if failed == len(recordings) else SOME_FAILED)


def found(places: Iterable[Path]) -> list[Path]:
    """The recordings: files as they are named, and those in folders, with their sub-folders, by their names."""
    from latentsr.data.layouts import is_audio

    recordings: list[Path] = []
    for place in places:
        if not place.is_dir():
            recordings.append(place)
            continue
        inside = sorted(path for path in place.rglob("*") if is_audio(path, place))
        if not inside:
            raise UsageError(f"{place} holds no recordings; name a file or another folder")
        recordings += inside
    return recordings


def _inspect_all(
    recordings: list[Path], words: dict[str, Any], as_json: bool, *, table: bool
) -> tuple[list[Inspection], int]:
    """Print what is found as it is found; those that are to be drawn, and how many failed."""
    from latentsr.inspection import inspect
    from latentsr.inspection.wording import report, table_head, table_line

    width = min(max(len(str(path)) for path in recordings), WIDEST_NAME)
    heard, failed, headed = [], 0, not table or as_json
    for path in recordings:
        try:
            one = inspect(path, **words)
        except FILE_ERRORS as error:
            failed += 1
            record = failed_record(path, error)
            if as_json:
                print(
                    json.dumps({"path": record.input, "error": record.error, "error_type": record.error_type}),
                    flush=True,
                )
            warn(record.error or "")
            continue
        heard += [one] if words["picture"] else []
        if not headed:
            _say(table_head(width))
            headed = True
        if as_json:
            print(json.dumps(one.to_dict(), allow_nan=False), flush=True)
        else:
            _say(table_line(one, _shortened(str(path), width), width) if table else report(one))
    return heard, failed


def _check_picture(path: Path, recordings: int, overwrite: bool) -> None:
    """End before anything is heard where the picture could not be drawn or written."""
    from latentsr.evaluation.report import MissingExtraError

    if path.is_dir() or (path.exists() and not overwrite):
        raise UsageError(f"{path} is there already; pass --overwrite to replace it, or name another picture")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}; make it, or name another picture")
    if recordings > MOST_PICTURES:
        raise UsageError(f"--plot draws at most {MOST_PICTURES} recordings, got {recordings}; name fewer")
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        raise MissingExtraError("--plot needs matplotlib; install it with: pip install 'latentsr[eval]'") from None


def _shortened(name: str, width: int) -> str:
    return name if len(name) <= width else f"…{name[1 - width :]}"


def _say(text: str) -> None:
    print(printable(text, sys.stdout.encoding), flush=True)
