"""`latentsr demo`: the command line of the page."""

from __future__ import annotations

import importlib.util
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from latentsr.apps.terminal import FAILED, INTERRUPTED, fail, warn

if TYPE_CHECKING:
    from latentsr.apps.web.desk import Limits
    from latentsr.apps.web.engine import Engine
    from latentsr.apps.web.server import Place
    from latentsr.apps.web.store import Store


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
    from latentsr.apps.web.desk import Limits
    from latentsr.apps.web.engine import Engine
    from latentsr.apps.web.server import Place, bind
    from latentsr.apps.web.store import Store

    heads, chosen = _heads(model, head)
    try:
        bound = bind(host, port)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        fail(f"cannot listen on {host} port {port}: {reason}; choose another --port or --host", FAILED)
    place = Place(host, bound.getsockname()[1])
    broken: list[str] = []
    store = Store()
    engine = Engine(
        Loader(model, chosen, device), queue, time_limit, offline=model is None or Path(model).exists(),
        on_broken=broken.append,
    )  # fmt: skip
    limits = Limits(max_mb, max_seconds, queue, time_limit)
    try:
        try:
            engine.start()  # the model is loaded while gradio is imported
            _serve(engine, store, place, bound, limits, heads, chosen, broken)
        finally:
            bound.close()
            engine.close()
            store.close()
    except KeyboardInterrupt:
        fail("stopped; nothing is left", INTERRUPTED)
    if broken:
        fail(broken[0], FAILED)


def _serve(
    engine: Engine,
    store: Store,
    place: Place,
    bound: socket.socket,
    limits: Limits,
    heads: list[str],
    head: str,
    broken: list[str],
) -> None:
    """Until a signal comes, or the model turns out to be none."""
    from latentsr.apps.web.server import Server, prepare

    prepare(store)
    server = Server(place, bound, engine, store, limits, heads, head)

    def give_up(text: str) -> None:
        broken.append(text)
        server.stop()

    engine.on_broken = give_up
    if broken:
        return
    if not place.loopback:
        warn(f"{place.url} asks for no password, and other machines can reach it; --host 127.0.0.1 keeps it here")
    typer.echo(f"latentsr demo on {place.url} (Ctrl-C ends it)")
    server.run()


def _heads(model: str | None, head: str | None) -> tuple[list[str], str]:
    """The heads of the model, and the one that is chosen at first."""
    from latentsr.apps.info import HEADS, describe_model
    from latentsr.apps.restore import UsageError

    if head is not None and head not in HEADS.values():
        raise UsageError(f"unknown head {head!r}; choose one of {', '.join(HEADS.values())}")
    if model is not None and not Path(model).is_dir():  # on the Hub, or a checkpoint of AudioSR
        return [head or "vocoder"], head or "vocoder"
    facts = describe_model(model)
    if head is not None and head not in facts["heads"]:
        raise UsageError(f"the model has no head {head!r}; choose one of {', '.join(facts['heads'])}")
    return facts["heads"], head or facts["default_head"]
