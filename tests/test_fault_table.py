"""docs/faults.md says which test injects which fault: those tests are there."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
TABLE = (TESTS.parent / "docs" / "faults.md").read_text(encoding="utf-8").split("## The table")[1].split("\n## ")[0]
ROWS = [[cell.strip() for cell in line.split("|")[1:-1]] for line in TABLE.splitlines() if line.startswith("|")][2:]


def named(cell: str) -> list[tuple[str, str]]:
    """(file, test or nothing) of every name in a cell; `::test` is of the file before it."""
    found, file = [], ""
    for name in re.findall(r"`([^`]+)`", cell):
        path, _, test = name.partition("::")
        file = path or file
        found.append((file, test.split("[")[0]))
    return found


def test_every_fault_has_a_row():
    assert {int(row[0]) for row in ROWS if row[0]} == set(range(1, 33))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[1][:30])
def test_every_row_has_tests_that_exist(row):
    assert named(row[3]), f"row {row[0]} has no test"
    for file, test in named(row[3]):
        text = (TESTS / file).read_text(encoding="utf-8")
        assert not test or f"def {test}(" in text, f"{file} has no {test}"
