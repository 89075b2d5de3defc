"""Writing a model folder shard by shard: whole, on disk and under its name, or not there at all."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from latentsr.folder import INDEX, ModelError

SHARD_BYTES = 256 * 2**20
SPARE_BYTES = 16 * 2**20  # for configs, hashes and the file system's own tables


@contextmanager
def new_folder(target: Path, needed: int, overwrite: bool) -> Iterator[Path]:
    """A temporary sibling of `target` that takes its place when the block ends well, and else disappears.

    Args:
        target: the folder to be; its parents are made.
        needed: bytes that will be written.
        overwrite: replace a model folder of that name, which stays untouched until the new one is complete.

    Raises:
        ModelError: there is something else in the way, or not enough room, or no permission.
    """
    missing = [parent for parent in target.absolute().parents if not parent.exists()]
    temporary = target.absolute().with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        _check_target(target, overwrite)
        _check_space(target, needed)
        temporary.mkdir(parents=True)
        yield temporary
        _flush(temporary)
        _swap(temporary, target.absolute())
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{target} cannot be written: {_reason(error)}; it needs {gigabytes(needed)}, and nothing of it was left") from error  # fmt: skip  # noqa: E501
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if not target.exists():
            with suppress(OSError):  # none of ours, or no longer ours alone
                for parent in missing:
                    parent.rmdir()


def write_tensors(
    folder: Path,
    stem: str,
    sizes: Mapping[str, int],
    tensor: Callable[[str], Tensor],
    on_shard: Callable[[int], None] | None = None,
) -> None:
    """Write safetensors in shards of at most `SHARD_BYTES`, named as diffusers and transformers do.

    Args:
        folder: of the component.
        stem: of the file names, "diffusion_pytorch_model" or "model".
        sizes: bytes of each tensor.
        tensor: makes one by its name; one shard's tensors exist at a time.
        on_shard: called with the bytes of each shard that is written.
    """
    shards = _shards(sizes)
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards, 1):
        file = f"{stem}.safetensors" if len(shards) == 1 else f"{stem}-{number:05d}-of-{len(shards):05d}.safetensors"
        save_file({name: tensor(name) for name in names}, folder / file, metadata={"format": "pt"})
        (folder / file).chmod(folder.stat().st_mode & 0o666)  # safetensors leaves them to the owner alone
        weight_map |= dict.fromkeys(names, file)
        if on_shard is not None:
            on_shard(sum(sizes[name] for name in names))
    if len(shards) > 1:
        index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": dict(sorted(weight_map.items()))}
        write_json(folder / f"{stem}.safetensors.index.json", index)


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write a JSON file as diffusers does: indented, keys in the order given."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def gigabytes(count: int) -> str:
    """A number of bytes for people, in GB (10^9), or in MB where that is little.

    >>> gigabytes(2_687_000_000), gigabytes(17_300_000)
    ('2.69 GB', '17.3 MB')
    """
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _shards(sizes: Mapping[str, int]) -> list[list[str]]:
    """Names in order, packed until a shard is full."""
    shards: list[list[str]] = []
    room = 0
    for name, size in sizes.items():
        if not shards or size > room:
            shards.append([])
            room = SHARD_BYTES
        shards[-1].append(name)
        room -= size
    return shards


def _check_target(target: Path, overwrite: bool) -> None:
    if not os.path.lexists(target):
        return
    if target.is_symlink() or not target.is_dir():
        raise ModelError(
            f"{target} is a {'link' if target.is_symlink() else 'file'}, not a folder; choose another name"
        )
    if not overwrite:
        raise ModelError(f"{target} exists; choose another name, or pass --overwrite (overwrite=True)")
    if any(target.iterdir()) and not (target / INDEX).is_file():
        raise ModelError(
            f"{target} is not a model folder (it holds no {INDEX}) and is not replaced; choose another name"
        )


def _check_space(target: Path, needed: int) -> None:
    existing = next(parent for parent in target.absolute().parents if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed + SPARE_BYTES:
        raise ModelError(
            f"{target} needs {gigabytes(needed)}, but {gigabytes(free)} are free on that disk; free some, choose "
            "another folder, or half the size with --dtype bfloat16"
        )


def _flush(folder: Path) -> None:
    """Have everything in a folder on the disk before its name says that it is complete."""
    for path in (*folder.rglob("*"), folder):
        if path.is_dir() and os.name != "posix":
            continue  # only there are folders files
        descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _swap(temporary: Path, target: Path) -> None:
    """Give the finished folder its name; one that had it goes when the new one is in place."""
    old = temporary.with_suffix(".old")
    replaced = target.exists()
    if replaced:
        target.rename(old)
    try:
        temporary.rename(target)
    except OSError:
        if replaced:
            old.rename(target)
        raise
    if replaced:
        shutil.rmtree(old, ignore_errors=True)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return (error.strerror or str(error)).lower()
    number = re.search(r"os error (\d+)", str(error))  # safetensors wraps the system's
    return os.strerror(int(number.group(1))).lower() if number else str(error)
