"""The logs that models are evaluated on, and how each is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dataflows.settings import Settings, load
from events.rows import read_messages

_HERE: Final = Path(__file__).parent
DATA: Final = Path(__file__).parents[3] / "shared" / "data"
"""Where the logs are, unless told otherwise."""

DAY_MS: Final = 86_400_000


@dataclass(slots=True, frozen=True)
class Log:
    """One log.

    Attributes:
        name: of the file, without ``.csv.gz``, and of the settings beside this file.
        columns, types: what stands under another name in it.
        first_scored_day: days that are learned and not scored: the log follows users who came in
            its first weeks, so until then days differ in more than in what users do.
    """

    name: str
    settings: str
    columns: Mapping[str, str]
    types: Mapping[str, str] = field(default_factory=dict)
    first_scored_day: int = 0

    def messages(self, data: Path = DATA) -> Iterator[bytes]:
        """Its events in order of time."""
        return read_messages(data / f"{self.name}.csv.gz", dict(self.columns), dict(self.types))

    def load(self, *sets: str) -> Settings:
        """The settings that it is evaluated with."""
        return load(_HERE / f"{self.settings}.toml", sets, env={})


CDNOW: Final = Log("cdnow", "cdnow", {"type": "event_type"}, first_scored_day=150)
"""Fader and Hardie, "Forecasting repeat sales at CDNOW", Interfaces 31 (2001)."""

JOURNEY: Final = Log(
    "complete_journey_sample",
    "journey",
    {"type": "event_type", "order_id": "session_id"},
    {"campaign_sent": "email_open", "coupon_redeem": "click"},
    first_scored_day=90,
)
"""dunnhumby, "The Complete Journey"."""
