"""One server for all tests of the page."""

import pytest

from demo_server import running

LIMITS = {"--max-mb": 6, "--max-seconds": 120, "--queue": 2}


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """The demo on the embedded model, with the limits above."""
    pytest.importorskip("gradio")
    words = [str(word) for pair in LIMITS.items() for word in pair]
    with running(tmp_path_factory.mktemp("server"), *words) as demo:
        yield demo
        log = "\n".join(demo.said)
        assert log.count("Traceback") == log.count("InvalidPathError:"), log  # gradio's word on paths that it refuses


@pytest.fixture(scope="session")
def recordings(tmp_path_factory):
    """A folder for recordings that tests make."""
    return tmp_path_factory.mktemp("recordings")
