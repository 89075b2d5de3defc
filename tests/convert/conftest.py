"""A small checkpoint in AudioSR's layout, for all tests of the conversion."""

from pathlib import Path

import pytest

import small_audiosr
from small_audiosr import Official


@pytest.fixture(scope="session")
def official() -> Official:
    return small_audiosr.make()


@pytest.fixture
def checkpoint(official: Official, tmp_path: Path) -> Path:
    """The small checkpoint as a file."""
    return official.write(tmp_path / "pytorch_model.bin")
