"""What is written, how small, and that nothing is left where an export fails."""

import onnx
import pytest
import torch

from latentsr.export import ExportError, Form, export, writing
from latentsr.export.writing import open_session
from tiny import tiny_pipeline


@pytest.fixture(scope="module")
def pipe():
    pipe = tiny_pipeline()
    pipe.vocoder.embed = torch.nn.Conv1d(256, 16, 7, padding=3)
    return pipe


@pytest.mark.parametrize(("dtype", "error", "share"), [("float16", 2e-3, 0.6), ("int8", 0.03, 0.4)])
def test_smaller_types_make_smaller_files_that_say_nearly_the_same(pipe, tmp_path, dtype, error, share):
    made = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    sizes = [
        export(pipe, path, "vocoder", "vocoder", form=Form(dtype=each))[0].size - 30_000  # what the description takes
        for path, each in zip(made, ("float32", dtype), strict=True)
    ]
    assert sizes[1] < share * sizes[0]
    mel = torch.randn(1, 20, 256).numpy() - 4
    a, b = (open_session(onnx.load(path)).run(["real"], {"mel": mel})[0] for path in made)
    assert abs(a - b).max() < error * abs(a).max()


def test_an_existing_file_is_replaced_only_when_asked(pipe, tmp_path):
    target = tmp_path / "a.onnx"
    target.write_text("mine")
    with pytest.raises(ExportError, match="exists; choose another name, or pass --overwrite"):
        export(pipe, target, "vocoder", "vocoder", form=Form(check=False))
    assert target.read_text() == "mine"
    export(pipe, target, "vocoder", "vocoder", form=Form(check=False, overwrite=True))
    assert onnx.load(target).producer_name == "latentsr"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_that_is_no_export_is_never_replaced(pipe, tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(ExportError, match="is no folder of an export"):
        export(pipe, tmp_path / "mine", "vocoder", form=Form(overwrite=True, check=False))


def test_nothing_is_left_where_a_graph_is_wrong(pipe, tmp_path, monkeypatch):
    def wrong(*_):
        raise ExportError("unet: velocity differs")

    monkeypatch.setattr(writing, "largest_difference", wrong)
    for name, part in (("a.onnx", "vocoder"), ("folder", None)):
        with pytest.raises(ExportError, match="differs"):
            export(pipe, tmp_path / name, "vocoder", part)
    assert not list(tmp_path.iterdir())


def test_more_than_a_file_holds_is_refused_before_tracing(pipe, tmp_path, monkeypatch):
    monkeypatch.setattr("latentsr.export.convert.MAX_BYTES", 1000)
    with pytest.raises(ExportError, match="more than the 2 GB that one ONNX file holds"):
        export(pipe, tmp_path / "a.onnx", "vocoder", "vocoder")
    assert not list(tmp_path.iterdir())
