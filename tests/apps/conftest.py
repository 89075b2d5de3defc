"""What the tests of the command line share."""

import sys

import pytest

from latentsr.apps import cli


@pytest.fixture
def run_command(monkeypatch, capsys):
    """Runs the console script's `main` on some words: (exit code, stdout, stderr)."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["latentsr", *map(str, words)])
        monkeypatch.setattr(cli.signal, "signal", lambda *_: None)  # leave pytest's own handlers alone
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        out, err = capsys.readouterr()
        return exit_.value.code or 0, out, err

    return run
