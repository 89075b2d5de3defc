"""What goes wrong with an export, in one line that says what to do."""

from __future__ import annotations


class ExportError(RuntimeError):
    """Something cannot be exported, or was and does not compute what it should."""
