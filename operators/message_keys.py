"""The keys of messages, read only where asked: only dead letters need them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

from confluent_kafka import Message


class MessageKeys(Sequence[bytes | None]):
    """The key of each message, as a sequence.

    Args:
        messages: as they were polled.
    """

    def __init__(self, messages: list[Message]) -> None:
        self._messages = messages

    def __len__(self) -> int:
        return len(self._messages)

    @overload
    def __getitem__(self, i: int) -> bytes | None: ...
    @overload
    def __getitem__(self, i: slice) -> list[bytes | None]: ...
    def __getitem__(self, i: int | slice) -> bytes | list[bytes | None] | None:
        if isinstance(i, slice):
            return [m.key() for m in self._messages[i]]
        return self._messages[i].key()
