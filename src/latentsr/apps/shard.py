"""`latentsr shard`: recordings become WebDataset shards. Nothing heavy is imported before the command runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def shard_command(
    src: Annotated[Path, typer.Argument(metavar="SRC", help="Folder of recordings, known data set, or manifest.")],
    dest: Annotated[Path, typer.Argument(metavar="DEST", help="Folder of the shards, for data=DEST; it is made.")],
    max_mb: Annotated[float, typer.Option(min=1.0, help="Size of a shard in MB, at most.")] = 256.0,
    segment: Annotated[
        float, typer.Option(min=1.0, max=600.0, metavar="SECONDS", help="Longer recordings are cut into equal pieces.")
    ] = 30.0,
    layout: Annotated[str, typer.Option(help="How SRC is laid out; by what lies in it if not given.")] = "auto",
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Leave out recordings by name or path; repeatable.")
    ] = None,
    on_bad: Annotated[
        Literal["error", "skip"], typer.Option(help="Stop at a file that cannot be read, or leave it out.")
    ] = "error",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace shards of other files or options.")] = False,
) -> None:
    """Pack recordings into WebDataset shards, from which corpora train that do not fit into memory.

    Each is mono at 48 kHz in lossless FLAC beside a JSON that says what it is. Stopped and run again, the command goes
    on after the last whole shard.
    """
    from latentsr.data.layouts import exclude_clips, find_clips, guess_layout
    from latentsr.data.manifest import DataError
    from latentsr.data.shard_writer import Packing, write_shards

    if "pairs" in (layout, guess_layout(src) if layout == "auto" else None):
        raise DataError(
            f"{src} holds pairs, and pairs train without shards; pass --layout folder to pack every file by itself"
        )
    clips = exclude_clips(find_clips(src, layout, "all"), exclude or [], src)
    root = src if src.is_dir() else src.parent
    index = write_shards(clips, root, dest, Packing(max_mb, segment), on_bad=on_bad, overwrite=overwrite)
    count = sum(len(shard["members"]) for shard in index["shards"])
    left_out = f", {len(index['left_out'])} files left out" if index["left_out"] else ""
    typer.echo(f"{src} -> {dest}: {len(index['shards'])} shards, {count} segments{left_out}; train with data={dest}")
