"""`latentsr export`: networks as ONNX files. Nothing heavy is imported before the command runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from latentsr.apps.terminal import FAILED, INTERRUPTED, USAGE, fail, warn
from latentsr.dtypes import GraphDtype


def export_command(
    out: Annotated[
        Path, typer.Argument(metavar="OUT.onnx", help="One graph; without .onnx a folder with all graphs of the head.")
    ],
    model: Annotated[
        str | None, typer.Option(help="Model folder or Hub id; the embedded default if not given.")
    ] = None,
    head: Annotated[str, typer.Option(help="Whose networks: mamba-gan, live or vocoder.")] = "mamba-gan",
    part: Annotated[
        str | None,
        typer.Option(help="One of mamba-gan, live, cutoff; vae-encoder, unet, vae-decoder, vocoder, cutoff."),
    ] = None,
    dtype: Annotated[GraphDtype, typer.Option(help="Type that large weights are stored in.")] = "float32",
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

    from latentsr import Pipeline
    from latentsr.apps.loading import Loader, model_hash
    from latentsr.export import ExportError, Form, check_target, chosen_parts, export
    from latentsr.export.convert import DEFAULT_OPSET

    try:
        chosen_parts(out, head, part)
    except ExportError as error:
        fail(str(error), USAGE)
    if dtype == "int8" and head != "mamba-gan":
        fail(f"int8 was measured to keep the mamba-gan head's LSD, not the {head} head's; take --dtype float16", USAGE)
    try:
        check_target(out, overwrite)
        loader = Loader(model, head, "cpu")
        pipe = loader() if loader.is_checkpoint else Pipeline.from_pretrained(model, heads=[head])
        made = export(
            pipe, out, head, part, Form(dtype, opset or DEFAULT_OPSET, overwrite, check, model_hash(model)),
            lambda name: warn(f"exporting {name}"),
        )  # fmt: skip
    except ExportError as error:
        fail(str(error), FAILED)
    except KeyboardInterrupt:
        fail("interrupted; nothing half-written is left", INTERRUPTED)
    for each in made:
        checked = "not checked" if each.difference is None else f"within {each.difference:.1g} of torch"
        typer.echo(f"{each.part} -> {each.path}  ({each.size / 1e6:.1f} MB, {checked})")
