"""The first error of a worker, seen where it is raised.

In a cluster Bytewax loses it: the other threads panic, and the process may be gone before the error
has come out.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

T = TypeVar("T")


class Witness:
    """Sees errors that pass through what it watches.

    Args:
        told: called with the first error at once; it may end the process.

    Attributes:
        first: the first error seen; None while there was none.

    >>> witness, text = Witness(), ["a"]
    >>> pop = witness.watched(text.pop)
    >>> pop()
    'a'
    >>> pop()
    Traceback (most recent call last):
    ...
    IndexError: pop from empty list
    >>> witness.first
    IndexError('pop from empty list')
    """

    def __init__(self, told: Callable[[Exception], None] = lambda _: None) -> None:
        self._told = told
        self.first: Exception | None = None

    def watched(self, function: Callable[..., T]) -> Callable[..., T]:
        """The function, under watch; an end of input is no error."""

        @wraps(function)
        def watched(*args: Any, **kwargs: Any) -> T:
            try:
                return function(*args, **kwargs)
            except StopIteration:
                raise
            except Exception as error:
                if self.first is None:
                    self.first = error
                    self._told(error)
                raise

        return watched

    def watch(self, thing: T, *methods: str) -> T:
        """Put methods of one object under watch."""
        for name in methods:
            setattr(thing, name, self.watched(getattr(thing, name)))
        return thing

    def watch_parts(self, thing: T, *methods: str) -> T:
        """Put a source or sink under watch: its ``build_part``, and the parts' methods."""
        name = "build_part"
        build = getattr(thing, name)
        setattr(thing, name, self.watched(lambda *args: self.watch(build(*args), *methods)))
        return thing
