"""The README keeps its word: its code runs on the embedded default, its commands are the ones CI types."""

import re
import shutil
from pathlib import Path

import soundfile

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[tuple[int, str]]:
    """(first line number, code) of every fenced block of `language`."""
    found = re.finditer(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
    return [(README.count("\n", 0, match.start(1)) + 1, match.group(1)) for match in found]


def test_readme_opens_with_two_commands_restore_then_test():
    restore, develop = (code.strip() for _, code in blocks("bash"))
    assert "\n" not in restore + develop
    assert restore.endswith("latentsr restore examples/*.flac --out-dir restored")
    assert 'install -e ".[dev]"' in develop and develop.endswith("pytest")
    assert README.index(develop) < README.index("\n## ")


def test_python_in_the_readme_runs_on_the_embedded_default(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for line, code in blocks("python"):
        exec(compile("\n" * (line - 1) + code, "README.md", "exec"), names)
    before, after = soundfile.info("examples/phone_speech.flac"), soundfile.info("phone_48k.flac")
    assert (after.samplerate, after.frames) == (48_000, before.frames * 6)


def test_links_to_files_lead_somewhere():
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", re.sub(r"<!--.*?-->", "", README, flags=re.DOTALL))
    assert len(targets) >= 5
    assert [target for target in targets if not (ROOT / target).exists()] == []
