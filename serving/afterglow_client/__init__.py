"""Afterglow's client: profiles, lists of items and segments, looked up where the engine keeps them.

- ``Reader``, ``AsyncReader``: look users up, one round trip each.
- ``Profile``, ``Membership``, ``Candidates``: what they give.
- ``AfterglowError`` and its kinds: what can go wrong.
- ``afterglow_client.changes``: follows the segment changes; needs ``afterglow-client[consumer]``.
"""

from afterglow_client.async_reader import AsyncReader
from afterglow_client.documents import Candidates, Membership, Profile
from afterglow_client.errors import (
    AfterglowError,
    Forbidden,
    NotAfterglow,
    Unavailable,
    UnknownSegment,
)
from afterglow_client.reader import Reader

__all__ = [
    "AfterglowError",
    "AsyncReader",
    "Candidates",
    "Forbidden",
    "Membership",
    "NotAfterglow",
    "Profile",
    "Reader",
    "Unavailable",
    "UnknownSegment",
]
