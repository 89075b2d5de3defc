"""What can be wrong with a recording, and with what is asked of it, and the system's reasons in our sentences."""

from __future__ import annotations


class AudioError(ValueError):
    """A recording that cannot be read or written; the message says what is wrong and what to do."""


# The kinds are named for what the recording is: "except EmptyAudio" reads as what is meant.
class InvalidAudio(AudioError):  # noqa: N818
    """Samples that are NaN or infinite: `count` of them, the first at sample `first` of its channel."""

    def __init__(self, message: str, count: int = 0, first: int = 0) -> None:
        super().__init__(message)
        self.count, self.first = count, first


class TruncatedAudio(AudioError):  # noqa: N818
    """Cut short or damaged: `decoded_s` seconds could be had of `declared_s` (None where that is not known)."""

    def __init__(self, message: str, decoded_s: float = 0.0, declared_s: float | None = None) -> None:
        super().__init__(message)
        self.decoded_s, self.declared_s = decoded_s, declared_s


class EmptyAudio(AudioError):  # noqa: N818
    """A recording in good order that holds no samples."""


class UnsupportedAudio(AudioError):  # noqa: N818
    """A recording in a coding that cannot be decoded here; `extra` is what to install (None where nothing helps)."""

    def __init__(self, message: str, extra: str | None = None) -> None:
        super().__init__(message)
        self.extra = extra


class UsageError(ValueError):
    """A request that makes no sense, noticed before any work is done; the message says what to ask for instead."""


def reason_of(error: OSError) -> str:
    """Why the system did not do it, as part of a sentence.

    >>> reason_of(FileNotFoundError(2, "No such file or directory"))
    'no such file or directory'
    """
    return (error.strerror or str(error)).lower()
