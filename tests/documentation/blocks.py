"""Fenced blocks of a Markdown page, and what else looks like code there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUN = ("python", "sh", "bash", "yaml")
SHOWN = ("text", "csv", "json", "html")  # what is printed or written, not typed
COMMANDS = re.compile(r"^ {4}\$? ?(latentsr|python3?|pip|pytest|accelerate|torchrun|mkdocs)\b", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, the number of its first line, its text."""

    language: str
    line: int
    code: str


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order; an indented fence (in a list) loses its indent."""
    found, lines = [], page.read_text(encoding="utf-8").splitlines()
    at = 0
    while at < len(lines):
        opening = re.match(r"^( *)```(\S*)", lines[at])
        at += 1
        if opening is None:
            continue
        indent, language = opening.groups()
        first = at
        while lines[at].strip() != "```":
            at += 1
        code = "".join(f"{line.removeprefix(indent)}\n" for line in lines[first:at])
        found.append(Block(language, first + 1, code))
        at += 1
    return found


def commands_outside(page: Path) -> list[str]:
    """Lines of indented code that look like commands: nobody runs them, so they may be wrong."""
    text = re.sub(r"^( *)```.*?^\1```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [match.group(0).strip() for match in COMMANDS.finditer(text)]
