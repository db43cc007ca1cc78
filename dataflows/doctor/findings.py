"""A finding: one thing that is not as it must be, and what to do about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Level = Literal["fault", "warning"]


@dataclass(slots=True, frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        check: a stable name, such as ``store.appendonly``.
        level: a fault keeps the engine from starting or puts data at risk; a warning may be meant.
        what: what is wrong.
        expected: what was needed.
        came: what was found.
        fix: what to do.

    >>> print(Finding("store.role", "fault", "the store cannot be written", "a primary",
    ...     "a replica", "Point REDIS_URL at the primary").line())
    fault store.role: the store cannot be written: a primary was expected, but a replica came. \
Point REDIS_URL at the primary
    """

    check: str
    level: Level
    what: str
    expected: str
    came: str
    fix: str

    def line(self) -> str:
        """As people read it."""
        return (
            f"{self.level} {self.check}: {self.what}: {self.expected} was expected, but "
            f"{self.came} came. {self.fix}"
        )

    def as_dict(self) -> dict[str, Any]:
        """As programs read it."""
        return asdict(self)


def fault(check: str, what: str, expected: str, came: str, fix: str) -> Finding:
    """What must be mended."""
    return Finding(check, "fault", what, expected, came, fix)


def warning(check: str, what: str, expected: str, came: str, fix: str) -> Finding:
    """What should be looked at."""
    return Finding(check, "warning", what, expected, came, fix)
