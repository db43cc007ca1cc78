"""Ids made to have a hash of one's choice, as somebody might who means harm.

Each step of ``events.texts.hash_at`` can be undone, so of sixteen bytes the first eight may be
anything and the last eight follow. First halves are tried until the last are letters too.
"""

import random
import string
from functools import cache

_MASK = 2**64 - 1
_SEED, _WORD = 0x2545F4914F6CDD1D, 0x9FB21C651E98DF25
_UNDO = pow(_WORD, -1, 2**64)
_LETTERS = (string.ascii_letters + string.digits + "-_.").encode()


def _mixed(state: int, word: int) -> int:
    mixed = ((state ^ word) * _WORD) & _MASK
    return mixed ^ (mixed >> 29)


def _shifted_back(x: int) -> int:
    """The y with ``y ^ (y >> 29) == x``."""
    return x ^ (x >> 29) ^ (x >> 58)


@cache
def _id_with(state: int, seed: int) -> str:
    """A text of sixteen letters after which the hash, not yet finished, is ``state``."""
    chance, letters = random.Random(seed), set(_LETTERS)
    begin = (16 * _WORD & _MASK) ^ _SEED
    wanted = (_shifted_back(state) * _UNDO) & _MASK
    while True:
        first = bytes(chance.choices(_LETTERS, k=8))
        last = (wanted ^ _mixed(begin, int.from_bytes(first, "little"))).to_bytes(8, "little")
        if set(last) <= letters:
            return (first + last).decode()


def twins() -> tuple[str, str]:
    """Two ids of one hash."""
    return _id_with(12345, 1), _id_with(12345, 2)


def without_hash() -> str:
    """An id whose hash is 0."""
    return _id_with(0, 3)


def event_id_against(victim: int, event: int, attacker: int) -> str:
    """An id for an attacker's event, of the hash that a victim's event has without a salt.

    Args:
        victim: hash of the other's user id.
        event: hash of that event's id.
        attacker: hash of the attacker's user id.
    """
    wanted = ((victim - attacker) * _WORD + event) & _MASK
    return _id_with(_unfinished(wanted), 9)


def _unfinished(x: int) -> int:
    """What SplitMix64's finaliser makes x of."""
    x = _unshifted(x, 31) * pow(0x94D049BB133111EB, -1, 2**64) & _MASK
    x = _unshifted(x, 27) * pow(0xBF58476D1CE4E5B9, -1, 2**64) & _MASK
    return _unshifted(x, 30)


def _unshifted(x: int, by: int) -> int:
    """The y with ``y ^ (y >> by) == x``."""
    y = x
    for _ in range(64 // by):
        y = x ^ (y >> by)
    return y
