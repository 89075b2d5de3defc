"""Other systems as commands: each case is written to a file, the command restores it, and what it writes is read.

It is timed as it is called: with the start of its process, and whatever it loads.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import tempfile
from functools import partial
from pathlib import Path

from latentsr.audio import AudioError
from latentsr.errors import UsageError
from latentsr.evaluation.benchmark import System
from latentsr.evaluation.clip_cases import write_input
from latentsr.evaluation.noises import Wave
from latentsr.evaluation.outputs import SLACK_S
from latentsr.evaluation.references import RATE, EvaluationError, load_mono
from latentsr.evaluation.resamplers import with_length
from latentsr.evaluation.scoring import Case

PLACES = ("{in}", "{out}")  # of a command's words, where the two files stand


def command(name: str, text: str) -> System:
    """The row of a command with the words `{in}` and `{out}`, which is run once for each case, without a shell.

    Raises:
        UsageError: a place is missing, or the program is not found.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"--system {name}: {error}; quote its words as a shell takes them") from None
    if missing := [place for place in PLACES if place not in text]:
        raise UsageError(
            f'--system {name} lacks {" and ".join(missing)}; write --system {name}="restore {{in}} {{out}}"'
        )
    if shutil.which(words[0]) is None:
        raise UsageError(f"--system {name}: there is no program {words[0]}; install it, or give its path")
    return System(name, partial(_run, name, words))


def _run(name: str, words: list[str], case: Case) -> tuple[Wave, None]:
    """What the command makes of a case, at the truth's level and length."""
    about = f"the system {name!r} on {case.clip.name}, {case.input.label}"
    with tempfile.TemporaryDirectory() as folder:
        given, made = write_input(Path(folder) / "in", case), Path(folder) / "out.wav"
        filled = [word.replace(PLACES[0], str(given)).replace(PLACES[1], str(made)) for word in words]
        done = subprocess.run(filled, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
        if done.returncode:
            last = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
            raise EvaluationError(f"{about}: exit code {done.returncode}: {last}")
        if not made.is_file():
            raise EvaluationError(f"{about}: it wrote no {{out}}, which is a WAV file; mend its command")
        try:
            wave = load_mono(made) / case.gain
        except AudioError as error:
            raise EvaluationError(f"{about}: {error}") from None
    if abs(len(wave) - len(case.truth)) > RATE * SLACK_S:
        lasts = f"{len(wave) / RATE:.2f} s, and not {len(case.truth) / RATE:.2f} s"
        raise EvaluationError(f"{about}: what it wrote lasts {lasts}; its header may say another rate")
    return with_length(wave, len(case.truth)), None
