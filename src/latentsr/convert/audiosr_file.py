"""Reading an official AudioSR checkpoint: memory-mapped, tensors only, and refused in one line where it is not one.

Which of the two published ones it is, is known by figures of third parties, met in public code and not verified here,
since the files were not at hand: the hashes in two web front ends (basic, revision 74a47f49 of the Hub repository) and
in a media toolbox (speech, revision 413f1d73), the scale factor of basic in an ONNX and an OpenVINO port. The latter
uses it for speech too, not knowing better, so a hash, where it is known, has the last word.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from latentsr.convert.audiosr_names import BETAS, SCALE_FACTOR, is_skipped
from latentsr.convert.pickled import UnreadableError, counted, look
from latentsr.dtypes import name_of
from latentsr.errors import reason_of
from latentsr.model_folder.loading import PUBLISHED, ModelError
from latentsr.wholefiles import sha256

VARIANTS = ("basic", "speech")
REPOSITORIES = dict(zip(VARIANTS, PUBLISHED, strict=True))
PUBLISHED_SHA256 = {
    "8a3506b9619ed32435ce2c115604750c7bddb5ad8502be7b1a3131bde878aa01": "basic",
    "59fd60a9b93346c698788bac9b6077977a21733e7a78db9d3c3af3f1bdebc640": "speech",
}
BASIC_SCALE_FACTOR = 0.3342401385307312
TOLERANCE = 1e-4
PASS_ANOTHER = "pass the pytorch_model.bin of audiosr_basic or audiosr_speech"


class Checkpoint:
    """The tensors of a checkpoint by name. They are views of the mapped file: nothing is read before it is used.

    >>> Checkpoint("pytorch_model.bin").scale_factor  # doctest: +SKIP
    0.3342401385307312
    """

    def __init__(self, path: str | os.PathLike[str], said_to_be: str | None = None) -> None:
        self.path, self.said_to_be = Path(path), said_to_be
        kind = _kind(self.path)
        self._tensors: dict[str, Any] = _from_pickle(self.path) if kind == "zip" else _from_safetensors(self.path)
        self._mapped = _mapped(self.path)

    def check(self, wanted: Mapping[str, tuple[int, ...]]) -> None:
        """Raise `ModelError` unless every tensor of `wanted` is there in its shape, and nothing unexpected."""
        have = self._tensors
        missing = [name for name in wanted if name not in have]
        unexpected = [name for name in have if name not in wanted and not is_skipped(name)]
        bad = [
            f"{name} is {_described(have[name])} instead of {wanted[name]}"
            for name in wanted
            if name in have and not _fits(have[name], wanted[name])
        ]
        if unexpected and not missing and not bad and self.sha256 in PUBLISHED_SHA256:
            unexpected = []  # the published files were not at hand; whatever they hold beside is theirs
        faults = counted({"missing": missing, "unexpected": unexpected, "of another shape or type": bad})
        if faults:
            raise ModelError(
                f"{self.path} does not hold the tensors of this AudioSR architecture: {faults}; "
                f"{PASS_ANOTHER}, or the configuration that the file was trained with"
            )

    def tensor(self, name: str, shape: tuple[int, ...], dtype: torch.dtype, copy: bool = False) -> Tensor:
        """A tensor in `shape` and `dtype`, all finite; where it is stored so a view of the file, unless `copy`."""
        stored: Tensor = self._tensors[name]
        made = stored.reshape(shape).to(dtype, copy=copy).contiguous()
        if not _finite(made):
            if _finite(stored.float()):
                raise ModelError(f"{self.path}: {name} does not fit {name_of(dtype)}; choose bfloat16 or float32")
            raise ModelError(f"{self.path}: {name} holds NaN or infinity; the file is damaged, download the file anew")
        if made.untyped_storage().data_ptr() != stored.untyped_storage().data_ptr():
            _forget(stored, self._mapped)
        return made

    @cached_property
    def sha256(self) -> str:
        """Hash of the whole file; it takes a pass over all of it, once."""
        return sha256(self.path)

    @property
    def scale_factor(self) -> float:
        """What latents are multiplied by before the diffusion sees them."""
        value = float(self.tensor(SCALE_FACTOR, (), torch.float32))
        if value <= 0:
            raise ModelError(f"{self.path}: scale_factor is {value}; it must be positive")
        return value

    @property
    def scale_precision(self) -> float:
        """How far rounding to the type of the file can have moved the scale factor."""
        return torch.finfo(self._tensors[SCALE_FACTOR].dtype).eps * self.scale_factor

    @property
    def betas(self) -> list[float]:
        """Noise variances of the 1000 diffusion steps."""
        values: list[float] = self.tensor(BETAS, (1000,), torch.float32).tolist()
        if not all(0 <= beta <= 1 for beta in values):
            raise ModelError(f"{self.path}: betas must lie in 0..1, but reach from {min(values)} to {max(values)}")
        return values


def check_variant(file: Checkpoint) -> None:
    """Raise `ModelError` where a checkpoint is not "basic" or "speech" as it is said to be; None says nothing.

    A published file is known by its hash. Of any other one "basic" must have basic's scale factor, within 1e-4 or what
    half precision leaves of it, and "speech" must not.
    """
    variant = file.said_to_be
    if variant is None:
        return
    if variant not in VARIANTS:
        raise ValueError(f"unknown variant {variant!r}; choose one of {', '.join(VARIANTS)}")
    other = VARIANTS[1 - VARIANTS.index(variant)]
    advice = f"pass {other} as the variant (--variant {other}) or leave it out"
    published = PUBLISHED_SHA256.get(file.sha256)
    if published == variant:
        return
    if published is not None:
        raise ModelError(f"{file.path} is audiosr_{published}, as its hash says, not audiosr_{variant}; {advice}")
    scale = file.scale_factor
    is_basic = abs(scale - BASIC_SCALE_FACTOR) <= max(TOLERANCE, file.scale_precision)
    if variant == "basic" and not is_basic:
        raise ModelError(
            f"the scale factor {scale:.7f} of {file.path} is not audiosr_basic's ({BASIC_SCALE_FACTOR:.7f}); "
            f"it looks like another checkpoint such as audiosr_speech; {advice}"
        )
    if variant == "speech" and is_basic:
        raise ModelError(
            f"the scale factor {scale:.7f} of {file.path} is audiosr_basic's, not audiosr_speech's; {advice}"
        )


def _kind(path: Path) -> str:
    """ "zip" (torch.save) or "safetensors", by the first bytes."""
    if path.is_dir():
        raise ModelError(f"{path} is a folder; pass the checkpoint file itself, such as pytorch_model.bin")
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {reason_of(error)}") from None
    text = head.lstrip().lower()
    if not head:
        raise ModelError(f"{path} is empty; download the file anew")
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    if head[8:9] == b"{":
        return "safetensors"
    if text.startswith(b"version https://git-lfs"):
        raise ModelError(f"{path} is a git-lfs pointer, not the checkpoint; fetch it with git lfs pull")
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise ModelError(f"{path} is a web page, not a checkpoint; download the file itself")
    if head.startswith(b"\x80"):
        raise ModelError(f"{path} is a bare pickle, not a file of torch >= 1.6, and is not opened; {PASS_ANOTHER}")
    raise ModelError(f"{path} is neither a PyTorch checkpoint nor safetensors; {PASS_ANOTHER}")


def _from_pickle(path: Path) -> dict[str, Any]:
    try:
        inside, content = look(path, (("state_dict",), ()))
    except UnreadableError as error:
        raise ModelError(error.refusal(path, "truncated or damaged ({}); download the file anew")) from error
    content = inside if isinstance(inside, Mapping) else content
    if not isinstance(content, Mapping):
        raise ModelError(
            f"{path} holds a {content.kind if content else 'None'} instead of a state dict; {PASS_ANOTHER}"
        )
    return dict(content)


def _from_safetensors(path: Path) -> dict[str, Any]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    except SafetensorError as error:
        raise ModelError(f"{path} is truncated or damaged ({error}); download the file anew") from error


def _finite(tensor: Tensor) -> bool:
    """Whether all elements are; a finite sum, which is cheap, proves it."""
    return bool(tensor.sum(dtype=torch.float32).isfinite() or tensor.isfinite().all())


def _fits(value: Any, shape: tuple[int, ...]) -> bool:
    return isinstance(value, Tensor) and tuple(value.shape) == shape and value.is_floating_point()


def _described(value: Any) -> str:
    if not isinstance(value, Tensor):
        return f"a {value.kind}"
    shape = str(tuple(value.shape))
    return shape if value.is_floating_point() else f"{shape} in {name_of(value.dtype)}"


def _mapped(path: Path) -> list[tuple[int, int]]:
    """Addresses at which this process has mapped the file; none where the system does not tell."""
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []
    name = str(path.resolve())
    spans = (line.split(maxsplit=5)[0].split("-") for line in lines if line.endswith(f" {name}"))
    return [(int(start, 16), int(end, 16)) for start, end in spans]


def _forget(tensor: Tensor, mapped: list[tuple[int, int]]) -> None:
    """Give back the memory of the file's pages behind `tensor`, which has been copied; the file still has them."""
    page = mmap.PAGESIZE
    first, last = tensor.data_ptr(), tensor.data_ptr() + tensor.numel() * tensor.element_size()
    start, end = -(-first // page) * page, last // page * page
    # Anonymous memory would come back as zeros: only pages of the file itself are given back.
    if end > start and tensor.is_contiguous() and any(a <= start and end <= b for a, b in mapped):
        ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)
