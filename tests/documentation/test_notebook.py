"""The notebook runs from its first cell to its last, in ten, and leaves the report that it promises."""

import os
import shutil
import sys
from pathlib import Path

import pytest
from blocks import ROOT

nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
NOTEBOOK = ROOT / "examples/restore_and_report.ipynb"


@pytest.mark.slow
def test_the_notebook_runs_to_its_report(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert len(notebook.cells) == 10
    assert not any(cell.get("outputs") for cell in notebook.cells), "outputs belong to whoever runs it"
    resources = {"metadata": {"path": str(tmp_path / "examples")}}
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    made = tmp_path / "examples/notebook_output"
    assert {"mamba-gan.flac", "vocoder.flac", "before_after.png", "report.html"} <= {
        file.name for file in made.iterdir()
    }
    printed = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    assert "| mamba-gan" in printed and "| unprocessed" in printed
