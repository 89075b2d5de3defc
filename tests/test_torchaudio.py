"""A torchaudio that cannot load its compiled part becomes importable; any other is left alone."""

import subprocess
import sys
from pathlib import Path

import pytest

from latentsr import _torchaudio

SRC = Path(_torchaudio.__file__).parents[1]
# The shape of torchaudio 2.11: `_extension` loads a library when imported, everything else asks it what it has.
FILES = {
    "__init__.py": "from . import _extension\nfrom . import functional\n",
    "_extension/__init__.py": (
        "from .utils import load\n_IS_TORCHAUDIO_EXT_AVAILABLE = load()\n_IS_ALIGN_AVAILABLE = True\n"
        "def fail_if_no_align(function): return function\n"
    ),
    "functional/__init__.py": (
        "from torchaudio._extension import _IS_TORCHAUDIO_EXT_AVAILABLE, fail_if_no_align\n"
        "@fail_if_no_align\ndef align(): return 'aligned'\n"
        "def has_extension(): return _IS_TORCHAUDIO_EXT_AVAILABLE\n"
    ),
}
BROKEN = "def load(): raise OSError('libcudart.so.13: cannot open shared object file')\n"
HEALTHY = "def load(): return True\n"


def run(folder: Path, code: str) -> subprocess.CompletedProcess:
    """`code` in a fresh interpreter that sees only this torchaudio; it needs neither torch nor site-packages."""
    paths = [str(folder), str(SRC)]
    setup = f"import sys; sys.path[:0] = {paths!r}\n"
    return subprocess.run([sys.executable, "-S", "-c", setup + code], capture_output=True, text=True)


def package(folder: Path, utils: str) -> Path:
    for name, text in {**FILES, "_extension/utils.py": utils}.items():
        path = folder / "torchaudio" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_the_broken_one_is_broken(tmp_path):
    done = run(package(tmp_path, BROKEN), "import torchaudio")
    assert "libcudart.so.13" in done.stderr


@pytest.mark.parametrize(("utils", "has_extension"), [(BROKEN, False), (HEALTHY, True)])
def test_repair(tmp_path, utils, has_extension):
    code = (
        "from latentsr import _torchaudio\n"
        "_torchaudio.repair(); _torchaudio.repair()\n"
        "assert 'torchaudio' not in sys.modules  # nothing is imported to find out\n"
        "assert len([f for f in sys.meta_path if 'latentsr' in type(f).__module__]) == 1\n"
        "import torchaudio\n"
        "print(torchaudio.functional.has_extension(), torchaudio.functional.align())\n"
    )
    done = run(package(tmp_path, utils), code)
    assert done.stdout == f"{has_extension} aligned\n", done.stderr


def test_absent(tmp_path):
    code = (
        "before = list(sys.meta_path)\n"
        "from latentsr import _torchaudio\n"
        "_torchaudio.repair()\n"
        "assert sys.meta_path == before\n"
    )
    assert run(tmp_path, code).returncode == 0
