"""A headless Chromium for tests of pages: found on the machine, never downloaded."""

import os
import shutil
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find_chromium():
    """$CHROMIUM, else /usr/bin/chromium, else what is on PATH; None where there is none."""
    named = [os.environ.get("CHROMIUM"), "/usr/bin/chromium", *map(shutil.which, NAMES)]
    return next((path for path in named if path and Path(path).is_file()), None)


def launch(playwright):
    return playwright.chromium.launch(executable_path=find_chromium(), args=ARGUMENTS)


@pytest.fixture
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if find_chromium() is None:
        pytest.skip("no Chromium on this machine")
    with api.sync_playwright() as playwright:
        chromium = launch(playwright)
        yield chromium
        chromium.close()
