"""Other systems' files as rows of the table: found by name, and looked at before anything is scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from latentsr.audio import AudioError
from latentsr.evaluation.conditions import Conditions
from latentsr.evaluation.noises import Wave
from latentsr.evaluation.references import AUDIO_SUFFIXES, RATE, EvaluationError, decoded, load_mono
from latentsr.evaluation.resamplers import with_length
from latentsr.evaluation.scoring import Case, Clip

SLACK_S = 0.1  # by which a foreign output may be longer or shorter than its reference

Paths = dict[tuple[str, str], Path]  # (the input's folder, the clip's name) -> file


def output_paths(name: str, folder: Path, clips: Sequence[Clip], conditions: Conditions) -> Paths:
    """Each output's file: FOLDER/<the input's folder>/<clip's path> with any audio suffix.

    Where there is a single input, the files may lie in FOLDER itself.
    """
    wanted = conditions.inputs
    if not folder.is_dir():
        raise EvaluationError(f"{folder}, the outputs of {name!r}, is not a folder; pass --outputs {name}=FOLDER")
    keys = [(each.folder, clip.name) for clip in clips for each in wanted]
    found = {key: _output_path(folder, *key, alone=len(wanted) == 1) for key in keys}
    paths = {key: path for key, path in found.items() if path is not None}
    if missing := sorted(found.keys() - paths.keys()):
        first = "/".join(missing[0])
        raise EvaluationError(
            f"{folder} lacks {len(missing)} of {len(found)} outputs of {name!r}, first {first} (any suffix)"
            + _not_asked_for(folder, set(paths.values()))
        )
    return paths


def _output_path(folder: Path, given: str, clip: str, alone: bool) -> Path | None:
    stems = [folder / given / clip] + [folder / clip] * alone
    candidates = (stem.with_suffix(suffix) for stem in stems for suffix in AUDIO_SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)


def _not_asked_for(folder: Path, used: set[Path]) -> str:
    """What lies there instead: a misspelt folder is seen at once."""
    others = sorted(p for p in folder.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES and p not in used)
    if not others:
        return ""
    first = others[0].relative_to(folder).as_posix()
    return f"; {len(others)} files there belong to no reference, first {first}: rename them to match"


def check_outputs(name: str, paths: Paths, seconds: Mapping[str, float]) -> list[int]:
    """Decode every output once: it must be whole, as long as its reference, and at the rate of its input's others.

    `seconds` are the references', by the clip's name. Returns the sampling rates, each once.
    """
    rates: dict[str, dict[int, Path]] = {}  # by the input's folder
    for (given, clip), path in paths.items():
        try:
            lasts_s, rate = decoded(path)
        except (AudioError, OSError) as error:
            raise EvaluationError(f"an output of {name!r} cannot be used: {error}") from None
        rates.setdefault(given, {}).setdefault(rate, path)
        if abs(lasts_s - seconds[clip]) > SLACK_S:
            raise EvaluationError(
                f"{path} lasts {lasts_s:.2f} s at {rate} Hz, its reference {seconds[clip]:.2f} s; align them, and "
                "check that its header says the rate at which it was made"
            )
    if mixed := [found for found in rates.values() if len(found) > 1]:
        (one, first), (other, odd) = list(mixed[0].items())[:2]
        raise EvaluationError(
            f"outputs of {name!r} are at different rates: {first} at {one} Hz, {odd} at {other} Hz; write all at one"
        )
    return sorted({rate for found in rates.values() for rate in found})


def read_output(paths: Paths, case: Case) -> tuple[Wave, None]:
    """The output of one case, at the truth's level and cut, or filled up with zeros, to its length."""
    path = paths[case.input.folder, case.clip.name]
    wave, truth = load_mono(path) / case.gain, case.truth
    if abs(len(wave) - len(truth)) > RATE * SLACK_S:
        raise EvaluationError(
            f"{path} lasts {len(wave) / RATE:.2f} s, its reference {len(truth) / RATE:.2f} s; align them"
        )
    return with_length(wave, len(truth)), None
