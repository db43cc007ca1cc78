"""Dead letters: what could not become an event, kept with its reason, never lost, never in the way.

A read is handed on only after its letters are acknowledged, so a crash can write a letter twice
(its topic, partition and offset tell), but none is missing. A letter that the topic takes for too
large is cut: its header ``cut`` says how many bytes it had, and the whole stands in the log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from events.batch import DeadLetter
from events.decode import headers

_LARGEST: Final = 1_000_000_000
"""Bytes of a message that the producer does not refuse by itself; the topic says what it takes."""
_CUT_BYTES: Final = 4096
"""What is kept of a letter that is too large."""


class DeadLetterError(Exception):
    """Dead letters could not be written; the engine ends rather than lose them."""


class DeadLetterWriter:
    """Writes letters to a topic and waits until they are acknowledged.

    Args:
        config: of the producer; ``bootstrap.servers`` at least.
        topic: of the letters.
        timeout_s: how long acknowledgements may take.
    """

    def __init__(self, config: Mapping[str, Any], topic: str, timeout_s: float = 30.0) -> None:
        self._producer = Producer(
            {
                "linger.ms": 0,
                "enable.idempotence": True,
                "compression.type": "zstd",
                "message.max.bytes": _LARGEST,
                **config,
            }
        )
        self._topic, self._timeout_s = topic, timeout_s
        self._failed: list[str] = []
        self._too_large: list[DeadLetter] = []

    def write(self, letters: Sequence[DeadLetter]) -> None:
        """Write letters; returns when the broker has them.

        Raises:
            DeadLetterError: it did not take them in time.
        """
        for letter in letters:
            self._produce(letter)
        waiting = self._producer.flush(self._timeout_s)
        too_large, self._too_large = self._too_large, []
        for letter in too_large:
            self._produce(letter, whole=False)
        if too_large:
            waiting = self._producer.flush(self._timeout_s)
        if waiting or self._failed:
            why = self._failed[0] if self._failed else f"{waiting} are not acknowledged"
            raise DeadLetterError(
                f"{len(letters)} dead letters could not be written to {self._topic!r} within "
                f"{self._timeout_s:.0f} s: {why}. Nothing is lost: their events are read again "
                "after a restart. Check the topic, the broker and what this user may do there "
                "(docs/operations.md)"
            )

    def _produce(self, letter: DeadLetter, *, whole: bool = True) -> None:
        value, key = letter.payload, letter.key
        said: list[tuple[str, str | bytes | None]] = [*headers(letter)]
        if not whole:
            said.append(("cut", str(len(value)).encode()))
            value, key = value[:_CUT_BYTES], key and key[:_CUT_BYTES]
        delivered = partial(self._delivered, letter, whole)
        while True:
            try:
                self._producer.produce(
                    self._topic, value=value, key=key, headers=said, on_delivery=delivered
                )
                return
            except BufferError:
                self._producer.poll(0.1)
            except KafkaException as error:
                if whole and _is_too_large(error.args[0]):
                    self._too_large.append(letter)
                    return
                raise DeadLetterError(
                    f"a dead letter of {letter.topic!r} partition {letter.partition} offset "
                    f"{letter.offset} was refused by {self._topic!r}: {error.args[0].str()}. "
                    "Nothing is lost: its event is read again after a restart. Check the topic"
                ) from error

    def _delivered(
        self, letter: DeadLetter, whole: bool, error: KafkaError | None, _message: Message
    ) -> None:
        if error is None:
            return
        if whole and _is_too_large(error):
            self._too_large.append(letter)
        else:
            self._failed.append(error.str())


class DeadLetterFile:
    """Counts letters by reason, and appends them to a JSON lines file if one is given.

    Args:
        path: of the file; it is there from the start, so that a place where none can be written
            is known before the first letter.

    Attributes:
        reasons: how many letters of each.
        firsts: the first letter of each.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.reasons: Counter[str] = Counter()
        self.firsts: dict[str, DeadLetter] = {}
        self._path = path
        if path is not None:
            path.touch()

    def write(self, letters: Sequence[DeadLetter]) -> None:
        """Keep the letters."""
        self.reasons.update(letter.reason for letter in letters)
        for letter in letters:
            self.firsts.setdefault(letter.reason, letter)
        if self._path is not None:
            with self._path.open("ab") as file:
                file.writelines(_line(letter) for letter in letters)


def _is_too_large(error: KafkaError) -> bool:
    """Whether a message was refused, by the producer or the broker, for its size."""
    return bool(error.code() == KafkaError.MSG_SIZE_TOO_LARGE)


def _line(letter: DeadLetter) -> bytes:
    shown = dict(headers(letter)) | {"payload": letter.payload}
    plain = {name: value.decode(errors="backslashreplace") for name, value in shown.items()}
    return msgspec.json.encode(plain) + b"\n"
