"""``--type FROM=TO``: new names of types, and which of them were of no use.

A mistyped FROM renames nothing, and nobody would hear of it. A mapping asks a key whether it equals
what is looked up, so the keys themselves know whether they were ever found.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from events.row_columns import parse_pairs


class _Key(str):
    """A text that remembers whether anything was equal to it."""

    found = False
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        equal = str.__eq__(self, other) is True
        self.found = self.found or equal
        return equal


class Renames(dict[str, str]):
    """A value of ``type`` in the file to the contract's.

    Args:
        texts: options of the form FROM=TO.

    >>> renames = Renames(["view=product_view", "veiw=product_view"])
    >>> renames.get("view", "view"), renames.unused()
    ('product_view', ['veiw=product_view'])

    Raises:
        RowError: an option of another form.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._keys = {_Key(old): new for old, new in parse_pairs(texts, "--type").items()}
        super().__init__(self._keys.items())

    def unused(self) -> list[str]:
        """The options whose FROM was never looked up."""
        return [f"{key}={new}" for key, new in self._keys.items() if not key.found]

    def warn(self) -> None:
        """Say on standard error which options were of no use."""
        for option in self.unused():
            old = option.partition("=")[0]
            print(
                f"warning: --type {option} renamed nothing: no event of the file has the type "
                f"{old!r}",
                file=sys.stderr,
            )
