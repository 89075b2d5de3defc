"""Fixtures shared by all tests."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

# One thread for each of the processes that share the tests: more would wait for each other. Read by torch as it comes.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Share out the whole suite; a few files named by hand start sooner in one process, which a debugger can follow."""
    named = [argument for argument in config.args if Path(argument.split("::")[0]).suffix == ".py"]
    return 0 if named else min(4, os.cpu_count() or 1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes long, unless -m says otherwise or its file is named by hand."""
    named = any(Path(argument.split("::")[0]).suffix == ".py" for argument in config.args)
    if named or config.option.markexpr:
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if item not in set(slow)]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of recordings and reference runs that lies beside the checkout, not in it."""
    if not (SHARED / "data").is_dir():
        pytest.skip("needs the recordings in ../shared, which is not part of the repository")
    return SHARED


@pytest.fixture(scope="session")
def audiosr_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small AudioSR checkpoint, its configuration and a recording: the recorded run's, else what is made here."""
    recorded = SHARED / "oracle" / "audiosr"
    if recorded.is_dir():
        return recorded
    import small_audiosr

    return small_audiosr.write_folder(tmp_path_factory.mktemp("audiosr_folder"))


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Words to put before a command, `python SCRIPT ...`: it runs where torch has been imported already."""
    here, address = Path(__file__).parent, str(tmp_path_factory.mktemp("warm") / "s")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, str(here / "warm_server.py"), address], env=environment)
    deadline = time.monotonic() + 120
    while not Path(address).exists():
        assert process.poll() is None and time.monotonic() < deadline, "the server did not start"
        time.sleep(0.05)
    yield [sys.executable, "-ISE", str(here / "warm_client.py"), address]
    process.kill()
    process.wait()
