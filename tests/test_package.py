"""The package around the code: what importing costs, what is declared, whose work is credited."""

import ast
import functools
import importlib
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import latentsr

ROOT = Path(__file__).resolve().parents[1]
DISTRIBUTIONS = {
    "yaml": "pyyaml",
    "PIL": "pillow",
    "visqol": "visqol-python",
    "google": "protobuf",
}  # import name -> name to install


def canonical(name: str) -> str:
    return name.lower().replace("_", "-")


def requirements() -> dict[str, set[str]]:
    """Declared distributions by extra; the core is under ''."""
    declared: dict[str, set[str]] = {}
    for line in importlib.metadata.requires("latentsr") or []:
        name = re.match(r"[\w.-]+", line)
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", line)
        assert name is not None
        declared.setdefault(extra[1] if extra else "", set()).add(canonical(name[0]))
    return declared


@functools.cache
def imported() -> set[str]:
    """Top-level names of every import in src, the lazy ones too."""
    names: set[str] = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names.add((node.module or "").partition(".")[0])
    return {canonical(DISTRIBUTIONS.get(name, name)) for name in names if name not in sys.stdlib_module_names}


def test_import_brings_neither_torch_nor_diffusers():
    code = "import sys, latentsr; print(sorted({'torch', 'diffusers', 'scipy', 'numpy'} & sys.modules.keys()))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_public_names_come_from_the_pipeline():
    pipeline = importlib.import_module("latentsr.pipeline")
    assert latentsr.Pipeline is pipeline.Pipeline
    assert latentsr.RestorationOutput is pipeline.RestorationOutput
    with pytest.raises(AttributeError, match="no attribute 'Pipelin'"):
        _ = latentsr.Pipelin  # type: ignore[attr-defined]


def test_one_version_everywhere():
    version = latentsr.__version__
    assert importlib.metadata.version("latentsr") == version
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    latest = re.search(r"^## (\d\S*)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert latest is not None and latest[1] == version


def test_every_import_is_declared():
    declared = set().union(*requirements().values())
    assert imported() - declared - {"latentsr"} == set()


def test_every_core_requirement_is_imported():
    assert requirements()[""] - imported() == set()


def test_typing_marker_is_shipped():
    assert (Path(latentsr.__file__).parent / "py.typed").is_file()


def test_notice_credits_every_training_recording(shared):
    command = [sys.executable, str(ROOT / "scripts" / "attributions.py"), str(shared / "data" / "train")]
    credits = subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8").stdout
    assert credits.count("\n- ") > 300
    assert credits.strip() in (ROOT / "NOTICE").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "cutoff_hz"), [("phone_speech", 3400), ("loop_5500hz", 5500), ("drumroll_4000hz", 4000)]
)
def test_example_recordings_have_lost_their_top(name, cutoff_hz):
    wave, rate = soundfile.read(ROOT / "examples" / f"{name}.flac", always_2d=True)
    assert 3 <= len(wave) / rate <= 6
    power = (np.abs(np.fft.rfft(wave[:, 0] * np.hanning(len(wave)))) ** 2).cumsum()
    above = 1 - power[int(1.1 * cutoff_hz / rate * len(wave))] / power[-1]
    assert 10 * np.log10(above + 1e-12) < -40


def test_examples_are_small_and_have_a_licence():
    files = list((ROOT / "examples").glob("*.flac"))
    assert len(files) >= 3
    licences = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    assert sum(path.stat().st_size for path in files) < 600_000
    assert [
        p.name for p in files if not re.search(rf"^\| `{re.escape(p.name)}` .*\| CC0", licences, re.MULTILINE)
    ] == []
