"""Arguments as they travel, against the client library's own packing."""

from itertools import accumulate

import hiredis
from hypothesis import given
from hypothesis import strategies as st

from events.texts import Texts
from state.bulk import Bulk

texts = st.binary(max_size=30) | st.binary(min_size=95, max_size=120)


def travelling(arguments):
    return hiredis.pack_command(tuple(arguments)).partition(b"\r\n")[2]


@given(st.lists(st.lists(st.tuples(texts, texts), max_size=9), max_size=4))
def test_arguments_travel_as_the_client_sends_them(commands):
    fields = Texts.of_bytes([first for pairs in commands for first, _ in pairs])
    values = Texts.of_bytes([second for pairs in commands for _, second in pairs])
    bounds = [0, *accumulate(map(len, commands))]
    both, alone = Bulk.several(bounds, fields, values), Bulk.several(bounds, fields)
    for pair, one, pairs in zip(both, alone, commands, strict=True):
        assert bytes(pair.raw) == travelling(part for pair in pairs for part in pair)
        assert len(pair) == 2 * len(pairs)
        assert (bytes(one.raw), len(one)) == (travelling(first for first, _ in pairs), len(pairs))
