"""The package around the code: what importing costs, what is declared, whose work is credited."""

import ast
import functools
import importlib
import importlib.metadata
import os
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
    assert "\nversion:" not in (ROOT / "CITATION.cff").read_text(encoding="utf-8")  # else it is written down twice
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
    credits = attributions(shared / "data" / "train", shared / "data" / "train2")
    assert credits.count("\n- ") > 350
    assert credits.strip() in (ROOT / "NOTICE").read_text(encoding="utf-8")
    assert credits.strip() in (ROOT / "src/latentsr/weights/README.md").read_text(encoding="utf-8")


def test_notice_and_card_give_the_same_credits():
    notice, card = (
        (ROOT / name).read_text(encoding="utf-8").partition("<!-- training data: begin")[2]
        for name in ("NOTICE", "src/latentsr/weights/README.md")
    )
    assert notice.partition("training data: end")[0] == card.partition("training data: end")[0] != ""


def test_credits_say_which_network_learned_from_which_folder(tmp_path):
    surge = "github:alemart/opensurge,samples/{}.wav,CC-BY-3.0 (Eddy Bergman)\n"
    folder(tmp_path / "a", "x.wav,deb:sonic-pi-samples,x.wav,CC0-1.0\n" * 2)
    folder(tmp_path / "b", "y.wav," + surge.format("bulb"))
    (tmp_path / "b" / "licences" / "opensurge-copyright_data.csv").write_text(
        "Type;File;License;Author;Website;Notes\nsound;samples/bulb.wav;CC-BY-3.0;Eddy Bergman;freesound.org;Edited\n"
    )
    assert "from these 2 files, cut, joined, mixed, filtered and converted for training." in attributions(
        tmp_path / "a"
    )
    both = attributions(tmp_path / "a", tmp_path / "b")
    assert "from these 3 files" in both
    assert (
        "the cutoff estimator and the generator of the default head on all, every other network on the first 2 alone"
        in both
    )
    before, _, after = both.partition(
        "Further files (1), from which the cutoff estimator and that generator alone learned:"
    )
    assert "Sonic Pi, https://github.com/sonic-pi-net/sonic-pi: 2 files, CC0 1.0" in before
    assert "- bulb.wav, Eddy Bergman, freesound.org, CC-BY-3.0; Edited\n" in after
    folder(tmp_path / "b", "y.wav," + surge.format("other"))  # not in the authors' own list
    with pytest.raises(subprocess.CalledProcessError):
        attributions(tmp_path / "a", tmp_path / "b")


def test_a_recording_without_a_credit_is_an_error(tmp_path):
    folder(tmp_path, "x.wav,somewhere,x.wav,CC0-1.0\n")
    with pytest.raises(subprocess.CalledProcessError) as failed:
        attributions(tmp_path)
    assert "no credit for [('somewhere', 'CC0-1.0')]" in failed.value.stderr


def attributions(*folders: Path) -> str:
    command = [sys.executable, str(ROOT / "scripts" / "attributions.py"), *map(str, folders)]
    environment = os.environ | {"PYTHONIOENCODING": "utf-8"}
    return subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8", env=environment).stdout


def folder(path: Path, rows: str) -> None:
    (path / "licences").mkdir(parents=True, exist_ok=True)
    (path / "manifest.csv").write_text("file,source,original,licence\n" + rows)


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
