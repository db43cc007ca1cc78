"""What is kept beside the columns of measures stays small, whatever events say."""

import itertools

import msgspec

from events.texts import Texts
from state.lane import Lane
from state.measures import MOST_PAIRS
from tests.state.streams import plan


def test_texts_of_sessions_are_right_and_only_so_many_are_kept():
    """Devices and countries can be paired in far more ways than there are of each."""
    measures = Lane(plan(), range(64)).measures
    devices, countries = [f"d{n}" for n in range(340)], [f"c{n}" for n in range(300)]
    measures.devices.number(Texts.of(devices))
    measures.countries.number(Texts.of(countries))
    most = 0
    for device, country in itertools.product(range(340), range(-1, 300)):
        found = msgspec.msgpack.decode(measures.session_texts(device, country))
        assert found == [devices[device], None if country < 0 else countries[country]]
        most = max(most, len(measures._texts))
    assert most == MOST_PAIRS
    assert msgspec.msgpack.decode(measures.session_texts(-1, -1)) == [None, None]
    raw = measures.session_texts(3, 7)
    assert measures.session_texts(3, 7) is raw
