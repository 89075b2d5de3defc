"""Build the wheel and the source of a tagged commit and check both: python scripts/release.py [TAG] [--upload].

The tag is v and the version; without one, it is the tag of the commit that is checked out. What the tag holds is built
in a folder of its own, so that nothing else comes along. Building and checking need the package index, for build,
hatchling and twine in an environment that is thrown away. Nothing is uploaded without --upload.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MAX_WHEEL_MB = 50.0
VERSION = re.compile(r'^__version__ = "([^"]+)"$', re.MULTILINE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tag", nargs="?", help="for instance v0.2.0")
    parser.add_argument("--upload", action="store_true", help="upload what passed, by twine's own configuration")
    parser.add_argument("--repository", default="pypi", help="of twine's configuration: pypi, testpypi (default pypi)")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="where the files go (default dist/)")
    parser.add_argument("--check-only", action="store_true", help="check tag, tree and changelog; build nothing")
    asked = parser.parse_args()
    tag = asked.tag or tag_here()
    check(tag)
    if asked.check_only:
        print(f"{tag}: tag, version, changelog and working tree agree")
        return
    with tempfile.TemporaryDirectory() as scratch:
        files = build(tag, Path(scratch))
        asked.out.mkdir(parents=True, exist_ok=True)
        kept = [Path(shutil.copy2(file, asked.out)) for file in files]
        for file in kept:
            print(f"{file}: {file.stat().st_size / 1e6:.1f} MB, passes twine check")
        upload = ["upload", "--repository", asked.repository, *map(str, kept)]
        if asked.upload:
            run(Path(scratch) / "venv/bin/twine", *upload)
        else:
            print(f"to upload them: twine {' '.join(upload)}, or this command with --upload")


def tag_here() -> str:
    """The only tag of the commit that is checked out."""
    tags = git("tag", "--points-at", "HEAD").split()
    if len(tags) != 1:
        fail(f"the commit that is checked out has {len(tags)} tags; name one: python scripts/release.py v0.2.0")
    return tags[0]


def check(tag: str) -> None:
    """Stop where the tag does not say what it holds, or something lies beside it."""
    if git("status", "--porcelain").strip():
        fail("the working tree has changes; commit or stash them")
    commit = git("rev-parse", "--verify", "--quiet", f"refs/tags/{tag}^{{commit}}", check=False).strip()
    if not commit:
        fail(f"there is no tag {tag}; make it: git tag -a {tag} -m {tag}")
    if commit != git("rev-parse", "HEAD").strip():
        fail(f"{tag} is not the commit that is checked out; git checkout {tag}")
    version = VERSION.search((ROOT / "src/latentsr/__init__.py").read_text(encoding="utf-8"))
    if version is None or tag != f"v{version[1]}":
        fail(f"the tag is {tag} and src/latentsr/__init__.py says {version and version[1]}; let both say the same")
    changes = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    if changes[:1] != [version[1]]:
        fail(f'the first section of CHANGELOG.md is not "## {version[1]}"; let "Unreleased" become it')


def build(tag: str, scratch: Path) -> list[Path]:
    """The wheel and the source archive of a tag, checked."""
    source, dist = scratch / "source", scratch / "dist"
    source.mkdir()
    archive = subprocess.run(["git", "archive", tag], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", str(source)], input=archive, check=True)
    venv.create(scratch / "venv", with_pip=True)
    python = scratch / "venv/bin/python"
    run(python, "-m", "pip", "install", "-q", "build", "twine")
    run(python, "-m", "build", "-q", "--outdir", dist, source)
    files = sorted(dist.iterdir())
    run(python, "-m", "twine", "check", "--strict", *files)
    (wheel,) = dist.glob("*.whl")
    size = wheel.stat().st_size / 1e6
    if size > MAX_WHEEL_MB:
        fail(f"the wheel has {size:.1f} MB, more than {MAX_WHEEL_MB:.0f}")
    run(python, "-m", "pip", "install", "-q", "--no-deps", wheel)
    said = subprocess.run(
        [str(python), "-c", "import latentsr; print(latentsr.__version__)"],
        cwd=scratch, check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    if f"v{said}" != tag:
        fail(f"what is installed from the wheel is version {said}, not {tag}")
    return files


def git(*words: str, check: bool = True) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, check=check, capture_output=True, text=True).stdout


def run(*words: object) -> None:
    """A command of the release; its own words say what is wrong."""
    try:
        subprocess.run([str(word) for word in words], check=True)
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)


def fail(text: str) -> None:
    sys.exit(f"release: {text}")


if __name__ == "__main__":
    main()
