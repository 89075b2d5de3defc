"""AudioSR's published checkpoints by name: downloaded, verified and converted once, then reused.

Conversions lie in $LATENTSR_CACHE, or in `latentsr` beside the Hub's own cache (HF_HOME, by default
~/.cache/huggingface). A folder's name holds the hash of the file that it was made from, so that neither that file nor
its hash need be read again; the 6 GB file may be deleted from the Hub's cache.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url
from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined, unused-ignore]

from latentsr.convert.audiosr import convert
from latentsr.convert.audiosr_file import PUBLISHED_SHA256, REPOSITORIES, Checkpoint
from latentsr.dtypes import name_of
from latentsr.errors import reason_of
from latentsr.model_folder.loading import INDEX, ModelError

FILE = "pytorch_model.bin"
FORMAT = 1  # of a conversion; one of another format is not reused


def is_published(name: str | os.PathLike[str]) -> bool:
    """Whether `name` is that of an AudioSR checkpoint on the Hub, which `fetch` gets."""
    return str(name) in REPOSITORIES.values()


def fetch(name: str, local_files_only: bool = False, dtype: torch.dtype = torch.float32) -> Path:
    """The model folder of a published checkpoint, made when it is first asked for.

    Args:
        name: "haoheliu/audiosr_basic" or "haoheliu/audiosr_speech".
        local_files_only: take what is on this machine, without network.
        dtype: of the folder's files.

    Returns:
        The folder, in the cache.

    Raises:
        ModelError: the checkpoint cannot be got, or is not what the Hub says it is.
    """
    if not is_published(name):
        raise ModelError(f"{name} is not a published AudioSR checkpoint; choose {' or '.join(REPOSITORIES.values())}")
    current = None if local_files_only else _current_sha256(name)
    made = _conversion(name, current, dtype)
    if made is not None:
        return made
    file = _downloaded(name, local_files_only)
    digest = _stated_sha256(file.path) or current or _published_sha256(name)
    target = cache() / f"{_stem(name, dtype)}-{digest}"
    with _alone_with(target):
        if (target / INDEX).is_file():
            return target
        if file.sha256 != digest:
            raise ModelError(f"{file.path} has another hash than the Hub states; delete the file and try again")
        for left_over in target.parent.glob(f".{target.name}.*.tmp"):  # of a process that was killed
            shutil.rmtree(left_over, ignore_errors=True)
        return convert(file, target, dtype=dtype, overwrite=target.exists())


@contextmanager
def _alone_with(target: Path) -> Iterator[None]:
    """Of several processes that want to make `target`, one works; the others wait, and find the work done."""
    with ExitStack() as stack:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(WeakFileLock(target.with_name(f".{target.name}.lock")))
        except OSError as error:
            raise ModelError(
                f"cannot write to the cache {cache()}: {reason_of(error)}; set LATENTSR_CACHE to another folder"
            ) from error
        yield


def cache() -> Path:
    """Where conversions lie."""
    return Path(os.environ.get("LATENTSR_CACHE") or Path(constants.HF_HOME) / "latentsr").expanduser()


def _stem(name: str, dtype: torch.dtype) -> str:
    return f"{name.split('/')[1]}-{name_of(dtype)}-v{FORMAT}"


def _conversion(name: str, digest: str | None, dtype: torch.dtype) -> Path | None:
    """The conversion of the file with this hash, or where the hash is not known the newest one."""
    made = [index.parent for index in cache().glob(f"{_stem(name, dtype)}-{digest or '*'}/{INDEX}")]
    return max(made, key=lambda folder: folder.stat().st_mtime, default=None)


def _current_sha256(name: str) -> str | None:
    """What the Hub has under the name now; None where it cannot be asked."""
    try:
        etag = get_hf_file_metadata(hf_hub_url(name, FILE)).etag
    except Exception:  # the hub's many errors; the download will say what is wrong, if it is needed
        return None
    return etag if _is_sha256(etag) else None


def _downloaded(name: str, local_files_only: bool) -> Checkpoint:
    try:
        return Checkpoint(hf_hub_download(name, FILE, local_files_only=local_files_only))
    except ModelError:
        raise
    except Exception as error:  # the hub's many errors, most of which mean the same to the caller
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise ModelError(
                f"no space left for {name} (6.2 GB); free some, or set HF_HOME to a larger disk"
            ) from error
        remedy = "try without local_files_only" if local_files_only else "check the network, or pass a downloaded file"
        raise ModelError(f"cannot fetch {name} from the Hub ({type(error).__name__}); {remedy}") from error


def _stated_sha256(path: Path) -> str | None:
    """The hash that a downloaded file ought to have: the Hub's cache names files by it, where the system has links."""
    return path.resolve().name if _is_sha256(path.resolve().name) else None


def _published_sha256(name: str) -> str:
    variant = name.rpartition("_")[2]
    return next(digest for digest, published in PUBLISHED_SHA256.items() if published == variant)


def _is_sha256(text: str | None) -> bool:
    return re.fullmatch("[0-9a-f]{64}", text or "") is not None
