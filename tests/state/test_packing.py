"""Documents that are filled in from columns, against an encoder that makes each from an object."""

import json

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from events.texts import Texts
from state.packing import Form, Many, Slot, map_head, pack
from state.writing import BLOCK

FORM = Form(
    [
        map_head(6),
        *(pack("n"), Slot("n")),
        *(pack("a long name that takes several steps"), Slot("x", "float", when="known")),
        *(pack("yes"), Slot("yes", "flag")),
        *(pack("name"), Slot("name", "text")),
        *(pack("lines"), Many("lines", "list", [map_head(1), pack("size"), Slot("size")])),
        *(pack("tags"), Many("tags", "map", [Slot("tag", "text"), Slot("since", when="since")])),
    ]
)
JSON = Form([b'{"n":', Slot("n", "digits"), b',"name":', Slot("name", "quoted"), b"}"])

whole = st.integers(-(2**63), 2**63 - 1) | st.sampled_from(
    [n + d for n in (0, 2**7, 2**8, 2**16, 2**31, 2**32) for d in (-1, 0, 1)]
)
names = st.text(max_size=40) | st.text("xyz", min_size=250, max_size=300)
documents = st.fixed_dictionaries(
    {
        "n": whole,
        "x": st.none() | st.floats(allow_nan=False),
        "yes": st.booleans(),
        "name": st.none() | names,
        "lines": st.lists(whole, max_size=20),
        "tags": st.dictionaries(
            st.text(max_size=9), st.integers(1, 2**60) | st.none(), max_size=20
        ),
    }
)


def expected(each):
    """The bytes of one document, part by part as the contract has them."""
    x, lines, tags = each["x"], each["lines"], each["tags"]
    parts = [map_head(6), pack("n"), integer(each["n"])]
    parts += [pack("a long name that takes several steps"), pack(x)]
    parts += [pack("yes"), pack(each["yes"]), pack("name"), pack(each["name"])]
    parts += [pack("lines"), pack([None] * len(lines))[: 1 if len(lines) < 16 else 3]]
    parts += [part for size in lines for part in (map_head(1), pack("size"), integer(size))]
    parts += [pack("tags"), map_head(len(tags))]
    parts += [
        part
        for tag, since in tags.items()
        for part in (pack(tag), pack(None) if since is None else integer(since))
    ]
    return b"".join(parts)


def integer(value):
    """One, three, five or nine bytes, whichever is enough."""
    if 0 <= value < 2**7:
        return bytes([value])
    if 0 <= value < 2**16:
        return b"\xcd" + value.to_bytes(2, "big")
    if 0 <= value < 2**32:
        return b"\xce" + value.to_bytes(4, "big")
    return b"\xd3" + value.to_bytes(8, "big", signed=True)


def columns_of(these):
    lines = [size for each in these for size in each["lines"]]
    tags = [tag for each in these for tag in each["tags"].items()]
    columns = {
        "n": np.array([each["n"] for each in these], dtype=np.int64),
        "x": np.array([0.0 if each["x"] is None else each["x"] for each in these]),
        "known": np.array([each["x"] is not None for each in these]),
        "yes": np.array([each["yes"] for each in these]),
        "size": np.array(lines, dtype=np.int64),
        "since": np.array([since or 0 for _, since in tags], dtype=np.int64),
    }
    texts = {
        "name": Texts.of([each["name"] for each in these]),
        "tag": Texts.of([tag for tag, _ in tags]),
    }
    bounds = {
        name: np.cumsum([0, *(len(each[name]) for each in these)]) for name in ("lines", "tags")
    }
    return columns, texts, bounds


@settings(max_examples=200)
@given(st.lists(documents, min_size=1, max_size=12))
def test_a_filled_form_is_the_document_byte_by_byte(these):
    filled = FORM.fill(*columns_of(these)).bytes_list()
    assert filled == [expected(each) for each in these]
    for raw, each in zip(filled, these, strict=True):
        found = msgspec.msgpack.decode(raw)
        assert [line["size"] for line in found.pop("lines")] == each["lines"]
        assert found.pop("tags") == each["tags"]
        assert found.pop("a long name that takes several steps") == each["x"]
        assert found == {name: each[name] for name in ("n", "yes", "name")}


def test_blocks_of_rows_follow_on_each_other():
    rng = np.random.default_rng(5)
    n = 2 * BLOCK + 7
    counts = rng.integers(0, 4, n)
    these = [
        {
            "n": int(number),
            "x": None if number % 3 else 0.5,
            "yes": bool(number % 2),
            "name": None if number % 5 == 0 else "x" * int(number % 60),
            "lines": list(range(int(count))),
            "tags": {str(k): int(number) for k in range(int(count))},
        }
        for number, count in zip(rng.integers(1, 2**40, n), counts, strict=True)
    ]
    assert FORM.fill(*columns_of(these)).bytes_list() == [expected(each) for each in these]


@given(
    st.lists(
        st.tuples(whole.filter(lambda n: n > -(2**63)), st.none() | st.text("abc ü")), min_size=1
    )
)
def test_json_is_what_a_json_decoder_reads(pairs):
    columns = {"n": np.array([n for n, _ in pairs], dtype=np.int64)}
    filled = JSON.fill(columns, {"name": Texts.of([name for _, name in pairs])}, {})
    found = [json.loads(raw) for raw in filled.bytes_list()]
    assert found == [{"n": n, "name": name} for n, name in pairs]
