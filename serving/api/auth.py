"""Who may ask what: bearer tokens, each with a role.

A role may all that those before it may. Tokens are kept as digests, so that finding one takes as
long whichever it is, and no listing of the memory's texts holds one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final

from serving.api.problems import Problem

ROLES: Final = ("read", "bulk", "admin")
"""``read`` looks users up; ``bulk`` lists members and follows changes; ``admin`` may all."""
LEAST_CHARACTERS: Final = 16
_SCHEME: Final = "bearer "


class TokenError(ValueError):
    """What was given as tokens is none; the message never shows one."""


class Tokens:
    """The tokens of a server; without any, everybody is ``admin``.

    Args:
        roles: by token.

    >>> tokens = Tokens({"a-secret-of-sixteen": "read"})
    >>> tokens.check("Bearer a-secret-of-sixteen", "read")
    >>> tokens.check("Bearer a-secret-of-sixteen", "bulk")
    Traceback (most recent call last):
        ...
    serving.api.problems.Problem: this token has the role read, but bulk is needed
    """

    def __init__(self, roles: Mapping[str, str]) -> None:
        self._ranks = {_digest(token): ROLES.index(role) for token, role in roles.items()}

    def __len__(self) -> int:
        return len(self._ranks)

    def check(self, authorization: str | None, role: str) -> None:
        """Let a request pass, or not.

        Raises:
            Problem: 401 without a known token, 403 with one that may not.
        """
        if not self._ranks:
            return
        held = authorization or ""
        if not held[: len(_SCHEME)].lower() == _SCHEME:
            raise _unknown("no token came")
        rank = self._ranks.get(_digest(held[len(_SCHEME) :].strip()))
        if rank is None:
            raise _unknown("this token is not known here")
        if rank < ROLES.index(role):
            raise Problem(
                403,
                "forbidden",
                "This token may not",
                f"this token has the role {ROLES[rank]}, but {role} is needed",
                f"Ask whoever runs the server for a token with the role {role}",
            )


def parse_tokens(lines: Iterable[str]) -> dict[str, str]:
    """Roles by token, of lines (or parts between commas) ``role:token``; # begins a comment.

    Raises:
        TokenError: a line that means nothing, with its number and without the token.

    >>> parse_tokens(["# edge", "read:0123456789abcdef", ""])
    {'0123456789abcdef': 'read'}
    """
    roles: dict[str, str] = {}
    parts = [part.strip() for line in lines for part in line.partition("#")[0].split(",")]
    for number, part in enumerate(filter(None, parts), 1):
        role, mark, token = (piece.strip() for piece in part.partition(":"))
        if not mark or role not in ROLES:
            raise TokenError(
                f"token {number} must be role:token with a role of {', '.join(ROLES)}, but its "
                f"role is {role[:20]!r}"
                if mark
                else f"token {number} must be role:token, but there is no colon in it"
            )
        if len(token) < LEAST_CHARACTERS or not token.isascii() or not token.isprintable():
            raise TokenError(
                f"token {number} (role {role}) must have at least {LEAST_CHARACTERS} printable "
                f"ASCII characters, but has {len(token)}: make one with `openssl rand -hex 32`"
            )
        if roles.setdefault(token, role) != role:
            raise TokenError(f"token {number} stands there twice, with different roles")
    return roles


def _unknown(why: str) -> Problem:
    return Problem(
        401,
        "unauthorized",
        "A token is needed",
        why,
        "Send the header Authorization: Bearer <token>",
        {"www-authenticate": 'Bearer realm="afterglow"'},
    )


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
