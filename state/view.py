"""The view: what a condition may ask of some users, each at a time of its own.

Conditions know features only by name and by kind. The kind says how a value behaves while its user
is silent, and that is all a timer rests on: a decayed value falls in closed form, a time stands
still while its age grows, and everything else changes at steps that the feature itself can tell.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]


class Kind(Enum):
    """What sort of value a feature has, and what silence does to it.

    Attributes:
        NUMBER: an integer or float; changes in silence only at ``next_step_ms``.
        DECAYED: a number that is never negative and that silence only lowers, in closed form
            (``falls_below_ms``).
        TIME: epoch milliseconds, ``NEVER_MS`` where it never happened; changes in silence only at
            ``next_step_ms``.
        FLAG: true or false; changes in silence only at ``next_step_ms``.
        TEXT: a code of a text, -1 where absent; changes in silence only at ``next_step_ms``.
    """

    NUMBER = "number"
    DECAYED = "decayed number"
    TIME = "time"
    FLAG = "flag"
    TEXT = "text"


class View(Protocol):
    """Some users' features, whole arrays at a time; n rows."""

    now_ms: I64
    """Evaluation time of each row, int64[n]."""

    def value(self, name: str) -> NDArray[Any]:
        """The feature's values at ``now_ms``, [n].

        NUMBER and DECAYED: int or float; TIME: int64 ms; FLAG: bool; TEXT: integer codes.
        The caller does not write to it.
        """
        ...

    def code(self, name: str, text: str) -> int:
        """The code of a text in a TEXT feature; -2 where that text was never seen."""
        ...

    def text(self, name: str, code: int) -> str | None:
        """The text behind a code of a TEXT feature, for causes and explanations; None for -1."""
        ...

    def falls_below_ms(self, name: str, threshold: float) -> I64:
        """First ms after ``now_ms`` at which a silent DECAYED feature is below it, int64[n].

        ``FAR_MS`` where it already is below, and where it never will be.
        """
        ...

    def next_step_ms(self, name: str) -> I64 | None:
        """First ms after ``now_ms`` at which a feature that is not DECAYED may change, int64[n].

        ``FAR_MS`` where it is constant in silence; None for a feature that is so in every view of
        this kind. It may be too early, never too late.
        """
        ...
