"""The short way of lookups: one profile is answered before any routing.

Routing, dependencies and their clean-up take longer than the lookup itself, and this is the route
that edges call thousands of times a second. What is answered is the same, by the same function.
"""

from __future__ import annotations

from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from afterglow_client import AfterglowError
from serving.api.gate import ROUTE
from serving.api.lookups import Lookups
from serving.api.parts import Parts
from serving.api.problems import Problem, of_store
from serving.api.profiles import PATH, look_up

_BEGINS: Final = f"{PATH}/"
_FORMAT: Final = f"{PATH}/{{user_id}}"


class Front:
    """Answers lookups of one profile itself, and hands on everything else.

    Args:
        app: behind it.
        parts: of the server.
        lookups: of the server.
    """

    def __init__(self, app: ASGIApp, parts: Parts, lookups: Lookups) -> None:
        self._app, self._parts, self._lookups = app, parts, lookups

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if (
            scope["type"] != "http"
            or scope["method"] != "GET"
            or not scope["path"].startswith(_BEGINS)
        ):
            await self._app(scope, receive, send)
            return
        scope[ROUTE] = _FORMAT
        authorization = accept = if_none_match = None
        for name, value in scope["headers"]:
            if name == b"accept":
                accept = value.decode("latin-1")
            elif name == b"authorization":
                authorization = value.decode("latin-1")
            elif name == b"if-none-match":
                if_none_match = value.decode("latin-1")
        user_id = scope["path"][len(_BEGINS) :]
        try:
            response = await look_up(
                self._parts, self._lookups, user_id, authorization, accept, if_none_match
            )
        except Problem as problem:
            response = problem.response()
        except AfterglowError as error:
            response = of_store(error).response()
        await response(scope, receive, send)
