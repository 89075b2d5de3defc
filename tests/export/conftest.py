"""What the tests of the export share: small networks, and the embedded Mamba-GAN exported once."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

MODULES = ("band", "dsp", "image", "excitation", "heads", "restore")
RUNNER = Path(__file__).resolve().parents[2] / "examples" / "onnx"


@pytest.fixture(scope="session")
def embedded_pipe():
    from latentsr import Pipeline

    pipe = Pipeline.from_pretrained(heads=["mamba-gan"])
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="session")
def embedded_folder(embedded_pipe, tmp_path_factory):
    """The folder that `latentsr export` writes of the default head, each graph checked beside torch."""
    from latentsr.export import Form, export

    folder = tmp_path_factory.mktemp("export") / "gan_onnx"
    export(embedded_pipe, folder, form=Form(model_hash="abc"))
    return folder


@pytest.fixture
def runner(monkeypatch):
    """The example's modules (restore, heads), imported as its script imports them."""
    monkeypatch.syspath_prepend(str(RUNNER))
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    import restore

    import heads

    yield restore, heads
    for name in MODULES:
        sys.modules.pop(name, None)
