"""Texts of few different values as small numbers, so that they fit into columns.

A lane keeps devices, countries and the like as int32 codes and looks the text up when it writes a
profile. Codes are given in the order of first sight, so they mean something within one process
only: what is stored must carry the texts, and is recoded when it is loaded.

A vocabulary only grows, so it is bounded: past its cap, new texts share one code. Do not use it
for ids, which are as many as there are users or items.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import Final

import numpy as np
from numpy.typing import NDArray

I32 = NDArray[np.int32]

OTHER: Final = "other"
"""What every text reads as that came after the vocabulary was full; its code is 0."""


class Vocabulary:
    """Text ↔ code.

    Args:
        cap: how many texts it takes beside ``OTHER``.

    >>> devices = Vocabulary(cap=2)
    >>> devices.codes(["mobile", "desktop", "mobile", "watch"]).tolist()
    [1, 2, 1, 0]
    >>> devices.text(2), devices.code("watch"), len(devices)
    ('desktop', -1, 3)
    """

    def __init__(self, cap: int = 10_000) -> None:
        if cap < 0:
            raise ValueError(f"a vocabulary's cap must not be negative, but is {cap}")
        self._most = cap + 1
        self._texts = [OTHER]
        self._codes = {OTHER: 0}

    def __len__(self) -> int:
        return len(self._texts)

    @property
    def texts(self) -> list[str]:
        """Every text at the place of its code, to be stored beside what holds codes."""
        return self._texts.copy()

    def codes(self, texts: Sequence[str]) -> I32:
        """The code of each text, int32[n]; new ones are added while there is room."""
        codes = np.fromiter(map(self._codes.get, texts, repeat(-1)), np.int32, len(texts))
        for i in np.flatnonzero(codes < 0).tolist():
            codes[i] = self._add(texts[i])
        return codes

    def code(self, text: str) -> int:
        """The code of a text, -1 for one that has none of its own; nothing is added."""
        return self._codes.get(text, -1)

    def text(self, code: int) -> str:
        """The text of a code.

        Raises:
            IndexError: the code was never given, or is -1, which stands for no text.
        """
        if not 0 <= code < len(self._texts):
            raise IndexError(
                f"a code must be one of 0 to {len(self._texts) - 1}, but is {code}; "
                "-1 stands for no text and has to be told apart before"
            )
        return self._texts[code]

    def recode(self, codes: I32, texts: Sequence[str]) -> I32:
        """Codes into another list of texts as codes of this vocabulary, int32[n]; -1 stays -1.

        It takes in a batch's text columns, and columns stored with another vocabulary's ``texts``.

        >>> Vocabulary().recode(np.array([1, -1, 0], np.int32), ["mobile", "desktop"]).tolist()
        [2, -1, 1]
        """
        return np.append(self.codes(texts), np.int32(-1))[codes]

    def _add(self, text: str) -> int:
        if text not in self._codes and len(self._texts) < self._most:
            self._codes[text] = len(self._texts)
            self._texts.append(text)
        return self._codes.get(text, 0)
