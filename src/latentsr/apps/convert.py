"""`latentsr convert`: foreign checkpoints become model folders. Nothing heavy is imported before the command runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from latentsr.dtypes import Dtype
from latentsr.errors import UsageError


def convert_command(
    kind: Annotated[
        Literal["audiosr", "aeromamba"], typer.Argument(metavar="audiosr|aeromamba", help="Whose checkpoint it is.")
    ],
    checkpoint: Annotated[
        Path,
        typer.Argument(metavar="CKPT", help="The file: pytorch_model.bin or .safetensors; AEROMamba's checkpoint.th."),
    ],
    out_dir: Annotated[Path, typer.Argument(metavar="OUT_DIR", help="The model folder to make, for --model.")],
    config: Annotated[
        Path | None, typer.Option(help="AudioSR's configuration as JSON; the official one if not given.", metavar="C")
    ] = None,
    dtype: Annotated[
        Dtype, typer.Option(help="Type of the weights; 2.69 GB in float32, half of that in the others.")
    ] = "float32",
    variant: Annotated[
        Literal["basic", "speech"] | None,
        typer.Option(help="Refuse the file if it is not this one; not checked if not given."),
    ] = None,
    mamba: Annotated[
        Literal["dead", "time", "bottleneck"] | None,
        typer.Option(help="Run AEROMamba's layers so; not given: dead, as the released code does."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model folder of that name.")] = False,
) -> None:
    """Make a model folder of an official AudioSR checkpoint (6.18 GB, of which 2.69 GB are used), or of AEROMamba's.

    AudioSR's needs 1 GB of memory. The folder is complete when it appears; a failure leaves nothing behind. Pickles are
    read without running anything in them.
    """
    import torch

    from latentsr.convert import aeromamba, audiosr, audiosr_file

    stored_as = getattr(torch, dtype)
    if kind == "aeromamba":
        if config is not None or variant is not None:
            raise UsageError("--config and --variant describe AudioSR's checkpoints; leave both out")
        folder = aeromamba.convert(checkpoint, out_dir, mamba=mamba or "dead", dtype=stored_as, overwrite=overwrite)
    elif mamba is not None:
        raise UsageError("--mamba describes AEROMamba's checkpoints; leave --mamba out")
    else:
        sizes = audiosr.architecture(config)
        with _progress() as on_progress:
            folder = audiosr.convert(
                audiosr_file.Checkpoint(checkpoint, variant), out_dir, sizes, stored_as, overwrite, on_progress
            )
    typer.echo(f"{checkpoint} -> {folder}; use it with: latentsr restore IN --model {folder}")


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None] | None]:
    """A bar in bytes on stderr, on a terminal only."""
    if not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm  # type: ignore[import-untyped, unused-ignore]

    with tqdm(desc="converting", unit="B", unit_scale=True, file=sys.stderr, leave=False) as bar:

        def on_progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield on_progress
