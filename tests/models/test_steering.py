"""Catalogue and rules in the item table: what is blocked, pushed and pinned, and when."""

import numpy as np
import pytest

from events.schema import PRODUCT_VIEW
from events.texts import Texts
from models.interactions import Interactions, seen_of
from models.item_plan import ItemPlan
from models.item_records import load_items, pack_items
from models.item_view import ItemCondition, ItemView
from models.items import ItemTable
from models.rules import Boost, Pin, Rule, RuleSet, encode_rules
from models.steering import Steering
from state.expressions import ExpressionError
from state.times import DAY_MS
from tests.models.catalogs import facts

NOW_MS = 1_780_000_000_000
SHOP = {
    "mug": {"title": "A blue mug", "category": "kitchen", "brand": "acme", "price": 5},
    "cup": {"title": "Cup, BLUE-ish", "category": "kitchen", "tags": ["sale", "new"]},
    "jar": {"title": "Jar", "brand": "other", "price": 20, "tags": ["old sale"]},
    "pan": {"available": False},
}


def stored(**rules):
    return encode_rules(RuleSet(1, rules))


def views(items, *ids, at_ms=NOW_MS, category=None, price=0, type_=PRODUCT_VIEW):
    """Somebody looks at items."""
    texts = Texts.of(list(ids))
    n = len(ids)
    zeros = np.zeros((n, 1), dtype=np.uint64)
    seen = seen_of(texts, Texts.of([category] * n), np.full(n, price))
    items.learn(
        Interactions(
            *(texts.hashes(), np.full(n, at_ms), np.full(n, type_, np.int8), zeros, zeros, seen),
            *(np.zeros(n, np.float32), np.full(n, np.nan, np.float32)),
            np.full(n, -1, dtype=np.int8),
        )
    )


@pytest.fixture
def items():
    return ItemTable(ItemPlan())


@pytest.fixture
def steering(items):
    steering = Steering(items, {})
    steering.take_facts(facts(**SHOP))
    return steering


def names(items, mask):
    return {items.ids[k] for k in np.flatnonzero(mask)}


def blocked(items):
    return names(items, items.table["blocked"][: len(items)])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('brand == "acme"', {"mug"}),
        ('brand != "acme"', {"jar"}),
        ('category == "kitchen" and not tagged("sale")', {"mug"}),
        ('tagged("sale")', {"cup"}),
        ('tagged("old sale") or tagged("nothing")', {"jar"}),
        ('mentions("blue")', {"mug", "cup"}),
        ('mentions("Blue Mug")', {"mug"}),
        ('mentions("lue")', set()),
        ("price < 1000", {"mug"}),
        ("price >= 1000", {"jar"}),
        ("not available", {"pan"}),
        ("not known(title)", {"pan"}),
        ('item_id == "jar"', {"jar"}),
        ("popularity > 1.9", {"cup"}),
        ("within(first_seen, 2d)", {"cup"}),
        ("within(last_seen, 2d)", {"cup", "jar"}),
        ("happened(first_seen)", {"cup", "jar"}),
        ("true", {"mug", "cup", "jar", "pan"}),
    ],
)
def test_a_rule_may_ask_for_every_fact(items, steering, text, expected):
    views(items, "jar", at_ms=NOW_MS - 3 * DAY_MS)
    views(items, "cup", "cup", "jar", at_ms=NOW_MS)
    found = ItemCondition(text).truth(ItemView(items, steering.catalog, NOW_MS))
    assert names(items, found) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('member("vip")', "items are in no segments"),
        ("tagged(brand)", 'tagged takes a text in quotes, as in tagged("sale")'),
        ("tagged('a', 'b')", "tagged takes a text"),
        ("not mentions()", "mentions takes a text"),
        ("price", "a condition must stand here"),
        ('price == "5"', "cannot be compared with a text"),
    ],
)
def test_what_means_nothing_is_said(text, said):
    with pytest.raises(ExpressionError) as error:
        ItemCondition(text)
    assert said in str(error.value)


def test_the_catalogue_wins_over_what_events_say(items, steering):
    views(items, "mug", "jar", "new", category="from events", price=77)
    table, rows = items.table, items.find(Texts.of(["mug", "jar", "new"]).hashes())
    assert items.categories.texts(table["category"][rows]).tolist() == [
        "kitchen",
        "from events",
        "from events",
    ]
    assert table["price"][rows].tolist() == [500, 2000, 77]


def test_what_is_not_available_is_blocked_until_it_is_again(items, steering):
    turn = steering.look(NOW_MS)
    assert blocked(items) == {"pan"}
    assert turn.blocked.tolist() == Texts.of(["pan"]).hashes().tolist()
    assert steering.look(NOW_MS + 1) is None
    steering.take_facts(facts(jar=None, pan={}))
    turn = steering.look(NOW_MS + 2)
    assert blocked(items) == {"jar"}
    assert (turn.blocked.tolist(), turn.rules) == (Texts.of(["jar"]).hashes().tolist(), False)
    steering.take_facts(facts(mug={**SHOP["mug"], "price": 6}))
    assert steering.look(NOW_MS + 3).blocked.tolist() == []


