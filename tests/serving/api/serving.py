"""A server for tests: the application in process, or behind a socket in a thread of its own."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from afterglow_client import AsyncReader
from serving.api.app import Api, build
from serving.api.feed import Feed
from serving.api.parts import Parts
from serving.api.server import serve
from serving.api.terms import Terms
from tests.cli.running import until


@dataclass
class Answer:
    """What came of a request."""

    status: int
    headers: httpx.Headers
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    app: Api,
    path: str,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> Answer:
    """Ask the application in this process; its reader must be fresh, since a loop is made."""

    async def run() -> Answer:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            got = await client.request(method, path, headers=headers, content=body)
        await app.parts.reader.close()
        return Answer(got.status_code, got.headers, got.content)

    return asyncio.run(run())


def application(url: str, **parts: Any) -> Api:
    """The application over a store."""
    return build(Parts(AsyncReader(url, timeout_s=5.0), **parts))


def build_at(
    url: str, feed: Feed, terms: Terms, start: Callable[[Feed], None], stop: Callable[[], None]
) -> Api:
    """The application over a store and a topic."""
    return build(Parts(AsyncReader(url, timeout_s=5.0), terms=terms, feed=feed), start, stop)


@contextmanager
def running(app: Api) -> Iterator[int]:
    """The application behind a port of loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    ends: list[Any] = []
    thread = threading.Thread(target=serve, args=(app, "127.0.0.1", port, ends.append), daemon=True)
    thread.start()
    until(lambda: ends and ends[0].started)
    try:
        yield port
    finally:
        ends[0].should_exit = True
        thread.join(20)
        assert not thread.is_alive()


@dataclass
class Event:
    """A server-sent event."""

    kind: str
    id: str
    data: Any


class Stream:
    """A client of the change stream, over a socket."""

    def __init__(self, port: int, path: str = "/v1/changes", **headers: str) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        self.connection.request(
            "GET", path, headers={n.replace("_", "-"): value for n, value in headers.items()}
        )
        self.response = self.connection.getresponse()
        self.last_id = ""

    def events(self, count: int) -> list[Event]:
        """The next ones, without heartbeats."""
        found: list[Event] = []
        while len(found) < count:
            event = self.next()
            assert event is not None, "the stream ended"
            if event.kind:
                found.append(event)
        return found

    def next(self) -> Event | None:
        """What comes next, heartbeats included; None at the end."""
        kind, data = "", []
        while True:
            line = self.response.readline()
            if not line:
                return None
            text = line.decode().rstrip("\n")
            if not text:
                return Event(kind, self.last_id, json.loads("\n".join(data)) if data else None)
            name, _, value = text.partition(": ")
            if name == "id":
                self.last_id = value
            elif name == "event":
                kind = value
            elif name == "data":
                data.append(value)

    def close(self) -> None:
        """Go away."""
        self.response.close()
        self.connection.close()


def change(user: str, segment: str, n: int) -> bytes:
    """A record as it stands on the topic, as far as the server looks."""
    return json.dumps({"id": f"1-{n}", "user_id": user, "segment": segment, "n": n}).encode()


def lines(answer: Answer) -> Sequence[Any]:
    """The lines of an answer of many."""
    return [json.loads(line) for line in answer.body.splitlines()]
