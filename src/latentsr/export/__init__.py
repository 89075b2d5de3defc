"""Networks as ONNX files, and all that a runner without torch must know. Needs the extra `onnx`."""

from latentsr.export.graphs import HEAD_PARTS, PARTS, ExportError
from latentsr.export.writing import Exported, Form, check_target, chosen_parts, export

__all__ = ["HEAD_PARTS", "PARTS", "ExportError", "Exported", "Form", "check_target", "chosen_parts", "export"]