def test_rules_leave_out_push_and_pin_while_they_hold(items, steering):
    rule = Rule(
        exclude='brand == "acme"',
        boost=Boost('tagged("sale")', 2.0),
        pin=Pin(("jar", "cup"), 2),
        valid_from=NOW_MS + 10,
        valid_to=NOW_MS + 20,
    )
    steering.take_rules(stored(a=rule, b=Rule(boost=Boost("true", 3.0), pin=Pin(("mug",), 2))))
    assert steering.look(NOW_MS).rules
    assert blocked(items) == {"pan"}
    assert items.table["boost"][: len(items)].tolist() == [3.0] * 4
    assert steering.look(NOW_MS + 9) is None
    turn = steering.look(NOW_MS + 10)
    assert (turn.rules, len(turn.blocked)) == (True, 1)
    assert blocked(items) == {"pan", "mug"}
    assert items.table["boost"][: len(items)].tolist() == [3.0, 6.0, 3.0, 3.0]
    assert steering.pins.places.tolist() == [1, 2, 3]
    assert steering.pins.items.tolist() == Texts.of(["jar", "cup", "mug"]).hashes().tolist()
    assert steering.look(NOW_MS + 20).rules
    assert blocked(items) == {"pan"}
    assert steering.pins.items.tolist() == Texts.of(["mug"]).hashes().tolist()


def test_stored_rules_replace_those_of_the_settings_until_they_are_cleared(items):
    steering = Steering(items, {"own": Rule(exclude='item_id == "mug"')})
    steering.take_facts(facts(**SHOP))
    steering.look(NOW_MS)
    assert blocked(items) == {"mug", "pan"}
    steering.take_rules(stored())
    assert steering.look(NOW_MS).rules
    assert blocked(items) == {"pan"}
    steering.take_rules(stored())
    assert steering.look(NOW_MS) is None
    steering.take_rules(None)
    steering.look(NOW_MS)
    assert blocked(items) == {"mug", "pan"}


@pytest.mark.parametrize(
    "raw", [b"nonsense", b'{"rules": 5}', b"[" * 99_999, stored(a=Rule(exclude="what == 1"))]
)
def test_rules_that_cannot_be_read_change_nothing(items, steering, raw):
    steering.take_rules(stored(a=Rule(exclude='item_id == "mug"')))
    steering.look(NOW_MS)
    steering.take_rules(raw)
    assert steering.trouble
    assert steering.look(NOW_MS) is None
    assert blocked(items) == {"mug", "pan"}


def test_new_items_are_looked_at_where_there_are_rules(items, steering):
    steering.take_rules(stored(a=Rule(exclude="not known(title)")))
    steering.look(NOW_MS)
    views(items, "unheard of")
    assert steering.look(NOW_MS + 1).blocked.tolist() == Texts.of(["unheard of"]).hashes().tolist()
    assert blocked(items) == {"pan", "unheard of"}


def test_what_changes_by_itself_is_looked_at_every_minute(items, steering):
    steering.take_rules(stored(a=Rule(exclude="age(last_seen) >= 1m")))
    views(items, "mug")
    steering.look(NOW_MS)
    assert blocked(items) == {"pan", "cup", "jar"}
    assert steering.look(NOW_MS + 59_999) is None
    assert len(steering.look(NOW_MS + 60_000).blocked) == 1
    assert blocked(items) == {"pan", "cup", "jar", "mug"}


def test_facts_outlive_forgetting_and_beginning_anew():
    items = ItemTable(ItemPlan(most_items=100))
    steering = Steering(items, {})
    steering.take_facts(facts(**SHOP, gone=None))
    steering.look(NOW_MS)
    views(items, *(f"n{k}" for k in range(300)), at_ms=NOW_MS)
    assert len(items) == 90 + 5
    assert blocked(items) == {"pan", "gone"}
    before = steering.catalog.held()
    rows = np.arange(len(items))
    fields, values = pack_items(items, rows)
    held = steering.catalog.held()
    items.reset()
    load_items(items, fields, values)
    steering.again(held)
    assert blocked(items) == {"pan", "gone"}, "at once, before anybody looks"
    after = steering.catalog.held()
    for name in ("ids", "titles", "categories", "brands", "tags", "price", "available", "gone"):
        assert list(getattr(after, name).tolist()) == list(getattr(before, name).tolist()), name


def test_what_was_taken_out_is_remembered_by_the_store(items, steering):
    steering.take_facts(facts(jar=None))
    fields, values = pack_items(items, np.arange(len(items)))
    later = ItemTable(ItemPlan())
    load_items(later, fields, values)
    again = Steering(later, {})
    again.look(NOW_MS)
    assert blocked(later) == {"pan", "jar"}
