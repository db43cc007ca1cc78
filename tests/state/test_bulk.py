"""Arguments as they travel, against the client library's own packing."""

import hiredis
from hypothesis import given
from hypothesis import strategies as st

from events.texts import Texts
from state.bulk import Bulk

texts = st.binary(max_size=30) | st.binary(min_size=95, max_size=120)


def travelling(arguments):
    return hiredis.pack_command(tuple(arguments)).partition(b"\r\n")[2]


@given(st.lists(st.tuples(texts, texts), max_size=20))
def test_pairs_and_single_arguments_travel_as_the_client_sends_them(pairs):
    fields, values = [first for first, _ in pairs], [second for _, second in pairs]
    both = Bulk.pairs(Texts.of_bytes(fields), Texts.of_bytes(values))
    assert bytes(both.raw) == travelling(part for pair in pairs for part in pair)
    assert len(both) == 2 * len(pairs)
    one = Bulk.of(Texts.of_bytes(fields))
    assert (bytes(one.raw), len(one)) == (travelling(fields), len(fields))
