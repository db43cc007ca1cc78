"""Texts of few different values as small numbers, so that they fit into columns.

A lane keeps devices, countries and the like as int32 codes and looks the text up when it writes a
profile. Codes are given in the order of first sight, so they mean something within one process
only: what is stored must carry the texts, and is recoded when it is loaded.

A vocabulary only grows, so it is bounded: past its cap, new texts share one code. Do not use it
for ids, which are as many as there are users or items.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from events.texts import Texts
from state.text_index import TextIndex

I32 = NDArray[np.int32]

OTHER: Final = "other"
"""What every text reads as that came after the vocabulary was full; its code is 0."""


class Vocabulary:
    """Text ↔ code.

    Args:
        cap: how many texts it takes beside ``OTHER``.

    >>> devices = Vocabulary(cap=2)
    >>> devices.codes(Texts.of(["mobile", None, "desktop", "mobile", "watch"])).tolist()
    [1, -1, 2, 1, 0]
    >>> devices.text(2), devices.code("watch"), len(devices)
    ('desktop', -1, 3)
    """

    def __init__(self, cap: int = 10_000) -> None:
        if cap < 0:
            raise ValueError(f"a vocabulary's cap must not be negative, but is {cap}")
        self._most = cap + 1
        self._texts = TextIndex()
        self._texts.number(Texts.of([OTHER]))

    def __len__(self) -> int:
        return len(self._texts)

    def codes(self, texts: Texts) -> I32:
        """The code of each text, int32[n], -1 without one; new ones are added if there is room."""
        room = self._most - len(self._texts)
        if room >= len(texts):
            return self._texts.number(texts).astype(np.int32)
        codes = self._texts.find(texts)
        unknown = np.flatnonzero((codes < 0) & texts.present)
        if len(unknown):
            kinds = TextIndex()
            _, first = np.unique(kinds.number(texts.take(unknown)), return_index=True)
            self._texts.number(texts.take(unknown[first[:room]]))
            codes[unknown] = np.maximum(self._texts.find(texts.take(unknown)), 0)
        return codes.astype(np.int32)

    def code(self, text: str) -> int:
        """The code of a text, -1 for one that has none of its own; nothing is added."""
        return int(self._texts.find(Texts.of([text]))[0])

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

    def take(self, codes: NDArray[np.integer]) -> Texts:
        """The texts of some codes; absent for -1."""
        numbers = codes.astype(np.int64)
        texts = self._texts.texts(np.maximum(numbers, 0))
        texts.length[numbers < 0] = -1
        return texts
