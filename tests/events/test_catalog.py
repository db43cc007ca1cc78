"""Messages of the catalogue: the last one of an item counts, a bad one changes nothing."""

import msgspec
import pytest

from events.catalog import read_facts
from events.schema import EventRules

RULES = EventRules()


def read(*messages):
    return read_facts(messages, RULES)


def test_json_and_messagepack_say_the_same():
    item = {
        "item_id": "mug",
        "title": "A blue mug ☕",
        "category": "kitchen.mugs",
        "brand": "acme",
        "price": "9.505",
        "currency": "EUR",
        "tags": ["new", "blue", "new"],
        "available": False,
    }
    for encode in (msgspec.json.encode, msgspec.msgpack.encode):
        facts, refused = read((b"mug", encode(item)))
        assert refused == []
        assert facts.ids.tolist() == ["mug"]
        assert facts.titles.tolist() == ["A blue mug ☕"]
        assert (facts.categories.tolist(), facts.brands.tolist()) == (["kitchen.mugs"], ["acme"])
        assert facts.tags.tolist() == ["blue\nnew"]
        assert facts.price.tolist() == [950]
        assert (facts.available.tolist(), facts.gone.tolist()) == ([False], [False])


def test_the_last_message_of_an_item_replaces_all_that_was_said():
    facts, _ = read(
        (b"a", b'{"title": "one", "brand": "x"}'),
        (b"b", b"{}"),
        (b"a", b'{"title": "two"}'),
        (b"b", None),
        (b"c", b""),
        (b"c", b'{"price": 1}'),
    )
    said = dict(zip(facts.ids.tolist(), facts.titles.tolist(), strict=True))
    assert said == {"a": "two", "b": None, "c": None}
    assert dict(zip(facts.ids.tolist(), facts.gone.tolist(), strict=True)) == {
        "a": False,
        "b": True,
        "c": False,
    }
    assert facts.brands.tolist() == [None] * 3


def test_the_key_or_the_field_names_the_item():
    facts, refused = read((b"", b'{"item_id": "a"}'), (b"b", b"{}"))
    assert (facts.ids.tolist(), refused) == (["a", "b"], [])


@pytest.mark.parametrize(
    ("key", "value", "reason", "path"),
    [
        (b"a", b'{"item_id": "b"}', "invalid", "$.item_id"),
        (b"", b"{}", "missing", "$.item_id"),
        (b"", b"", "missing", ""),
        (b"\xff", b"{}", "invalid", "key"),
        (b"k" * 129, b"{}", "invalid", "key"),
        (b"a\x00", b"{}", "invalid", "$.item_id"),
        (b"a", b"nonsense", "not_a_map", ""),
        (b"a", b'{"title": ', "malformed", ""),
        (b"a", b'{"title": 5}', "invalid", "$.title"),
        (b"a", b'{"title": "%s"}' % (b"t" * 257), "invalid", "$.title"),
        (b"a", b'{"category": "%s"}' % (b"c" * 129), "invalid", "$.category"),
        (b"a", b'{"brand": "%s"}' % (b"c" * 65), "invalid", "$.brand"),
        (b"a", msgspec.json.encode({"tags": ["t"] * 33}), "invalid", "$.tags"),
        (b"a", b'{"tags": [""]}', "invalid", "$.tags[0]"),
        (b"a", b'{"tags": ["a\\nb"]}', "invalid", "$.tags[0]"),
        (b"a", b'{"price": -1}', "invalid", "$.price"),
        (b"a", b'{"price": "1e3"}', "invalid", "$.price"),
        (b"a", b'{"price": "99999999999"}', "invalid", "$.price"),
        (b"a", b'{"price": "1000000000.004"}', "invalid", "$.price"),
        (b"a", b'{"currency": "USD"}', "currency", "$.currency"),
        (b"a", b'{"available": 1}', "invalid", "$.available"),
        (b"a", b'{"title": "%s"}' % (b"t" * 70_000), "too_large", ""),
    ],
)
def test_what_cannot_be_taken_is_refused_with_its_place(key, value, reason, path):
    facts, refused = read((b"good", b"{}"), (key, value))
    assert facts.ids.tolist() == ["good"]
    ((_, why),) = refused
    assert (why.reason, why.path) == (reason, path)
