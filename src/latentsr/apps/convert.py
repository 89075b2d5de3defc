"""`latentsr convert`: foreign checkpoints become model folders. Nothing heavy is imported before the command runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


class Kind(str, Enum):
    """Programs whose checkpoints can be converted."""

    AUDIOSR = "audiosr"


class Dtype(str, Enum):
    """Types that weights can be stored in."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"


class Variant(str, Enum):
    """The published checkpoints of AudioSR."""

    BASIC = "basic"
    SPEECH = "speech"


def convert_command(
    kind: Annotated[Kind, typer.Argument(metavar="audiosr", help="Whose checkpoint it is.")],
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CKPT", help="The file: pytorch_model.bin, or the same as .safetensors.")
    ],
    out_dir: Annotated[Path, typer.Argument(metavar="OUT_DIR", help="The model folder to make, for --model.")],
    config: Annotated[
        Path | None, typer.Option(help="AudioSR's configuration as JSON; the official one if not given.", metavar="C")
    ] = None,
    dtype: Annotated[
        Dtype, typer.Option(help="Type of the weights; 2.69 GB in float32, half of that in the others.")
    ] = Dtype.FLOAT32,
    variant: Annotated[
        Variant | None, typer.Option(help="Refuse the file if it is not this one; not checked if not given.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model folder of that name.")] = False,
) -> None:
    """Make a model folder of an official AudioSR checkpoint (6.18 GB, of which 2.69 GB are used).

    Needs 1 GB of memory. The folder is complete when it appears; a failure leaves nothing behind. Pickles are read
    without running anything in them.
    """
    import torch

    from latentsr.convert.audiosr import convert

    with _progress() as on_progress:
        folder = convert(
            checkpoint,
            out_dir,
            config=config,
            dtype=getattr(torch, dtype.value),
            variant=variant.value if variant else None,
            overwrite=overwrite,
            on_progress=on_progress,
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
