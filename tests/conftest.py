"""Fixtures shared by all tests."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of recordings and reference runs that lies beside the checkout, not in it."""
    if not (SHARED / "data").is_dir():
        pytest.skip("needs the recordings in ../shared, which is not part of the repository")
    return SHARED
