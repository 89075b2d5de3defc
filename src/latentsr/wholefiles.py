"""Files and folders that are whole under their name, or not there: made beside it, flushed to the disk, then renamed.

The hash that says whether a file is still what it was is here too. Imports the standard library alone.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO

PART = re.compile(r"\.latentsr-[0-9a-f]{12}\.part")  # what a file is called until it is whole
BLOCK_BYTES = 2**20


def part_of(path: Path) -> Path:
    """A new hidden name beside `path`; it is short, so that any name that fits a folder can be written."""
    return path.with_name(f".latentsr-{secrets.token_hex(6)}.part")


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file that becomes `path` when the block ends well; else nothing is left of it, and `path` is as it was."""
    part = part_of(path)
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        publish(part, path)
    finally:
        part.unlink(missing_ok=True)


def replace_file(path: Path, content: bytes) -> None:
    """Write a whole file: a reader never sees half of it."""
    with replacing(path) as file:
        file.write(content)


def publish(part: Path, path: Path, *, replace: bool = True) -> None:
    """Give a finished file its name; without `replace`, FileExistsError where anything has that name, even by now."""
    if replace:
        part.replace(path)
    else:
        try:
            os.link(part, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            if os.path.lexists(path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
            part.replace(path)
        else:
            part.unlink()
    flush(path.parent)


@contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """A new folder that takes the place of `target` when the block ends well; else nothing is left of it."""
    made = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        made.mkdir(parents=True)
        yield made
        publish_folder(made, target)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def publish_folder(made: Path, target: Path) -> None:
    """Give a finished folder its name, once it is on the disk; what had the name goes when the new one is in place."""
    for path in (*made.rglob("*"), made):
        flush(path)
    old = made.with_name(f"{made.name}.old")
    replaced = os.path.lexists(target)
    if replaced:
        target.rename(old)
    try:
        made.rename(target)
    except OSError:
        if replaced:
            old.rename(target)
        raise
    flush(target.parent)
    if replaced:
        shutil.rmtree(old, ignore_errors=True)


def flush(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk."""
    folder = path.is_dir()
    if folder and (os.name == "nt" or not os.access(path, os.R_OK)):  # it cannot be opened
        return
    descriptor = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not folder or error.errno not in (errno.EINVAL, errno.ENOTSUP):  # network file systems that cannot
            raise
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    """Hash of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of(file: IO[bytes], before: bytes = b"") -> str:
    """Hash of what is left in an open file, with `before` in front of it; in blocks, whatever its size."""
    digest = hashlib.sha256(before)
    while block := file.read(BLOCK_BYTES):
        digest.update(block)
    return digest.hexdigest()
