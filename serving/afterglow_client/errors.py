"""What can go wrong, as one tree.

::

    AfterglowError
    ├── Unavailable     no usable answer within the timeout and the retries: try later
    ├── Forbidden       the server refuses this user or this command: mend the ACL or the password
    ├── NotAfterglow    it answers, but what is there was not written by an Afterglow of this format
    └── UnknownSegment  no such segment is defined
"""

from __future__ import annotations

from typing import Final

import msgspec

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises for bytes that others wrote: broken, not UTF-8, nested too deep."""


class AfterglowError(Exception):
    """Anything this package raises on purpose; the message says what to do."""


class Unavailable(AfterglowError):
    """No usable answer within the timeout and the retries; trying later may help."""


class Forbidden(AfterglowError):
    """The server refuses the user, the password or a command; trying later does not help."""


class NotAfterglow(AfterglowError):
    """What is there was not written by an Afterglow whose format this client knows."""


class UnknownSegment(AfterglowError, KeyError):
    """No such segment is defined in the engine that wrote the data."""

    def __str__(self) -> str:
        return str(self.args[0])
