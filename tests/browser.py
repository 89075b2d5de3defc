"""Finds Chromium and starts it without a window; tests that need a browser skip where there is none."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("/usr/bin/chromium", "chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


def find_chromium() -> str | None:
    """The browser that $CHROMIUM names, else the first that is installed; None where there is none."""
    named = os.environ.get("CHROMIUM")
    candidates = (named,) if named else NAMES
    return next((path for name in candidates if name and (path := shutil.which(name))), None)


def launch(playwright: Any, *arguments: str) -> Any:
    """A browser of `playwright`'s, headless, that makes no requests of its own; skips the test where there is none."""
    chromium = find_chromium()
    if chromium is None:
        pytest.skip("needs Chromium: install it, or name it in $CHROMIUM")
    return playwright.chromium.launch(executable_path=chromium, args=[*ARGUMENTS, *arguments])


def save_picture(screenshot: bytes, path: Path) -> None:
    """For the documentation, in 128 colours: a quarter of the bytes."""
    from PIL import Image

    picture = Image.open(io.BytesIO(screenshot)).convert("RGB")
    picture.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


@pytest.fixture
def browser() -> Iterator[Any]:
    """A browser for one test."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        chromium = launch(playwright)
        yield chromium
        chromium.close()
