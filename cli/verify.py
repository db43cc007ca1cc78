"""``afterglow verify``: live profiles held against the log, by the slow reference."""

from __future__ import annotations

import sys

from cli.common import UserError, need_kafka, need_redis
from dataflows.engine import open_store
from dataflows.logs import configure
from dataflows.settings import Settings
from dataflows.verifying import LogIncomplete, NothingCompared, verify

_SHOWN = 20


def verify_profiles(settings: Settings, share: float) -> int:
    """Compare, print what differs; 1 if anything does, or nobody was compared."""
    need_kafka(settings)
    need_redis(settings)
    configure("warning", settings.logs.format)  # how the log is read is no news here
    try:
        report = verify(settings, open_store(settings), share)
    except LogIncomplete as error:
        raise UserError(str(error)) from error
    except NothingCompared as error:
        print(f"afterglow: {error}", file=sys.stderr)
        return 1
    for difference in report.differences[:_SHOWN]:
        print(
            f"{difference.user}: {difference.path or 'profile'} is {difference.live!r}, "
            f"{difference.by} {difference.expected!r}"
        )
    if len(report.differences) > _SHOWN:
        print(f"… and {len(report.differences) - _SHOWN} more")
    print(
        f"{report.users:,} users compared over {report.events:,} events: "
        f"{len(report.differences):,} differ",
        file=sys.stderr if report.differences else sys.stdout,
    )
    return int(bool(report.differences))
