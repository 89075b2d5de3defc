"""The child process that looks into a foreign pickle: a file of torch.save on stdin, what it holds as JSON on stdout.

It knows the few names that a file of tensors needs and makes nothing of them but notes: which bytes of the file are
which tensor. Any other name is refused before it is imported, or stands for an empty thing where the caller expects it.
What the unpickler itself may do wrong happens here, under limits of memory, time and files. Run as a script, with the
standard library alone, so that it starts in a tenth of a second.
"""

from __future__ import annotations

import json
import pickle
import re
import struct
import sys
import zipfile
from collections import OrderedDict
from typing import IO, Any

MEMORY_BYTES, CPU_SECONDS = 2**30, 30
MAX_PICKLE_BYTES = 64 * 2**20  # without the tensors; AudioSR's has less than 1 MB
MAX_ENTRIES = 200_000
STORED = 0  # zip's number for "not compressed", as torch writes
STORAGES = {
    "FloatStorage": "float32", "DoubleStorage": "float64", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool",
}  # fmt: skip
TYPED = frozenset(STORAGES.values())
# What weights_only=True lets through too; a caller has no use for these, so they become empty.
EMPTY = re.compile(
    r"torch\.(Size|device|dtype|[a-z]+\d+\w*|_utils\._rebuild_(sparse_tensor|qtensor|meta_tensor_no_storage))"
    r"|torch\.serialization\._get_layout|torch\.nn\.parameter\.Parameter|collections\.Counter"
)


class CodeError(Exception):
    """The file names something that is not data."""


class Empty:
    """Takes the place of whatever is of no use: takes anything, does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> Empty:
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...

    def __setitem__(self, _: Any, __: Any) -> None: ...

    def append(self, _: Any) -> None: ...

    def extend(self, _: Any) -> None: ...


class Note:
    """A tensor: the key of its storage and how it lies in it."""

    def __init__(self, storage: Any, offset: Any, shape: Any, stride: Any) -> None:
        self.dtype, self.key, self.stored = storage if isinstance(storage, tuple) else (None, None, None)
        self.offset, self.shape, self.stride = offset, shape, stride


def tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> Note:
    """In the place of torch._utils._rebuild_tensor and _rebuild_tensor_v2."""
    return Note(storage, offset, shape, stride)


def parameter(data: Any, *_: Any) -> Any:
    """In the place of torch._utils._rebuild_parameter: the tensor in it."""
    return data


KNOWN = {
    "collections.OrderedDict": OrderedDict,
    "torch._utils._rebuild_tensor": tensor,
    "torch._utils._rebuild_tensor_v2": tensor,
    "torch._utils._rebuild_parameter": parameter,
    **{f"torch.{name}": dtype for name, dtype in STORAGES.items()},
}


class Unpickler(pickle.Unpickler):
    """Knows `KNOWN`; what matches `EMPTY` or `expected` is empty; anything else is code."""

    def __init__(self, file: IO[bytes], expected: str) -> None:
        super().__init__(file)
        self.expected = re.compile(expected) if expected else None

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full in KNOWN:
            return KNOWN[full]
        if EMPTY.fullmatch(full) or (self.expected is not None and self.expected.fullmatch(full)):
            return Empty
        raise CodeError(full[:100])

    def persistent_load(self, pid: Any) -> Any:
        if not (isinstance(pid, tuple) and len(pid) == 5 and pid[0] == "storage" and isinstance(pid[2], str)):
            raise pickle.UnpicklingError("a reference to something that is no storage")
        return pid[1] if isinstance(pid[1], str) else "", pid[2], pid[4]


def look(file: IO[bytes], ways: list[list[str]], expected: str) -> dict[str, Any]:
    """What `file` holds: {"found": one entry for each of `ways`} or {"code": name} or {"damaged": reason}.

    Each of `ways` is keys that lead into the content; its entry is null where they do not, a mapping of names to notes,
    or the name of another type. `expected` is a pattern of names that may stand in the file and are left empty.
    """
    try:
        archive = zipfile.ZipFile(file)
        pickles = [i for i in archive.infolist() if i.filename.count("/") == 1 and i.filename.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError("no data.pkl in it")
        place(file, pickles[0])
        if pickles[0].file_size > MAX_PICKLE_BYTES:
            raise ValueError(f"a pickle of {pickles[0].file_size} bytes")
        prefix = pickles[0].filename[: -len("data.pkl")]
        if f"{prefix}byteorder" in archive.NameToInfo and archive.read(f"{prefix}byteorder") != b"little":
            raise ValueError("written on a big-endian machine")
        with archive.open(pickles[0]) as data:
            content = Unpickler(data, expected).load()
        return {"found": [entry(file, archive, prefix, follow(content, way)) for way in ways]}
    except CodeError as error:
        return {"code": str(error)}
    except MemoryError:
        return {"damaged": "it claims more memory than a checkpoint needs"}
    except Exception as error:  # anything may be wrong with it
        return {"damaged": (str(error).strip().splitlines() or [type(error).__name__])[0][:200]}


def follow(content: Any, way: list[str]) -> Any:
    """What lies behind the keys of `way`, None where they lead nowhere."""
    for key in way:
        content = content.get(key) if isinstance(content, dict) else None
    return content


def entry(file: IO[bytes], archive: zipfile.ZipFile, prefix: str, content: Any) -> Any:
    """The names of a mapping and what is under each."""
    if not isinstance(content, dict):
        return None if content is None else type(content).__name__
    if len(content) > MAX_ENTRIES or not all(isinstance(name, (str, int)) for name in content):
        raise ValueError("no names of tensors")
    return {str(name): described(file, archive, prefix, value) for name, value in content.items()}


def described(file: IO[bytes], archive: zipfile.ZipFile, prefix: str, value: Any) -> Any:
    """[type, first byte, bytes, offset, shape, stride] of a tensor; the name of the type of anything else."""
    if not isinstance(value, Note) or value.dtype not in TYPED:
        return "tensor of a type that is not read" if isinstance(value, Note) else type(value).__name__
    begin, size = place(file, archive.getinfo(f"{prefix}data/{value.key}"))
    return [value.dtype, begin, size, value.offset, list(value.shape), list(value.stride)]


def place(file: IO[bytes], info: zipfile.ZipInfo) -> tuple[int, int]:
    """(first byte, bytes) of a member, which must not be compressed: a small file could stand for any size."""
    if info.compress_type != STORED or info.flag_bits & 1 or info.file_size != info.compress_size:
        raise ValueError(f"{info.filename[:60]} is compressed, which torch.save does not do")
    file.seek(info.header_offset)
    head = file.read(30)
    if len(head) < 30 or head[:4] != b"PK\x03\x04":
        raise ValueError(f"{info.filename[:60]} is not where the index says")
    name, extra = struct.unpack("<HH", head[26:30])
    return info.header_offset + 30 + name + extra, info.file_size


def limit() -> None:
    """Give this process little memory and time, and no right to write to a file."""
    try:
        import resource
    except ImportError:  # Windows has no such limits; the parent's patience ends all the same
        return
    for kind, most in (("AS", MEMORY_BYTES), ("CPU", CPU_SECONDS), ("FSIZE", 0), ("CORE", 0)):
        number = getattr(resource, f"RLIMIT_{kind}", None)
        if number is not None:
            hard = resource.getrlimit(number)[1]
            most = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(number, (most, most))


if __name__ == "__main__":
    limit()
    request = json.loads(sys.argv[1])
    sys.stdout.write(json.dumps(look(sys.stdin.buffer, request["ways"], request["expected"])))
