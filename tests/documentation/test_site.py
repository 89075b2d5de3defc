"""The documentation site: built with strict links, and read without a network."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from blocks import ROOT

pytestmark = pytest.mark.slow  # the whole site is built
ELSEWHERE = re.compile(r"<(?:script|link|img|iframe|audio|source)\b[^>]*?\b(?:src|href)=[\"']?https?://[^\"' >]+")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_every_page_is_there_and_loads_nothing_from_elsewhere(site):
    pages = {page.relative_to(site).as_posix(): page.read_text(encoding="utf-8") for page in site.rglob("*.html")}
    written = {page.relative_to(ROOT / "docs").with_suffix("") for page in (ROOT / "docs").rglob("*.md")}
    expected = {
        "index.html" if str(p) == "index" else f"{p.parent if p.name == 'index' else p}/index.html" for p in written
    }
    assert expected <= pages.keys()
    assert {name: found for name, text in pages.items() if (found := ELSEWHERE.findall(text))} == {}


def test_what_is_included_is_the_file_without_its_front_matter(site):
    card = (site / "model_card/index.html").read_text(encoding="utf-8")
    assert "The embedded default of latentsr" in card and "library_name" not in card
