"""``/v1/changes``: the segment changes as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Annotated, Final

import structlog
from confluent_kafka import KafkaException
from fastapi import APIRouter, Query, Request, Response
from starlette.types import Receive, Scope, Send

from afterglow_client import AfterglowError, AsyncReader
from afterglow_client.reader import unknown
from serving.api.catching_up import catch_up
from serving.api.feed import Feed, LogGone, PlaceError, decode_place, encode_place, gap
from serving.api.follower import Follower, Record, Wanted
from serving.api.metrics import HttpMetrics
from serving.api.problems import Problem, of_store, wrong_input
from serving.api.routes import allowed, refused
from serving.api.terms import Terms

log = structlog.get_logger()
router = APIRouter(prefix="/v1/changes", tags=["changes"])

_MEDIA: Final = "text/event-stream"
_RETRY_MS: Final = 2000
_CUT: Final = {
    "slow": "this client took changes more slowly than they came; come back with Last-Event-ID",
    "stalled": "this client took nothing for too long; come back with Last-Event-ID",
    "closing": "the server ends; come back with Last-Event-ID",
    "broker": "the change topic cannot be read; come back with Last-Event-ID",
}
_EVENT: Final = {
    "type": "object",
    "required": ["data"],
    "properties": {
        "event": {"type": "string", "enum": ["change", "gap", "cut"]},
        "id": {"type": "string", "description": "The place after this event."},
        "data": {"type": "string", "description": "JSON on one line."},
    },
}


@router.get(
    "",
    summary="Follow the segment changes",
    response_class=Response,
    responses={
        200: {
            "description": "Server-sent events. `change`: the record as it stands on the topic. "
            "`gap`: changes are missing here. `cut`: the server ends this stream, and why.",
            "content": {_MEDIA: {"schema": _EVENT}},
        },
        **refused(404, 429),
    },
    openapi_extra={
        "parameters": [
            {
                "name": "Last-Event-ID",
                "in": "header",
                "required": False,
                "description": "The id of the last event that came: go on after it. Without it, "
                "changes from now on.",
                "schema": {"type": "string", "pattern": r"^(\d{1,18}|-)(\.(\d{1,18}|-))*$"},
            }
        ]
    },
)
async def follow(
    request: Request,
    segment: Annotated[
        list[str], Query(default_factory=list, description="Only of these; may be repeated.")
    ],
    user_id: Annotated[
        list[str], Query(default_factory=list, description="Only of these; may be repeated.")
    ],
) -> Response:
    """Every entry into and exit from a segment, as it is decided, until the client goes."""
    parts = allowed(request, "bulk")
    feed, terms = parts.feed, parts.terms
    if feed is None or feed.closed:
        raise Problem(
            503,
            "no-changes",
            "There are no changes to follow here",
            "this server ends"
            if feed is not None
            else "this server was started without KAFKA_BOOTSTRAP",
            "Ask another server, or in a moment",
            {"retry-after": "2"},
        )
    if len(feed) >= terms.followers:
        raise Problem(
            429,
            "too-many-followers",
            "Too many clients follow the changes",
            f"{terms.followers} do, which is as many as this server takes (serve.followers)",
            "Try again later, or follow the topic itself",
            {"retry-after": "10"},
        )
    places = None
    last = request.headers.get("last-event-id")
    if last:
        try:
            places = decode_place(last)
        except PlaceError as error:
            raise wrong_input(
                f"Last-Event-ID: {error}",
                "Leave it out to begin from now, after reading memberships anew",
            ) from error
    else:
        await _refuse_unknown(parts.reader, segment)
    wanted = choosing(frozenset(segment), frozenset(user_id))
    return EventStream(feed, wanted, places, terms, parts.metrics)


async def _refuse_unknown(reader: AsyncReader, segments: Sequence[str]) -> None:
    """Say which segment nobody could be in, as far as the store tells.

    Only to those who begin: who comes back may wait for exits from one that was taken out. The
    store is not needed to follow the topic, so where it does not answer, nobody is refused.
    """
    if not segments:
        return
    try:
        names = await reader.defined()
    except AfterglowError:
        return
    for segment in segments if names else ():
        if segment not in names:
            raise of_store(unknown(segment, names))


def choosing(segments: frozenset[str], users: frozenset[str]) -> Wanted:
    """Which records a follower asked for."""

    def wanted(record: Record) -> bool:
        return (not segments or record.segment in segments) and (
            not users or record.user_id in users
        )

    return wanted


class EventStream(Response):
    """The connection of one follower.

    Args:
        feed: that it follows.
        wanted: which records.
        places: from where on; from now if None.
        terms: how long it may be slow.
        metrics: to be counted in.
    """

    media_type = _MEDIA

    def __init__(
        self,
        feed: Feed,
        wanted: Wanted,
        places: Mapping[int, int] | None,
        terms: Terms,
        metrics: HttpMetrics,
    ) -> None:
        super().__init__(
            headers={"cache-control": "no-store", "x-accel-buffering": "no"}, media_type=_MEDIA
        )
        del self.headers["content-length"]
        self._feed, self._wanted, self._terms = feed, wanted, terms
        self._places = None if places is None else dict(places)
        self._metrics = metrics
        self._reason, self._start = "", ""

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the client goes, is cut off, or the server ends."""
        self._seat = self._feed.follow(lambda _: False)  # until it has caught up
        gone = asyncio.ensure_future(_disconnected(receive))
        writing = asyncio.ensure_future(self._write(send))
        self._metrics.followers.set(len(self._feed))
        try:
            await asyncio.wait({gone, writing}, return_when=asyncio.FIRST_COMPLETED)
            if writing.done():
                writing.result()
        finally:
            for task in (gone, writing):
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task
            self._feed.leave(self._seat)
            self._metrics.followers.set(len(self._feed))
            if self._reason:
                self._metrics.cut.labels(self._reason).inc()
                log.warning("follower_cut_off", reason=self._reason)

    async def _write(self, send: Send) -> None:
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        try:
            async with aclosing(self._pieces()) as pieces:
                async for piece in pieces:
                    async with asyncio.timeout(self._terms.stalled_s):
                        await send({"type": "http.response.body", "body": piece, "more_body": True})
        except TimeoutError:
            self._reason = "stalled"
            return  # it takes nothing, so it cannot be told
        if self._reason:
            cut = f'event: cut\ndata: {{"reason":"{_CUT[self._reason]}"}}\n\n'.encode()
            await send({"type": "http.response.body", "body": cut, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _pieces(self) -> AsyncGenerator[bytes]:
        yield b"retry: %d\n\n" % _RETRY_MS  # the first bytes, so that the client is connected
        feed = self._feed
        while not feed.begun.is_set():  # before that nobody knows from where on
            with suppress(TimeoutError):
                await asyncio.wait_for(feed.begun.wait(), self._terms.heartbeat_s)
            yield b": \n\n"
        lacks = False
        if self._places is None and not feed.closed:
            self._sit(None)
        elif self._places is not None:
            try:
                async with aclosing(catch_up(feed, self._places, self._wanted, self._sit)) as past:
                    async for piece in past:
                        yield piece
            except LogGone:
                lacks = True
                self._sit(None)
            except KafkaException:
                self._reason = "broker"
                return
        if not self._start:
            self._reason = "closing"
            return
        yield gap(self._start) if lacks else b"id: %b\n\n" % self._start.encode()
        async for piece in self._present(self._seat):
            yield piece

    def _sit(self, places: Mapping[int, int] | None) -> None:
        """Follow from now, or from a place that is remembered on."""
        self._feed.leave(self._seat)
        self._seat = self._feed.follow(self._wanted, places)
        self._start = self._feed.here if places is None else encode_place(places)

    async def _present(self, follower: Follower) -> AsyncIterator[bytes]:
        while True:
            piece = await follower.take(self._terms.heartbeat_s)
            if piece:
                yield piece
            elif follower.reason:
                self._reason = follower.reason
                return
            else:  # alive; whoever chooses among changes moves on all the same
                yield b": \nid: %b\n\n" % self._feed.here.encode()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
