"""Which recordings a batch restores, and where each goes. Nothing is opened here: a decoder may die of it."""

from __future__ import annotations

import csv
import glob
import hashlib
import json
import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from latentsr.apps.restore import file_id, writable_extension
from latentsr.audio.kinds import SUFFIXES
from latentsr.data.manifest import DataError, relative_path
from latentsr.errors import UsageError, reason_of

MANIFESTS = (".csv", ".jsonl")
MAX_NAME_BYTES = 255  # of one part of a path, on nearly every file system
LINK = "a symbolic link; --follow-links takes it"


@dataclass(frozen=True)
class Item:
    """One recording of a batch. `name` and `target` are relative, to SRC and to DEST, with slashes."""

    name: str
    source: Path
    target: str
    size: int = 0  # bytes

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Item:
        """The item that `to_dict` made these fields of."""
        return cls(**{**fields, "source": Path(fields["source"])})

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON can have them, on their way to another process."""
        return {**asdict(self), "source": str(self.source)}


@dataclass
class Found:
    """What lies in SRC: names of recordings, and what was left out for which reason."""

    root: Path
    names: list[str] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    other: Counter[str] = field(default_factory=Counter)  # suffixes of files that are no recordings by name


def find(src: str, dest: Path, *, follow_links: bool = False) -> Found:
    """The recordings of a folder, of a glob pattern, or of a manifest; `UsageError` where there is no such thing.

    A folder is searched with its sub-folders for names of recordings; a pattern, and a .csv or .jsonl with a column
    `file`, are taken at their word. What lies in `dest` is no input even where that lies within SRC.
    """
    path = Path(src)
    if path.is_dir():
        found = _in_folder(path, dest, follow_links)
    elif path.is_file() and path.suffix.lower() in MANIFESTS:
        found = Found(path.parent)
        for name in _read_manifest(path):
            _add(found, name, follow_links)
    elif path.is_file():
        raise UsageError(f"{src} is one file; restore it with latentsr restore, or list it in a .csv or .jsonl")
    elif glob.has_magic(src):
        found = _matching(src, dest, follow_links)
    else:
        raise UsageError(f"{src} does not exist; SRC is a folder, a quoted pattern, or a .csv or .jsonl manifest")
    found.names = sorted(set(found.names), key=_bytes)
    if not found.names:
        raise UsageError(f"{src} holds no recordings{_why_none(found)}")
    return found


def plan(found: Found, dest: Path, *, format: str | None = None) -> list[Item]:
    """Where each recording goes: its own name under DEST, with the extension of the output.

    Names that would meet (a.wav and a.mp3 in one format, or that differ in case alone) keep their old extension in
    front of the new one; those that still meet are numbered in byte order. Too long names are cut, and get a hash.

    Raises:
        UsageError: an output would replace an input.
    """
    wanted = {name: _target(name, found.root / native(name), format) for name in found.names}
    folders = {_folded(str(parent)) for target in wanted.values() for parent in PurePosixPath(target).parents}
    counts = Counter(_folded(target) for target in wanted.values())
    taken: set[str] = set()
    items = []
    for name, target in wanted.items():
        if counts[_folded(target)] > 1 or _folded(target) in folders:
            target = _fitting(f"{name}{PurePosixPath(target).suffix}")
        target = _numbered(target, taken | folders if _folded(target) in taken else folders)
        taken.add(_folded(target))
        items.append(Item(name, found.root / native(name), target, _size(found.root / native(name))))
    _check_inputs_are_safe(items, dest)
    return items


def canonical(name: str) -> str:
    """A name as the journal has it, which is the same whatever the locale: UTF-8, other bytes as surrogates."""
    return os.fsencode(name).decode("utf-8", "surrogateescape")


def native(name: str) -> str:
    """A canonical name as this process has to call the file."""
    return os.fsdecode(_bytes(name))


def largest_first(items: Iterable[Item]) -> list[Item]:
    """The order in which many workers end together: a long recording must not be begun last."""
    return sorted(items, key=lambda item: (-item.size, _bytes(item.name)))


def _in_folder(root: Path, dest: Path, follow_links: bool) -> Found:
    found, own = Found(root), dest.resolve()
    if root.resolve() == own:
        raise UsageError(f"SRC and DEST are both {root}; name another folder for the outputs")
    seen: set[tuple[int, int]] = set()

    def unreadable(error: OSError) -> None:
        name = canonical(os.path.relpath(error.filename, root))
        found.left_out.append((name, f"cannot be listed ({reason_of(error)})"))

    for folder, folders, files in os.walk(root, onerror=unreadable, followlinks=follow_links):
        here = Path(folder)
        if follow_links:  # a link to a folder above would lead round and round
            status = here.stat()
            if (status.st_dev, status.st_ino) in seen:
                folders.clear()
                continue
            seen.add((status.st_dev, status.st_ino))
        relative = here.relative_to(root)
        for name in sorted(folders):
            if (here / name).is_symlink() and not follow_links:
                found.left_out.append((canonical((relative / name).as_posix()), LINK))
        folders[:] = sorted(name for name in folders if not name.startswith(".") and (here / name).resolve() != own)
        for name in files:
            if name.startswith("."):  # macOS writes ._x.wav beside x.wav
                continue
            if Path(name).suffix.lower() in SUFFIXES:
                _add(found, canonical((relative / name).as_posix()), follow_links)
            else:
                found.other[Path(name).suffix.lower() or "no extension"] += 1
    return found


def _matching(pattern: str, dest: Path, follow_links: bool) -> Found:
    parts = Path(pattern).parts
    fixed = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    root, own = Path(*parts[:fixed]), dest.resolve()
    if ".." in parts[fixed:]:
        raise UsageError(f"{pattern} has .. behind its first wild card; write the folder out")
    found = Found(root)
    for match in glob.iglob(pattern, recursive=True):  # noqa: PTH207 - Path.glob takes no root
        path = Path(match)
        if path.resolve().is_relative_to(own) or path.is_dir():
            continue
        _add(found, canonical(path.relative_to(root).as_posix()), follow_links)
    return found


def _add(found: Found, name: str, follow_links: bool) -> None:
    """A name, unless it leads over a link or to something that is no file. What is missing fails later, by name."""
    path = found.root / native(name)
    links = [part for part in (path, *path.parents[: len(PurePosixPath(name).parts) - 1]) if part.is_symlink()]
    if links and not follow_links:
        found.left_out.append((name, LINK))
        return
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        mode = stat.S_IFREG
    if stat.S_ISREG(mode):
        found.names.append(name)
    else:
        found.left_out.append((name, _kind(mode)))


def _kind(mode: int) -> str:
    kinds = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a directory"}
    return kinds.get(stat.S_IFMT(mode), "a device") + ", not a recording"


def _read_manifest(path: Path) -> Iterator[str]:
    reader = _csv_names if path.suffix.lower() == ".csv" else _jsonl_names
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            for line, name in reader(file, path):
                if not isinstance(name, str) or "\0" in name:
                    raise UsageError(f"{path} line {line}: 'file' is not a name; write a path relative to the manifest")
                yield relative_path(f"{path} line {line}", name).as_posix()
    except DataError as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {reason_of(error)}") from None


def _csv_names(file: Iterable[str], path: Path) -> Iterator[tuple[int, object]]:
    reader = csv.DictReader(file, strict=True)
    try:
        if "file" not in (reader.fieldnames or []):
            raise UsageError(
                f"{path} line 1: column 'file' is missing; found {', '.join(reader.fieldnames or []) or 0}"
            )
        for row in reader:
            yield reader.line_num, row["file"]
    except csv.Error as error:
        raise UsageError(f"{path} line {reader.line_num} is not CSV: {error}") from None


def _jsonl_names(file: Iterable[str], path: Path) -> Iterator[tuple[int, object]]:
    for line, text in enumerate(file, 1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except (ValueError, RecursionError):
            raise UsageError(f"{path} line {line} is not JSON; write one object with a key 'file' per line") from None
        yield line, row.get("file") if isinstance(row, dict) else None


def _why_none(found: Found) -> str:
    if found.left_out:
        return f": {found.left_out[0][0]} is {found.left_out[0][1]}"
    if found.other:
        return f", only files with other extensions ({', '.join(sorted(found.other)[:5])}); name them by a pattern"
    return ""


def _target(name: str, source: Path, format: str | None) -> str:
    return _fitting(str(PurePosixPath(name).with_suffix("")) + f".{format or writable_extension(source)}")


def _fitting(target: str) -> str:
    """`target` with its last part within `MAX_NAME_BYTES`."""
    path = PurePosixPath(target)
    data, suffix = _bytes(path.stem), path.suffix
    room = MAX_NAME_BYTES - len(_bytes(suffix))
    if len(data) <= room:
        return target
    mark = "~" + hashlib.sha256(data).hexdigest()[:8]
    cut = data[: room - len(mark)]
    while cut and (data[len(cut)] & 0xC0) == 0x80:  # not within a UTF-8 character
        cut = cut[:-1]
    return str(path.with_name(cut.decode("utf-8", "surrogateescape") + mark + suffix))


def _numbered(target: str, taken: set[str]) -> str:
    path, number, name = PurePosixPath(target), 1, target
    while _folded(name) in taken:
        number += 1
        name = _fitting(str(path.with_name(f"{path.stem} ({number}){path.suffix}")))
    return name


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _folded(name: str) -> str:
    """Equal for names that are one file where case, or the way an accent is written, does not count."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return 0


def _check_inputs_are_safe(items: list[Item], dest: Path) -> None:
    inputs = {key: item.name for item in items if (key := file_id(item.source)) is not None}
    for item in items:
        key = file_id(dest / native(item.target))
        if key in inputs:
            raise UsageError(
                f"the output of {item.name} would replace the input {inputs[key]}; name another folder for the outputs"
            )
