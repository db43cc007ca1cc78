"""Texts as JSON has them between its quotes."""

import json

from hypothesis import example, given
from hypothesis import strategies as st

from events.texts import Texts

texts = st.none() | st.text('ab"\\\n\x1f\x7fé€', max_size=6)


@given(st.lists(texts, max_size=60))
@example(['"'] * 24)
@example(['"'] * 25)
def test_escaped_texts_are_what_json_reads_back(some):
    """One by one where they are few, in a compiled pass where they are many."""
    found = Texts.of(some).escaped().tolist()
    assert [t if t is None else json.loads(f'"{t}"') for t in found] == some
    plain = [t for t in some if t is not None and json.dumps(t, ensure_ascii=False) == f'"{t}"']
    assert [t for t in found if t is not None and "\\" not in t] == plain
