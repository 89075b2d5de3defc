"""When memory runs out."""

from __future__ import annotations

import torch

# The last is oneDNN's, which has the same words for whatever stops it.
SHORTAGES = ("out of memory", "can't allocate memory", "not enough memory", "could not create a primitive")


class TooLittleMemoryError(MemoryError):
    """Even the smallest windows do not fit."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: of a GPU, for which torch has a class, or of the machine, for which it has words."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return any(words in str(error).lower() for words in SHORTAGES)
