"""`latentsr export`: networks as ONNX files. Nothing heavy is imported before the command runs."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from latentsr.apps.terminal import FAILED, INTERRUPTED, USAGE, fail, warn


class Dtype(str, Enum):
    """Types that large weights can be stored in."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"


def export_command(
    out: Annotated[
        Path, typer.Argument(metavar="OUT.onnx", help="One graph; without .onnx a folder with all graphs of the head.")
    ],
    model: Annotated[
        str | None, typer.Option(help="Model folder or Hub id; the embedded default if not given.")
    ] = None,
    head: Annotated[str, typer.Option(help="Whose networks: mamba-gan or vocoder.")] = "mamba-gan",
    part: Annotated[
        str | None, typer.Option(help="One of mamba-gan, cutoff; vae-encoder, unet, vae-decoder, vocoder, cutoff.")
    ] = None,
    dtype: Annotated[Dtype, typer.Option(help="Type that large weights are stored in.")] = Dtype.FLOAT32,
    opset: Annotated[int | None, typer.Option(help="Version of ONNX' operators; 20 if not given.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export.")] = False,
    check: Annotated[bool, typer.Option(help="Run every graph in onnxruntime beside torch.")] = True,
) -> None:
    """Write networks as ONNX, for onnxruntime without torch.

    The STFT and its inverse stay outside; examples/onnx has a runner. A file or folder is complete when it appears.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ModuleNotFoundError as error:
        fail(f"export needs {error.name}; install it with: pip install 'latentsr[onnx]'", FAILED)

    from latentsr.apps.loading import load_pipeline, model_hash
    from latentsr.export import ExportError, check_target, chosen_parts, export
    from latentsr.export.convert import DEFAULT_OPSET

    try:
        chosen_parts(out, head, part)
    except ExportError as error:
        fail(str(error), USAGE)
    if dtype is Dtype.INT8 and head != "mamba-gan":
        fail(f"int8 was measured to keep the mamba-gan head's LSD, not the {head} head's; take --dtype float16", USAGE)
    try:
        check_target(out, overwrite)
        pipe = load_pipeline(model, head, "cpu", None)
        made = export(
            pipe, out, head, part, dtype=dtype.value, opset=opset or DEFAULT_OPSET, overwrite=overwrite, check=check,
            model_hash=model_hash(model), on_part=lambda name: warn(f"exporting {name}"),
        )  # fmt: skip
    except ExportError as error:
        fail(str(error), FAILED)
    except KeyboardInterrupt:
        fail("interrupted; nothing half-written is left", INTERRUPTED)
    for each in made:
        checked = "not checked" if each.difference is None else f"within {each.difference:.1g} of torch"
        typer.echo(f"{each.part} -> {each.path}  ({each.size / 1e6:.1f} MB, {checked})")
