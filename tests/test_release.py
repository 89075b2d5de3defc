"""scripts/release.py: what it refuses before anything is built."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts/release.py"


@pytest.fixture
def git(tmp_path):
    def run(*words):
        identity = ["-c", "user.name=n", "-c", "user.email=n@example.org"]
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    (tmp_path / "scripts").mkdir()
    (tmp_path / "src/latentsr").mkdir(parents=True)
    shutil.copy(SCRIPT, tmp_path / "scripts")
    (tmp_path / "src/latentsr/__init__.py").write_text('__version__ = "0.2.0"\n')
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## 0.2.0 - 2030-01-01\n")
    run("init", "-q")
    run("add", "-A")
    run("commit", "-q", "-m", "a release")
    return run


@pytest.fixture
def release(tmp_path):
    def run(*words):
        command = [sys.executable, str(tmp_path / "scripts/release.py"), "--check-only", *words]
        return subprocess.run(command, capture_output=True, text=True)

    return run


def test_a_release_that_agrees_with_itself_passes(git, release):
    git("tag", "v0.2.0")
    assert release().returncode == 0 and release("v0.2.0").returncode == 0


def test_what_does_not_agree_is_refused(git, release, tmp_path):
    assert "0 tags" in release().stderr and "there is no tag v0.2.0" in release("v0.2.0").stderr
    git("tag", "v0.3.0")
    assert "the tag is v0.3.0 and src/latentsr/__init__.py says 0.2.0" in release().stderr
    git("tag", "-d", "v0.3.0")
    git("tag", "v0.2.0")
    (tmp_path / "left.txt").write_text("")
    assert "the working tree has changes" in release().stderr
    (tmp_path / "left.txt").unlink()
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n")
    git("commit", "-q", "-a", "-m", "later")
    assert "v0.2.0 is not the commit that is checked out" in release("v0.2.0").stderr
    git("tag", "-f", "v0.2.0")
    assert 'is not "## 0.2.0"' in release().stderr and release().returncode == 1
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n\n- new\n\n## 0.2.0 - 2030-01-01\n")
    git("commit", "-q", "-a", "-m", "what is new belongs to no version")
    git("tag", "-f", "v0.2.0")
    assert 'is not "## 0.2.0"' in release().stderr
