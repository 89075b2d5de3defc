"""Writing a model folder shard by shard: whole, on disk and under its name, or not there at all."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from huggingface_hub import split_state_dict_into_shards_factory
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from latentsr.errors import reason_of
from latentsr.model_folder.loading import INDEX, ModelError
from latentsr.wholefiles import replacing_folder

SHARD_BYTES = 256 * 2**20
SPARE_BYTES = 16 * 2**20  # for configs, hashes and the file system's own tables


@contextmanager
def new_folder(target: Path, needed: int, overwrite: bool) -> Iterator[Path]:
    """A folder to write `needed` bytes into, which takes the place of `target` when the block ends well.

    A model folder of that name, which `overwrite` lets it replace, stays untouched until the new one is complete.

    Raises:
        ModelError: there is something else in the way, or not enough room, or no permission.
    """
    missing = [parent for parent in target.absolute().parents if not parent.exists()]
    try:
        _check_target(target, overwrite)
        _check_space(target, needed)
        with replacing_folder(target.absolute()) as temporary:
            yield temporary
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{target} cannot be written: {_reason(error)}; it needs {gigabytes(needed)}, and nothing of it was left") from error  # fmt: skip  # noqa: E501
    finally:
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

    `tensor` makes one by its name, of so many bytes as in `sizes`; one shard's exist at a time. `on_shard` is told how
    many bytes were written.
    """
    shards = split_state_dict_into_shards_factory(
        dict(sizes), get_storage_size=int, filename_pattern=f"{stem}{{suffix}}.safetensors", max_shard_size=SHARD_BYTES
    )
    for file, names in shards.filename_to_tensors.items():
        save_file({name: tensor(name) for name in names}, folder / file, metadata={"format": "pt"})
        (folder / file).chmod(folder.stat().st_mode & 0o666)  # safetensors leaves them to the owner alone
        if on_shard is not None:
            on_shard(sum(sizes[name] for name in names))
    if shards.is_sharded:
        index = {"metadata": shards.metadata, "weight_map": dict(sorted(shards.tensor_to_filename.items()))}
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


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return reason_of(error)
    number = re.search(r"os error (\d+)", str(error))  # safetensors wraps the system's
    return os.strerror(int(number.group(1))).lower() if number else str(error)
