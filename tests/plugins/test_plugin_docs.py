"""docs/plugins.md keeps its word: its code runs, with `from_pretrained` finding small models in a local Hub cache."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import small_generators as small

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")


def test_code_of_the_page_runs(tmp_path, monkeypatch):
    pytest.importorskip("pedalboard")
    small.patch_hub(monkeypatch)
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in re.finditer(r"^```(python|sh)\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL):
        language, code = block.groups()
        if language == "sh":
            subprocess.run(["bash", "-eu", "-c", code], check=True, timeout=60)
        else:
            line = PAGE.count("\n", 0, block.start(2))
            exec(compile("\n" * line + code, "plugins.md", "exec"), names)
    assert names["music"].shape[:2] == (2, 2) and names["both"].shape == (2, 48_000)
    assert names["rain"].shape == (1, 48_000) and names["audio"].shape == (1, 2, 48_000)
    assert names["loud"].shape == (2, 48_000) and names["batch"].shape == (2, 24_000)
    assert (tmp_path / "ComfyUI/custom_nodes/latentsr_nodes.py").exists()
