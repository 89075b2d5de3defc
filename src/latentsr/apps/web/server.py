"""What listens: gradio's page, the results, and an end that leaves nothing."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from latentsr.apps.web.desk import Desk, tidy_for_ever
from latentsr.apps.web.store import Store

HERE = Path(__file__).parent
LOOPBACK = ("127.0.0.1", "localhost", "::1")
SHUTDOWN_S = 2  # for answers that are under way
# The page asks this server alone; gradio's own scripts are inline and compile templates.
POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'self'; frame-ancestors 'self'"
)
HEADERS = {"content-security-policy": POLICY, "x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


@dataclass(frozen=True)
class Place:
    """Where to listen, and a socket that does."""

    host: str
    port: int
    socket: socket.socket

    @classmethod
    def bind(cls, host: str, port: int) -> Place:
        """Listen there; port 0 takes a free one. Raises OSError."""
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, number, _, address = found[0]
        bound = socket.socket(family, kind, number)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
        except OSError:
            bound.close()
            raise
        return cls(host, bound.getsockname()[1], bound)

    @property
    def loopback(self) -> bool:
        return self.host in LOOPBACK

    @property
    def url(self) -> str:
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def prepare(store: Store) -> None:
    """What gradio reads from the environment; before it is imported."""
    os.environ.update(
        GRADIO_TEMP_DIR=str(store.files),
        GRADIO_ANALYTICS_ENABLED="False",
        HF_HUB_OFFLINE="1",
        GRADIO_RUN_HISTORY="False",
    )


class Server:
    """Serves the page until it is stopped; `prepare` was called with the store of the desk."""

    def __init__(self, place: Place, desk: Desk, head: str) -> None:
        import fastapi
        import gradio as gr
        import uvicorn

        from latentsr.apps.web import page

        self._socket, self._store = place.socket, desk.store
        self._over = threading.Event()
        app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

        @app.get(f"/{page.FILES}/{{token}}/{{name}}")
        def result(token: str, name: str) -> fastapi.Response:
            path = self._store.find(token, name)
            if path is None:
                raise fastapi.HTTPException(404, "no longer here")
            how = "inline" if name in ("before.flac", "after.flac") else "attachment"
            headers = {"cache-control": "no-store"}
            return fastapi.responses.FileResponse(path, filename=name, content_disposition_type=how, headers=headers)

        blocks = page.build(desk, self._store.examples(HERE / "examples"), head)
        gr.mount_gradio_app(
            app, blocks, path="/", server_name=place.host, server_port=place.port, footer_links=[], run_history=False,
            show_error=False, max_file_size=int(desk.limits.max_mb * 1e6), ssr_mode=False, enable_monitoring=False,
            pwa=False, mcp_server=False, theme=page.theme(), css=page.css(), head=page.head_html(),
            favicon_path=str(HERE / "icon.png"),
        )  # fmt: skip
        blocks.has_launched = True  # or gradio would check no path that a request names
        config = uvicorn.Config(
            _Guard(app, place.loopback), log_level="warning", access_log=False, timeout_graceful_shutdown=SHUTDOWN_S
        )
        self._uvicorn = uvicorn.Server(config)
        self._asked_to_stop = False
        # Every open page holds a connection, which the end of the server cuts: no error, and no traceback.
        logging.getLogger("uvicorn.error").addFilter(lambda _: not self._uvicorn.should_exit)

    def run(self) -> None:
        """Serve; returns when `stop` is called, and raises KeyboardInterrupt or SystemExit on a signal."""
        threading.Thread(target=tidy_for_ever, args=(self._store, self._over), daemon=True).start()
        try:
            self._uvicorn.run(sockets=[self._socket])
        finally:
            self._over.set()
        if not self._asked_to_stop:  # uvicorn raises again what it caught, but on a busy machine it once did not
            raise KeyboardInterrupt

    def stop(self) -> None:
        """End it, from any thread."""
        self._asked_to_stop = True
        self._uvicorn.should_exit = True


class _Guard:
    """Headers on every answer; on loopback no name but loopback's, so that no other site can lead a browser here."""

    def __init__(self, app: Any, loopback: bool) -> None:
        self._app, self._loopback = app, loopback

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        host = next((value for key, value in scope["headers"] if key == b"host"), b"").decode("latin-1")
        if self._loopback and _name(host) not in LOOPBACK:
            await send({"type": "http.response.start", "status": 421, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": b"this server answers to localhost only\n"})
            return

        async def with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                more = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message.get("headers", ()), *more]
            await send(message)

        await self._app(scope, receive, with_headers)


def _name(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None
