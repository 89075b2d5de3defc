"""Ctrl-C in tests: what a shell starts in the background ignores it, and so would all that a test starts."""

import signal


def heard() -> None:
    """As `preexec_fn`: the process hears Ctrl-C as one in a terminal does."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
