"""`latentsr demo`: the command line of the page."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from latentsr.apps.options import Threads
from latentsr.apps.terminal import FAILED, INTERRUPTED, fail, warn
from latentsr.errors import UsageError, reason_of
from latentsr.head_kinds import DEFAULT_HEAD, HEADS
from latentsr.options import Options

if TYPE_CHECKING:
    from latentsr.apps.web.desk import Desk
    from latentsr.apps.web.server import Place


def demo_command(
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than 127.0.0.1 can be reached by other machines.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port; 0 takes a free one.")] = 7860,
    model: Annotated[
        str | None,
        typer.Option(help="Model folder, hub id, or AudioSR checkpoint file; the embedded one if not given."),
    ] = None,
    head: Annotated[
        str | None, typer.Option(help="The head chosen at first; the model's default if not given.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps; CUDA where there is one.")] = None,
    threads: Threads = None,
    max_mb: Annotated[float, typer.Option(min=0.01, help="Largest upload, MB.")] = 50.0,
    max_seconds: Annotated[float, typer.Option(min=0.1, help="Longest recording, s, counted while decoding.")] = 300.0,
    queue: Annotated[int, typer.Option(min=0, help="How many may wait while one is worked on.")] = 8,
    time_limit: Annotated[float, typer.Option(min=1.0, help="Longest work on one recording, s.")] = 300.0,
) -> None:
    """Serve a page to restore recordings in a browser, on this machine alone unless --host says otherwise.

    One recording is restored at a time; the others wait. Ctrl-C ends it and leaves nothing behind.
    """
    if importlib.util.find_spec("gradio") is None:
        fail("the demo needs gradio; install it with: pip install 'latentsr[demo]'", FAILED)
    from latentsr.apps.loading import Loader
    from latentsr.apps.web.desk import Desk, Limits
    from latentsr.apps.web.server import Place
    from latentsr.apps.web.store import Store
    from latentsr.apps.web.supervisor import Engine

    heads, chosen = _heads(model, head)
    try:
        place = Place.bind(host, port)
    except OSError as error:
        fail(f"cannot listen on {host} port {port}: {reason_of(error)}; choose another --port or --host", FAILED)
    store = Store()
    offline = model is None or Path(model).exists()
    engine = Engine(Loader(model, chosen, device, threads=threads), queue, time_limit, offline=offline)
    try:
        try:
            engine.start()  # the model is loaded while gradio is imported
            _serve(place, Desk(engine, store, Limits(max_mb, max_seconds, queue, time_limit), heads), chosen)
        finally:
            place.socket.close()
            engine.close()
            store.close()
    except KeyboardInterrupt:
        fail("stopped; nothing is left", INTERRUPTED)
    if engine.broken is not None:
        fail(engine.broken, FAILED)


def _serve(place: Place, desk: Desk, head: str) -> None:
    """Until a signal comes, or the model turns out to be none."""
    from latentsr.apps.web.server import Server, prepare

    prepare(desk.store)
    server = Server(place, desk, head)
    desk.engine.on_broken = lambda text: server.stop()
    if desk.engine.broken is not None:
        return
    if not place.loopback:
        warn(
            f"{place.url} asks for no password, and other machines can reach this page; "
            "say --host 127.0.0.1 to keep the demo on this machine"
        )
    typer.echo(f"latentsr demo on {place.url} (Ctrl-C ends it)")
    server.run()


def _heads(model: str | None, head: str | None) -> tuple[list[str], str]:
    """The heads of the model, and the one that is chosen at first."""
    from latentsr.apps.info import describe_model

    Options(head=head)  # refuses unknown names
    if model is not None and not Path(model).is_dir():  # on the Hub, or a checkpoint of AudioSR
        return [head or DEFAULT_HEAD], head or DEFAULT_HEAD
    facts = describe_model(model)
    heads = [name for name in facts["heads"] if not HEADS[name].live]  # its gains are its own, and it is for `live`
    if (chosen := head or facts["default_head"]) not in heads:
        raise UsageError(f"the demo of this model has no head {chosen}; choose one of {', '.join(heads)}, or a --model")
    return heads, chosen
