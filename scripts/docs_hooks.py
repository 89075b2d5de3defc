"""mkdocs: a page that says `<!-- include: PATH -->` shows that file of the repository, without its front matter."""

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
INCLUDE = re.compile(r"<!-- include: (\S+) -->")
FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)


def on_page_markdown(markdown: str, **_: Any) -> str:
    return INCLUDE.sub(lambda match: included(match.group(1)), markdown)


def included(path: str) -> str:
    """The file's text; a path that is not there stops the build."""
    return FRONT_MATTER.sub("", (ROOT / path).read_text(encoding="utf-8"))
