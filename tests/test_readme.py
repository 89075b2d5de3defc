"""The README opens with the commands that CI types, and leads nowhere wrong; tests/documentation runs its code."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The code of every fenced block of `language`."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def test_readme_opens_with_two_commands_restore_then_test():
    restore, develop = (code.strip() for code in blocks("bash"))
    assert "\n" not in restore + develop
    assert restore.endswith("latentsr restore examples/*.flac --out-dir restored")
    assert 'install -e ".[dev]"' in develop and develop.endswith("pytest")
    assert README.index(develop) < README.index("\n## ")


def test_links_to_files_lead_somewhere():
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", re.sub(r"<!--.*?-->", "", README, flags=re.DOTALL))
    assert len(targets) >= 5
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_what_its_commands_write_is_ignored_by_git():
    """So that `git status` in a clone names nothing that a reader's first hour has made."""
    files = [*re.findall(r" -o ([\w./]+)", README), *re.findall(r'save\("([^"]+)"', README), "old.48k.wav"]
    folders = re.findall(r'--out-dir (\w+)|latentsr batch \S+ (\w+)|save_pretrained\("(\w+)"', README)
    written = [*files, *(f"{''.join(each)}/" for each in folders), "runs/", "examples/notebook_output/"]
    assert len(written) >= 12
    done = subprocess.run(
        ["git", "check-ignore", "--no-index", *written], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode == 128:
        pytest.skip("no clone")
    assert done.stdout.split() == written
