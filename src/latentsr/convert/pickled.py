"""Tensors of a file of torch.save, without unpickling it in this process.

A child process looks into the pickle (`unpickle_child.py`) and says which bytes of the file are which tensor. Here
those bytes are mapped, not read: nothing is copied, and 6 GB cost what 6 kB do.
"""

from __future__ import annotations

import json
import math
import mmap
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentsr.convert import unpickle_child

PATIENCE_S = 60.0
NAMES_SHOWN = 3  # of the tensors that an error is about
MAX_ANSWER_BYTES = 64 * 2**20
DTYPES = {name: getattr(torch, name) for name in unpickle_child.TYPED}


class UnreadableError(ValueError):
    """A pickle that cannot be used. `code`: it names something that is not data."""

    def __init__(self, reason: str, code: bool = False) -> None:
        super().__init__(reason)
        self.code = code

    def refusal(self, path: object, otherwise: str) -> str:
        """What to say of the file: that it holds code, or what else is the matter."""
        if self.code:
            return f"{path} holds code ({self}), which was not run; take a checkpoint from a source you trust"
        return f"{path} is {otherwise.format(self)}"


@dataclass(frozen=True)
class Other:
    """Something in a checkpoint that is no tensor."""

    kind: str  # name of its type


Found = Mapping[str, Tensor | Other] | Other | None


def look(path: Path, ways: Sequence[Sequence[str]] = ((),), expected: str = "") -> list[Found]:
    """What lies behind each of `ways`, keys that lead into the file's content: tensors by name, views of the file.

    Args:
        path: a file of torch.save in the format of torch >= 1.6.
        ways: () is the content itself.
        expected: a pattern of names of classes and functions that may stand in the file; none is imported or called.

    Returns:
        For each way a mapping, `Other` where something else is there, None where nothing is.

    Raises:
        UnreadableError: the file is damaged, claims what it does not hold, or names code; OSError: it cannot be read.
    """
    with path.open("rb") as file:
        answer = _asked(file, json.dumps({"ways": [list(way) for way in ways], "expected": expected}))
        if "code" in answer:
            raise UnreadableError(str(answer["code"]), code=True)
        if "damaged" in answer:
            raise UnreadableError(str(answer["damaged"]))
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    try:
        return [_found(mapped, content) for content in answer["found"]]
    except (KeyError, TypeError, ValueError) as error:
        raise UnreadableError(str(error)) from None


def counted(faults: Mapping[str, Sequence[str]]) -> str:
    """The tensors with a fault, by what it is, in words; empty where none has any.

    >>> counted({"missing": ["a", "b", "c", "d"], "unexpected": [], "of another shape": ["e"]})
    '4 missing (a, b, c, ...), 1 of another shape (e)'
    """
    shown = {
        what: ", ".join([*names[:NAMES_SHOWN], "..."] if len(names) > NAMES_SHOWN else names)
        for what, names in faults.items()
    }
    return ", ".join(f"{len(faults[what])} {what} ({names})" for what, names in shown.items() if names)


def _asked(file: Any, request: str) -> dict[str, Any]:
    """The child's answer about a file."""
    words = [sys.executable, "-I", "-S", unpickle_child.__file__, request]
    with subprocess.Popen(words, stdin=file, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        timer = threading.Timer(PATIENCE_S, child.kill)
        timer.start()
        try:
            assert child.stdout is not None
            answer = child.stdout.read(MAX_ANSWER_BYTES + 1)
        finally:
            timer.cancel()
            child.kill()  # it has said all, or too much
    found = None
    if len(answer) <= MAX_ANSWER_BYTES:
        with suppress(ValueError, RecursionError):
            found = json.loads(answer)
    if not isinstance(found, dict):
        raise UnreadableError("the process that reads it failed")
    return found


def _found(mapped: mmap.mmap, content: Any) -> Found:
    if not isinstance(content, dict):
        return None if content is None else Other(str(content))
    return {name: _tensor(mapped, name, note) for name, note in content.items()}


def _tensor(mapped: mmap.mmap, name: str, note: Any) -> Tensor | Other:
    """A view of the file; ValueError where the tensor would reach beyond its storage, or that beyond the file.

    One that repeats its storage is not made: a few bytes of it can stand for any size.
    """
    if not isinstance(note, list):
        return Other(str(note))
    dtype_name, begin, size, offset, shape, stride = note
    dtype = DTYPES[dtype_name]
    numbers = (begin, size, offset, *shape, *stride)
    if not all(type(n) is int and 0 <= n < 2**48 for n in numbers) or len(shape) != len(stride) or len(shape) > 16:
        raise ValueError(f"{name[:60]} has no shape that a tensor can have")
    elements, stored = math.prod(shape), size // dtype.itemsize
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    if begin + size > len(mapped) or (elements and last >= stored):
        raise ValueError(f"{name[:60]} claims {last + 1} numbers, {stored} are stored")
    if elements > stored:
        return Other(f"tensor of {elements} numbers, of which {stored} are stored")
    if elements == 0:
        return torch.empty(shape, dtype=dtype)
    whole = torch.frombuffer(mapped, dtype=dtype, count=last + 1 - offset, offset=begin + offset * dtype.itemsize)
    return whole.as_strided(shape, stride)
