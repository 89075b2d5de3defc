"""Every code block of the README and of the documentation runs: a page's blocks in order, in one folder."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import offline
import pytest
import soundfile
import workplace
import yaml
from blocks import PAGES, ROOT, RUN, SHOWN, Block, blocks, commands_outside

from latentsr.config import build
from latentsr.signal.recipes import DegradeConfig
from latentsr.training.recipe import Recipe

TYPED_BY_CI = "bash"  # the README's two commands, word for word, in new environments
CONFIGS = {"degrade": DegradeConfig}  # of a YAML block with this key; others are recipes
WITH_CODE = [page for page in PAGES if any(block.language in RUN for block in blocks(page))]


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.slow
@pytest.mark.parametrize("page", [pytest.param(page, id=name(page)) for page in WITH_CODE])
def test_blocks_of_a_page_run(page, warm, tmp_path, monkeypatch):
    workplace.furnish(tmp_path, page.name)
    environment = workplace.shims(tmp_path, warm)
    monkeypatch.chdir(tmp_path)
    offline.patch(monkeypatch)
    names: dict[str, object] = {"__name__": "__main__"}
    before = set(tmp_path.iterdir())
    for block in blocks(page):
        where = f"{name(page)}, line {block.line}"
        if block.language == "python":
            code = compile("\n" * (block.line - 1) + block.code, name(page), "exec")
            exec(code, names)
        elif block.language == "yaml":
            check_yaml(block)
        elif block.language == "sh":
            run_shell(block, where, environment, tmp_path / "printed")
    if page.name == "README.md":
        check_ignored({path.name for path in set(tmp_path.iterdir()) - before} - {"printed", "cache"})  # the test's own
        given, after = soundfile.info("examples/phone_speech.flac"), soundfile.info("phone_48k.flac")
        assert (after.samplerate, after.frames) == (48_000, given.frames * 6)


def check_ignored(names: set[str]) -> None:
    """In a clone, nothing of what the commands write is to be seen in `git status`."""
    if (ROOT / ".git").exists():
        seen = {f"{name}/" if Path(name).is_dir() else name for name in names}
        ignored = subprocess.run(["git", "check-ignore", "--no-index", *seen], cwd=ROOT, capture_output=True, text=True)
        assert set(ignored.stdout.split()) == seen


def run_shell(block: Block, where: str, environment: dict[str, str], printed: Path) -> None:
    """What the block leaves running, a server of a failed block say, is ended with it, and holds nothing open."""
    words = ["bash", "-eux", "-o", "pipefail", "-c", block.code]
    with printed.open("w") as file:
        shell = subprocess.Popen(
            words, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
        )
        try:
            code = shell.wait(timeout=900)  # a busy machine takes its time
        finally:
            with suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGTERM)
            if "ray start" in block.code:
                subprocess.run(["ray", "stop", "--force"], env=environment, capture_output=True, timeout=60)
    assert code == 0, f"{where} left with {code}:\n{printed.read_text()[-5000:]}"


def check_yaml(block: Block) -> None:
    """A YAML block is a config of ours: every key is known, every value is in its range."""
    values = yaml.safe_load(block.code)
    for key, kind in CONFIGS.items():
        if key in values:
            build(kind, values[key], where=key)
            return
    build(Recipe, values, where="recipe")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_code_stands_in_blocks_that_name_their_language(page):
    languages = {block.language for block in blocks(page)}
    assert languages <= {*RUN, *SHOWN}, "name the language; text is for what is shown and not run"
    assert TYPED_BY_CI not in languages or page.name == "README.md"
    assert commands_outside(page) == []
