"""Time zones as tables of offsets, against the library they come from."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflows.settings import SettingsError
from dataflows.zones import zone

NAMES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Africa/Casablanca"]
ZONES = {name: zone(name) for name in NAMES}


@given(st.sampled_from(NAMES), st.integers(0, 4_133_980_800_000 - 1))
def test_clocks_show_what_the_library_says(name, ts_ms):
    local_ms = int(ZONES[name].local_ms(np.array([ts_ms]))[0])
    there = datetime.fromtimestamp(ts_ms / 1000, UTC).astimezone(ZoneInfo(name))
    shown = datetime.fromtimestamp(local_ms / 1000, UTC)
    assert (shown.date(), shown.hour, shown.minute) == (there.date(), there.hour, there.minute)


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../etc/passwd", "Europe"])
def test_what_is_no_zone_is_refused(name):
    with pytest.raises(SettingsError, match=r"context\.timezone: must be a name such as"):
        zone(name)
