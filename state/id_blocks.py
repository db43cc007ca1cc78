"""How a bucket of event ids lies in the store: a string to which each commit appends its entries.

An entry is the hash and the commit's sequence. Entries above the committed sequence are of a commit
that did not come about, and are not read, or else the event they stand for would be lost.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

_ENTRY: Final = np.dtype([("hash", "<u8"), ("seq", "<u4")])

ID_BYTES: Final = _ENTRY.itemsize
"""Of each id in the store."""


def pack_ids(hashes: U64, seq: int | I64) -> bytes:
    """The entries that a commit appends to a bucket, 12 bytes each.

    Args:
        hashes: n.
        seq: of the commit, or of each id's shard, int64[n].
    """
    entries = np.empty(len(hashes), dtype=_ENTRY)
    entries["hash"], entries["seq"] = hashes, seq
    return entries.tobytes()


def unpack_ids(block: bytes, committed_seq: int) -> U64:
    """The ids of a stored bucket, uint64[n], but for entries of a later commit than the last.

    >>> block = pack_ids(np.array([7, 8], np.uint64), 3) + pack_ids(np.array([9], np.uint64), 4)
    >>> unpack_ids(block, committed_seq=3).tolist()
    [7, 8]

    Raises:
        ValueError: the block does not consist of whole entries.
    """
    if len(block) % _ENTRY.itemsize:
        raise ValueError(
            f"a bucket of ids must consist of entries of {_ENTRY.itemsize} bytes, but has "
            f"{len(block)} bytes: something else wrote to it; delete the key to go on without it"
        )
    entries = np.frombuffer(block, dtype=_ENTRY)
    return entries["hash"][entries["seq"] <= committed_seq].astype(np.uint64)
