"""Asking for profiles over HTTP/1.1, over connections that are kept and used in turn."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

Link = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class HttpAsking:
    """Connections to one server; each carries one request at a time.

    Args:
        host, port: of the server.
        path: of a profile, ``{user}`` for who.
        token: bearer token; empty for none.
    """

    def __init__(
        self, host: str, port: int, path: str = "/v1/profiles/{user}", token: str = ""
    ) -> None:
        self._host, self._port, self._path = host, port, path
        self._tail = f" HTTP/1.1\r\nHost: {host}\r\n" + (
            f"Authorization: Bearer {token}\r\n\r\n" if token else "\r\n"
        )
        self._free: list[Link] = []

    async def get(self, user: str) -> bool:
        """Whether a user is known.

        Raises:
            RuntimeError: the answer is neither 200 nor 404.
        """
        link = reader, writer = await self._link()
        writer.write(f"GET {self._path.format(user=user)}{self._tail}".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        status = head[9:12]
        length = head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]
        await reader.readexactly(int(length))
        self._free.append(link)
        if status not in (b"200", b"404"):
            raise RuntimeError(f"a profile must be answered with 200 or 404, but came {head!r}")
        return status == b"200"

    async def _link(self) -> Link:
        """A kept connection that the server has not closed meanwhile, or a new one."""
        while self._free:
            reader, writer = self._free.pop()
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.close()
        return await asyncio.open_connection(self._host, self._port)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _at: TracebackType | None,
    ) -> None:
        for _, writer in self._free:
            writer.close()
