"""What of a file became no event, in words: how much for which reason, and where it stands."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from events.batch import DeadLetter
from events.rows import is_json_lines, places_of


@dataclass(slots=True, frozen=True)
class Letters:
    """The dead letters of a file; as a text, a line for the first of each reason.

    Attributes:
        file: what was read.
        reasons: how many of each.
        firsts: the first of each.
        partitions: to how many its messages were dealt.
        out: where all of them are; None for nowhere.
    """

    file: Path
    reasons: Counter[str]
    firsts: Mapping[str, DeadLetter]
    partitions: int = 1
    out: Path | None = None

    @property
    def total(self) -> int:
        """How many there are."""
        return self.reasons.total()

    def counts(self) -> str:
        """How many of each reason, the most frequent first."""
        return ", ".join(f"{count:,} {reason}" for reason, count in self.reasons.most_common())

    def __str__(self) -> str:
        numbers = {reason: self._number(letter) for reason, letter in self.firsts.items()}
        places = places_of(self.file, set(numbers.values()))
        said = []
        for reason, letter in sorted(self.firsts.items(), key=lambda first: numbers[first[0]]):
            number = numbers[reason]
            field = letter.path.removeprefix("$").removeprefix(".")
            place = places.get(number, f"message {number + 1:,}") + (f", {field}" if field else "")
            said.append(f"\n  {reason}, {place}: {letter.detail}")
        return "".join(said)

    def told(self, all_are: str = "") -> str:
        """How many there are of each reason, and the first of each.

        Args:
            all_are: where all letters are, or how they come to be somewhere.
        """
        where = f" ({all_are})" if all_are else ""
        return f"dead letters: {self.counts()}. The first of each{where}:{self}"

    def where_all_are(self) -> str:
        """Where all are, or how they come to be somewhere."""
        return f"all are in {self.out}" if self.out else "--dead-letters FILE writes all of them"

    def say_none_good(self, all_are: str = "") -> int:
        """Say that no message was a good event; the exit code for that.

        Args:
            all_are: where all letters are, or how they come to be somewhere.
        """
        all_are = all_are or f"`afterglow replay {self.file} --dead-letters FILE` writes all"
        print(
            f"afterglow: {self.file} holds no good event: all {self.total:,} messages are dead "
            f"letters: {self.counts()}. The first of each ({all_are}):{self}",
            *self._hints(),
            sep="\n",
            file=sys.stderr,
        )
        return 1

    def _number(self, letter: DeadLetter) -> int:
        """Of the letter's message in the file, from 0 on."""
        return letter.offset * self.partitions + letter.partition

    def _hints(self) -> Iterator[str]:
        """What options may mend."""
        if "missing" in self.firsts:
            keys = self._keys(self.firsts["missing"])
            said = f"--map FIELD={'KEY' if keys else 'COLUMN'} takes a missing field from another"
            yield f"{said}; that message has {', '.join(keys)}" if keys else said
        if "unknown_type" in self.firsts:
            yield "--type FROM=TO gives a type of the file a name of these"

    def _keys(self, letter: DeadLetter) -> list[str]:
        """The keys of a JSON line; of a row of a table it is not known what else it holds."""
        if not is_json_lines(self.file):
            return []
        try:
            return list(msgspec.json.decode(letter.payload, type=dict[str, object]))
        except (msgspec.DecodeError, RecursionError):
            return []
