"""`latentsr batch`: everything is checked, the lock is taken, and an engine runs. Importing this imports no torch."""

from __future__ import annotations

import os
import secrets
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from latentsr import __version__
from latentsr.apps.loading import cores
from latentsr.apps.options import Settings, takes_settings
from latentsr.apps.terminal import INTERRUPTED, make_folder, warn
from latentsr.errors import UsageError

if TYPE_CHECKING:
    from latentsr.apps.batch.journal import Journal
    from latentsr.apps.batch.plan import Found
    from latentsr.apps.batch.summary import Summary
    from latentsr.options import Options

TERMINATED = 143
WORKER_BYTES = 2 * 2**30  # of memory that a worker may take, where that decides how many there are


@takes_settings
def batch_command(
    src: Annotated[
        str, typer.Argument(metavar="SRC", help="Folder, quoted pattern, or .csv/.jsonl with a column file.")
    ],
    dest: Annotated[Path, typer.Argument(metavar="DEST", help="Folder of the outputs and of the journal; it is made.")],
    settings: Settings,
    engine: Annotated[
        Literal["serial", "local", "ray"],
        typer.Option(help="In this process, in processes of this machine, or on Ray."),
    ] = "local",
    workers: Annotated[
        int | None, typer.Option(min=1, help="How many files at a time; one per core, or per GPU, if not given.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on: keep what is done, try again what failed.")] = False,
    retries: Annotated[int, typer.Option(min=0, help="More tries for a file whose worker died.")] = 1,
    timeout: Annotated[
        float | None, typer.Option(min=0.1, metavar="SECONDS", help="Longest time for one file.")
    ] = None,
    address: Annotated[
        str | None, typer.Option(metavar="ADDR", help="Of a Ray cluster; one is started here if not given.")
    ] = None,
    follow_links: Annotated[
        bool, typer.Option("--follow-links", help="Take symbolic links in SRC for what they point to.")
    ] = False,
) -> None:
    """Restore an archive: what is done is kept over kills, and what fails is named at the end and costs nothing else.

    Outputs keep their sub-folders under DEST; DEST/latentsr-journal.jsonl says what became of each file.
    """
    from latentsr.apps.batch.summary import print_summary

    if address is not None and engine != "ray":
        raise UsageError("--address names a Ray cluster; add --engine ray")
    if workers not in (None, 1) and engine == "serial":
        raise UsageError("--engine serial has one worker; leave out --workers, or say --engine local")
    if retries != 1 and engine == "serial":
        raise UsageError("--engine serial has no worker that could die; leave out --retries, or say --engine local")
    request = Request(
        src, dest, engine, workers, resume, 1 + retries, timeout, address, follow_links, as_json=settings.as_json
    )
    try:
        summary = run_batch(request, settings.decided(), settings.loader)
    except (KeyboardInterrupt, SystemExit) as stop:
        code = INTERRUPTED if isinstance(stop, KeyboardInterrupt) else TERMINATED
        warn("stopped; nothing half-written is left: the same command with --resume goes on")
        raise SystemExit(code) from None
    print_summary(summary)
    raise typer.Exit(summary.exit_code)


@dataclass(frozen=True)
class Request:
    """A batch, as it was asked for; how each file is restored is in `Options`."""

    src: str
    dest: Path
    engine: str = "local"
    workers: int | None = None
    resume: bool = False
    tries: int = 2
    timeout_s: float | None = None
    address: str | None = None
    follow_links: bool = False
    as_json: bool = False


def run_batch(request: Request, options: Options, loader: Any) -> Summary:
    """Restore what `request.src` holds; `loader` makes the pipeline in each worker (`worker.Loads`).

    Raises:
        UsageError: a request that makes no sense; nothing has been touched.
        BatchError: the job cannot be done, or not to its end; what is finished stays.
    """
    from latentsr.apps.batch.journal import Journal
    from latentsr.apps.batch.locks import remove_parts, supervisor_lock
    from latentsr.apps.batch.plan import find, largest_first, plan
    from latentsr.apps.batch.protocol import engine
    from latentsr.apps.batch.summary import Display
    from latentsr.apps.batch.worker import Setup

    run = engine(request.engine)
    found = find(request.src, request.dest, follow_links=request.follow_links)
    items = plan(found, request.dest, format=options.format)
    make_folder(request.dest)
    dest = request.dest.resolve()
    gpus = _gpus(request, loader)
    workers, threads = _share(request, gpus)
    threads = getattr(loader, "threads", None) or threads
    setup = Setup(dest, secrets.token_hex(8), options, loader, request.tries, request.timeout_s, threads, gpus)
    with supervisor_lock(dest, warn):
        journal = Journal(dest, setup.run)
        _check_journal(journal, request.resume, options.overwrite)
        _tell(found)
        facts: dict[str, Any] = {"latentsr": __version__, "src": request.src, "engine": request.engine}
        journal.append("run", **facts, workers=workers, files=len(items), options=asdict(options))
        ordered = items if request.engine == "serial" else largest_first(items)
        try:
            events = run(setup, ordered, workers, request.address)
            with Display(items, request.as_json) as display, closing(events):
                for event in events:
                    display.show(event)
        finally:
            remove_parts(dest)
        journal.append("end", **display.summary.to_dict())
    return display.summary


def _check_journal(journal: Journal, resume: bool, overwrite: bool) -> None:
    """A journal of an earlier run is gone on with, or put aside, but never by accident."""
    journal.refresh()
    if resume or not journal.histories:
        return
    if not overwrite:
        raise UsageError(
            f"{journal.dest} holds the journal of an earlier batch; add --resume to go on with it, or --overwrite to "
            "do everything anew"
        )
    journal.path.replace(journal.path.with_name(f"{journal.path.name}.old"))


def _tell(found: Found) -> None:
    """What is not taken, and why."""
    from latentsr.apps.batch.plan import native

    for name, reason in found.left_out:
        warn(f"{found.root / native(name)} is left out: {reason}")
    if found.other:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in sorted(found.other.items()))
        warn(f"{found.root}: files that are no recordings by their names are left alone ({kinds})")


def _share(request: Request, gpus: tuple[str, ...]) -> tuple[int | None, int]:
    """How many workers, and how many threads for each; None where the cluster decides."""
    if request.engine == "serial":
        return 1, cores()
    if request.address is not None:
        return request.workers, 1
    workers = request.workers or len(gpus) or max(1, min(cores(), _memory() // WORKER_BYTES))
    return workers, max(1, cores() // workers)


def _gpus(request: Request, loader: Any) -> tuple[str, ...]:
    """The CUDA devices that local workers share, as CUDA_VISIBLE_DEVICES has them. Ray deals out its own."""
    if request.engine != "local" or getattr(loader, "device", "cpu") not in (None, "cuda"):
        return ()
    if not Path("/dev/nvidiactl").exists():  # spares the import of torch
        return ()
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]
    return tuple(names[: torch.cuda.device_count()])


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
