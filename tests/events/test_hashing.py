"""Column hashes against a scalar reference, and shards against zlib."""

import zlib
from hashlib import blake2b

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from events.hashing import combine, hash_texts, shard_of, shares
from events.texts import Texts

MASK = 2**64 - 1
columns = st.lists(st.text(max_size=130), max_size=12)


def finish(x: int) -> int:
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & MASK
    return x ^ (x >> 31)


def reference(text: str) -> int:
    raw = text.encode()
    h = (len(raw) * 0x9FB21C651E98DF25 & MASK) ^ 0x2545F4914F6CDD1D
    for at in range(0, len(raw), 8):
        h = (h ^ int.from_bytes(raw[at : at + 8], "little")) * 0x9FB21C651E98DF25 & MASK
        h ^= h >> 29
    return finish(h)


@example(["", "a\nb", "", "ü" * 64, "\n", "x" * 128])
@example([])
@given(columns)
def test_hash_is_the_reference_whatever_else_is_in_the_column(texts):
    assert hash_texts(texts).tolist() == [reference(text) for text in texts]


def test_hashes_spread():
    hashes = hash_texts([f"u{i:06d}" for i in range(100_000)])
    assert len(set(hashes.tolist())) == 100_000
    ones = np.unpackbits(hashes.view(np.uint8)).mean()
    assert 0.499 < ones < 0.501
    assert combine(hashes[:1], hashes[1:2]) != combine(hashes[1:2], hashes[:1])


@given(columns)
def test_shard_is_crc32(texts):
    assert shard_of(Texts.of(texts), 64).tolist() == [zlib.crc32(t.encode()) % 64 for t in texts]


@given(columns, st.text(max_size=20))
def test_a_share_is_blake2_of_salt_and_id(texts, salt):
    def share(text):
        digest = blake2b(salt.encode() + b"\0" + text.encode(), digest_size=8).digest()
        return (int.from_bytes(digest, "little") >> 11) / 2**53

    assert shares(Texts.of(texts), salt).tolist() == [share(text) for text in texts]


def test_shares_are_even_and_independent_by_salt():
    users = Texts.of([f"u{i:06d}" for i in range(50_000)])
    one, other = shares(users, "one"), shares(users, "other")
    counts = np.bincount((one * 10).astype(int), minlength=10)
    assert counts.min() > 4_700
    assert counts.max() < 5_300
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.015
