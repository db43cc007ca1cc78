"""The copies of a model that a guard decides about, held as opaque plain states.

After each learning step::

    verdict = guard.note(y, p_live, p_good)
    back_to = copies.follow(verdict, live.to_state)
    if back_to is not None:
        live = Model.from_state(back_to)
    if verdict is not Verdict.NOTHING:
        good = Model.from_state(copies.good)

with ``p_live`` what the live model had said of the rows before it learned them, and ``p_good`` what
``good``, which never learns, says of the same rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from models.guard import Verdict

State = dict[str, Any]


class Copies:
    """The two copies that a guard's verdicts are about, as opaque plain states.

    Args:
        state: of the model as it begins, from its ``to_state``.

    >>> copies = Copies({"weights": "as they begin"})
    >>> copies.follow(Verdict.KEEP, lambda: {"weights": "learned"})
    >>> copies.good, copies.trial
    ({'weights': 'as they begin'}, {'weights': 'learned'})
    >>> copies.follow(Verdict.KEEP, lambda: {"weights": "poisoned"})
    >>> copies.follow(Verdict.RESTORE, lambda: {"weights": "poisoned"})
    {'weights': 'learned'}
    """

    def __init__(self, state: State) -> None:
        self.good = state
        self.trial = state

    def follow(self, verdict: Verdict, live: Callable[[], State]) -> State | None:
        """Move the copies up, or give the state to go back to.

        Args:
            verdict: of the guard. After anything but ``NOTHING`` the good copy may be another.
            live: makes a plain state of the live model; called only where a copy is taken.

        Returns:
            The state that the live model must be made from, or None to go on with it.
        """
        if verdict is Verdict.KEEP:
            self.good, self.trial = self.trial, live()
        elif verdict is Verdict.RESTORE:
            self.trial = self.good
            return self.good
        return None

    def to_state(self) -> State:
        """Both, as plain data."""
        return {"good": self.good, "trial": self.trial}

    @classmethod
    def from_state(cls, state: State) -> Copies:
        """What ``to_state`` wrote."""
        copies = cls(state["good"])
        copies.trial = state["trial"]
        return copies
