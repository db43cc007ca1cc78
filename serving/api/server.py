"""Running the application: uvicorn on uvloop and httptools, and an end in good order."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import uvicorn

from serving.api.app import Api
from serving.api.feed import Feed

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_DRAIN_S: Final = 10
_BACKLOG: Final = 2048


class Server(uvicorn.Server):
    """A server whose followers are told that it ends; they would keep it for ever.

    Args:
        config: of uvicorn.
        feed: that they follow; None for none.
    """

    def __init__(self, config: uvicorn.Config, feed: Feed | None) -> None:
        super().__init__(config)
        self._feed = feed

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Let a signal end the server in good order, and be dealt with by that."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End followers first, then wait for the other requests."""
        if self._feed is not None:
            self._feed.close()
        await super().shutdown(sockets)


def serve(
    app: Api, host: str, port: int, tell: Callable[[Server], None] = lambda _server: None
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        app: what is served.
        host: where.
        port: of it.
        tell: gets the server before it runs, so that another thread can end it.

    Raises:
        OSError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family, backlog=_BACKLOG) as listening:
        config = uvicorn.Config(
            app,
            loop="uvloop",
            http="httptools",
            lifespan="on",
            access_log=False,
            log_config=None,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=_DRAIN_S,
        )
        server = Server(config, app.parts.feed)
        tell(server)
        server.run([listening])
