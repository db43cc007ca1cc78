"""Stable hashes of texts and of pairs, and the shard of a user.

``VERSION`` changes with any change of a function here, because hashes are stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled
from events.texts import I32, I64, U64, Texts, combined, event_hash_of

F64 = NDArray[np.float64]

VERSION: Final = 1

_POLYNOMIAL: Final = 0xEDB88320


def hash_texts(texts: Sequence[str]) -> U64:
    """A 64-bit hash of each text, uint64[n]; see ``Texts.hashes``.

    >>> a, b = hash_texts(["ann", "ann"]), hash_texts(["bob", "ann"])
    >>> bool(a[0] == a[1] == b[1]), bool(b[0] == b[1])
    (True, False)
    """
    return Texts.of(texts).hashes()


def combine(first: U64, second: U64) -> U64:
    """One hash of two, in which their order matters; uint64[n] each."""
    out = np.empty(len(first), dtype=np.uint64)
    _combine_all(first, second, out)
    return out


def event_hashes(users: U64, event_ids: U64, salt: int) -> U64:
    """The hash of each event from those of its user and its own id; uint64[n] each."""
    out = np.empty(len(users), dtype=np.uint64)
    _event_hashes(users, event_ids, np.uint64(salt), out)
    return out


def shard_of(users: Texts, shards: int) -> I64:
    """The shard of each user: crc32 of the UTF-8 id, modulo; int64[n].

    >>> shard_of(Texts.of(["ann", "bob"]), 64).tolist()
    [51, 0]
    """
    out = np.empty(len(users), dtype=np.int64)
    _shards_of_all(users.words, users.start, users.length, shards, _TABLE, out)
    return out


def shares(users: Texts, salt: str) -> F64:
    """Where each user falls between 0 and 1 by chance, for good; float64[n].

    BLAKE2b of salt and id. Users of one salt fall evenly, and independently of where they fall by
    another salt and of their shard, which a CRC does not give: its bits are linear.

    >>> shares(Texts.of(["ann", "bob"]), "layout").round(3).tolist()
    [0.105, 0.394]
    """
    head = salt.encode() + b"\0"
    found = [blake2b(head + user, digest_size=8).digest() for user in users.bytes_list()]
    words = np.frombuffer(b"".join(found), dtype="<u8")
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _crc32_table() -> NDArray[np.uint32]:
    """What each value of a byte does to a CRC-32."""
    values = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        values = np.where(values & 1, (values >> 1) ^ np.uint32(_POLYNOMIAL), values >> 1)
    return values


_TABLE: Final = _crc32_table()


@compiled
def _combine_all(first: U64, second: U64, out: U64) -> None:
    for i in range(len(out)):
        out[i] = combined(first[i], second[i])


@compiled
def _event_hashes(users: U64, event_ids: U64, salt: np.uint64, out: U64) -> None:
    for i in range(len(out)):
        out[i] = event_hash_of(users[i], event_ids[i], salt)


@compiled
def _shards_of_all(
    words: U64, start: I64, length: I32, shards: int, table: NDArray[np.uint32], out: I64
) -> None:
    for i in range(len(start)):
        crc = np.uint32(0xFFFFFFFF)
        for at in range(start[i], start[i] + length[i]):
            byte = np.uint32(words[at] & np.uint64(255))
            crc = table[(crc ^ byte) & np.uint32(255)] ^ (crc >> np.uint32(8))
        out[i] = np.int64(crc ^ np.uint32(0xFFFFFFFF)) % shards
