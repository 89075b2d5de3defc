"""The table of docs/formats.md is what the reader does with the files of `containers`; run this to write it anew."""

import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from containers import CASES, Case

from latentsr.audio import read

PAGE = Path(__file__).parents[2] / "docs" / "formats.md"
START, END = "<!-- table -->\n", "<!-- end of the table -->"
HEAD = "| file | encoder | read by | as | length | delay removed | late |\n|---|---|---|---|---|---|---|\n"


def late(case: Case, samples: np.ndarray) -> int:
    """Samples by which the decoded sound starts behind the encoder's input."""
    count = 2**18
    product = np.conj(np.fft.rfft(case.wave[0], count)) * np.fft.rfft(samples[0, : case.rate_hz + 4_000], count)
    lag = int(np.argmax(np.abs(np.fft.irfft(product))))
    return lag - count if lag > count // 2 else lag


def row(case: Case, folder: Path) -> str:
    got = read(case.make(folder))
    account = got.account
    length = "not declared" if account.frames_declared is None else "declared"
    length = f"{account.parts} parts" if account.parts > 1 else length
    encoder = f"{case.codec} in {case.format} by {case.by}"
    return (
        f"| {case.name} | {encoder} | {account.decoder} | {account.container}, {account.codec} | {length} "
        f"| {account.delay_removed or ''} | {late(case, got.samples) or ''} |\n"
    )


def table() -> str:
    return START + PAGE.read_text(encoding="utf-8").split(START)[1].split(END)[0]


@pytest.mark.parametrize("name", CASES)
def test_its_row_is_true(tmp_path, name):
    assert row(CASES[name], tmp_path) in table()


def test_there_is_no_row_too_many():
    rows = [line.split("|")[1].strip() for line in table().splitlines() if line.startswith("| ")][1:]
    assert rows == list(CASES)


def main() -> None:
    import av

    with tempfile.TemporaryDirectory() as folder:
        rows = "".join(row(case, Path(folder)) for case in CASES.values())
    made = f"With libsndfile {soundfile.__libsndfile_version__} and PyAV {av.__version__}:\n\n"
    before, rest = PAGE.read_text(encoding="utf-8").split(START)
    PAGE.write_text(before + START + made + HEAD + rows + "\n" + END + rest.split(END)[1], encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
