"""The way in: how many requests are worked on at once, and how long each takes."""

from __future__ import annotations

import time
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.api.metrics import HttpMetrics
from serving.api.problems import Problem

_BUSY: Final = Problem(
    503,
    "busy",
    "The server has too much to do",
    "as many requests are worked on as it takes at once (serve.concurrency)",
    "Try again in a moment; run more servers if that happens often",
    {"retry-after": "1"},
).response()
_UNKNOWN: Final = "other"
ROUTE: Final = "afterglow.route"
"""Where a scope says which route answered, if that was not found by routing."""
_LASTING: Final = frozenset({"/health", "/ready", "/metrics", "/v1/changes"})
"""Answered however busy the server is; followers have a limit of their own."""


class Gate:
    """Counts requests, measures them, and sends away what is too many.

    Args:
        app: behind it.
        metrics: to be counted in.
        concurrency: most requests at once.
    """

    def __init__(self, app: ASGIApp, metrics: HttpMetrics, concurrency: int) -> None:
        self._app, self._metrics, self._concurrency = app, metrics, concurrency
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began_s, status, lasting = time.perf_counter(), 500, scope["path"] in _LASTING
        took_s: float | None = None

        async def note(message: Message) -> None:
            nonlocal status, took_s
            if message["type"] == "http.response.start":
                status, took_s = message["status"], time.perf_counter() - began_s
            await send(message)

        if not lasting and self._inside >= self._concurrency:
            await _BUSY(scope, receive, note)
            self._metrics.observe("busy", status, time.perf_counter() - began_s)
            return
        self._inside += not lasting
        try:
            await self._app(scope, receive, note)
        finally:
            self._inside -= not lasting
            whole_s = time.perf_counter() - began_s
            routed = getattr(scope.get("route"), "path_format", _UNKNOWN)
            route = str(scope.get(ROUTE, routed))
            at_s = took_s if lasting and took_s is not None else whole_s
            self._metrics.observe(route, status, at_s)
